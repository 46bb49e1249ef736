"""What an ONNX file says, checked and as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from handmill.errors import FileFormatError
from handmill.exchange import messages, wire
from handmill.ir.op import Array

OLDEST_OPSET, NEWEST_OPSET = 7, 28
MOST_NODES = 100_000
OWN_DOMAINS = ("", "ai.onnx")
ML_DOMAIN = "ai.onnx.ml"

Fetch: TypeAlias = "Callable[[messages.Tensor, str], Any]"
"""Reads the bytes of a tensor that lie in another file."""


@dataclass
class Step:
    """One operator applied.

    Attributes:
        op: its name in ONNX.
        inputs: the names of its operands; "" for one that is left out.
        outputs: the names of its results; "" for one that nobody reads.
        name: of the node, for messages.
        attrs: its attributes: numbers, text, lists of these, arrays, and programs: the bodies of
            loops and branches. What these read of the values around them are the last operands.
    """

    op: str
    inputs: list[str]
    outputs: list[str]
    name: str
    attrs: dict[str, Any]


@dataclass
class Port:
    """An input of a program.

    Attributes:
        name: its name.
        dtype: its dtype.
        shape: its sizes, None for those that a call decides; None if nothing is said.
    """

    name: str
    dtype: str
    shape: list[int | None] | None


@dataclass(eq=False)
class Program:
    """What a file computes.

    Attributes:
        steps: in an order in which they can run.
        inputs: what is given.
        outputs: the names of what comes out.
        numbers: the arrays in the file, by name; those of bodies are among the file's.
        opset: the version of the operators.
    """

    steps: list[Step]
    inputs: list[Port]
    outputs: list[str]
    numbers: dict[str, Array] = field(default_factory=dict)
    opset: int = 17


def program_of(data: Any, what: str, known: Iterable[str], fetch: Fetch | None = None) -> Program:
    """Reads a file's bytes.

    Args:
        data: the bytes.
        what: names the file in errors.
        known: the operators that there are rules for.
        fetch: reads what lies in other files; None: that is refused.

    Raises:
        FileFormatError: if it is damaged or breaks a limit.
        ValueError: if it uses what is not known; all of that is listed.
    """
    model = wire.read(messages.Model, data, what)
    graph = model.graph
    if graph is None or not (graph.node or graph.output):
        raise FileFormatError(f"{what} holds no graph: is it an ONNX file?")
    opset = _opset(model, what)
    count = sum(1 for _ in all_nodes(graph))
    if count > MOST_NODES:
        raise FileFormatError(f"{what} has {count:,} nodes, at most {MOST_NODES:,}")
    _check_known(model, graph, what, set(known))
    reader = _Reader(what, opset, fetch)
    return reader.graph(graph, None, what)


def _opset(model: messages.Model, what: str) -> int:
    versions = list({each.version for each in model.opset_import if each.domain in OWN_DOMAINS})
    if not versions and any(each.domain == ML_DOMAIN for each in model.opset_import):
        return NEWEST_OPSET  # a file without an operator of theirs
    if len(versions) != 1:
        raise FileFormatError(f"{what} does not say which version of ONNX's operators it uses")
    if not OLDEST_OPSET <= versions[0] <= NEWEST_OPSET:
        raise ValueError(
            f"{what} uses version {versions[0]} of ONNX's operators; {OLDEST_OPSET} to "
            f"{NEWEST_OPSET} are read"
        )
    return versions[0]


def all_nodes(graph: messages.Graph) -> Iterator[messages.Node]:
    """The nodes of a graph and of the graphs in them."""
    for node in graph.node:
        yield node
        for each in node.attribute:
            if each.g is not None:
                yield from all_nodes(each.g)


def _check_known(model: messages.Model, graph: messages.Graph, what: str, known: set[str]) -> None:
    unknown: Counter[str] = Counter()
    where: dict[str, str] = {}
    for number, node in enumerate(all_nodes(graph)):
        name = _name_of(node)
        if name in known:
            continue
        unknown[name] += 1
        where.setdefault(name, node.name or f"number {number}")
    if unknown:
        lines = [
            f"  {name}: {count} time{'s' * (count > 1)}, first in node {where[name]!r}"
            for name, count in sorted(unknown.items())
        ]
        raise ValueError(
            f"{what} uses operators that are not read:\n" + "\n".join(lines) + "\nnothing was "
            "imported"
        )
    if model.functions:
        raise ValueError(f"{what} defines functions of its own, which are not read")


def _name_of(node: messages.Node) -> str:
    own = node.domain in OWN_DOMAINS
    return node.op_type if own else f"{node.domain}.{node.op_type}"


def _array(tensor: messages.Tensor, label: str, fetch: Fetch | None) -> Array:
    outside = bool(tensor.data_location or tensor.external_data)
    if outside and fetch is None:
        raise ValueError(
            f"{label} lies in another file, which is read only on request: pass "
            "external_data=True, if you trust the file to name others beside it"
        )
    raw = fetch(tensor, label) if outside and fetch is not None else None
    return messages.array_of(tensor, label, raw)


def _attribute(each: messages.Attribute, label: str, fetch: Fetch | None) -> Any:
    kind = each.type
    if each.ref_attr_name:
        raise FileFormatError(f"{label} refers to a function's, outside of one")
    if kind == messages.INT and each.i is not None:
        return each.i
    if kind == messages.INT:
        return 0
    if kind == messages.FLOAT:
        return each.f or 0.0
    if kind == messages.TEXT:
        return _text(each.s if each.s is not None else b"", label)
    if kind == messages.TENSOR and each.t is not None:
        return _array(each.t, label, fetch)
    if kind == messages.INTS:
        return each.ints
    if kind == messages.FLOATS:
        return each.floats
    if kind == messages.TEXTS:
        return [_text(s, label) for s in each.strings]
    raise ValueError(f"{label} is of the type {kind} (graphs and such), which is not read")


def _text(data: Any, label: str) -> str:
    try:
        return bytes(data).decode("utf-8")
    except UnicodeDecodeError:
        raise FileFormatError(f"{label} is no UTF-8 text") from None


def _port(info: messages.ValueInfo, what: str) -> Port:
    tensor = info.type.tensor_type if info.type is not None else None
    dtype = messages.DTYPES.get(tensor.elem_type) if tensor is not None else None
    if tensor is None or dtype is None:
        raise ValueError(f"{what}: the input {info.name!r} is no tensor of numbers")
    if tensor.shape is None:
        return Port(info.name, dtype, None)
    sizes = [d.dim_value if d.dim_param is None else None for d in tensor.shape.dim]
    if any(size is not None and size < 0 for size in sizes):
        raise FileFormatError(f"{what}: the input {info.name!r} has a negative size: {sizes}")
    return Port(info.name, dtype, sizes)


BODIES = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}
"""The operators that hold graphs, and the attributes where these are."""


def bodies_of(step: Step) -> list[Program]:
    """The programs in a step."""
    return [body for body in step.attrs.values() if isinstance(body, Program)]


def around(bodies: Sequence[Program]) -> list[str]:
    """The names of what programs read that they do not write: the last operands of their step."""
    found: dict[str, None] = {}
    for body in bodies:
        own = {port.name for port in body.inputs}
        own |= {name for step in body.steps for name in step.outputs}
        read = [name for step in body.steps for name in step.inputs if name]
        found.update(dict.fromkeys(n for n in (*read, *body.outputs) if n not in own))
    return list(found)


class _Scope:
    """The names that one graph of a file can read.

    Attributes:
        names: what each that was written so far is called in the program.
        made: all that its nodes write, sooner or later.
        outside: the scope around it.
    """

    def __init__(self, made: set[str], outside: _Scope | None) -> None:
        self.names: dict[str, str] = {}
        self.made = made
        self.outside = outside

    def find(self, name: str) -> str | None:
        """What a name is called in the program; None if it is not written yet."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outside
        return None

    def is_made(self, name: str) -> bool:
        """Whether a node here or around writes it."""
        return name in self.made or (self.outside is not None and self.outside.is_made(name))


class _Reader:
    """Reads graphs, and those inside of them; every name is written once, before it is read.

    A body may call its own values as values outside are called; here they get names of their own.
    """

    def __init__(self, what: str, opset: int, fetch: Fetch | None) -> None:
        self.what = what
        self.opset = opset
        self.fetch = fetch
        self.numbers: dict[str, Array] = {}
        self.taken: Counter[str] = Counter()

    def graph(self, graph: messages.Graph, outside: _Scope | None, label: str) -> Program:
        """Reads a graph of the file: the whole of it, or a body in the scope around."""
        if graph.sparse_initializer:
            raise ValueError(f"{label} holds sparse tensors, which are not read")
        made = {name for node in graph.node for name in node.output if name}
        scope = _Scope(made, outside)
        if outside is None:  # bodies must leave these names alone
            given = [tensor.name for tensor in graph.initializer]
            self.taken.update({*made, *given, *[info.name for info in graph.input]})
        for tensor in graph.initializer:
            what = f"{label}: the tensor {tensor.name!r}"
            if tensor.name in scope.names:
                raise FileFormatError(f"{what} is there twice")
            self.numbers[self._written(tensor.name, scope)] = _array(tensor, what, self.fetch)
        inputs = []
        for info in graph.input:
            if outside is None and info.name in self.numbers:
                continue
            if info.name in scope.names:
                raise FileFormatError(f"{label}: the input {info.name!r} is there twice")
            name = self._written(info.name, scope)
            inputs.append(_port(info, label) if outside is None else Port(name, "", None))
        steps = [self._step(node, i, scope, label) for i, node in enumerate(graph.node)]
        outputs = []
        for info in graph.output:
            found = scope.find(info.name)
            if found is None:
                raise FileFormatError(f"{label}: the output {info.name!r} is written nowhere")
            outputs.append(found)
        numbers = self.numbers if outside is None else {}
        return Program(steps, inputs, outputs, numbers, self.opset)

    def _written(self, name: str, scope: _Scope) -> str:
        """Notes that a graph writes a name; returns what it is called in the program."""
        found = name
        if scope.outside is not None:
            while self.taken[found] or not found:
                self.taken[name] += 1
                found = f"{name}:{self.taken[name]}"
            self.taken[found] += 1
        scope.names[name] = found
        return found

    def _step(self, node: messages.Node, number: int, scope: _Scope, label: str) -> Step:
        name = node.name or f"{node.op_type} (number {number})"
        op = _name_of(node)
        inputs = [self._read(each, name, scope, label) for each in node.input]
        attrs: dict[str, Any] = {}
        for each in node.attribute:
            if each.name in attrs:
                raise FileFormatError(
                    f"{label}: node {name!r} has the attribute {each.name!r} twice"
                )
            what = f"{label}: the attribute {each.name!r} of {name!r}"
            if each.name in BODIES.get(op, ()) and each.g is not None:
                attrs[each.name] = without_unread(self.graph(each.g, scope, what))
            else:
                attrs[each.name] = _attribute(each, what, self.fetch)
        outputs = []
        for result in node.output:
            if result and result in scope.names:
                raise FileFormatError(f"{label}: {result!r} is written twice")
            outputs.append(self._written(result, scope) if result else "")
        step = Step(op, inputs, outputs, name, attrs)
        if op in BODIES:
            _add_what_is_around(step, label, self.opset)
        return step

    def _read(self, name: str, reader: str, scope: _Scope, label: str) -> str:
        found = scope.find(name) if name else ""
        if found is None:
            before = "used before it is written (a cycle?)"
            why = before if scope.is_made(name) else "written nowhere"
            raise FileFormatError(f"{label}: {name!r}, which {reader!r} reads, is {why}")
        return found


def _add_what_is_around(step: Step, label: str, opset: int) -> None:
    """Makes what the bodies of a step read of the values around it its last operands."""
    for name in BODIES[step.op]:
        if not isinstance(step.attrs.get(name), Program):
            raise FileFormatError(f"{label}: {step.op} in {step.name!r} has no graph {name!r}")
    bodies = bodies_of(step)
    if len(bodies) != len(BODIES[step.op]):
        raise FileFormatError(f"{label}: {step.op} in {step.name!r} has a graph too many")
    takes = [len(body.inputs) for body in bodies]
    if step.op == "Loop":
        step.inputs += [""] * (2 - len(step.inputs))
    wanted = {"If": 1, "Loop": max(takes[0], 2), "Scan": takes[0] + (opset < 9)}[step.op]
    if len(step.inputs) != wanted or (step.op == "If" and any(takes)):
        raise FileFormatError(
            f"{label}: {step.op} in {step.name!r} has {len(step.inputs)} operands, but the inputs "
            f"of its graphs are {takes}: {wanted} operands were expected"
            + (" and no inputs" if step.op == "If" else "")
        )
    step.inputs += around(bodies)


def without_unread(program: Program) -> Program:
    """Returns the program without the steps and numbers that no output needs."""
    used = set(program.outputs)
    kept = []
    for step in reversed(program.steps):
        if used.isdisjoint(step.outputs):
            continue
        kept.append(step)
        used.update(step.inputs)
    numbers = {name: array for name, array in program.numbers.items() if name in used}
    return Program(kept[::-1], program.inputs, program.outputs, numbers, program.opset)


def is_number(x: Any) -> bool:
    """Whether a value is known while a program is traced."""
    return isinstance(x, np.ndarray)
