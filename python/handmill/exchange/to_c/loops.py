"""The loops of each operator, in C99. Batches are of one row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from handmill.ir.graph import Node
from handmill.ir.op import Array


class Refused(ValueError):
    """What a rule raises about a node that has no loops here."""


class Operand(NamedTuple):
    """An array in C.

    Attributes:
        name: the expression of its first element.
        shape: its sizes.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)


class Step(NamedTuple):
    """A node and where its operands and its result are.

    Attributes:
        node: the node.
        inputs: its operands.
        output: its result; a bias behind it is included.
        bias: the array of that bias; or None.
        attrs: the node's attributes, with the sizes of one row.
        weights: makes an array that is known a constant of the file.
    """

    node: Node
    inputs: Sequence[Operand]
    output: Operand
    bias: Operand | None
    attrs: dict[str, Any]
    weights: Callable[[Array], Operand]


Rule: TypeAlias = "Callable[[Step], list[str]]"
RULES: dict[str, Rule] = {}
"""The lines of C for each operator, by the name of its record."""
TAKE_BIAS = ("conv", "matmul")


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule for operators."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


def number(x: float) -> str:
    """A float32 as C spells it, exactly."""
    if math.isnan(x):
        return "NAN"
    if math.isinf(x):
        return "INFINITY" if x > 0 else "-INFINITY"
    text = np.format_float_positional(np.float32(x), unique=True, trim="0")
    short = np.format_float_scientific(np.float32(x), unique=True, trim="0", exp_digits=1)
    return f"{short if len(short) < len(text) else text}f"


# --- element by element --------------------------------------------------------------------------

_UNARY = {
    "absolute": "fabsf({x})", "ceil": "ceilf({x})", "cos": "cosf({x})", "exp": "expf({x})",
    "expm1": "expm1f({x})", "erf": "erff({x})", "floor": "floorf({x})", "log": "logf({x})",
    "log1p": "log1pf({x})", "negative": "-{x}", "reciprocal": "1.0f / {x}",
    "relu": "{x} > 0.0f ? {x} : 0.0f",
    "relu6": "{x} > 0.0f ? ({x} < 6.0f ? {x} : 6.0f) : 0.0f", "rsqrt": "1.0f / sqrtf({x})",
    "sigmoid": "1.0f / (1.0f + expf(-{x}))", "sin": "sinf({x})",
    "silu": "{x} / (1.0f + expf(-{x}))", "softplus":
    "({x} > 0.0f ? {x} : 0.0f) + log1pf(expf(-fabsf({x})))", "softsign":
    "{x} / (1.0f + fabsf({x}))", "sqrt": "sqrtf({x})", "square": "{x} * {x}",
    "tanh": "tanhf({x})", "gelu": "0.5f * {x} * (1.0f + erff({x} * 0.70710678f))",
    "gelu_tanh":
    "0.5f * {x} * (1.0f + tanhf(0.79788456f * ({x} + 0.044715f * {x} * {x} * {x})))",
    "hard_sigmoid": "{x} > -3.0f ? ({x} < 3.0f ? ({x} + 3.0f) / 6.0f : 1.0f) : 0.0f",
    "hard_silu": "{x} > -3.0f ? ({x} < 3.0f ? {x} * ({x} + 3.0f) / 6.0f : {x}) : 0.0f * {x}",
    "selu": "1.0507010f * ({x} > 0.0f ? {x} : 1.6732632f * expm1f({x}))",
    "stop_gradient": "{x}",
}  # fmt: skip
_BINARY = {
    "add": "{x} + {y}", "subtract": "{x} - {y}", "multiply": "{x} * {y}", "divide": "{x} / {y}",
    "maximum": "{x} > {y} ? {x} : {y}", "minimum": "{x} < {y} ? {x} : {y}",
    "power": "powf({x}, {y})",
}  # fmt: skip


def _form(step: Step) -> str:
    name, attrs = step.node.op.name, step.attrs
    if name == "leaky_relu":
        return "{x} < 0.0f ? {x} * " + number(attrs["negative_slope"]) + " : {x}"
    if name == "elu":
        return "{x} < 0.0f ? " + number(attrs["alpha"]) + " * expm1f({x}) : {x}"
    if name == "clip":
        low, high = number(attrs["lo"]), number(attrs["hi"])
        return "{x} > " + f"{low} ? " + "({x} < " + f"{high} ? " + "{x} : " + f"{high}) : {low}"
    return _UNARY.get(name) or _BINARY[name]


@rule(*_UNARY, *_BINARY, "leaky_relu", "elu", "clip")
def elementwise(step: Step) -> list[str]:
    """One loop where operands have the result's shape, one number, or one for each channel."""
    shape = step.output.shape
    given = dict(zip("xy", step.inputs, strict=False))
    channels = shape[-1] if shape else 1
    flat = {}
    for letter, operand in given.items():
        if operand.shape == shape:
            flat[letter] = f"{operand.name}[i]"
        elif operand.size == 1:
            flat[letter] = f"{operand.name}[0]"
        elif operand.size == channels == operand.shape[-1]:
            flat[letter] = f"{operand.name}[i % {channels}]"
    if len(flat) == len(given):
        body = _form(step).format(**flat)
        return [f"for (i = 0; i < {step.output.size}; i++) {step.output.name}[i] = {body};"]
    places = {}
    for letter, operand in given.items():
        wide = (1,) * (len(shape) - len(operand.shape)) + operand.shape
        terms, stride = [], 1
        for axis in range(len(shape) - 1, -1, -1):
            if wide[axis] > 1:
                inner = math.prod(shape[axis + 1 :])
                terms.append(f"i / {inner} % {shape[axis]} * {stride}")
            stride *= wide[axis]
        places[letter] = f"{operand.name}[{' + '.join(terms) or '0'}]"
    body = _form(step).format(**places)
    return [f"for (i = 0; i < {step.output.size}; i++) {step.output.name}[i] = {body};"]


# --- products ------------------------------------------------------------------------------------


def _start(step: Step, count: int) -> str:
    return "0.0f" if step.bias is None else f"{step.bias.name}[o % {count}]"


@rule("matmul")
def matmul(step: Step) -> list[str]:
    """Rows times a matrix of weights."""
    a, b = step.inputs
    if step.attrs["transpose_a"] or len(b.shape) != 2:
        raise Refused("only products with a matrix of weights are written")
    turned = step.attrs["transpose_b"]
    k = a.shape[-1]
    n = b.shape[0] if turned else b.shape[1]
    rows = a.size // k
    place = f"o * {k} + c" if turned else f"c * {n} + o"
    y = step.output.name
    return [
        f"for (i = 0; i < {rows}; i++) {{",
        f"    for (o = 0; o < {n}; o++) {y}[i * {n} + o] = {_start(step, n)};",
        f"    for (c = 0; c < {k}; c++) {{",
        f"        const float v = {a.name}[i * {k} + c];",
        f"        for (o = 0; o < {n}; o++) {y}[i * {n} + o] += v * {b.name}[{place}];",
        "    }",
        "}",
    ]


def _image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels; sequences are one line."""
    if len(shape) == 3:
        return 1, shape[1], shape[2]
    if len(shape) != 4:
        raise Refused("windows of three axes are not written")
    return shape[1], shape[2], shape[3]


def _pair(values: Sequence[Any], one: Any) -> tuple[Any, Any]:
    return (one, values[0]) if len(values) == 1 else (values[0], values[1])


def _window(step: Step, kernel: Sequence[int]) -> dict[str, Any]:
    """The names in the loops of windows, and their numbers."""
    attrs = step.attrs
    (h, w, c), (oh, ow, oc) = _image(step.inputs[0].shape), _image(step.output.shape)
    kh, kw = _pair(kernel, 1)
    sh, sw = _pair(attrs["strides"], 1)
    dh, dw = _pair(attrs.get("dilation", (1,) * len(kernel)), 1)
    (top, _), (left, _) = _pair(attrs["padding"], (0, 0))
    return {
        "h": h, "w": w, "c": c, "oh": oh, "ow": ow, "oc": oc, "kh": kh, "kw": kw, "sh": sh,
        "sw": sw, "dh": dh, "dw": dw, "top": top, "left": left, "x": step.inputs[0].name,
        "y": step.output.name,
    }  # fmt: skip


_OPEN = """\
for (p = 0; p < {oh}; p++) for (q = 0; q < {ow}; q++) {{
    float *out = {y} + (p * {ow} + q) * {oc};"""
_TAPS = """\
    for (r = 0; r < {kh}; r++) for (s = 0; s < {kw}; s++) {{
        const int at = p * {sh} + r * {dh} - {top}, to = q * {sw} + s * {dw} - {left};
        const float *in = {x} + (at * {w} + to) * {c};
        if (at < 0 || at >= {h} || to < 0 || to >= {w}) continue;"""


def _filled(template: str, names: dict[str, Any]) -> list[str]:
    return template.format(**names).splitlines()


@rule("conv")
def conv(step: Step) -> list[str]:
    """Windows times filters, in groups or one filter for each channel."""
    w = step.inputs[1]
    names = _window(step, w.shape[:-2])
    groups, count = step.attrs["groups"], w.shape[-1]
    each, filters = w.shape[-2], count // step.attrs["groups"]
    names |= {"k": w.name, "each": each, "filters": filters, "groups": groups,
              "start": _start(step, count)}  # fmt: skip
    taps = "        const float *k = {k} + (r * {kw} + s) * {each} * {oc};\n"
    if groups == 1:
        taps += (
            "        for (c = 0; c < {c}; c++) for (o = 0; o < {oc}; o++)\n"
            "            out[o] += in[c] * k[c * {oc} + o];"
        )
    elif each == 1 and filters == 1:
        taps += "        for (o = 0; o < {oc}; o++) out[o] += in[o] * k[o];"
    else:
        taps += (
            "        for (c = 0; c < {each}; c++) for (o = 0; o < {oc}; o++)\n"
            "            out[o] += in[o / {filters} * {each} + c] * k[c * {oc} + o];"
        )
    start = "    for (o = 0; o < {oc}; o++) out[o] = {start};"
    template = "\n".join([_OPEN, start, _TAPS, taps, "    }}", "}}"])
    # The pointer is made after the test of its place: it may lie outside.
    text = template.replace("        const float *in = {x} + (at * {w} + to) * {c};\n", "").replace(
        " continue;", " continue;\n        in = {x} + (at * {w} + to) * {c};"
    )
    text = text.replace("    float *out =", "    const float *in;\n    float *out =")
    text = text.replace("        const float *k = {k}", "        k = {k}")
    return _filled(text.replace("    const float *in;", "    const float *in, *k;"), names)


@rule("max_pool", "average_pool")
def pool(step: Step) -> list[str]:
    """The largest entry of each window, or the mean of those that are there."""
    names = _window(step, step.attrs["window"])
    largest = step.node.op.name == "max_pool"
    lines = [
        _OPEN.replace("    float *out", "    int count = 0;\n    float *out"),
        "    for (o = 0; o < {oc}; o++) out[o] = " + ("-INFINITY;" if largest else "0.0f;"),
        _TAPS.replace("        const float *in = {x} + (at * {w} + to) * {c};\n", ""),
        "        count++;",
        "        for (o = 0; o < {oc}; o++) {{",
        "            const float v = {x}[(at * {w} + to) * {c} + o];",
        "            if (v > out[o]) out[o] = v;" if largest else "            out[o] += v;",
        "        }}",
        "    }}",
    ]
    if largest:
        lines.append("    (void)count;")
    else:
        lines.append("    for (o = 0; o < {oc}; o++) out[o] /= (float)count;")
    return _filled("\n".join([*lines, "}}"]), names)


# --- the rest ------------------------------------------------------------------------------------


@rule("softmax")
def softmax(step: Step) -> list[str]:
    """Along the last axis."""
    (x,), y, n = step.inputs, step.output.name, step.output.shape[-1]
    return [
        f"for (i = 0; i < {step.output.size // n}; i++) {{",
        f"    const float *in = {x.name} + i * {n};",
        f"    float *out = {y} + i * {n}, top = in[0], sum = 0.0f;",
        f"    for (o = 1; o < {n}; o++) if (in[o] > top) top = in[o];",
        f"    for (o = 0; o < {n}; o++) sum += out[o] = expf(in[o] - top);",
        f"    for (o = 0; o < {n}; o++) out[o] /= sum;",
        "}",
    ]


@rule("reduce_mean", "reduce_max", "reduce_sum")
def reduce(step: Step) -> list[str]:
    """Over axes that lie side by side, such as those of an image."""
    (x,), y = step.inputs, step.output.name
    axes = sorted(step.attrs["axis"])
    if not axes or axes != list(range(axes[0], axes[-1] + 1)):
        raise Refused("only axes side by side are reduced")
    before = math.prod(x.shape[: axes[0]])
    count = math.prod(x.shape[axes[0] : axes[-1] + 1])
    after = math.prod(x.shape[axes[-1] + 1 :])
    largest = step.node.op.name == "reduce_max"
    change = f"if (v > {y}[i * {after} + o]) {y}[i * {after} + o] = v;"
    lines = [
        f"for (i = 0; i < {before}; i++) {{",
        f"    for (o = 0; o < {after}; o++) {y}[i * {after} + o] = "
        + ("-INFINITY;" if largest else "0.0f;"),
        f"    for (c = 0; c < {count}; c++) for (o = 0; o < {after}; o++) {{",
        f"        const float v = {x.name}[(i * {count} + c) * {after} + o];",
        f"        {change}" if largest else f"        {y}[i * {after} + o] += v;",
        "    }",
    ]
    if step.node.op.name == "reduce_mean":
        lines.append(f"    for (o = 0; o < {after}; o++) {y}[i * {after} + o] /= {count}.0f;")
    return [*lines, "}"]


@rule("concatenate")
def concatenate(step: Step) -> list[str]:
    """One behind the other along an axis."""
    axis, y = step.attrs["axis"], step.output
    row = math.prod(y.shape[axis:])
    rows, lines, start = y.size // row, [], 0
    for x in step.inputs:
        width = math.prod(x.shape[axis:])
        lines.append(
            f"for (i = 0; i < {rows}; i++) for (c = 0; c < {width}; c++) "
            f"{y.name}[i * {row} + {start} + c] = {x.name}[i * {width} + c];"
        )
        start += width
    return lines


def _gathered(step: Step, strides: Sequence[int], first: int) -> list[str]:
    """Each element from a place that is linear in the places along each axis."""
    shape, terms = step.output.shape, [str(first)]
    for axis, stride in enumerate(strides):
        if shape[axis] > 1:
            terms.append(f"i / {math.prod(shape[axis + 1 :])} % {shape[axis]} * {stride}")
    place = " + ".join(terms)
    x, y = step.inputs[0].name, step.output.name
    return [f"for (i = 0; i < {step.output.size}; i++) {y}[i] = {x}[{place}];"]


def _strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


@rule("transpose")
def transpose(step: Step) -> list[str]:
    """Another order of axes."""
    strides = _strides(step.inputs[0].shape)
    return _gathered(step, [strides[axis] for axis in step.attrs["perm"]], 0)


@rule("slice")
def slice_(step: Step) -> list[str]:
    """A part."""
    strides = _strides(step.inputs[0].shape)
    starts, by = step.attrs["start"], step.attrs["step"]
    first = sum(a * s for a, s in zip(starts, strides, strict=True))
    return _gathered(step, [n * s for n, s in zip(by, strides, strict=True)], first)


@rule("broadcast_to")
def broadcast_to(step: Step) -> list[str]:
    """Repeated."""
    x = step.inputs[0].shape
    wide = (1,) * (len(step.output.shape) - len(x)) + x
    strides = [s if n > 1 else 0 for n, s in zip(wide, _strides(wide), strict=True)]
    return _gathered(step, strides, 0)


@rule("pad")
def pad(step: Step) -> list[str]:
    """A border of one number."""
    x, y = step.inputs[0], step.output
    lows = step.attrs["paddings"][::2]
    terms = []
    for axis, (size, stride) in enumerate(zip(x.shape, _strides(y.shape), strict=True)):
        inner = math.prod(x.shape[axis + 1 :])
        terms.append(f"(i / {inner} % {size} + {lows[axis]}) * {stride}")
    return [
        f"for (i = 0; i < {y.size}; i++) {y.name}[i] = {number(step.attrs['value'])};",
        f"for (i = 0; i < {x.size}; i++) {y.name}[{' + '.join(terms)}] = {x.name}[i];",
    ]
