"""How one operator shares what is explained among operands that differ between two runs.

A multiplier m belongs to each element of each operand, so that the sum of m times the difference of
the operands is the sum of dy times the difference of the outputs: then the shares of a network sum
to the difference of its scores. Which rule holds is said by the record (``Op.attribution``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from handmill import ops
from handmill.errors import NotDifferentiableError
from handmill.ir.dims import same_shape
from handmill.ir.graph import Graph, Value
from handmill.ir.op import Attrs, Op
from handmill.primitives.emit import unbroadcast

NEAR = 1e-6
"""Differences below this part of 1 + |x| are none: the derivative stands for their quotient."""

MOST_STEPS = 128
"""Of a scan that is followed step by step; each has nodes of its own in the program."""

_NODES = 16  # of the path through an operator that has no rule

Values = Sequence[Value]
Found = Sequence["Value | None"]


def multipliers(
    graph: Graph,
    op: Op,
    attrs: Attrs,
    inputs: Values,
    others: Values,
    outputs: Values,
    other_outputs: Values,
    dys: Found,
    varying: Sequence[bool],
) -> Found:
    """Appends to ``graph`` the multipliers of an operator's operands.

    Args:
        graph: the graph that is traced.
        op: the operator.
        attrs: its attributes.
        inputs: its operands in one run.
        others: those in the other run; what does not vary is the same.
        outputs: what it gives in one run.
        other_outputs: what it gives in the other.
        dys: the multipliers of its outputs; None where nothing depends on one.
        varying: which operands may differ.

    Returns:
        A value for each operand, or None.

    Raises:
        NotDifferentiableError: for an operator without a rule and a gradient.
    """
    rule = op.attribution
    if callable(rule):
        return rule(inputs, others, outputs, other_outputs, dys, varying, **attrs)
    if rule == "midpoint":
        middle = _middle(outputs, other_outputs, [y.spec.is_float for y in outputs])
        return _vjp(op)(_middle(inputs, others, varying), middle, tuple(dys), **attrs)
    if rule in ("max", "min") and dys[0] is not None:
        return _by_winner(op, attrs, inputs, others, outputs, other_outputs, dys, rule, varying)
    if is_elementwise(op, varying) and dys[0] is not None:
        slope = quotient(op, attrs, inputs, others, outputs[0], other_outputs[0], varying)
        place = list(varying).index(True)
        found: list[Value | None] = [None] * len(inputs)
        found[place] = unbroadcast(dys[0] * slope, inputs[place].shape)
        return found
    if op.flow is not None or (op.vjp is None and op.composite is None):
        raise NotDifferentiableError(
            f"{op.name} has no rule to share what is explained among its operands (of loops, scans "
            f"of {MOST_STEPS} known steps or less are followed): use integrated_gradients, which "
            "follows gradients, or shap or lime, which ask for answers alone"
        )
    if op.composite is not None and (op.vjp is None or rule == "composite"):
        return _through_composite(graph, op, attrs, inputs, others, dys, varying)
    return along_path(graph, op, attrs, inputs, others, dys, varying)


def is_elementwise(op: Op, varying: Sequence[bool]) -> bool:
    """Whether an operator shares by quotients of differences."""
    by_quotient = op.attribution == "quotient" or (op.attribution is None and op.tile is not None)
    return by_quotient and sum(varying) == 1


def has_rule(op: Op, varying: Sequence[bool]) -> bool:
    """Whether multipliers of an operator sum exactly, up to rounding."""
    if op.attribution in (None, "quotient"):
        return is_elementwise(op, varying)
    return True


def quotient(
    op: Op,
    attrs: Attrs,
    inputs: Values,
    others: Values,
    output: Value,
    other_output: Value,
    varying: Sequence[bool],
) -> Value:
    """The slope of an elementwise operator between two runs."""
    place = list(varying).index(True)
    x, z = inputs[place], others[place]
    difference = x - z
    near = ops.less(ops.abs(difference), (ops.abs(x) + 1.0) * NEAR)
    # The derivative in one run alone: of the other nothing is known but that it is near.
    one = ops.ones_like(output)
    slope = _vjp(op)(inputs, (output,), (one,), **attrs)[place]
    if slope is None:
        slope = ops.zeros_like(output)
    rise = output - other_output
    return ops.where(near, slope, rise / ops.where(near, 1.0, difference))  # type: ignore[no-any-return]


def _vjp(op: Op) -> Callable[..., Found]:
    assert op.vjp is not None  # noqa: S101
    return op.vjp


def _middle(inputs: Values, others: Values, varying: Sequence[bool]) -> tuple[Value, ...]:
    return tuple(
        (x + z) * 0.5 if moves else x for x, z, moves in zip(inputs, others, varying, strict=True)
    )


def _by_winner(
    op: Op,
    attrs: Attrs,
    inputs: Values,
    others: Values,
    outputs: Values,
    other_outputs: Values,
    dys: Found,
    rule: str,
    varying: Sequence[bool],
) -> Found:
    """What an extreme gained goes to the winner of one run, what it lost to that of the other."""
    y, z, dy = outputs[0], other_outputs[0], dys[0]
    extreme = ops.maximum(y, z) if rule == "max" else ops.minimum(y, z)
    gained = _vjp(op)(inputs, outputs, (dy * (extreme - z),), **attrs)
    lost = _vjp(op)(others, other_outputs, (dy * (y - extreme),), **attrs)
    found: list[Value | None] = []
    for x, w, a, b, moves in zip(inputs, others, gained, lost, varying, strict=True):
        if not moves or a is None or b is None:
            found.append(None)
            continue
        difference = x - w
        near = ops.equal(difference, 0.0)
        found.append(ops.where(near, 0.0, (a + b) / ops.where(near, 1.0, difference)))
    return found


def _through_composite(
    graph: Graph,
    op: Op,
    attrs: Attrs,
    inputs: Values,
    others: Values,
    dys: Found,
    varying: Sequence[bool],
) -> Found:
    """Multipliers of what a fused operator stands for, run once for each run."""
    assert op.composite is not None  # noqa: S101
    parts = []
    for given in (inputs, others):
        start = len(graph.nodes)
        made = op.composite(*given, **attrs)
        parts.append((graph.nodes[start:], made if isinstance(made, tuple) else (made,)))
    (nodes, results), (other_nodes, _) = parts
    pair = dict(zip(inputs, others, strict=True))
    differs = {x for x, moves in zip(inputs, varying, strict=True) if moves}
    for node, twin in zip(nodes, other_nodes, strict=True):
        pair.update(zip(node.outputs, twin.outputs, strict=True))
        if not differs.isdisjoint(node.inputs):
            differs.update(y for y in node.outputs if y.spec.is_float)
    found = {y: dy for y, dy in zip(results, dys, strict=True) if dy is not None}
    for node in reversed(nodes):
        if found.keys().isdisjoint(node.outputs) or differs.isdisjoint(node.inputs):
            continue
        shares = multipliers(
            graph,
            node.op,
            node.attrs,
            node.inputs,
            [pair.get(x, x) for x in node.inputs],
            node.outputs,
            [pair[y] for y in node.outputs],
            [found.get(y) for y in node.outputs],
            [x in differs for x in node.inputs],
        )
        for x, share in zip(node.inputs, shares, strict=True):
            if share is not None and x in differs:
                found[x] = found[x] + share if x in found else share
    return [found.get(x) for x in inputs]


def along_path(
    graph: Graph,
    op: Op,
    attrs: Attrs,
    inputs: Values,
    others: Values,
    dys: Found,
    varying: Sequence[bool],
) -> Found:
    """The mean gradient of an operator on the line between two runs; exact but for quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    total: list[Value | None] = [None] * len(inputs)
    for at, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        between = tuple(
            z + (x - z) * float(at) if moves else x
            for x, z, moves in zip(inputs, others, varying, strict=True)
        )
        outputs = graph.emit(op, between, attrs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        for i, dx in enumerate(_vjp(op)(between, outputs, tuple(dys), **attrs)):
            if dx is not None and varying[i]:
                part = dx * float(weight)
                known = total[i]
                total[i] = part if known is None else known + part
    for x, share in zip(inputs, total, strict=True):
        if share is not None and not same_shape(share.shape, x.shape):
            raise AssertionError(f"{op.name}: a multiplier has shape {share.shape}, not {x.shape}")
    return total
