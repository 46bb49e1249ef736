"""A table of configurations that says how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.naming import known_names
from handmill.strategy.distributions import student_quantile
from handmill.strategy.pairs import Pair, compare_pair
from handmill.strategy.statistics import (
    Interval,
    compare_with_best,
    pooled_deviation,
    seeds_needed,
    wilson_interval,
    winners_curse,
)

FEWEST_ROWS = 50
"""With fewer to judge on, one row is two points of accuracy or more."""

FEWEST_SEEDS = 6
"""With fewer no pattern of signs is rarer than 5 %, so nothing can be told apart."""


class Comparison:
    """Configurations held against the best of them, over seeds that all of them had.

    Printed, it is a table, best first. Each line has two errors, both half a 95 % interval: that
    of the seeds, which more seeds make smaller, and that of the rows that were judged on, which
    no seed does. A line that begins with ``=`` is not distinguishable from the best, which is
    what most leads turn out to be.

    Args:
        scores: one for each configuration and seed, shape (K, R); NaN where a training gave none.
        configurations: what they are called, or dicts of their settings; default: their numbers.
        metric: what the scores are.
        higher_is_better: whether they should rise.
        rows: the rows that the scores, if they are rates of rows such as an accuracy, come from.
        split_rows: where each column is another random split of the same rows: how many rows it
            trains on and how many it judges on.
        test_uses: how often the test set was looked at; None leaves the line out.
        alpha: the level of the tests.

    Attributes:
        scores: as given, float64; NaN where they are not finite.
        configurations: dicts.
        best: the position of the one with the best mean.

    Raises:
        ValueError: if scores and configurations do not fit each other, or no configuration has a
            score for each seed.

    Example:
        >>> import numpy as np
        >>> from handmill.strategy import Comparison
        >>> noise = np.random.default_rng(1).normal(0, 0.004, (3, 8))
        >>> scores = np.array([[0.96], [0.93], [0.961]]) + noise
        >>> print(Comparison(scores, ["relu", "tanh", "gelu"], metric="accuracy", rows=359))
        accuracy of 3 configurations, 8 seeds, judged on 359 rows (higher is better)
                 mean +- seeds +- rows to the best      p
        = gelu 0.9614   0.0024  0.0204           -      -
        = relu 0.9608   0.0025  0.0206     -0.0006  0.758
          tanh 0.9302   0.0016  0.0266     -0.0311  0.008
        =: not distinguishable from the best (p > 0.05, sign flips of seeds, all pairs corrected)
        The best of 2 equals looks better than it is, by 0.0006 for its seeds alone.
        About 462 seeds would tell the first two apart, if they differ by what is seen.
    """

    def __init__(
        self,
        scores: Any,
        configurations: Sequence[Any] | None = None,
        *,
        metric: str = "score",
        higher_is_better: bool = True,
        rows: int | None = None,
        split_rows: tuple[int, int] | None = None,
        test_uses: int | None = None,
        alpha: float = 0.05,
    ) -> None:
        self.scores = np.array(scores, np.float64)
        if self.scores.ndim != 2 or not self.scores.size:
            raise ValueError(
                "scores must be numbers of shape (configurations, seeds), none of them 0. "
                f"Received: shape {self.scores.shape}"
            )
        self.scores[~np.isfinite(self.scores)] = np.nan
        named = range(len(self.scores)) if configurations is None else configurations
        if len(named) != len(self.scores):
            raise ValueError(
                f"scores has {len(self.scores)} rows, but there are {len(named)} configurations"
            )
        self.configurations = [dict(c) if isinstance(c, Mapping) else {"": c} for c in named]
        if not self._whole.any():
            raise ValueError(
                "no configuration has a score for each seed: nothing can be compared. Finite "
                f"scores: {int(np.isfinite(self.scores).sum())} of {self.scores.size}"
            )
        if rows is not None and not np.all(_in_unit(self.scores[self._whole])):
            raise ValueError("rows= is for rates of rows, from 0 to 1, such as an accuracy")
        self.metric, self.higher_is_better = metric, higher_is_better
        self.rows, self.split_rows = rows, split_rows
        self.test_uses, self.alpha = test_uses, alpha
        self.best = self.order[0]

    @cached_property
    def _whole(self) -> Array:
        """Which configurations have a score for each seed."""
        return np.asarray(np.isfinite(self.scores).all(axis=1))

    @cached_property
    def _rising(self) -> Array:
        """The scores of whole configurations, turned so that larger is better."""
        return self.scores[self._whole] * (1.0 if self.higher_is_better else -1.0)

    @cached_property
    def means(self) -> Array:
        """The mean over the seeds, shape (K,); NaN where a seed has no score."""
        return np.where(self._whole, self.scores.mean(axis=1), np.nan)

    @cached_property
    def order(self) -> list[int]:
        """Positions, best mean first; equal ones as given; those without a mean last."""
        means = np.where(self._whole, self.means, -np.inf if self.higher_is_better else np.inf)
        found: list[int] = np.argsort(
            -means if self.higher_is_better else means, kind="stable"
        ).tolist()
        return found

    @cached_property
    def seed_errors(self) -> Array:
        """Half the 95 % interval of each mean that seeds (or splits) leave open, shape (K,).

        Student's t; for repeated splits with the variance of Nadeau and Bengio, which holds the
        rows too. Infinite for one seed.
        """
        seeds = self.scores.shape[1]
        if seeds == 1:
            return np.where(self._whole, np.inf, np.nan)
        share = 1 / seeds
        if self.split_rows:
            share += self.split_rows[1] / self.split_rows[0]
        error = np.sqrt(share) * self.scores.std(axis=1, ddof=1)
        return np.where(self._whole, error * student_quantile(0.975, seeds - 1), np.nan)

    @cached_property
    def row_intervals(self) -> list[Interval] | None:
        """Wilson's 95 % interval of each mean for the rows judged on; None if unknown."""
        if self.rows is None:
            return None
        empty = Interval(math.nan, math.nan)
        return [
            empty if math.isnan(m) else wilson_interval(m * self.rows, self.rows)
            for m in self.means
        ]

    @cached_property
    def differences(self) -> Array:
        """Mean minus the best mean, shape (K,)."""
        found: Array = self.means - self.means[self.best]
        return found

    @cached_property
    def p_values(self) -> Array:
        """Of being as good as the best, corrected for the choice, shape (K,); the best has 1.

        See :func:`~handmill.strategy.statistics.compare_with_best`. NaN where there is no mean.
        """
        found = np.full(len(self.scores), np.nan)
        seeds = self.scores.shape[1]
        if seeds == 1:
            found[self._whole] = 1.0
        else:
            found[self._whole] = compare_with_best(self._rising, self.alpha, self.split_rows)
        return found

    @cached_property
    def undecided(self) -> Array:
        """Which configurations are not distinguishable from the best, itself among them: bools."""
        found: Array = np.nan_to_num(self.p_values, nan=-1.0) > self.alpha
        found[self.best] = True
        return found

    @cached_property
    def curse(self) -> float:
        """By how much the best one's mean is too good, as expected of the luckiest of equals.

        Counted among those that are not distinguishable from it, for the noise of seeds alone:
        what all of them owe to these rows comes on top.
        """
        seeds = self.scores.shape[1]
        among = self.scores[self.undecided]
        return winners_curse(len(among)) * pooled_deviation(among) / math.sqrt(seeds)

    @cached_property
    def seeds_wanted(self) -> float | None:
        """Seeds that would tell the best from the next one; None if they are told apart.

        See :func:`~handmill.strategy.statistics.seeds_needed`.
        """
        next_ = [k for k in self.order if self.undecided[k] and k != self.best]
        if not next_ or self.scores.shape[1] < 2:
            return None
        return seeds_needed(self.scores[self.best] - self.scores[next_[0]])

    def pair(self, first: int, second: int) -> Pair:
        """Compares two configurations that were chosen before their numbers were seen.

        Args:
            first: the position of A.
            second: the position of B.

        Raises:
            ValueError: if one of them has no score under some seed, or there is one seed alone.
        """
        scores = self.scores[first], self.scores[second]
        return compare_pair(*scores, self.higher_is_better, self.split_rows)

    def pivot(self, rows: str, columns: str) -> str:
        r"""Returns the means as a table of two settings, what is left over averaged.

        Cells that hold a configuration that is not distinguishable from the best end with ``=``.

        Args:
            rows: the setting whose values name the rows.
            columns: the one whose values name the columns.

        Raises:
            ValueError: for a setting that is not there.

        Example:
            >>> from handmill.strategy import Comparison
            >>> grid = [{"units": u, "rate": r} for u in (8, 16) for r in (0.1, 0.01)]
            >>> print(Comparison([[0.9], [0.8], [0.95], [0.7]], grid).pivot("units", "rate"))
            units \ rate      0.1     0.01
            8            0.9000 = 0.8000 =
            16           0.9500 = 0.7000 =
        """
        names, heads, table, marked = self.cells(rows, columns)
        corner = f"{rows} \\ {columns}"
        first = max(len(corner), *map(len, names))
        wide = max(7, *map(len, heads))
        lines = [corner.ljust(first) + "".join(f"{h:>{wide + 2}}" for h in heads)]
        for name, means, marks in zip(names, table, marked, strict=True):
            cells = [_number(m) + (" =" if k else "  ") for m, k in zip(means, marks, strict=True)]
            lines.append(name.ljust(first) + "".join(f"{c:>{wide + 2}}" for c in cells))
        return "\n".join(line.rstrip() for line in lines)

    def cells(self, rows: str, columns: str) -> tuple[list[str], list[str], Array, Array]:
        """Returns what :meth:`pivot` prints.

        Args:
            rows: the setting whose values name the rows.
            columns: the one whose values name the columns.

        Returns:
            Names of the rows and of the columns, means and whether a cell holds one that is not
            distinguishable from the best, both of shape (rows, columns); NaN without any.
        """
        known = list(dict.fromkeys(name for c in self.configurations for name in c))
        for name in (rows, columns):
            if name not in known:
                raise ValueError(known_names("setting", name, known))
        names, row_of = _distinct([c.get(rows) for c in self.configurations])
        heads, column_of = _distinct([c.get(columns) for c in self.configurations])
        sums = np.zeros((len(names), len(heads)))
        counts, marked = np.zeros_like(sums), np.zeros(sums.shape, bool)
        for k, at in enumerate(zip(row_of, column_of, strict=True)):
            if self._whole[k]:
                sums[at] += self.means[k]
                counts[at] += 1
            marked[at] |= self.undecided[k]
        with np.errstate(invalid="ignore"):
            return names, heads, sums / counts, marked

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers, for JSON; ``configurations`` in the order given."""
        intervals = self.row_intervals or [Interval(math.nan, math.nan)] * len(self.scores)
        lines = [
            {
                "configuration": {name: _value(v) for name, v in configuration.items()},
                "scores": [_or_none(v) for v in self.scores[k]],
                "mean": _or_none(self.means[k]),
                "seed_error": _or_none(self.seed_errors[k]),
                "row_interval": [_or_none(v) for v in interval],
                "difference": _or_none(self.differences[k]),
                "p": _or_none(self.p_values[k]),
                "undecided": bool(self.undecided[k]),
            }
            for k, (configuration, interval) in enumerate(
                zip(self.configurations, intervals, strict=True)
            )
        ]
        return {
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "rows": self.rows,
            "split_rows": self.split_rows,
            "best": self.best,
            "winners_curse": self.curse,
            "seeds_wanted": None if self.seeds_wanted is None else _or_none(self.seeds_wanted),
            "test_uses": self.test_uses,
            "configurations": lines,
        }

    def __repr__(self) -> str:
        shape = "{} configurations, {} seeds".format(*self.scores.shape)
        return f"<Comparison by {self.metric}: {shape}, {int(self.undecided.sum())} undecided>"

    def __str__(self) -> str:
        return self.table()

    def table(self, most: int | None = None) -> str:
        """Returns the table as text, best first.

        Args:
            most: lines of configurations at most; default: all.
        """
        shown = self.order[:most]
        columns = [*self._setting_columns(shown), *self._number_columns(shown)]
        widths = [max(map(len, column)) for _, column in columns]
        lines = [self._head()]
        for i in range(len(shown) + 1):
            mark = "  " if not i else "= " if self.undecided[shown[i - 1]] else "  "
            cells = [
                column[i].ljust(width) if left else column[i].rjust(width)
                for (left, column), width in zip(columns, widths, strict=True)
            ]
            lines.append((mark + " ".join(cells)).rstrip())
        left = len(self.order) - len(shown)
        return "\n".join([*lines, *([f"  ... and {left} more"] if left else []), *self._foot()])

    def _head(self) -> str:
        count, seeds = self.scores.shape
        what = "configuration" if count == 1 else "configurations"
        how = "splits" if self.split_rows else "seed" if seeds == 1 else "seeds"
        judged = f", judged on {self.rows} rows" if self.rows is not None else ""
        better = "higher" if self.higher_is_better else "lower"
        return f"{self.metric} of {count} {what}, {seeds} {how}{judged} ({better} is better)"

    def _setting_columns(self, shown: list[int]) -> list[tuple[bool, list[str]]]:
        settings = list(dict.fromkeys(name for c in self.configurations for name in c))
        return [
            (True, [name, *(_value(self.configurations[k].get(name)) for k in shown)])
            for name in settings
        ]

    def _number_columns(self, shown: list[int]) -> list[tuple[bool, list[str]]]:
        kind = "splits" if self.split_rows else "seeds"
        columns = [("mean", self.means), (f"+- {kind}", self.seed_errors)]
        if self.row_intervals is not None:
            columns.append(("+- rows", np.array([(b - a) / 2 for a, b in self.row_intervals])))
        found = [(False, [name, *(_number(v[k]) for k in shown)]) for name, v in columns]
        to_best, p = ["to the best"], ["     p"]
        for k in shown:
            alone = k == self.best
            to_best.append("-" if alone else _number(self.differences[k], "+"))
            value = self.p_values[k]
            p.append("-" if alone or math.isnan(value) else f"{value:.3f}")
        return [*found, (False, to_best), (False, p)]

    def _foot(self) -> list[str]:
        seeds = self.scores.shape[1]
        equals = int(self.undecided.sum())
        lines = []
        if len(self.scores) > 1:
            test = "corrected t of Nadeau and Bengio" if self.split_rows else "sign flips of seeds"
            lines.append(
                f"=: not distinguishable from the best (p > {self.alpha:g}, {test}, all pairs "
                "corrected)"
            )
        if self.rows is not None and self.rows < FEWEST_ROWS:
            lines.append(
                f"{self.rows} rows are too few to choose by: one of them is {1 / self.rows:.3f}. "
                f"Put {FEWEST_ROWS} or more aside, or use strategy.cross_validate"
            )
        lost = int(np.count_nonzero(~self._whole))
        if lost:
            lines.append(f"{lost} without a number under some seed: not compared")
        if len(self.scores) > 1 and seeds < FEWEST_SEEDS and not self.split_rows:
            lines.append(
                f"{seeds} {'seed' if seeds == 1 else 'seeds'} cannot tell anything apart; "
                f"{FEWEST_SEEDS} are the fewest that can, 8 are better"
            )
        elif equals > 1:
            lines.append(
                f"The best of {equals} equals looks better than it is, by {_number(self.curse)} "
                f"for its {'splits' if self.split_rows else 'seeds'} alone."
            )
            if self.seeds_wanted is not None and math.isfinite(self.seeds_wanted):
                lines.append(
                    f"About {self.seeds_wanted:.0f} seeds would tell the first two apart, if they "
                    "differ by what is seen."
                )
        if self.test_uses is not None:
            times = {1: "once", 2: "twice"}.get(self.test_uses, f"{self.test_uses} times")
            used = f"was used {times}" if self.test_uses else "has not been used"
            lines.append(f"The test set {used}.")
        return lines


def _in_unit(values: Array) -> Array:
    found: Array = (values >= 0) & (values <= 1)
    return found


def _number(value: float, sign: str = "") -> str:
    """Four decimals, or four digits of what is far from 1."""
    if math.isnan(value):
        return "-"
    if value and not 1e-3 <= abs(value) < 1e4 and math.isfinite(value):
        tiny = abs(value) < 1e-3 and f"{value:.4f}".strip("-0.")
        return f"{value:{sign}.4f}" if tiny else f"{value:{sign}.3g}"
    return f"{value:{sign}.4f}"


def _value(value: Any) -> str:
    """A setting as it is printed."""
    if isinstance(value, float):
        return f"{value:.4g}"
    name = getattr(value, "__name__", None)
    text = name if isinstance(name, str) else str(value)
    return text if len(text) <= 24 else text[:21] + "..."


def _distinct(values: Sequence[Any]) -> tuple[list[str], list[int]]:
    """How different values are printed, and the place among them of each value."""
    found = {repr(value): _value(value) for value in values}
    keys = list(found)
    return list(found.values()), [keys.index(repr(value)) for value in values]


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
