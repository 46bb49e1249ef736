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
    attrs = node.attrs
    body, n_carry, n_xs = attrs["body"], attrs["n_carry"], attrs["n_xs"]
    graph = body.graph
    before = [describer.add(v) for v in node.inputs[:n_carry]]
    xs = [describer.add(v) for v in node.inputs[n_carry : n_carry + n_xs]]
    inside = [describer.add(v) for v in graph.inputs[: n_carry + n_xs]]
    captured = _capture(describer, body, node.inputs, n_carry + n_xs)
    given = graph.outputs[:n_carry]
    rows = [-1] * n_carry
    free = {v: i for i, v in enumerate(graph.outputs[n_carry:])}
    for i, value in enumerate(given):
        if value.node is not None and not _has_place(value) and value in free:
            rows[i] = free.pop(value)
    buffers = []
    for value, row in zip(given, rows, strict=True):
        buffers += [describer.new(value) for _ in range(1 if row >= 0 else 2)]
    ys = [describer.add(v) for v in node.outputs[n_carry:]]
    scope = node.scope
    describer.emit(
        "scan",
        [*before, *xs],
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
    _describe_body(describer, body)
    results = [*[v for v, row in zip(given, rows, strict=True) if row < 0]]
    results += graph.outputs[n_carry:]
    written = iter(_written(describer, body, results, scope))
    out = [next(written) if row < 0 else None for row in rows]
    stacked = list(written)
    out = [stacked[row] if row >= 0 else at for at, row in zip(out, rows, strict=True)]
    after = [describer.add(v) for v in node.outputs[:n_carry]]
    describer.emit("end_scan", [*out, *stacked, *captured], after, {}, scope)


def describe_while(describer: Any, node: Node) -> None:
    """``while_loop``: the condition, the test, the body."""
    attrs = node.attrs
    condition, body, n_vars = attrs["condition"], attrs["body"], attrs["n_vars"]
    before = [describer.add(v) for v in node.inputs[:n_vars]]
    inside = [describer.add(v) for v in body.graph.inputs[:n_vars]]
    describer.number.update(zip(condition.graph.inputs[:n_vars], inside, strict=True))
    captured = _capture(describer, body, node.inputs, n_vars)
    _capture(describer, condition, node.inputs, n_vars)
    buffers = [describer.new(v) for v in body.graph.outputs for _ in "ab"]
    most = attrs["maximum_iterations"]
    limit = {} if most is None else {"maximum_iterations": max(most, 0)}
    scope = node.scope
    describer.emit("while", before, [*inside, *buffers], {"n_carry": n_vars, **limit}, scope)
    _describe_body(describer, condition)
    truth = _written(describer, condition, condition.graph.outputs, scope)
    describer.emit("test_while", truth, [], {}, scope)
    _describe_body(describer, body)
    out = _written(describer, body, body.graph.outputs, scope)
    after = [describer.add(v) for v in node.outputs]
    describer.emit("end_while", [*out, *captured], after, {}, scope)


def describe_switch(describer: Any, node: Node) -> None:
    """``switch``: the branches one after the other."""
    results = [describer.add(v) for v in node.outputs]
    scope = node.scope
    describer.emit("switch", [describer.add(node.inputs[0])], results, {}, scope)
    captured: list[int] = []
    for body in bodies_of(node):
        captured = _capture(describer, body, node.inputs[1:], 0)
        describer.emit("branch", [], [], {}, scope)
        _describe_body(describer, body)
        given = _written(describer, body, body.graph.outputs, scope)
        describer.emit("end_branch", given, [], {}, scope)
    describer.emit("end_switch", captured, [], {}, scope)


def _capture(describer: Any, body: Body, operands: Sequence[Value], first: int) -> list[int]:
    """Lets the last inputs of a body be the operands themselves; returns their numbers."""
    numbers = [describer.add(v) for v in operands[first:]]
    describer.number.update(zip(body.graph.inputs[first:], numbers, strict=True))
    return numbers


def _describe_body(describer: Any, body: Body) -> None:
    describer.add_constants(body.graph)
    for inner in body.graph.nodes:
        describer.add_node(inner)


def _written(describer: Any, body: Body, values: Sequence[Value], scope: str) -> list[int]:
    """The numbers of values that nodes of the body compute, each for itself; copies of others."""
    sources = {*body.graph.inputs, *body.graph.constants}
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
    if node is None or not bodies_of(node):
        return False
    carries = node.attrs.get("n_carry", node.attrs.get("n_vars", 0))
    return value.index < carries
