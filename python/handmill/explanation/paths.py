"""Methods that average gradients: over a path from a baseline, over a background, over noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import ops
from handmill.arguments import finite_number, whole_number
from handmill.explanation.asked import Asked, baselines_for
from handmill.explanation.explanation import Explanation
from handmill.explanation.gradients import notes_of, sum_as_input, with_points
from handmill.explanation.program import (
    Point,
    Run,
    gradients_of,
    points_of,
    repeated,
    run_model,
)
from handmill.explanation.rows import check_finite_rows, checked_seed
from handmill.ir.graph import Value
from handmill.ir.op import Array
from handmill.models.data_adapters import check_rows
from handmill.models.layout import split
from handmill.primitives.operands import converted
from handmill.primitives.random import random_normal, random_uniform, row_seeds
from handmill.runtime.variable import Variable

_MOST_STEPS = 400
_MOST_ROWS = 2048  # rows and copies that a program goes through at once


def integrated_gradients(
    model: Any,
    x: Any,
    target: Any = None,
    baseline: Any = None,
    steps: int = 50,
    tolerance: float = 0.01,
    **options: Any,
) -> Explanation:
    """The input less a baseline, times the mean gradient on the straight line between them.

    The values of a row sum to its score less that of the baseline. The integral is that of Gauss
    and Legendre; where a row misses more of the sum than ``tolerance``, the line is cut in two,
    four and eight, and what is still missing then stands in ``notes``.

    Args:
        model: a handmill model, or an estimator that holds one.
        x: rows, nested as the model takes them.
        target: see :func:`saliency`.
        baseline: what stands for "nothing there", in the numbers that the model takes: a number, an
            array of one row or of as many as ``x`` has, ``"black"`` (0), ``"mean"`` or ``"blur"``
            of images, or these nested as ``x`` is. Default: 0 for images and for numbers of words;
            a table needs one.
        steps: nodes of the integral.
        tolerance: how much of score - base value may be missing.
        **options: see :func:`saliency`.

    Returns:
        An :class:`Explanation`; ``gap`` is what is missing, ``details["steps"]`` how many nodes
        there were in the end.

    Raises:
        ValueError: for a table without a baseline, and for what does not fit the model.
        TypeError: if ``model`` has no gradients.

    References:
        Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", 2017.

    Example:
        >>> import numpy as np, handmill
        >>> layer = handmill.layers.Dense(1, kernel_initializer="ones")
        >>> model = handmill.Sequential([handmill.Input((2,)), layer])
        >>> x = np.array([[3.0, -1.0]])
        >>> found = handmill.explanation.integrated_gradients(model, x, baseline=0)
        >>> found.values.round(4).tolist(), found.scores.tolist(), found.base_values.tolist()
        ([[3.0, -1.0]], [2.0], [0.0])
    """
    steps = whole_number("integrated_gradients: `steps`", steps, 1)
    tolerance = finite_number("integrated_gradients: `tolerance`", tolerance)
    if tolerance < 0:
        raise ValueError(
            f"integrated_gradients: `tolerance` must not be negative. Received: {tolerance!r}"
        )
    asked = Asked("integrated gradients", model, x, target, **options, scored=False)
    values = asked.zeros()
    if not asked.rows:
        return asked.explanation(values, base_values=np.zeros(0), complete=True)
    baselines = baselines_for(asked, baseline)
    program = asked.program(path_program, steps)
    base_values, scores = np.zeros(asked.rows), np.zeros(asked.rows)
    missing: Array | None = None
    most = 1
    places: Any = None
    for rows, arrays in asked.blocks(steps + 2, _MOST_ROWS):
        starts = asked.each(baselines, rows)
        seeds = asked.targets.seeds[rows]
        found, ends, gaps, cut = _integrated(program, [*arrays, *starts], seeds, steps, tolerance)
        if gaps is not None:
            missing = np.zeros(asked.rows) if missing is None else missing
            missing[rows] = gaps
        for whole, part in zip(values, found, strict=True):
            whole[rows] = part
        base_values[rows] = ends[0] + asked.targets.offset[rows]
        scores[rows] = ends[1] + asked.targets.offset[rows]
        most = max(most, cut)
        places = places or notes_of(program, asked, [*arrays, *starts, seeds, _ZERO, _ZERO])
    asked.take_scores(scores)
    return asked.explanation(
        values,
        base_values=base_values,
        complete=True,
        notes=places if missing is None else places + _told(missing, steps * most),
        details={"steps": steps * most},
        checks=asked.checks(
            integrated_gradients,
            target,
            {**options, "baseline": baseline, "steps": steps, "tolerance": 1.0},
        ),
    )


_ZERO = np.zeros((), np.float32)


def _told(missing: Array, steps: int) -> tuple[str, ...]:
    row = int(np.argmax(np.nan_to_num(missing)))
    part = missing[row]
    return (f"after {steps} steps the values of row {row} still miss {part:.2%} of the score",)


def _integrated(
    program: Any, arrays: Sequence[Array], seeds: Array, steps: int, tolerance: float
) -> tuple[list[Array], tuple[Array, Array], Array | None, int]:
    """Attributions, the scores at both ends, and how well they were found.

    That is what each row misses of the difference of its scores, as a part of it, if that is more
    than the tolerance for one of them; and into how many pieces a path was cut at most.
    """
    found, (low, high) = _in_pieces(program, arrays, seeds, 1)
    whole = high - low
    gap = np.abs(whole - _sums(found))
    tolerance = max(tolerance, 1e-6)
    if (gap <= tolerance * np.abs(whole)).all():
        return found, (low, high), None, 1
    size = np.maximum(np.abs(whole), 1e-6 * np.maximum(1, np.abs(high)))
    missing = gap / size
    pieces = 1
    while True:
        rows = np.flatnonzero(missing > tolerance)
        if not rows.size:
            return found, (low, high), None, pieces
        if 2 * pieces * steps > _MOST_STEPS:
            return found, (low, high), missing, pieces
        pieces *= 2
        parts, _ = _in_pieces(program, [a[rows] for a in arrays], seeds[rows], pieces)
        for all_rows, part in zip(found, parts, strict=True):
            all_rows[rows] = part
        missing[rows] = np.abs(whole[rows] - _sums(parts)) / size[rows]


def _sums(values: Sequence[Array]) -> Array:
    parts = [v.reshape(len(v), -1).sum(1, dtype=np.float64) for v in values]
    return np.asarray(parts[0] if len(parts) == 1 else sum(parts))


def _in_pieces(
    program: Any, arrays: Sequence[Array], seeds: Array, pieces: int
) -> tuple[list[Array], tuple[Array, Array]]:
    """Attributions along so many pieces of the path, and the scores at both ends."""
    width = np.array(1 / pieces, np.float32)
    total: list[Array] = []
    for piece in range(pieces):
        *parts, ends = program(*arrays, seeds, np.array(piece / pieces, np.float32), width)
        total = [a + b for a, b in zip(total, parts, strict=True)] if total else list(parts)
    low, high = ends.astype(np.float64)
    return total, (low, high)


def path_program(
    graph: Any,
    model: Any,
    layout: Any,
    question: Any,
    x: Sequence[Value],
    others: Sequence[Value],
    steps: int,
) -> Any:
    """Integrates gradients over a piece of the line from baselines to inputs.

    ``others`` are the baselines, the factors of the classes, where on the line the piece begins and
    how long it is. Returns attributions and the scores at both ends of the whole line.
    """
    starts, (seeds, begin, width) = others[: len(x)], others[len(x) :]
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    at = begin + width * ops.convert_to_tensor(((nodes + 1) / 2).astype("float32"))
    ends = np.array([0, 1], np.float32)
    at = ops.concatenate([at, ops.convert_to_tensor(ends)], axis=0)  # (steps + 2,)
    points, run, moved = between(graph, model, layout, question, x, starts, at, steps + 2)
    rows = x[0].shape[0]
    classes = seeds.shape[1]
    wide = ops.reshape(
        ops.broadcast_to(ops.reshape(seeds, (1, rows, classes)), (steps + 2, rows, classes)),
        (-1, classes),
    )
    wrt = [m[0] for m in moved if m is not None]
    found = iter(gradients_of(graph, run, wide, wrt))
    factors = (weights / 2).astype("float32")
    made = []
    for value, move in zip(x, moved, strict=True):
        if move is None:
            made.append(ops.zeros_like(value, "float32"))
            continue
        _, difference = move
        g = next(found)
        assert g is not None  # noqa: S101
        inner = difference.shape[1:]
        g = ops.reshape(g, (steps + 2, rows, *inner))[:steps]
        kernel = factors.reshape(steps, *[1] * (1 + len(inner)))
        mean = ops.sum(g * ops.convert_to_tensor(kernel), axis=0) * width
        made.append(sum_as_input(mean * difference, value))
    last = ops.reshape(run.scores, (steps + 2, rows, classes))[steps:]
    explained = ops.where(ops.equal(seeds, 0.0), 0.0, last * seeds)  # another may be infinite
    return with_points([*made, ops.sum(explained, axis=2)], points, run)


Move = tuple[Value, Value]
"""Values between two ends, and the difference of the ends."""


def between(
    graph: Any,
    model: Any,
    layout: Any,
    question: Any,
    x: Sequence[Value],
    starts: Sequence[Value],
    at: Value,
    times: int,
) -> tuple[list[Point], Run, list[Move | None]]:
    """Runs a model on ``times`` copies of its rows, moved from baselines towards the inputs.

    Args:
        graph: the graph that is traced.
        model: the model.
        layout: how its inputs are nested.
        question: what is asked.
        x: the inputs.
        starts: the baselines, of the same shapes.
        at: how far each copy goes, (times,) or (times, rows): 0 at the baseline, 1 at the input.
        times: how many copies.

    Returns:
        Where each input is explained; the run; and for each input that is, where it was moved to
        and the difference of both ends.
    """
    whole = run_model(model, layout, x, question)
    points = points_of(graph, whole)
    are_inputs = all(p.call is None for p in points)
    other = whole if are_inputs else run_model(model, layout, starts, question)
    rows = x[0].shape[0]
    copies: list[Value] = []
    moves: list[Move | None] = []
    replaced: dict[int, Value] = {}
    for value, start, point in zip(x, starts, points, strict=True):
        if point.value is None or point.call is not None:
            copies.append(repeated(value, times))
        if point.value is None:
            moves.append(None)
            continue
        if point.call is None:
            high, low = point.value, converted(start, point.value.dtype)
        else:
            high, low = point.value, other.calls[point.call].output
        difference = high - low
        inner = high.shape[1:]
        steps = ops.reshape(at, (*at.shape, *[1] * (len(inner) + 2 - at.ndim)))
        moved = ops.reshape(low[None] + steps * difference[None], (times * rows, *inner))
        moves.append((moved, difference))
        if point.call is None:
            copies.append(moved)
        else:
            replaced[point.call] = moved

    return points, run_model(model, layout, copies, question, replaced), moves


def smooth_grad(
    model: Any,
    x: Any,
    target: Any = None,
    noise: float = 0.15,
    samples: int = 50,
    kind: str = "mean",
    seed: int = 0,
    **options: Any,
) -> Explanation:
    """The gradient, averaged over copies of the input with noise: a map with less of it.

    Args:
        model: see :func:`saliency`.
        x: see :func:`saliency`.
        target: see :func:`saliency`.
        noise: the standard deviation of the noise, as a part of largest less least number of the
            row.
        samples: how many copies.
        kind: ``"mean"``, ``"squared"`` (the mean of the squares) or ``"variance"``.
        seed: of the noise, which is that of a row wherever the row stands.
        **options: see :func:`saliency`.

    Returns:
        An :class:`Explanation`; of ``"mean"`` with standard errors.

    References:
        Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017; Adebayo et al., 2018.

    Example:
        >>> import numpy as np, handmill
        >>> layer = handmill.layers.Dense(1, kernel_initializer="ones")
        >>> model = handmill.Sequential([handmill.Input((2,)), layer])
        >>> handmill.explanation.smooth_grad(model, np.array([[3.0, -1.0]])).values.round(4)
        array([[1., 1.]], dtype=float32)
    """
    names = {"mean": "SmoothGrad", "squared": "SmoothGrad squared", "variance": "VarGrad"}
    if kind not in names:
        raise ValueError(f"smooth_grad: `kind` must be one of {list(names)}. Received: {kind!r}")
    noise = finite_number("smooth_grad: `noise`", noise)
    if noise < 0:
        raise ValueError(f"smooth_grad: `noise` must not be negative. Received: {noise!r}")
    samples = whole_number("smooth_grad: `samples`", samples, 2)
    seed = checked_seed(seed)
    asked = Asked(names[kind], model, x, target, **options)
    values, errors = asked.zeros(), asked.zeros()
    if not asked.rows:
        return asked.explanation(values)
    program = asked.program(noise_program, samples, kind)
    notes: tuple[str, ...] = ()
    for rows, arrays in asked.blocks(samples, _MOST_ROWS):
        numbers = np.arange(rows.start, rows.stop, dtype=np.int64)
        more = (
            asked.targets.seeds[rows],
            numbers,
            np.array(noise, np.float32),
            np.array(seed, np.int64),
        )
        found = program(*arrays, *more)
        for i, (value, error) in enumerate(zip(values, errors, strict=True)):
            value[rows], error[rows] = found[2 * i], found[2 * i + 1]
        notes = notes or notes_of(program, asked, [*arrays, *more])
    settings = {"noise": noise, "samples": samples, "kind": kind, "seed": seed}
    return asked.explanation(
        values,
        error=asked.nested(errors) if kind == "mean" else None,
        notes=notes,
        details=settings,
        checks=asked.checks(smooth_grad, target, {**options, **settings}),
    )


def noise_program(
    graph: Any,
    model: Any,
    layout: Any,
    question: Any,
    x: Sequence[Value],
    others: Sequence[Value],
    samples: int,
    kind: str,
) -> Any:
    """Gradients at noisy copies: their mean, mean square or variance, and its standard error."""
    seeds, numbers, noise, seed = others
    points = points_of(graph, run_model(model, layout, x, question))
    rows = x[0].shape[0]
    copies: list[Value] = []
    replaced: dict[int, Value] = {}
    moved: list[Value | None] = []
    for i, (value, point) in enumerate(zip(x, points, strict=True)):
        if point.value is None or point.call is not None:
            copies.append(repeated(value, samples))
        if point.value is None:
            moved.append(None)
            continue
        inner = point.value.shape[1:]
        axes = tuple(range(1, point.value.ndim))
        spread = ops.max(point.value, axis=axes, keepdims=True)
        spread = (spread - ops.min(point.value, axis=axes, keepdims=True)) * noise
        drawn = random_normal(_states(numbers, seed, i), (rows, samples, *inner))
        noisy = point.value[:, None] + spread[:, None] * drawn
        noisy = ops.reshape(ops.swapaxes(noisy, 0, 1), (samples * rows, *inner))
        moved.append(noisy)
        if point.call is None:
            copies.append(noisy)
        else:
            replaced[point.call] = noisy
    run = run_model(model, layout, copies, question, replaced)
    found = iter(
        gradients_of(graph, run, repeated(seeds, samples), [m for m in moved if m is not None])
    )
    made = []
    for value, point, at in zip(x, points, moved, strict=True):
        if at is None or point.value is None:
            made += [ops.zeros_like(value, "float32")] * 2
            continue
        g = ops.reshape(next(found), (samples, rows, *point.value.shape[1:]))
        mean = ops.mean(g, axis=0)
        variance = ops.sum(ops.square(g - mean[None]), axis=0) / (samples - 1)
        shown = {"mean": mean, "squared": ops.mean(ops.square(g), axis=0), "variance": variance}
        made.append(sum_as_input(shown[kind], value))
        made.append(ops.sqrt(sum_as_input(variance, value) / samples))
    return with_points(made, points, run)


def _states(numbers: Value, seed: Value, draw: int) -> Value:
    """Seed states of rows, by their numbers."""
    state = ops.stack([seed, ops.convert_to_tensor(np.int64(0))])
    return row_seeds(numbers, state, draw)  # type: ignore[no-any-return]


def expected_gradients(
    model: Any,
    x: Any,
    target: Any = None,
    background: Any = None,
    samples: int = 200,
    seed: int = 0,
    **options: Any,
) -> Explanation:
    """Integrated gradients, averaged over a background instead of a single baseline.

    Each sample takes a row of the background and a place on the line from it to the input; so the
    values sum to the score less the mean score of the background, within their errors.

    Args:
        model: see :func:`saliency`.
        x: see :func:`saliency`.
        target: see :func:`saliency`.
        background: rows of the training data, nested as ``x`` is.
        samples: how many for each row.
        seed: of what is drawn, which is the same for a row wherever it stands.
        **options: see :func:`saliency`.

    Returns:
        An :class:`Explanation` with standard errors; that of the sum of each row is
        ``details["error_of_sum"]``.

    Raises:
        ValueError: for a background that is missing, empty or of another width.

    References:
        Erion et al., "Improving performance of deep learning models with axiomatic attribution
        priors and expected gradients", 2021.

    Example:
        >>> import numpy as np, handmill
        >>> layer = handmill.layers.Dense(1, kernel_initializer="ones")
        >>> model = handmill.Sequential([handmill.Input((2,)), layer])
        >>> rows = np.array([[1.0, 0.0], [3.0, 0.0]])
        >>> found = handmill.explanation.expected_gradients(model, rows[:1], background=rows)
        >>> found.base_values.tolist(), found.values[0, 1]
        ([2.0], np.float32(0.0))
    """
    samples = whole_number("expected_gradients: `samples`", samples, 2)
    seed = checked_seed(seed)
    asked = Asked("expected gradients", model, x, target, **options)
    states = background_of(asked, background)
    values, errors = asked.zeros(), asked.zeros()
    if not asked.rows:
        return asked.explanation(values, base_values=np.zeros(0), complete=True)
    program = asked.program_with(sampled_program, states, samples)
    base_values = asked.targets.scores(
        np.repeat(mean_scores(asked, states)[None], asked.rows, axis=0)
    )
    of_sum = np.zeros(asked.rows)
    notes: tuple[str, ...] = ()
    for rows, arrays in asked.blocks(samples, _MOST_ROWS):
        numbers = np.arange(rows.start, rows.stop, dtype=np.int64)
        more = (asked.targets.seeds[rows], numbers, np.array(seed, np.int64))
        *found, spread = program(*arrays, *more)
        for i, (value, error) in enumerate(zip(values, errors, strict=True)):
            value[rows], error[rows] = found[2 * i], found[2 * i + 1]
        of_sum[rows] = spread
        notes = notes or notes_of(program, asked, [*arrays, *more])
    settings = {"samples": samples, "seed": seed}
    return asked.explanation(
        values,
        base_values=base_values,
        complete=True,
        error=asked.nested(errors),
        notes=notes,
        details={**settings, "error_of_sum": of_sum},
        checks=asked.checks(
            expected_gradients, target, {**options, **settings, "background": background}
        ),
    )


def background_of(asked: Asked, background: Any) -> tuple[Variable, ...]:
    """Rows of a background as variables, one for each input, in the dtypes of the inputs."""
    if background is None:
        raise ValueError(
            f"{asked.method} compares with a background: pass `background=`, rows of the training "
            "data, such as x_train[:100]"
        )
    layout, arrays = split(asked.model._as_numbers(background), None, None)
    if layout.key[0] != asked.layout.key[0]:
        raise ValueError("`background` must be nested as the inputs are")
    if not all(len(a) for a in arrays):
        raise ValueError("`background` has no rows: pass rows of the training data")
    check_rows(layout, arrays)
    check_finite_rows("background", arrays)
    for given, array in zip(arrays, asked.arrays, strict=True):
        if given.shape[1:] != array.shape[1:]:
            raise ValueError(
                f"`background` has rows of shape {given.shape[1:]}, the inputs have "
                f"{array.shape[1:]}"
            )
    return tuple(
        Variable(np.ascontiguousarray(given, array.dtype), trainable=False, name=f"background_{i}")
        for i, (given, array) in enumerate(zip(arrays, asked.arrays, strict=True))
    )


def mean_scores(asked: Asked, states: Sequence[Variable]) -> Array:
    """The mean of the scores of a background, float64 (classes,)."""
    from handmill.explanation.program import scores_program

    program = asked.program(scores_program)
    arrays = [state.read() for state in states]
    total: Any = 0.0
    for start in range(0, len(arrays[0]), _MOST_ROWS):
        found = program(*(a[start : start + _MOST_ROWS] for a in arrays))[0]
        total = total + found.sum(0, dtype=np.float64)
    return np.asarray(total / len(arrays[0]))


def sampled_program(
    graph: Any,
    model: Any,
    layout: Any,
    question: Any,
    x: Sequence[Value],
    others: Sequence[Value],
    samples: int,
    *states: Variable,
) -> Any:
    """Attributions by samples of a background and of the line to it, with standard errors."""
    seeds, numbers, seed = others
    rows = x[0].shape[0]
    count = states[0].shape[0]
    drawn = random_uniform(_states(numbers, seed, 0), (rows, samples, 2))
    drawn = ops.swapaxes(drawn, 0, 1)  # (samples, rows, 2)
    place = ops.minimum(ops.cast(drawn[..., 0] * float(count), "int32"), count - 1)
    starts = [ops.take(state, ops.reshape(place, (-1,)), axis=0) for state in states]
    wide = [repeated(value, samples) for value in x]
    at = ops.reshape(drawn[..., 1], (1, samples * rows))
    points, run, moved = between(graph, model, layout, question, wide, starts, at, 1)
    found = iter(
        gradients_of(graph, run, repeated(seeds, samples), [m[0] for m in moved if m is not None])
    )
    made, total = [], 0.0
    for value, wide_value, move in zip(x, wide, moved, strict=True):
        if move is None:
            made += [ops.zeros_like(value, "float32")] * 2
            continue
        parts = sum_as_input(next(found) * move[1], wide_value)
        parts = ops.reshape(parts, (samples, rows, *value.shape[1:]))
        total = total + ops.sum(ops.reshape(parts, (samples, rows, -1)), axis=2)
        made += [ops.mean(parts, axis=0), _standard_error(parts, samples)]
    return with_points([*made, _standard_error(total, samples)], points, run)


def _standard_error(parts: Any, samples: int) -> Value:
    """Of the mean over axis 0."""
    mean = ops.mean(parts, axis=0, keepdims=True)
    variance = ops.sum(ops.square(parts - mean), axis=0) / (samples - 1)
    return ops.sqrt(variance / samples)  # type: ignore[no-any-return]
