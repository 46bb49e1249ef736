"""What is measured of a candidate: how often it is right, its bytes, its time beside another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from handmill import tree
from handmill.ir.op import Array
from handmill.strategy.statistics import (
    Interval,
    mcnemar_test,
    mean_interval,
    paired_rate_interval,
    ratio_interval,
    wilson_interval,
)

BATCHES = (1, 32, 256)
_ROUNDS = 9
_SPAN = 0.003  # seconds of one timing at least
_TRIES = 5  # of a turn the least is taken
_LONGEST = 0.1  # seconds of a turn, after which it has no more tries
_NO_ERROR = 1e-12


class Drop(NamedTuple):
    """How much worse one model is than another.

    Attributes:
        value: the accuracy lost, or the part by which the error grew.
        interval: of 95 %, of the differences row by row.
        p: of both being equally good on these rows (McNemar); NaN for errors.
    """

    value: float
    interval: Interval
    p: float


@dataclass(frozen=True)
class Score:
    """How good answers are.

    Attributes:
        kind: ``"accuracy"``, or ``"error"``: the mean squared error.
        value: over all rows.
        interval: of 95 %.
        rows: of each row whether it is right, or its squared error.
    """

    kind: str
    value: float
    interval: Interval
    rows: Array

    def drop_to(self, other: Score) -> Drop:
        """How much worse another is on the same rows: of accuracy, or of the error, a part."""
        if self.kind == "accuracy":
            low, high = paired_rate_interval(self.rows, other.rows)
            p = mcnemar_test(self.rows, other.rows)
            return Drop(self.value - other.value, Interval(-high, -low), p)
        if self.value <= _NO_ERROR:  # nothing can be said in parts of it
            grown = other.value > self.value
            return Drop(math.inf if grown else 0.0, Interval(-math.inf, math.inf), math.nan)
        low, high = ratio_interval(self.rows, other.rows)
        return Drop(other.value / self.value - 1, Interval(low - 1, high - 1), math.nan)


def score_of(outputs: Array, y: Array) -> Score:
    """Scores answers.

    Args:
        outputs: (rows, classes), (rows, 1) or any other shape.
        y: classes (rows,), one-hot rows, or numbers of the shape of the outputs.

    Raises:
        ValueError: if the shapes do not go together, or answers are not finite.
    """
    outputs, y = np.asarray(outputs), np.asarray(y)
    if len(outputs) != len(y) or not len(y):
        raise ValueError(f"`y` has {len(y)} rows, the model gives {len(outputs)}")
    if not np.isfinite(outputs).all():
        raise ValueError("the model gives NaN or infinite answers: there is nothing to compare")
    whole = y.dtype.kind in "iub"
    if outputs.ndim == 2 and outputs.shape[1] > 1 and y.size == len(y) and whole:
        right = outputs.argmax(axis=1) == y.reshape(-1)
    elif outputs.ndim == 2 and outputs.shape[1] > 1 and y.shape == outputs.shape and _one_hot(y):
        right = outputs.argmax(axis=1) == y.argmax(axis=1)
    elif (
        outputs.size == len(outputs) and y.size == len(y) and whole and y.min() >= 0 >= y.max() - 1
    ):
        cut = 0.5 if outputs.min() >= 0 and outputs.max() <= 1 else 0.0
        right = (outputs.reshape(-1) > cut) == (y.reshape(-1) == 1)
    else:
        if y.size != outputs.size:
            raise ValueError(f"answers have shape {outputs.shape}, targets {y.shape}")
        squares = np.square(outputs.reshape(len(y), -1) - y.reshape(len(y), -1), dtype=np.float64)
        rows = squares.mean(axis=1)
        return Score("error", float(rows.mean()), mean_interval(rows), rows)
    return Score("accuracy", float(right.mean()), wilson_interval(int(right.sum()), len(y)), right)


def _one_hot(y: Array) -> bool:
    return bool(np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all())


@dataclass(frozen=True)
class Times:
    """How long calls of two models take, in turns.

    Attributes:
        seconds: of the first, by batch size; medians.
        speedup: times as fast as the first the second is; medians of the ratios of the turns.
        low: the second smallest of the ratios, of nine: the speedup is above with 96 %.
        high: the second largest.
    """

    seconds: dict[int, float]
    speedup: dict[int, float]
    low: dict[int, float]
    high: dict[int, float]


def times_beside(first: Any, second: Any, x: Any) -> Times:
    """Measures calls of two models at each batch size: nine turns, of each the least of five.

    Args:
        first: a model.
        second: another that takes the same inputs.
        x: inputs; rows are repeated where there are too few.
    """
    found = Times({}, {}, {}, {})
    for batch in BATCHES:
        fed = tree.map_structure(
            lambda a, size=batch: np.ascontiguousarray(np.resize(a, (size, *a.shape[1:]))), x
        )
        calls = [_caller(model, fed) for model in (first, second)]
        counts = [_count(call) for call in calls]
        pairs = [_turn(calls, counts) for _ in range(_ROUNDS)]
        ratios = sorted(a / b for a, b in pairs)
        found.seconds[batch] = float(np.median([a for a, _ in pairs]))
        found.speedup[batch] = ratios[_ROUNDS // 2]
        found.low[batch], found.high[batch] = ratios[1], ratios[-2]
    return found


def _caller(model: Any, fed: Any) -> Callable[[], Any]:
    model(fed, training=False)  # the plan is made

    def call() -> Any:
        return model(fed, training=False)

    return call


def _count(call: Callable[[], Any]) -> int:
    call()
    return max(1, int(_SPAN / max(_seconds(call, 2), 1e-7)))


def _turn(calls: Sequence[Callable[[], Any]], counts: Sequence[int]) -> list[float]:
    """Seconds of a call of each: the least of some, in turns, so that other programs count less."""
    least = [math.inf] * len(calls)
    end = time.perf_counter() + _LONGEST
    for number in range(_TRIES):
        if number and time.perf_counter() > end:
            break
        for place, (call, count) in enumerate(zip(calls, counts, strict=True)):
            least[place] = min(least[place], _seconds(call, max(1, count // _TRIES)))
    return least


def _seconds(call: Callable[[], Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def front(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Which points no other is at least as good as in everything; smaller is better."""
    return [
        not any(
            all(a <= b for a, b in zip(other, point, strict=True)) and other != point
            for other in points
        )
        for point in points
    ]
