"""Counterfactuals: the smallest change of a row after which the model answers otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill.explanation.black_box import BlackBox
from handmill.explanation.explanation import Explanation
from handmill.explanation.players import column_of, players_for
from handmill.explanation.rows import for_model, rows_of
from handmill.ir.op import Array

DISTANCES = ("l1", "l2")
STARTS = 16
_STEPS, _HALVINGS = 30, 40
_CLEAR = 1e-6  # how far a class is above the others, so that rounding does not decide

Margin = Callable[[Array], Array]
"""Gives rows how far they are beyond what is wanted: 0 and more is there."""


def counterfactual(
    model: Any,
    x: Any,
    background: Any,
    target: Any = None,
    *,
    wanted: float | None = None,
    distance: str = "l1",
    fixed: Sequence[Any] = (),
    bounds: Any = None,
    groups: Any = None,
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> Explanation:
    """What would have to be different for another answer (Wachter, Mittelstadt, Russell, 2017).

    For any model, without gradients. From the row, steps along differences of the score lead over
    the boundary; besides, the nearest background rows that have the answer are starts, so that
    models with steps (trees) have some, too. Each start gives back the features that it does not
    need, and comes as near to the row as the answer allows; the nearest is told.

    Args:
        model: a handmill model, an estimator, or a function of rows.
        x: rows of a table.
        background: training rows: they give each feature its unit of distance (the median distance
            from the median; where that is 0, the standard deviation), its bounds, and starts.
        target: the class wanted; None: of two classes the other one, else the second most probable.
        wanted: of a model that gives one number, the number wanted: at least it where the row's
            is lower, at most it where it is higher.
        distance: ``"l1"``: few features change; ``"l2"``: many change a little.
        fixed: columns that stay.
        bounds: (low, high), numbers or one for each column; default: those of the background.
        groups: columns that only change together, to those of a background row, such as one-hot
            columns; in lists that together hold each column once. Columns of whole numbers change
            so on their own.
        feature_names: names of columns.
        class_names: names of the classes.

    Returns:
        An :class:`Explanation` whose values are the changes; NaN where none was found, which
        ``details["found"]`` and a note say. ``details["counterfactuals"]`` holds the rows,
        ``details["distances"]`` how far they are.

    Raises:
        ValueError: for arguments that do not fit.

    Example:
        >>> import numpy as np
        >>> from handmill import explanation
        >>> train = np.array([[0.0, 0.0], [1.0, 4.0], [3.0, 2.0], [4.0, 1.0]])
        >>> found = explanation.counterfactual(
        ...     lambda x: 2 * x[:, 0] + x[:, 1], np.array([[1.0, 1.0]]), train, wanted=5.0)
        >>> found.values.round(3)
        array([[1., 0.]])
    """
    began = time.perf_counter()
    if distance not in DISTANCES:
        raise ValueError(f"`distance` must be one of {DISTANCES}. Received: {distance!r}")
    made, arrays, names = rows_of(x)
    _, others, _ = rows_of(background, "background")
    arrays, others = for_model(model, arrays), for_model(model, others, "background")
    if len(arrays) != 1 or arrays[0].ndim != 2 or len(others) != 1 or not len(others[0]):
        raise ValueError("counterfactual() takes rows of a table, and background rows of the same")
    rows, pool = arrays[0], others[0]
    if pool.ndim != 2 or pool.shape[1] != rows.shape[1]:
        raise ValueError(
            f"rows of `background` have the shape {pool.shape[1:]}, those explained "
            f"{rows.shape[1:]}"
        )
    named = feature_names or names
    players = players_for(arrays, groups, None, named)
    box = BlackBox(model, made)
    current, scores, _ = box.explain([rows], None, class_names)
    goals = _goals(box, rows, target, wanted, current, scores, class_names)
    search = _Search(
        pool,
        [players.columns(j)[0] for j in range(players.count)],
        [column_of(c, named, rows.shape[1]) for c in fixed],
        _bounds(bounds, pool),
        2 if distance == "l2" else 1,
    )
    changed = np.full(rows.shape, np.nan)
    after = np.full(len(rows), np.nan)
    lengths = np.full(len(rows), np.nan)
    for row, (margin, score) in enumerate(goals):
        best = search.run(rows[row].astype(np.float64), _cast(margin, rows.dtype))
        if best is not None:
            changed[row] = best
            after[row] = score(np.asarray(best[None], rows.dtype))[0]
            lengths[row] = search.length(best - rows[row])
    found = np.isfinite(lengths)
    notes: tuple[str, ...] = ()
    if not found.all():
        notes = (
            f"{int((~found).sum())} of {len(found)} rows have no counterfactual within the bounds "
            "and the background given",
        )
    return Explanation(
        values=changed - rows,
        data=rows,
        method="counterfactual",
        scores=scores,
        targets=current.names,
        classes=current.classes,
        feature_names=named,
        notes=notes,
        details={
            "counterfactuals": changed,
            "scores_after": after,
            "distances": lengths,
            "found": found,
            "evaluations": box.evaluations,
            "seconds": time.perf_counter() - began,
        },
    )


def _cast(margin: Margin, kind: np.dtype[Any]) -> Margin:
    return lambda rows: margin(np.ascontiguousarray(rows, kind))


def _goals(
    box: BlackBox,
    rows: Array,
    target: Any,
    wanted: float | None,
    current: Any,
    scores: Array,
    class_names: Sequence[str] | None,
) -> list[tuple[Margin, Margin]]:
    """For each row: how far others are beyond what is wanted, and the score explained of others."""

    def score_of(row: int) -> Margin:
        score = box.scoring(current, row)
        return lambda block: np.asarray(score([block]), np.float64)

    explained = [score_of(row) for row in range(len(rows))]
    if box.kind == "number":
        if wanted is None:
            raise ValueError("the model gives one number: say which is wanted, with `wanted`")
        if target not in (None, 0):
            raise ValueError(
                f"the model gives one number, so `target` must be None. Got {target!r}"
            )

        def beyond(row: int) -> Margin:
            sign = 1.0 if scores[row] < wanted else -1.0
            score = explained[row]
            return lambda block: sign * (score(block) - wanted)

        return [(beyond(row), explained[row]) for row in range(len(rows))]
    if wanted is not None:
        raise ValueError("`wanted` is for models that give one number; of classes pass `target`")
    from handmill.explanation.targets import targets_for

    outputs = box.outputs([rows]) if len(rows) else np.zeros((0, 2))
    if target is None:
        if box.kind == "binary":
            goals = (outputs[:, 0] <= 0.5).astype(np.int64)
        else:
            goals = np.argsort(-outputs, axis=1, kind="stable")[:, 1]
    else:
        found = targets_for(target, outputs, box.kind, class_names).classes
        assert found is not None  # noqa: S101
        if found.ndim != 1:
            raise ValueError("`target` must be the class wanted, not a pair")
        goals = found

    def above(goal: int) -> Margin:
        if box.kind == "binary":
            sign = 1.0 if goal else -1.0
            return lambda block: (
                sign * (box.outputs([block])[:, 0].astype(np.float64) - 0.5) - _CLEAR
            )

        def margin(block: Array) -> Array:
            given = box.outputs([block]).astype(np.float64)
            own = given[:, goal].copy()
            given[:, goal] = -np.inf
            return np.asarray(own - given.max(1) - _CLEAR)

        return margin

    return [(above(int(goal)), explained[row]) for row, goal in enumerate(goals)]


def _bounds(bounds: Any, pool: Array) -> tuple[Array, Array]:
    low, high = (pool.min(0), pool.max(0)) if bounds is None else bounds
    low = np.broadcast_to(np.asarray(low, np.float64), pool.shape[1:])
    high = np.broadcast_to(np.asarray(high, np.float64), pool.shape[1:])
    if (low > high).any():
        raise ValueError(f"`bounds` must be (low, high). Received: {bounds!r}")
    return low, high


class _Search:
    """Looks for the nearest row on the other side.

    Args:
        pool: background rows.
        groups: columns that change together.
        fixed: columns that stay.
        bounds: the lowest and highest value of each column.
        power: 1 or 2, of the distance.
    """

    def __init__(
        self,
        pool: Array,
        groups: list[Array],
        fixed: list[int],
        bounds: tuple[Array, Array],
        power: int,
    ) -> None:
        wide = pool.astype(np.float64)
        unit = np.median(np.abs(wide - np.median(wide, axis=0)), axis=0)
        unit = np.where(unit > 0, unit, wide.std(0))
        self._unit = np.where(unit > 0, unit, 1.0)
        self._pool = wide
        self._free = np.ones(pool.shape[1], bool)
        self._free[fixed] = False
        self._groups = [g for g in groups if self._free[g].all()]
        whole = pool.dtype.kind in "iub"
        single = [g[0] for g in self._groups if len(g) == 1 and not whole]
        self._smooth = np.array(single, np.intp)
        self._low, self._high = bounds
        self._power = power

    def length(self, change: Array) -> float:
        """The distance of a change, in units of the features."""
        scaled = np.abs(change / self._unit)
        return float(np.sqrt((scaled**2).sum()) if self._power == 2 else scaled.sum())

    def run(self, row: Array, margin: Margin) -> Array | None:
        """The nearest row found whose margin is 0 or more; None if there is none."""
        if margin(row[None])[0] >= 0:
            return row
        starts = [s for s in (self._walked(row, margin),) if s is not None]
        starts += list(self._others(row, margin))
        best: Array | None = None
        for start in starts:
            made = self._nearer(row, self._leaner(row, start, margin), margin)
            if best is None or self.length(made - row) < self.length(best - row) * (1 - 1e-9):
                best = made
        return best

    def _others(self, row: Array, margin: Margin) -> Array:
        """The nearest background rows that are there, with the row's fixed columns."""
        given: Array = np.where(self._free, self._pool, row)
        inside = ((given >= self._low) & (given <= self._high) | (given == row)).all(1)
        given = given[inside]
        if not len(given):
            return given
        given = given[margin(given) >= 0]
        lengths = np.array([self.length(g - row) for g in given])
        return np.asarray(given[np.argsort(lengths, kind="stable")[:STARTS]])

    def _walked(self, row: Array, margin: Margin) -> Array | None:
        """Steps to where the margin, as a plane through its differences, is 0."""
        columns = self._smooth
        if not len(columns):
            return None
        at: Array = row.copy()
        for _ in range(_STEPS):
            size = 1e-3 * self._unit[columns]
            size = np.where(at[columns] + size > self._high[columns], -size, size)
            block = np.repeat(at[None], len(columns) + 1, axis=0)
            block[np.arange(len(columns)), columns] += size
            given = margin(block)
            slope = (given[:-1] - given[-1]) / size
            change = self._to_plane(row, at, slope, given[-1], columns)
            if change is None:
                return None
            at = row.copy()
            at[columns] += change
            if margin(at[None])[0] >= 0:
                return at
        return None

    def _to_plane(
        self, row: Array, at: Array, slope: Array, value: float, columns: Array
    ) -> Array | None:
        """The shortest change of the row onto the plane through ``at``, within the bounds."""
        unit = self._unit[columns]
        aim = -value + float(slope @ (at[columns] - row[columns]))
        aim += 1e-6 * (abs(aim) + 1e-12)
        room = np.where(slope > 0, self._high[columns], self._low[columns]) - row[columns]
        room = np.where(np.sign(room) == np.sign(slope), room, 0.0)
        most = slope * room
        if not np.isfinite(slope).all() or aim > most.sum():
            return None
        if self._power == 1:  # the features that bring most for their distance, one after another
            change = np.zeros(len(columns))
            for j in np.argsort(-np.abs(slope) * unit, kind="stable"):
                if aim <= 0:
                    break
                part = min(aim, most[j])
                change[j] = part / slope[j] if slope[j] else 0.0
                aim -= part
            return change
        low, high = 0.0, 1.0  # each by slope * unit^2 * multiplier, up to its bound

        def of(multiplier: float) -> Array:
            wish = multiplier * slope * unit**2
            return np.asarray(np.clip(wish, np.minimum(room, 0), np.maximum(room, 0)))

        while slope @ of(high) < aim and high < 1e30:
            high *= 2
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if slope @ of(middle) < aim else (low, middle)
        return of(high)

    def _leaner(self, row: Array, start: Array, margin: Margin) -> Array:
        """Gives features back, those that save most first, while the answer stays."""
        at: Array = start.copy()
        while True:
            able = [g for g in self._groups if (at[g] != row[g]).any()]
            if not able:
                return at
            block = np.repeat(at[None], len(able), axis=0)
            for one, columns in zip(block, able, strict=True):
                one[columns] = row[columns]
            kept = margin(block) >= 0
            if not kept.any():
                return at
            lengths = np.array([self.length(b - row) for b in block])
            at = block[np.argmin(np.where(kept, lengths, np.inf))]

    def _nearer(self, row: Array, start: Array, margin: Margin) -> Array:
        """Brings smooth features back as far as the answer allows: together, then one by one."""
        at: Array = start.copy()
        smooth = self._smooth[at[self._smooth] != row[self._smooth]]
        for columns in ([smooth] if len(smooth) else []) + [
            smooth[j : j + 1] for j in range(len(smooth))
        ]:
            low, high = 0.0, 1.0  # how much of the change is kept: too little, enough
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                tried = at.copy()
                tried[columns] = row[columns] + middle * (at[columns] - row[columns])
                low, high = (low, middle) if margin(tried[None])[0] >= 0 else (middle, high)
            if high < 1:
                at[columns] = row[columns] + high * (at[columns] - row[columns])
        return at
