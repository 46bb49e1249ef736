"""``model.export(format="c")``: a model as one C99 file of weights and plain loops."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import handmill
from handmill import tree
from handmill.exchange.inference_graph import (
    Inference,
    bias_behind,
    expanded,
    inference_graph,
    signature_of,
)
from handmill.exchange.to_c.loops import RULES, TAKE_BIAS, Operand, Refused, Step, number
from handmill.ir.dims import BATCH, atoms_of, attrs_with, is_symbolic_dim, substituted
from handmill.ir.graph import Node, Value
from handmill.ir.op import Array
from handmill.saving.atomic_file import write_bytes

_KEYWORDS = """auto break case char const continue default do double else enum extern float for goto
if inline int long register restrict return short signed sizeof static struct switch typedef union
unsigned void volatile while"""
_MATH = """acos asin atan atan2 cos sin tan acosh asinh atanh cosh sinh tanh exp exp2 expm1 frexp
ilogb ldexp log log10 log1p log2 logb modf scalbn scalbln cbrt fabs hypot pow sqrt erf
erfc lgamma tgamma ceil floor nearbyint rint lrint llrint round lround llround trunc
fmod remainder remquo copysign nan nextafter nexttoward fdim fmax fmin fma j0 j1 jn y0
y1 yn gamma drem significand scalb isnan isinf finite isfinite isnormal signbit
fpclassify"""
_OTHERS = """main arena wanted printf puts putchar remove rename exit abs signgam NAN INFINITY
HUGE_VAL NULL EOF FILE BUFSIZ math_errhandling linux unix"""
_BUILT_IN = """alloca bcmp bcopy bzero calloc malloc realloc free memchr memcmp memcpy memmove
memset mempcpy stpcpy stpncpy strcasecmp strcat strchr strcmp strcpy strcspn strdup
strlen strncasecmp strncat strncmp strncpy strndup strpbrk strrchr strspn strstr
index rindex strfmon strftime fprintf printf scanf fscanf snprintf sprintf sscanf
vfprintf vfscanf vprintf vscanf vsnprintf vsprintf vsscanf fputc fputs fwrite abort
labs llabs imaxabs ffs gamma isalnum isalpha isascii isblank iscntrl isdigit isgraph
islower isprint ispunct isspace isupper isxdigit toascii tolower toupper iswalnum
iswalpha iswblank iswcntrl iswdigit iswgraph iswlower iswprint iswpunct iswspace
iswupper iswxdigit towlower towupper execl execle execlp execv execve execvp fork
dcgettext dgettext gettext"""
_TAKEN = frozenset([
    *_KEYWORDS.split(), *_OTHERS.split(), *_BUILT_IN.split(),
    *(name + end for name in _MATH.split() for end in ("", "f", "l")),
])  # fmt: skip
"""What a function of the file is not called: C's words, what headers, compilers, itself declare."""

_ONE = {atom: 1 for atom in atoms_of(BATCH)}
_TEXT = """\
/* {title}: made by handmill {version}.
 *
 *     void {name}({prototype});
 *
{arguments}
 * Not for several threads at once: what is computed on the way lies in one static array of {arena}
 * floats. Compile with -D{macro}_SELF_TEST for a program that compares with what handmill computed.
 */
#include <math.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize ("fp-contract=off")
#else
#pragma STDC FP_CONTRACT OFF
#endif

{weights}
static float arena[{arena_size}];

void {name}({prototype});

void {name}({prototype})
{{
    int i, o, c, p, q, r, s;
    (void)i; (void)o; (void)c; (void)p; (void)q; (void)r; (void)s;
{body}
}}

#ifdef {macro}_SELF_TEST
#include <stdio.h>
{test}
#endif
"""


def write_c(
    model: Any, filepath: Any, *, input_signature: Any = None, name: str | None = None
) -> None:
    """Writes a model for inference; see ``Model.export``."""
    path = Path(filepath)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"`name` of the function must be a str or None. Received: {name!r}")
    text = c_source(model, input_signature, name or model.name)
    write_bytes(path, [text.encode("ascii")])


def c_source(model: Any, input_signature: Any, name: str) -> str:
    """Returns the file's text.

    Raises:
        ValueError: if layers have no loops here, which lists all; if sizes are not known.
    """
    found = expanded(inference_graph(model, input_signature), _is_known)
    unknown = Counter(
        f"  layer {node.scope or 'of the model'!r}: {node.op.name}"
        for node in found.graph.nodes
        if not _is_known(node)
    )
    other = [v.dtype for v in (*found.graph.inputs, *found.graph.outputs) if v.dtype != "float32"]
    if unknown or other:
        lines = [*unknown, *[f"  inputs or outputs of {dtype}" for dtype in dict.fromkeys(other)]]
        raise ValueError(
            f"{model.name} cannot be exported as C, which is written for dense and convolutional "
            "networks of float32: there are no loops for\n" + "\n".join(lines) + "\nnothing was "
            "written"
        )
    try:
        return _Source(found, _identifier(name)).text(model, input_signature)
    except Refused as error:
        raise ValueError(f"{model.name} cannot be exported as C: {error}") from None


def _is_known(node: Node) -> bool:
    return node.op.name in RULES or node.op.view


def _identifier(name: str) -> str:
    found = re.sub(r"[^A-Za-z0-9_]", "_", name)
    is_free = re.match(r"(?![xyw]\d*$|[a-z]$)[A-Za-z]", found) and found not in _TAKEN
    return found if is_free else f"m_{found}"


class _Source:
    """The parts of the file."""

    def __init__(self, found: Inference, name: str) -> None:
        self.found = found
        self.graph = found.graph
        self.name = name
        self.weights: list[str] = []
        self.constants: dict[bytes, str] = {}
        self.places: dict[Value, Operand] = {}
        self.arena = 0

    def shape(self, value: Value) -> tuple[int, ...]:
        """The sizes of a value for one row."""
        sizes = [substituted(size, _ONE) for size in value.shape]
        if any(map(is_symbolic_dim, sizes)):
            raise Refused("sizes that a call decides: give the inputs sizes")
        return tuple(int(size) for size in sizes)

    def constant(self, array: Array) -> Operand:
        """An array of the file; equal ones are one."""
        data = np.ascontiguousarray(array, np.float32)
        key = data.tobytes()
        if key not in self.constants:
            name = self.constants[key] = f"w{len(self.constants)}"
            numbers = [number(float(x)) for x in data.reshape(-1)] or ["0.0f"]
            lines = [", ".join(numbers[i : i + 8]) for i in range(0, len(numbers), 8)]
            body = ",\n    ".join(lines)
            self.weights.append(f"static const float {name}[{len(numbers)}] = {{\n    {body}\n}};")
        return Operand(self.constants[key], tuple(data.shape))

    def operand(self, value: Value) -> Operand:
        """Where a value is."""
        if value.constant is not None:
            return self.constant(value.constant)
        return self.places[value]

    def text(self, model: Any, signature: Any) -> str:
        """The whole file."""
        inputs = _numbered("x", len(self.graph.inputs))
        outputs = _numbered("y", len(self.graph.outputs))
        for value, name in zip(self.graph.inputs, inputs, strict=True):
            self.places[value] = Operand(name, self.shape(value))
        body = self.loops()
        for value, name in zip(self.graph.outputs, outputs, strict=True):
            at = self.operand(value)
            body.append(f"for (i = 0; i < {at.size}; i++) {name}[i] = {at.name}[i];")
        given = [f"const float *{n}" for n in inputs]
        prototype = ", ".join([*given, *[f"float *{n}" for n in outputs]])
        described = [
            (n, self.shape(v), label)
            for names, values, labels in (
                (inputs, self.graph.inputs, self.found.inputs),
                (outputs, self.graph.outputs, self.found.outputs),
            )
            for n, v, label in zip(names, values, labels, strict=True)
        ]
        macro = self.name.upper()
        return _TEXT.format(
            title=_identifier(model.name), version=handmill.__version__, name=self.name,
            prototype=prototype, macro=macro, arena=self.arena, arena_size=max(self.arena, 1),
            arguments="\n".join(
                f" * {n}: {_identifier(label)}, {' x '.join(map(str, shape[1:])) or 1} floats"
                for n, shape, label in described
            ),
            weights="\n".join(self.weights), body="\n".join(f"    {line}" for line in body),
            test=self.test(model, signature, inputs, outputs),
        )  # fmt: skip

    def loops(self) -> list[str]:
        """The loops of all nodes; where values lie is decided on the way."""
        nodes = list(self.graph.nodes)
        uses = self.graph.uses()
        root: dict[Value, Value] = {}
        for node in nodes:
            if node.op.view:
                root[node.outputs[0]] = root.get(node.inputs[0], node.inputs[0])
        last: dict[Value, int] = {}
        for at, node in enumerate(nodes):
            for value in node.inputs:
                last[root.get(value, value)] = at
        for value in self.graph.outputs:
            last[root.get(value, value)] = len(nodes)
        taken: list[tuple[int, int, int]] = []  # offset, size, the last node that reads it
        done: set[Node] = set()
        lines: list[str] = []
        for at, node in enumerate(nodes):
            if node in done:
                continue
            value, bias = node.outputs[0], None
            if node.op.view:
                place = self.operand(node.inputs[0])
                self.places[value] = Operand(place.name, self.shape(value))
                continue
            if node.op.name in TAKE_BIAS:
                behind = bias_behind(self.graph, uses, node)
                if behind is not None:
                    bias, value = self.constant(behind[0]), behind[1].outputs[0]
                    done.add(behind[1])
            shape = self.shape(value)
            size = int(np.prod(shape))
            taken = [part for part in taken if part[2] >= at]
            offset = _free(taken, size)
            taken.append((offset, size, last.get(value, at)))
            self.arena = max(self.arena, offset + size)
            output = self.places[value] = Operand(f"(arena + {offset})", shape)
            given = [self.operand(v) for v in node.inputs]
            attrs = attrs_with(node.attrs, _ONE)
            try:
                found = RULES[node.op.name](Step(node, given, output, bias, attrs, self.constant))
            except Refused as error:
                raise Refused(f"{node.op.name} in {node.scope!r}: {error}") from None
            lines += [f"/* {_identifier(node.scope)}: {node.op.name} */", *found]
        return lines

    def test(
        self, model: Any, signature: Any, inputs: Sequence[str], outputs: Sequence[str]
    ) -> str:
        """A program that compares with what the model computes of made-up numbers."""
        structure, _, _ = signature_of(model, signature)
        given = []
        for i, value in enumerate(self.graph.inputs):
            shape = self.shape(value)
            places = np.arange(int(np.prod(shape)), dtype=np.uint32)
            words = (places + np.uint32(i)) * np.uint32(1103515245) + np.uint32(12345)
            low = (words >> np.uint32(16)) & np.uint32(0x7FFF)
            given.append((low.astype(np.float32) / np.float32(16384) - 1).reshape(shape))
        found = tree.flatten(model(tree.pack_sequence_as(structure, given), training=False))
        lines = ["static const float wanted[] = {"]
        flat = np.concatenate([np.asarray(x, np.float32).reshape(-1) for x in found])
        lines += [f"    {number(float(x))}," for x in flat]
        lines.append("};")
        for name, x in zip(inputs, given, strict=True):
            lines.append(f"static float {name}[{x.size}];")
        for name, y in zip(outputs, found, strict=True):
            lines.append(f"static float {name}[{np.size(y)}];")
        lines += [
            "int main(void)",
            "{",
            "    float largest = 0.0f, apart = 0.0f;",
            "    unsigned i;",
        ]
        for i, (name, x) in enumerate(zip(inputs, given, strict=True)):
            lines += [
                f"    for (i = 0; i < {x.size}u; i++)",
                f"        {name}[i] = (float)(((i + {i}u) * 1103515245u + 12345u) >> 16 & 0x7fffu)"
                " / 16384.0f - 1.0f;",
            ]
        lines.append(f"    {self.name}({', '.join([*inputs, *outputs])});")
        start = 0
        for name, y in zip(outputs, found, strict=True):
            lines += [
                f"    for (i = 0; i < {np.size(y)}u; i++) {{",
                f"        const float w = wanted[{start}u + i], d = fabsf({name}[i] - w);",
                "        if (fabsf(w) > largest) largest = fabsf(w);",
                "        if (!(d <= apart)) apart = d;",
                "    }",
            ]
            start += np.size(y)
        lines += [
            '    printf("largest output %g, largest difference %g\\n", '
            "(double)largest, (double)apart);",
            "    return !(apart <= 1e-5f * (largest > 1e-30f ? largest : 1e-30f));",
            "}",
        ]
        return "\n".join(lines)


def _numbered(letter: str, count: int) -> list[str]:
    return [letter] if count == 1 else [f"{letter}{i}" for i in range(count)]


def _free(taken: Sequence[tuple[int, int, int]], size: int) -> int:
    """The first place that is free for so many elements."""
    at = 0
    for offset, length, _ in sorted(taken):
        if at + size <= offset:
            break
        at = max(at, offset + length)
    return at
