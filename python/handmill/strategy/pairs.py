"""Two configurations, seed by seed."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from handmill.strategy.statistics import (
    Interval,
    corrected_t_test,
    mean_interval,
    probability_better,
    seeds_needed,
    sign_flip_test,
)


class Pair(NamedTuple):
    """What :func:`compare_pair` finds of A and B; printed, two lines.

    Attributes:
        difference: mean score of A minus that of B.
        interval: of the difference, 95 %.
        p: that there is none; of one pair, chosen before its numbers were seen.
        probability: that a training of A is better than one of B.
        probability_interval: of that, 95 %.
        seeds: how many would decide; infinite without a difference.
    """

    difference: float
    interval: Interval
    p: float
    probability: float
    probability_interval: Interval
    seeds: float

    def __str__(self) -> str:
        low, high = self.interval
        least, most = self.probability_interval
        text = (
            f"difference {self.difference:+.4f} [{low:+.4f}, {high:+.4f}], p {self.p:.3f}\nA is "
            f"better in {self.probability:.0%} of trainings [{least:.0%}, {most:.0%}]"
        )
        if self.p <= 0.05:
            return text
        seeds = f"about {self.seeds:.0f} seeds" if math.isfinite(self.seeds) else "no seeds"
        return f"{text}; undecided, {seeds} would tell"


def compare_pair(
    first: Any,
    second: Any,
    higher_is_better: bool = True,
    split_rows: tuple[int, int] | None = None,
) -> Pair:
    """Compares two configurations that were chosen before their numbers were seen.

    By flipped signs (:func:`~handmill.strategy.sign_flip_test`), or, for repeated splits of the
    same rows, by the corrected t-test. Of a table's best one see
    :func:`~handmill.strategy.compare_with_best`.

    Args:
        first: scores of A, one for each seed, shape (R,), R at least 2.
        second: scores of B under the same seeds.
        higher_is_better: whether they should rise.
        split_rows: for repeated splits, the rows that each trains on and judges on.

    Raises:
        ValueError: if the two have different lengths, fewer than two seeds, or a score is missing.

    Example:
        >>> from handmill.strategy import compare_pair
        >>> print(compare_pair([0.96, 0.97, 0.95, 0.97], [0.95, 0.95, 0.95, 0.96]))
        difference +0.0100 [-0.0030, +0.0230], p 0.250
        A is better in 88% of trainings [40%, 99%]; undecided, about 8 seeds would tell
    """
    share, share_interval = probability_better(first, second)
    apart = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    if not higher_is_better:
        low, high = share_interval
        share, share_interval = 1 - share, Interval(1 - high, 1 - low)
    seeds = seeds_needed(apart)
    if split_rows is not None:
        found = corrected_t_test(apart, *split_rows)
        interval, p = found.interval, found.p
    else:
        interval, p = mean_interval(apart), sign_flip_test(apart)
    return Pair(float(apart.mean()), interval, p, share, share_interval, seeds)
