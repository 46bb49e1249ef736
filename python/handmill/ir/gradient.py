"""The reverse sweep: asks each operator for its vjp and adds up what comes back."""

from __future__ import annotations

from collections.abc import Sequence

from handmill.errors import NotDifferentiableError
from handmill.ir.dims import same_shape
from handmill.ir.graph import Graph, Node, Value
from handmill.ir.shapes import numpy_dtype


def gradients(
    graph: Graph, loss: Value, wrt: Sequence[Value], dloss: Value | None = None
) -> list[Value | None]:
    """Appends to ``graph`` the gradients of ``loss`` with respect to ``wrt``.

    Args:
        graph: the graph that is being traced (``with graph:`` must be active).
        loss: a value of the graph, float.
        wrt: values of the graph.
        dloss: the gradient of what follows ``loss``, of the same shape. Default: ones.

    Returns:
        A value for each of ``wrt``; None where ``loss`` does not depend on it.

    Raises:
        NotDifferentiableError: if an operator on the way has no gradient.
    """
    if dloss is None and loss.shape != ():
        raise ValueError(f"the gradient of a scalar was expected, the loss is {loss.spec}")
    return pullback(graph, [loss], [dloss], wrt)


def pullback(
    graph: Graph,
    targets: Sequence[Value],
    seeds: Sequence[Value | None],
    wrt: Sequence[Value],
    nodes: Sequence[Node] | None = None,
    rule: str | None = None,
) -> list[Value | None]:
    """Appends to ``graph`` the sum over targets of seed times derivative, for each of ``wrt``.

    The nodes of the forward program stay as they are; vjps emit operators behind them.

    Args:
        graph: the graph that is being traced (``with graph:`` must be active).
        targets: float values of the graph.
        seeds: the gradient of what follows each target, of its shape; None stands for one, and
            needs a scalar target.
        wrt: values of the graph.
        nodes: the nodes through which gradients flow, in program order; what others compute
            counts as constant. Default: all.
        rule: the name of another backward rule, for operators that have it (``Op.rules``).

    Returns:
        A value for each of ``wrt``; None where no target depends on it.

    Raises:
        NotDifferentiableError: if an operator on the way has no gradient.
    """
    nodes = list(graph.nodes if nodes is None else nodes)
    needed = depends_on(nodes, wrt)
    found: dict[Value, Value] = {}
    for target, seed in zip(targets, seeds, strict=True):
        if target in needed:
            if seed is None:
                seed = graph.constant(1.0, dtype=numpy_dtype(target.dtype).name)
            found[target] = found[target] + seed if target in found else seed
    if not found:
        return [None] * len(wrt)
    for node in reversed(nodes):
        if found.keys().isdisjoint(node.outputs) or needed.isdisjoint(node.inputs):
            continue
        dys = [found.get(y) for y in node.outputs]
        for x, dx in zip(node.inputs, _vjp(graph, node, dys, rule), strict=True):
            if dx is None or x not in needed:
                continue
            if not same_shape(dx.shape, x.shape):
                raise AssertionError(
                    f"the gradient of {node.op.name} has shape {dx.shape}, expected {x.shape}"
                )
            found[x] = found[x] + dx if x in found else dx
    return [found.get(x) for x in wrt]


def _vjp(
    graph: Graph, node: Node, dys: list[Value | None], rule: str | None
) -> Sequence[Value | None]:
    op = node.op
    vjp = op.vjp if rule is None else op.rules.get(rule, op.vjp)
    if vjp is None and op.composite is None:
        where = f" in layer {node.scope!r}" if node.scope else ""
        raise NotDifferentiableError(
            f"the gradient of {op.name}{where} was asked for, but it has none"
        )
    scope, graph.scopes = graph.scopes, [node.scope]
    try:
        if vjp is not None:
            return vjp(node.inputs, node.outputs, tuple(dys), **node.attrs)
        start = len(graph.nodes)
        found = op.composite(*node.inputs, **node.attrs)  # type: ignore[misc]
        outputs = found if isinstance(found, tuple) else (found,)
        pairs = [(y, dy) for y, dy in zip(outputs, dys, strict=True) if dy is not None]
        targets, seeds = [y for y, _ in pairs], [dy for _, dy in pairs]
        return pullback(graph, targets, seeds, node.inputs, graph.nodes[start:], rule)
    finally:
        graph.scopes = scope


def depends_on(nodes: Sequence[Node], wrt: Sequence[Value]) -> set[Value]:
    """The float values that ``nodes`` compute from ``wrt``, themselves included."""
    needed = set(wrt)
    for node in nodes:
        ways = node.inputs
        if node.op.grad_none:
            ways = tuple([x for i, x in enumerate(ways) if i not in node.op.grad_none])
        if not needed.isdisjoint(ways):
            needed.update([y for y in node.outputs if y.spec.is_float])
    return needed
