"""DeepLIFT and Deep SHAP: differences of scores shared backwards, operator by operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import ops
from handmill.explanation.asked import Asked, baselines_for
from handmill.explanation.explanation import Explanation
from handmill.explanation.gradients import notes_of_places, sum_as_input, with_points
from handmill.explanation.multipliers import (
    MOST_STEPS,
    has_rule,
    is_elementwise,
    multipliers,
    quotient,
)
from handmill.explanation.paths import background_of, mean_scores
from handmill.explanation.program import Run, computed_from, points_of, run_model
from handmill.explanation.rows import checked_seed
from handmill.ir.dims import Atom, attrs_with, exact_quotient, symbols_of
from handmill.ir.gradient import depends_on
from handmill.ir.graph import Graph, Node, Value
from handmill.ir.trace import opened_loops
from handmill.primitives.emit import slice_axis, unbroadcast
from handmill.random import permutation
from handmill.runtime.function import Outputs
from handmill.runtime.variable import Variable

_MOST_BACKGROUND = 100
_BLOCK = 128  # rows of a background that one program compares with
_MOST_PAIRS = 2048


def deep_lift(
    model: Any, x: Any, target: Any = None, baseline: Any = None, **options: Any
) -> Explanation:
    """Shares the difference of the score from that of a baseline among the inputs.

    Backwards through every operator by its rule: what is linear by its weights, activations by
    quotients of differences, products by the mean of the factors of both runs, pooling to the
    winners. So the values sum to score - base value, through softmax, normalization, attention and
    recurrent layers too. An operator without a rule is gone through along a path, and ``notes``
    names it.

    Args:
        model: a handmill model, or an estimator that holds one.
        x: rows, nested as the model takes them.
        target: see :func:`saliency`.
        baseline: one row, see :func:`integrated_gradients`.
        **options: see :func:`saliency`.

    Returns:
        An :class:`Explanation` whose values have the shape of ``x``.

    Raises:
        ValueError: for a table without a baseline, and for what does not fit the model.
        NotDifferentiableError: for a ``while_loop``, a ``switch``, or a scan (a recurrent layer) of
            more than 128 steps: they have no rule.

    References:
        Shrikumar et al., "Learning important features through propagating activation
        differences", 2017 (the rescale rule).

    Example:
        >>> import numpy as np, handmill
        >>> layer = handmill.layers.Dense(1, kernel_initializer="ones")
        >>> model = handmill.Sequential([handmill.Input((2,)), layer])
        >>> handmill.explanation.deep_lift(model, np.array([[3.0, -1.0]]), baseline=0).values
        array([[ 3., -1.]], dtype=float32)
    """
    asked = Asked("DeepLIFT", model, x, target, **options)
    if not asked.rows:
        return asked.explanation(asked.zeros(), base_values=np.zeros(0), complete=True)
    rows = baselines_for(asked, baseline)
    if any(len(row) != 1 for row in rows):
        raise ValueError(
            f"deep_lift: `baseline` has {max(map(len, rows))} rows: pass one, or the rows as the "
            "`background` of deep_shap"
        )
    states = tuple(
        Variable(row, trainable=False, name=f"baseline_{i}") for i, row in enumerate(rows)
    )
    checks = asked.checks(deep_lift, target, {**options, "baseline": baseline})
    return _shared(asked, states, checks)


def deep_shap(
    model: Any,
    x: Any,
    target: Any = None,
    background: Any = None,
    seed: int = 0,
    **options: Any,
) -> Explanation:
    """Deep SHAP: :func:`deep_lift`, averaged over the rows of a background.

    The values approximate Shapley values and sum to the score less the mean score of the
    background. Their standard errors are those over the background: how much the values would
    change with other rows of it.

    Args:
        model: see :func:`deep_lift`.
        x: see :func:`deep_lift`.
        target: see :func:`saliency`.
        background: rows of the training data, nested as ``x`` is; of more than 100, 100 are drawn.
        seed: of the draw.
        **options: see :func:`saliency`.

    Returns:
        An :class:`Explanation` with standard errors.

    Raises:
        ValueError: for a background that is missing, empty or of another width.
        NotDifferentiableError: for a ``while_loop``, a ``switch``, or a scan (a recurrent layer) of
            more than 128 steps: they have no rule.

    References:
        Lundberg and Lee, "A unified approach to interpreting model predictions", 2017.

    Example:
        >>> import numpy as np, handmill
        >>> layer = handmill.layers.Dense(1, kernel_initializer="ones")
        >>> model = handmill.Sequential([handmill.Input((2,)), layer])
        >>> rows = np.array([[1.0, 0.0], [3.0, 0.0]])
        >>> handmill.explanation.deep_shap(model, np.array([[3.0, -1.0]]), background=rows).values
        array([[ 1., -1.]], dtype=float32)
    """
    seed = checked_seed(seed)
    asked = Asked("Deep SHAP", model, x, target, **options)
    states = background_of(asked, background)
    if not asked.rows:
        return asked.explanation(asked.zeros(), base_values=np.zeros(0), complete=True)
    given = states[0].shape[0]
    note: tuple[str, ...] = ()
    if given > _MOST_BACKGROUND:
        taken = np.sort(permutation(seed, 0, given)[:_MOST_BACKGROUND])
        states = tuple(
            Variable(state.read()[taken], trainable=False, name=state.name) for state in states
        )
        note = (
            f"{_MOST_BACKGROUND} of the {given} rows of the background were drawn (seed {seed})",
        )
    more = {**options, "background": background, "seed": seed}
    explanation = _shared(asked, states, asked.checks(deep_shap, target, more))
    explanation.notes += note
    return explanation


def _shared(asked: Asked, states: tuple[Variable, ...], checks: Any) -> Explanation:
    count = states[0].shape[0]
    block = -(-count // -(-count // _BLOCK))
    program = asked.program_with(shares_program, states, block)
    values, squares = asked.zeros(), asked.zeros()
    notes: tuple[str, ...] = ()
    for rows, arrays in asked.blocks(block, _MOST_PAIRS):
        seeds = asked.targets.seeds[rows]
        for start in range(0, count, block):
            found = program(*arrays, seeds, np.array(start, np.int32))
            for i, (value, square) in enumerate(zip(values, squares, strict=True)):
                value[rows] += found[2 * i]
                square[rows] += found[2 * i + 1]
        if not notes:
            places, told = program.structure([*arrays, seeds, np.array(0, np.int32)])
            notes = notes_of_places(asked, places) + told
    base = np.repeat(mean_scores(asked, states)[None], asked.rows, axis=0)
    error = None
    if count > 1:
        error = []
        for value, square in zip(values, squares, strict=True):
            spread = square / count - np.square(value / count)
            error.append(np.sqrt(np.maximum(spread, 0) / (count - 1)))
    for value in values:
        value /= count
    return asked.explanation(
        values,
        base_values=asked.targets.scores(base),
        complete=True,
        error=None if error is None else asked.nested(error),
        notes=notes,
        details={"background": count},
        checks=checks,
    )


def shares_program(
    graph: Graph,
    model: Any,
    layout: Any,
    question: Any,
    x: Sequence[Value],
    others: Sequence[Value],
    block: int,
    *states: Variable,
) -> Outputs:
    """Shares of each input, summed over a block of the background, and the sums of their squares.

    One run goes over the rows and the background together; backwards there is a row for each pair.
    """
    seeds, start = others
    count = states[0].shape[0]
    at = ops.arange(block) + start
    counts = ops.cast(ops.less(at, count), "float32")  # the last block repeats a row for nothing
    at = ops.minimum(at, count - 1)
    together = []
    for value, state in zip(x, states, strict=True):
        rows = ops.take(state, at, axis=0) if count != block else ops.convert_to_tensor(state)
        together.append(ops.concatenate([value, rows], axis=0))
    with opened_loops(MOST_STEPS):
        run = run_model(model, layout, together, question)
        points = points_of(graph, run)
        pairs = Pairs(x[0].shape[0], block)
        wrt = [p.value for p in points if p.value is not None]
        found, told = _sweep(graph, run, pairs, seeds, wrt)
    made = []
    for value, point in zip(x, points, strict=True):
        share = None if point.value is None else found.get(point.value)
        if point.value is None or share is None:
            made += [ops.zeros_like(value, "float32")] * 2
            continue
        own, other = (pairs.opened(point.value, which) for which in (0, 1))
        parts = pairs.open_like(share, point.value) * (own - other)
        parts = ops.reshape(parts, (pairs.rows, block, *point.value.shape[1:]))
        extra = tuple(range(value.ndim + 1, parts.ndim))
        parts = ops.sum(parts, axis=extra) if extra else parts
        parts = parts * ops.reshape(counts, (1, block, *[1] * (parts.ndim - 2)))
        made.append(sum_as_input(ops.sum(parts, axis=1), value))
        made.append(sum_as_input(ops.sum(ops.square(parts), axis=1), value))
    outputs = with_points(made, points, run)
    return Outputs(outputs.values, (outputs.structure, tuple(sorted(set(told)))))


class Pairs:
    """Pairs of a row that is explained and a row of the background.

    Args:
        rows: how many rows are explained.
        block: how many rows of the background there are.
    """

    def __init__(self, rows: Any, block: int) -> None:
        self.rows = rows
        self.block = block
        self.together = rows + block
        self.count = rows * block
        (symbol,) = symbols_of(rows)
        # rows + block becomes rows * block.
        self.substitution: dict[Atom, Any] = {symbol: self.count - block}

    def axis_of(self, value: Value) -> tuple[int, Any] | None:
        """The axis along which a value holds the rows of the run, and how often it holds each."""
        for axis, dim in enumerate(value.shape):
            if symbols_of(self.rows) & symbols_of(dim):
                times = exact_quotient(dim, self.together)
                if times is None:
                    raise ValueError(
                        f"a value of shape {value.shape} mixes rows of the batch; DeepLIFT needs "
                        "models that treat each row alone: use integrated_gradients"
                    )
                return axis, times
        return None

    def opened(self, value: Value, which: int) -> Value:
        """The explained rows (0) or those of the background (1), one axis for each of both."""
        found = self.axis_of(value)
        if found is None:
            return value
        axis, times = found
        shape = value.shape
        before, after = shape[:axis], shape[axis + 1 :]
        apart = ops.reshape(value, (*before, self.together, times, *after))
        if which == 0:
            part = slice_axis(apart, axis, 0, self.rows)
            return ops.reshape(part, (*before, self.rows, 1, times, *after))  # type: ignore[no-any-return]
        part = slice_axis(apart, axis, self.rows, self.together)
        return ops.reshape(part, (*before, 1, self.block, times, *after))  # type: ignore[no-any-return]

    def wide(self, value: Value, which: int) -> Value:
        """One row for each pair: of a value that the run computed, the part that ``which`` says."""
        found = self.axis_of(value)
        if found is None:
            return value
        axis, times = found
        opened = self.opened(value, which)
        shape = (*value.shape[:axis], self.rows, self.block, times, *value.shape[axis + 1 :])
        return self.closed(ops.broadcast_to(opened, shape), value)

    def closed(self, opened: Value, like: Value) -> Value:
        """Both axes of :meth:`opened` as one."""
        return ops.reshape(opened, self.shape_of(like))  # type: ignore[no-any-return]

    def shape_of(self, value: Value) -> tuple[Any, ...]:
        """The shape of a value with a row for each pair."""
        found = self.axis_of(value)
        if found is None:
            return value.shape
        axis, times = found
        return (*value.shape[:axis], self.count * times, *value.shape[axis + 1 :])

    def open_like(self, wide: Value, like: Value) -> Value:
        """A value with a row for each pair, as :meth:`opened` gives them."""
        found = self.axis_of(like)
        if found is None:
            return wide
        axis, times = found
        shape = (*like.shape[:axis], self.rows, self.block, times, *like.shape[axis + 1 :])
        return ops.reshape(wide, shape)  # type: ignore[no-any-return]


def _sweep(
    graph: Graph, run: Run, pairs: Pairs, seeds: Value, wrt: Sequence[Value]
) -> tuple[dict[Value, Value], list[str]]:
    """Multipliers of ``wrt``, with a row for each pair, and what has to be said of operators."""
    nodes = list(graph.nodes)
    needed = depends_on(nodes, wrt)
    chosen = computed_from(graph, {*run.given, *run.inputs}) - needed
    wide = ops.broadcast_to(seeds[:, None], (pairs.rows, pairs.block, seeds.shape[1]))
    found = {run.scores: ops.reshape(wide, (pairs.count, seeds.shape[1]))}
    told: list[str] = []
    for node in reversed(nodes):
        if found.keys().isdisjoint(node.outputs) or needed.isdisjoint(node.inputs):
            continue
        varying = [x in needed for x in node.inputs]
        if not has_rule(node.op, varying) and node.op.composite is None:
            told.append(f"{node.op.name} has no rule: shared along a path through it")
        if not chosen.isdisjoint(node.inputs):
            where = f" in layer {node.scope!r}" if node.scope else ""
            told.append(f"{node.op.name}{where} chooses by the input: what that adds is not shared")
        scope, graph.scopes = graph.scopes, [node.scope]
        try:
            shares = _through(graph, node, pairs, found, varying)
        finally:
            graph.scopes = scope
        for x, share in zip(node.inputs, shares, strict=True):
            if share is not None and x in needed:
                found[x] = found[x] + share if x in found else share
    return found, told


def _through(
    graph: Graph, node: Node, pairs: Pairs, found: dict[Value, Value], varying: Sequence[bool]
) -> Sequence[Value | None]:
    dys = [found.get(y) for y in node.outputs]
    if is_elementwise(node.op, varying):
        share = _by_quotient(node, pairs, dys[0], varying)
        return [share if moves else None for moves in varying]
    return multipliers(
        graph,
        node.op,
        attrs_with(node.attrs, pairs.substitution),
        [pairs.wide(x, 0) for x in node.inputs],
        [
            pairs.wide(x, 1) if moves else pairs.wide(x, 0)
            for x, moves in zip(node.inputs, varying, strict=True)
        ],
        [pairs.wide(y, 0) for y in node.outputs],
        [pairs.wide(y, 1) for y in node.outputs],
        dys,
        varying,
    )


def _by_quotient(
    node: Node, pairs: Pairs, dy: Value | None, varying: Sequence[bool]
) -> Value | None:
    """The multiplier of an elementwise operator, whose slopes take no copies of rows."""
    if dy is None:
        return None
    place = list(varying).index(True)
    x, y = node.inputs[place], node.outputs[0]
    if not _same_rank_and_rows(pairs, node):
        wide = [pairs.wide(v, 0) for v in node.inputs]
        other = [
            pairs.wide(v, 1) if m else pairs.wide(v, 0)
            for v, m in zip(node.inputs, varying, strict=True)
        ]
        attrs = attrs_with(node.attrs, pairs.substitution)
        slope = quotient(node.op, attrs, wide, other, pairs.wide(y, 0), pairs.wide(y, 1), varying)
        return unbroadcast(dy * slope, pairs.shape_of(x))  # type: ignore[no-any-return]
    own = [pairs.opened(v, 0) for v in node.inputs]
    other = [pairs.opened(v, 1) for v in node.inputs]
    slope = quotient(
        node.op, dict(node.attrs), own, other, pairs.opened(y, 0), pairs.opened(y, 1), varying
    )
    return pairs.closed(pairs.open_like(dy, y) * slope, x)


def _same_rank_and_rows(pairs: Pairs, node: Node) -> bool:
    """Whether all operands lie as the output does, so that rows and pairs may have axes apart."""
    y = node.outputs[0]
    return (
        len(node.inputs) == 1 and node.inputs[0].shape == y.shape and pairs.axis_of(y) is not None
    )
