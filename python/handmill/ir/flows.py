"""Loops and choices as C++ knows them: the nodes of a body between those that control them.

See ``csrc/core/flow.h``. A body's inputs for captured values are those values themselves. What a
body gives must be computed by one of its nodes, which is then told where to write: what only
passes through, or is given twice, is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill.ir.body import Body, bodies_of
from handmill.ir.graph import Node, Value


def describe_scan(describer: Any, node: Node) -> None:
    """``scan``: the carry alternates between two buffers, or lies in rows that are results."""
    attrs, scope = node.attrs, node.scope
    body, n_carry, n_xs = attrs["body"], attrs["n_carry"], attrs["n_xs"]
    graph = body.graph
    moving = n_carry + n_xs
    operands = [describer.add(v) for v in node.inputs]
    inside = [describer.new(v) for v in graph.inputs[:moving]]
    given = graph.outputs[:n_carry]
    rows = [-1] * n_carry
    free: dict[Value, int] = {}
    for i, value in enumerate(graph.outputs[n_carry:]):
        free.setdefault(value, i)
    for i, value in enumerate(given):
        if value.node is not None and not _has_place(value) and value in free:
            rows[i] = free.pop(value)
    buffers = []
    for value, row in zip(given, rows, strict=True):
        buffers += [describer.new(value) for _ in range(1 if row >= 0 else 2)]
    ys = [describer.add(v) for v in node.outputs[n_carry:]]
    describer.emit(
        "scan",
        operands[:moving],
        [*inside, *buffers, *ys],
        {
            "n_carry": n_carry,
            "n_xs": n_xs,
            "rows": tuple(rows),
            "length": describer.size(attrs["length"]),
            "reverse": attrs["reverse"],
        },
        scope,
    )
    alone = [v for v, row in zip(given, rows, strict=True) if row < 0]
    numbers = [*inside, *operands[moving:]]
    written = _describe(describer, body, numbers, [*alone, *graph.outputs[n_carry:]], scope)
    stacked, mine = written[len(alone) :], iter(written)
    out = [stacked[row] if row >= 0 else next(mine) for row in rows]
    after = [describer.add(v) for v in node.outputs[:n_carry]]
    describer.emit("end_scan", [*out, *stacked, *operands[moving:]], after, {}, scope)


def describe_while(describer: Any, node: Node) -> None:
    """``while_loop``: the condition, the test, the body."""
    attrs, scope = node.attrs, node.scope
    condition, body, n_vars = attrs["condition"], attrs["body"], attrs["n_vars"]
    operands = [describer.add(v) for v in node.inputs]
    inside = [describer.new(v) for v in node.inputs[:n_vars]]
    buffers = [describer.new(v) for v in node.inputs[:n_vars] for _ in "ab"]
    most = attrs["maximum_iterations"]
    limit = {} if most is None else {"maximum_iterations": max(most, 0)}
    start = {"n_carry": n_vars, **limit}
    describer.emit("while", operands[:n_vars], [*inside, *buffers], start, scope)
    numbers = [*inside, *operands[n_vars:]]
    truth = _describe(describer, condition, numbers, condition.graph.outputs, scope)
    describer.emit("test_while", truth, [], {}, scope)
    out = _describe(describer, body, numbers, body.graph.outputs, scope)
    after = [describer.add(v) for v in node.outputs]
    describer.emit("end_while", [*out, *operands[n_vars:]], after, {}, scope)


def describe_switch(describer: Any, node: Node) -> None:
    """``switch``: the branches one after the other."""
    scope = node.scope
    index, *operands = [describer.add(v) for v in node.inputs]
    describer.emit("switch", [index], [describer.add(v) for v in node.outputs], {}, scope)
    for body in bodies_of(node):
        describer.emit("branch", [], [], {}, scope)
        given = _describe(describer, body, operands, body.graph.outputs, scope)
        describer.emit("end_branch", given, [], {}, scope)
    describer.emit("end_switch", operands, [], {}, scope)


def _describe(
    describer: Any, body: Body, inputs: Sequence[int], values: Sequence[Value], scope: str
) -> list[int]:
    """Describes the nodes of a body, whose inputs have these numbers.

    Returns:
        The numbers of ``values``, each computed by a node of the body for itself alone.
    """
    graph = body.graph
    with describer.inside(dict(zip(graph.inputs, inputs, strict=True))):
        describer.add_constants(graph)
        for inner in graph.nodes:
            describer.add_node(inner)
        sources = {*graph.inputs, *graph.constants}
        seen: set[Value] = set()
        numbers = []
        for value in values:
            number = describer.add(value)
            if value in sources or value in seen or _has_place(value):
                copy = describer.new(value)
                describer.emit("view", [number], [copy], {}, scope)
                number = copy
            seen.add(value)
            numbers.append(number)
        return numbers


def _has_place(value: Value) -> bool:
    """Whether a value is the carry after a loop, which lies in the loop's memory."""
    node = value.node
    if node is None or node.op.loop is None:
        return False
    n_carry, _ = node.op.loop(node.attrs)
    return value.index < n_carry
