"""What an ONNX file says, checked and as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
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
        attrs: its attributes: numbers, text, lists of these, arrays.
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
        numbers: the arrays in the file, by name.
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
    if len(graph.node) > MOST_NODES:
        raise FileFormatError(f"{what} has {len(graph.node):,} nodes, at most {MOST_NODES:,}")
    _check_known(model, graph, what, set(known))
    if graph.sparse_initializer:
        raise ValueError(f"{what} holds sparse tensors, which are not read")
    numbers: dict[str, Array] = {}
    for tensor in graph.initializer:
        label = f"{what}: the tensor {tensor.name!r}"
        if tensor.name in numbers:
            raise FileFormatError(f"{label} is there twice")
        numbers[tensor.name] = _array(tensor, label, fetch)
    steps = [_step(node, i, what, fetch) for i, node in enumerate(graph.node)]
    inputs = [_port(info, what) for info in graph.input if info.name not in numbers]
    outputs = [info.name for info in graph.output]
    found = Program(steps, inputs, outputs, numbers, opset)
    _check_names(found, what)
    return found


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


def _check_known(model: messages.Model, graph: messages.Graph, what: str, known: set[str]) -> None:
    unknown: Counter[str] = Counter()
    where: dict[str, str] = {}
    for number, node in enumerate(graph.node):
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


def _step(node: messages.Node, number: int, what: str, fetch: Fetch | None) -> Step:
    name = node.name or f"{node.op_type} (number {number})"
    attrs: dict[str, Any] = {}
    for each in node.attribute:
        if each.name in attrs:
            raise FileFormatError(f"{what}: node {name!r} has the attribute {each.name!r} twice")
        attrs[each.name] = _attribute(
            each, f"{what}: the attribute {each.name!r} of {name!r}", fetch
        )
    return Step(_name_of(node), node.input, node.output, name, attrs)


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


def _check_names(program: Program, what: str) -> None:
    """Every name is written once, before it is read."""
    written = set(program.numbers)
    for port in program.inputs:
        if port.name in written:
            raise FileFormatError(f"{what}: the input {port.name!r} is there twice")
        written.add(port.name)
    made = {name for step in program.steps for name in step.outputs}
    for step in program.steps:
        for name in step.inputs:
            if name and name not in written:
                why = "used before it is written (a cycle?)" if name in made else "written nowhere"
                raise FileFormatError(f"{what}: {name!r}, which {step.name!r} reads, is {why}")
        for name in step.outputs:
            if name and name in written:
                raise FileFormatError(f"{what}: {name!r} is written twice")
            written.add(name)
    for name in program.outputs:
        if name not in written:
            raise FileFormatError(f"{what}: the output {name!r} is written nowhere")


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
