"""Describes a scheduled graph to the C++ core, once for all batch sizes.

What depends on the batch size (memory offsets, argument structs, blocks) is worked out in
C++ by ``Program.specialize``: a new batch size costs microseconds, not a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill.ir.graph import Graph, Node, Value
from handmill.ir.op import Array
from handmill.ir.shapes import DTYPES, Batch, Shape
from handmill.ir.tile import TILE, TileStep, tile_code

HOST = "host"


def describe(
    graph: Graph, opcodes: dict[str, int], feeds: bool
) -> tuple[dict[str, Any], dict[Value, int]]:
    """Returns the arguments of ``_core.Program`` and the number of each value.

    Which states stand behind the variables, in the order of ``graph.variables``, is said when the
    program runs.

    Args:
        graph: a graph that :func:`handmill.ir.passes.schedule` has ordered.
        opcodes: opcode of each tile instruction by name.
        feeds: whether the inputs are gathered from data sets by the program itself.
    """
    number: dict[Value, int] = {}
    values: list[tuple[int, tuple[int, ...]]] = []

    def add(value: Value) -> int:
        at = number.get(value)
        if at is None:
            at = number[value] = len(values)
            values.append((DTYPES.index(value.spec.dtype), _dims(value.spec.shape)))
        return at

    inputs = [add(v) for v in graph.inputs]
    variables = [add(v) for v in graph.variables.values()]
    constants = [(add(v), v.origin) for v in graph.constants]
    nodes = []
    for node in graph.nodes:
        kernel, attrs, host = _rule(node, opcodes)
        nodes.append(
            (
                kernel,
                tuple([add(v) for v in node.inputs]),
                tuple([add(v) for v in node.outputs]),
                attrs,
                _alias(node),
                node.scope,
                host,
            )
        )
    arguments = {
        "values": values,
        "inputs": inputs,
        "constants": constants,
        "variables": variables,
        "nodes": nodes,
        "outputs": [number[v] for v in graph.outputs],
        "updates": [(number[graph.variables[s]], number[v]) for s, v in graph.updates.items()],
        "feeds": inputs if feeds else [],
    }
    return arguments, number


def _alias(node: Node) -> tuple[tuple[int, int], ...]:
    """The pairs (output, input) that may share memory.

    A tile program with one result writes each piece of it after it has read that piece of every
    operand; with several results a later instruction may still read what a result overwrote.
    """
    if node.op is TILE or (node.op.elementwise and node.op.alias):
        if len(node.outputs) > 1:
            return ()
        out = node.outputs[0].spec
        return tuple((0, i) for i, v in enumerate(node.inputs) if v.spec == out)
    return tuple((o, i) for o, i in node.op.alias if o < len(node.outputs) and i < len(node.inputs))


def _dims(shape: Shape) -> tuple[int, ...]:
    """A batch dimension of c*B elements is written -c.

    Raises:
        ValueError: for a dimension that no array can have.
    """
    dims = tuple([-d.times if isinstance(d, Batch) else d for d in shape])
    if dims and max(dims) >= 1 << 63:
        raise ValueError(f"an array of shape {shape} is too large")
    return dims


def _rule(
    node: Node, opcodes: dict[str, int]
) -> tuple[str, dict[str, Any], Callable[..., Any] | None]:
    """The lowering rule of a node: its kernel's, the tile program's, or the host's."""
    op = node.op
    specs = [v.spec for v in node.inputs]
    if op is TILE:
        attrs = tile_code(len(node.inputs), node.attrs["steps"], node.attrs["results"], opcodes)
        return "tile", attrs, None
    if op.elementwise and op.native(specs, node.attrs):
        step = TileStep(op, tuple(range(len(specs))), tuple(node.attrs.items()))
        return "tile", tile_code(len(specs), (step,), (0,), opcodes), None
    if op.kernel is not None and op.native(specs, node.attrs):
        return op.kernel, _plain(node), None
    return HOST, {"name": op.name, **({"guard": True} if op.guard else {})}, _host(node)


def _plain(node: Node) -> dict[str, Any]:
    """The attributes that C++ needs; shapes are known there from the operands."""
    attrs = {
        name: value
        for name, value in node.attrs.items()
        if isinstance(value, bool | int | float | str)
        or (isinstance(value, tuple) and all(isinstance(v, int | float) for v in value))
    }
    attrs |= dict(node.op.kernel_attrs)
    if node.op.guard:
        attrs["guard"] = True
    return attrs


def _host(node: Node) -> Callable[[Sequence[Array]], tuple[Array, ...]]:
    """A step that runs the operator's reference, on views of the program's memory."""
    batch_attrs = any(_mentions_batch(v) for v in node.attrs.values())
    shapes = [v.shape for v in node.inputs]

    def run(operands: Sequence[Array]) -> tuple[Array, ...]:
        from handmill.ir.interpret import run_node
        from handmill.ir.shapes import batch_of

        batch = 1
        if batch_attrs:
            found = (batch_of(s, a.shape) for s, a in zip(shapes, operands, strict=True))
            batch = next((b for b in found if b is not None), 1)
        with np.errstate(all="ignore"):
            return run_node(node, operands, batch)

    return run


def _mentions_batch(attr: Any) -> bool:
    if isinstance(attr, tuple):
        return any(_mentions_batch(a) for a in attr)
    return isinstance(attr, Batch)
