"""Counts of hits and misses above thresholds: what metrics of decisions are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from handmill import config, ops
from handmill.errors import ShapeError
from handmill.ir.dims import SymbolicDim, as_none, same_shape
from handmill.ir.trace import apply
from handmill.losses.loss import fixed_size, same_rank
from handmill.primitives.cumulate import CUMSUM
from handmill.primitives.operands import shape_of
from handmill.runtime.variable import Variable

NEVER = -1e10
"""Below every prediction: what is not among the largest ``k`` counts as this."""


def thresholds_of(given: Any, default: float = 0.5) -> list[float]:
    """Returns thresholds as a list, checked.

    Args:
        given: a number or several, in [0, 1]; None means ``default``.
        default: see there; may be any number.

    Raises:
        ValueError: for numbers out of range.
    """
    if given is None:
        return [default]
    found = list(given) if isinstance(given, list | tuple | np.ndarray) else [given]
    wrong = [t for t in found if isinstance(t, str) or t is None or not 0 <= t <= 1]
    if wrong:
        raise ValueError(f"Threshold values must be in [0, 1]. Received: {wrong}")
    return found


def are_even(thresholds: Any) -> bool:
    """Whether thresholds divide [0, 1] evenly, so that a prediction's place can be computed."""
    count = len(thresholds)
    if count < 3:
        return False
    even = np.arange(count, dtype=np.float32) / (count - 1)
    return bool(np.allclose(thresholds, even, atol=config.epsilon()))


def update_counts(
    variables: Mapping[str, Variable],
    y_true: Any,
    y_pred: Any,
    thresholds: Any,
    *,
    even: bool,
    sample_weight: Any = None,
    top_k: int | None = None,
    class_id: int | None = None,
    multi_label: bool = False,
    label_weights: Any = None,
) -> None:
    """Adds the counts of a batch to float64 variables.

    A prediction is positive if it is above the threshold, NaN never is.

    Args:
        variables: any of ``"tp"``, ``"fp"``, ``"tn"``, ``"fn"`` -> a variable of shape
            ``(thresholds,)``, with ``multi_label`` ``(thresholds, labels)``.
        y_true: targets, true where they are not 0.
        y_pred: predictions of the same shape.
        thresholds: numbers in ascending order.
        even: whether they divide [0, 1] evenly; the ends may be further out.
        sample_weight: a weight for each sample, or for each prediction.
        top_k: if given, only the largest ``k`` predictions of each sample can be positive.
        class_id: if given, only this class is looked at.
        multi_label: whether the columns are counted each for itself.
        label_weights: a weight for each column.

    Raises:
        ShapeError: if the shapes of targets and predictions differ.
        ValueError: for ``class_id`` and predictions without classes.
    """
    y_true, y_pred = (ops.cast(ops.convert_to_tensor(y), "float32") for y in (y_true, y_pred))
    y_pred, y_true = same_rank(y_pred, y_true)
    if not same_shape(shape_of(y_true), shape_of(y_pred)):
        raise ShapeError(
            f"targets of shape {as_none(shape_of(y_true))} do not fit predictions of shape "
            f"{as_none(shape_of(y_pred))}: each prediction needs a target of 0 or 1"
            "\n  hint: make class numbers one-hot rows (utils.to_categorical)"
        )
    weights = _weights_like(sample_weight, y_true)
    if top_k is not None:
        y_pred = _only_largest(y_pred, top_k)
    if class_id is not None:
        y_true, y_pred = (_only_class(y, class_id) for y in (y_true, y_pred))
    if label_weights is not None:
        own = np.asarray(label_weights, np.float32)
        weights = own if weights is None else ops.multiply(weights, own)
    if weights is not None:
        weights = ops.broadcast_to(weights, shape_of(y_pred))
    rows = (-1, fixed_size(y_pred, -1)) if multi_label else (-1, 1)
    y_true, y_pred = ops.reshape(y_true, rows), ops.reshape(y_pred, rows)
    weights = None if weights is None else ops.reshape(weights, rows)
    positive = ops.cast(ops.not_equal(y_true, 0.0), "float32")
    count = _count_places if even else _compare
    found = count(tuple(variables), positive, y_pred, np.asarray(thresholds), weights)
    for kind, variable in variables.items():
        counted = found[kind] if multi_label else ops.reshape(found[kind], (-1,))
        variable.assign(ops.add(variable, ops.cast(counted, "float64")))


def _weights_like(sample_weight: Any, y: Any) -> Any:
    """Weights that broadcast to ``y``: those of samples get the axes that they lack."""
    if sample_weight is None:
        return None
    weights = ops.expand_dims(ops.cast(ops.convert_to_tensor(sample_weight), "float32"), -1)
    shape = shape_of(weights)
    return ops.reshape(weights, shape[:-1]) if len(shape) == len(shape_of(y)) + 1 else weights


def _only_largest(y_pred: Any, k: int) -> Any:
    """Predictions that are not among the ``k`` largest of their sample become ``NEVER``."""
    classes = fixed_size(y_pred, -1)
    if not 0 < k <= classes:
        raise ValueError(f"top_k={k} is out of range: there are {classes} classes")

    # One after the other: a sort has no kernel.
    def take_one(_: Any, rest: Any) -> Any:
        chosen = ops.one_hot(ops.argmax(rest, axis=-1), classes)
        return ops.where(ops.greater(chosen, 0.0), -np.inf, rest)

    rest = ops.fori_loop(0, k, take_one, y_pred)
    return ops.where(ops.equal(rest, -np.inf), y_pred, NEVER)


def _only_class(y: Any, class_id: int) -> Any:
    if len(shape_of(y)) == 1:
        raise ValueError(
            "When class_id is provided, y_pred must be a 2D array with shape (num_samples, "
            f"num_classes), found shape: {as_none(shape_of(y))}"
        )
    classes = fixed_size(y, -1)
    if not -classes <= class_id < classes:
        raise ValueError(f"class_id={class_id} is out of range: there are {classes} classes")
    start = class_id % classes
    return y[..., start : start + 1]


def _compare(
    kinds: Iterable[str], positive: Any, y_pred: Any, thresholds: Any, weights: Any
) -> dict[str, Any]:
    """Compares each prediction with each threshold: ``(thresholds, columns)`` of each kind."""
    limits = thresholds.astype(np.float32).reshape(-1, 1, 1)
    above = ops.greater(ops.expand_dims(y_pred, 0), limits)
    found = {}
    for kind in kinds:
        right = kind[1] == "p"
        hit = ops.cast(above if right else ops.logical_not(above), "float32")
        label = positive if kind in ("tp", "fn") else ops.subtract(1.0, positive)
        weight = label if weights is None else ops.multiply(label, weights)
        found[kind] = ops.sum(ops.multiply(hit, ops.expand_dims(weight, 0)), axis=1)
    return found


def _count_places(
    kinds: Iterable[str], positive: Any, y_pred: Any, thresholds: Any, weights: Any
) -> dict[str, Any]:
    """Counts predictions between the thresholds, and adds up: ``(thresholds, columns)``.

    The work does not grow with the thresholds, of which there may be hundreds.
    """
    count, columns = len(thresholds), fixed_size(y_pred, -1)
    scaled = ops.multiply(ops.clip(y_pred, 0.0, 1.0), float(count - 1))
    place = ops.subtract(ops.ceil(scaled), 1.0)  # the last threshold that it is above
    # Where the first threshold is below 0, all predictions are above it. NaN compares false.
    lowest = 0 if thresholds[0] < 0.0 or thresholds[-1] > 1.0 else -1
    place = ops.cast(ops.where(ops.greater(place, lowest), place, float(lowest)), "int32")
    segment = ops.where(ops.greater(positive, 0.0), place, ops.add(place, columns * count))
    if columns > 1:
        segment = ops.add(segment, count * np.arange(columns, dtype=np.int32))
    if lowest < 0:
        segment = ops.where(ops.less(place, 0), -1, segment)
    each = total_of_segments(segment, weights, 2 * columns * count)
    # (2, columns, thresholds): sums of all that is above each threshold.
    above = apply(CUMSUM, ops.reshape(each, (2, columns, count)), axis=2, reverse=True)
    above = ops.transpose(above, (0, 2, 1))
    found = {"tp": above[0], "fp": above[1]}
    for kind, above_kind, label in (("fn", "tp", 1), ("tn", "fp", 0)):
        if kind not in kinds:
            continue
        if lowest == 0:
            every = found[above_kind][:1]
        else:
            chosen = positive if label else ops.subtract(1.0, positive)
            weight = chosen if weights is None else ops.multiply(chosen, weights)
            every = ops.cast(ops.sum(weight, axis=0, keepdims=True), "float64")
        found[kind] = ops.subtract(every, found[above_kind])
    return found


# Whole numbers up to here are exact in float32.
_EXACT = 1 << 24


def total_of_segments(segments: Any, weights: Any, count: int) -> Any:
    """Returns the sum of the weights in each segment, in float64.

    The kernel adds in float32, where counts end at 2^24. Unless there are fewer elements, each
    segment is therefore made of several, which take turns, and these are added in float64.

    Args:
        segments: whole numbers; those out of range are left out.
        weights: of the same shape, None for 1.
        count: how many segments there are.
    """
    segments = ops.reshape(segments, (-1,))
    (size,) = shape_of(segments)
    if weights is None:
        weights = ops.ones_like(segments)
    weights = ops.cast(ops.reshape(weights, (-1,)), "float32")
    segments = ops.cast(segments, "int32")
    turns = 1
    if isinstance(size, SymbolicDim) or size > _EXACT:
        # A power of two. One block of the kernel holds 8192 segments.
        turns = 1 << max(2, min(6, (8192 // count).bit_length() - 1))
        at = ops.cast(ops.arange(size), "float64")
        turn = ops.subtract(at, ops.multiply(ops.floor(ops.multiply(at, 1.0 / turns)), turns))
        turn = ops.cast(turn, "int32")
        inside = ops.logical_and(ops.greater_equal(segments, 0), ops.less(segments, count))
        segments = ops.where(inside, ops.add(segments, ops.multiply(turn, count)), -1)
    totals = ops.segment_sum(weights, segments, turns * count)
    totals = ops.cast(ops.reshape(totals, (turns, count)), "float64")
    return ops.sum(totals, axis=0)
