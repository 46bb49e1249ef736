"""Takes out of loops what is the same in each of their steps."""

from __future__ import annotations

from collections.abc import Iterable

from handmill.ir.body import Body, any_op, bodies_of, map_bodies
from handmill.ir.dims import lower_bound
from handmill.ir.graph import Graph, Node, Value, rewrite
from handmill.ir.shapes import size_of


def hoist(graph: Graph) -> Graph:
    """Computes before a loop what its body computes from captured values and constants alone.

    A conversion of weights is an example. What would grow (a broadcast) stays: reading it
    again costs more than computing it.
    """
    if not any(bodies_of(node) for node in graph.nodes):
        return graph

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        if not bodies_of(node):
            return None
        attrs = map_bodies(node, hoist)
        specs = [v.spec for v in node.outputs]
        if node.op.loop is None:
            return new.append(node.op, operands, attrs, node.scope, specs)
        first = sum(node.op.loop(attrs))
        found: list[Value] = list(operands)
        for name in [key for key, attr in attrs.items() if isinstance(attr, Body)]:
            rest, more = _take_out(new, attrs[name], found, first)
            for key, attr in attrs.items():
                if isinstance(attr, Body):
                    attrs[key] = rest if key == name else _with_inputs(attr, more)
            found += more
        return new.append(node.op, found, attrs, node.scope, specs)

    return rewrite(graph, visit)


def _take_out(
    outer: Graph, body: Body, operands: list[Value], first: int
) -> tuple[Body, list[Value]]:
    """Appends to ``outer`` what never changes; returns the rest and what it now captures too."""
    graph = body.graph
    outside: dict[Value, Value] = dict(zip(graph.inputs[first:], operands[first:], strict=True))
    outside.update((v, v) for v in graph.constants)
    start = set(outside)
    for node in graph.nodes:
        if all(v in outside for v in node.inputs) and _is_worth(node):
            outputs = outer.copy_node(node, [outside[v] for v in node.inputs])
            outside.update(zip(node.outputs, outputs, strict=True))
    taken = {v for v in outside if v not in start}
    if not taken:
        return body, []
    outer.constants = list(dict.fromkeys([*outer.constants, *graph.constants]))
    rest = [node for node in graph.nodes if not taken.issuperset(node.outputs)]
    read = {v for node in rest for v in node.inputs} | set(graph.outputs)
    needed = [v for v in outside if v in taken and v in read]
    inner = {v: Value(graph, v.spec, origin=f"hoisted{i}") for i, v in enumerate(needed)}
    new = Graph(graph.name, graph.assumptions)
    new.inputs = [*graph.inputs, *inner.values()]
    new.constants = list(graph.constants)
    moved = dict(inner)
    for node in rest:
        outputs = new.keep_node(node, [moved.get(v, v) for v in node.inputs])
        moved.update(zip(node.outputs, outputs, strict=True))
    new.outputs = [moved.get(v, v) for v in graph.outputs]
    return Body(new), [outside[v] for v in needed]


def _is_worth(node: Node) -> bool:
    if not node.inputs or any_op(node, lambda op: op.random or op.guard or op.transparent):
        return False
    largest = [size_of(v.shape) for v in node.inputs]
    return all(
        any(lower_bound(size - size_of(v.shape)) >= 0 for size in largest) for v in node.outputs
    )


def _with_inputs(body: Body, more: list[Value]) -> Body:
    if not more:
        return body
    graph = body.graph
    new = Graph(graph.name, graph.assumptions)
    new.inputs = [*graph.inputs]
    new.inputs += [Value(graph, v.spec, origin=f"unused{i}") for i, v in enumerate(more)]
    new.constants, new.nodes, new.outputs = graph.constants, graph.nodes, graph.outputs
    return Body(new)
