"""What a candidate gains and loses, in words: bytes, time and accuracy, each by itself."""

from __future__ import annotations

import math
from typing import NamedTuple

from handmill.compress.measuring import BATCHES, Drop, Times

FASTER, SMALLER = 1.1, 0.9
"""Of the time at one of the batch sizes, and of the bytes: what counts as a gain."""


class Verdict(NamedTuple):
    """What is to be said of a candidate.

    Attributes:
        gains: of ``"bytes"``, ``"zipped"``, ``"time"`` and ``"accuracy"`` (``"error"``) those that
            are better: bytes are counted, time and accuracy are where their intervals say so.
        losses: likewise those that are worse.
        words: all three, with their intervals.
    """

    gains: tuple[str, ...]
    losses: tuple[str, ...]
    words: str


def verdict_of(
    kind: str, drop: Drop, max_drop: float, size: float, zipped: float, times: Times
) -> Verdict:
    """Judges a candidate.

    Args:
        kind: ``"accuracy"`` or ``"error"``.
        drop: how much worse it is than the model that had the same training.
        max_drop: how much of that is accepted.
        size: its bytes, as a part of the model's.
        zipped: likewise, after both were zipped.
        times: of its calls, beside the model's.
    """
    gains, losses = [], []
    for name, part in (("bytes", size), ("zipped", zipped)):
        if part <= SMALLER:
            gains.append(name)
        elif part >= 1 / SMALLER:
            losses.append(name)
    faster = {b: times.speedup[b] for b in BATCHES if times.low[b] > 1}
    slower = {b: times.speedup[b] for b in BATCHES if times.high[b] < 1}
    if any(ratio >= FASTER for ratio in faster.values()):
        gains.append("time")
    if any(ratio <= 1 / FASTER for ratio in slower.values()):
        losses.append("time")
    if drop.interval.high < 0:
        gains.append(kind)
    if drop.value > max_drop or drop.interval.low > 0:
        losses.append(kind)
    parts = [_bytes(size, zipped), _time(faster, slower, times), change_of(kind, drop)]
    if drop.value > max_drop:
        head = "loses"
    else:
        head = "pays" if gains else "no gain"
        if drop.interval.high > max_drop:
            parts.append(f"more than {_amount(kind, max_drop)} lost is not excluded")
    return Verdict(tuple(gains), tuple(losses), f"{head}: {', '.join(parts)}")


def change_of(kind: str, drop: Drop) -> str:
    """The change of accuracy in points, or of the error in percent, with its interval."""
    low, high = drop.interval
    if kind == "accuracy":
        found = (f"{0.0 - 100 * value:+.2f}" for value in (drop.value, high, low))
        return "accuracy {} points [{}, {}]".format(*found)
    if math.isinf(drop.value):
        return "error above 0, which the model does not have"
    return f"error {drop.value:+.1%} [{low:+.1%}, {high:+.1%}]"


def _amount(kind: str, max_drop: float) -> str:
    return f"{100 * max_drop:g} points" if kind == "accuracy" else f"{max_drop:.1%}"


def _bytes(size: float, zipped: float) -> str:
    words = "as many bytes" if size == 1 else f"{size:.2f} of the bytes"
    return f"{words} ({zipped:.2f} zipped)" if abs(zipped - size) > 0.1 else words


def _time(faster: dict[int, float], slower: dict[int, float], times: Times) -> str:
    words = []
    for found, best, ends in ((faster, max, times.low), (slower, min, times.high)):
        if found:
            at = best(found, key=ends.__getitem__)  # what is surest
            low, high = times.low[at], times.high[at]
            words.append(f"{found[at]:.2f}x as fast at batch {at} [{low:.2f}, {high:.2f}]")
    return " but ".join(words) or "time not distinguishable"
