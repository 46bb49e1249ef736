"""Shapley values of features against a background: exact, or sampled with standard errors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import tree
from handmill.arguments import whole_number
from handmill.data.keyed_random import make_key
from handmill.explanation.black_box import BlackBox
from handmill.explanation.explanation import Explanation
from handmill.explanation.players import Players, players_for
from handmill.explanation.rows import alike, background_rows, checked_seed, for_model, rows_of
from handmill.explanation.shapley_sampled import by_permutations, by_regression
from handmill.explanation.shapley_sums import MOST_PLAYERS, ShapleySums
from handmill.ir.op import Array

METHODS = ("auto", "exact", "permutation", "kernel")
EXACT_BY_DEFAULT = 15
PAIRS = 32
_SUMMED = 13  # players whose coalitions are summed up together: for more, NumPy wakes threads


def shap(
    model: Any,
    x: Any,
    background: Any = None,
    target: Any = None,
    method: str = "auto",
    *,
    groups: Any = None,
    segments: Any = None,
    max_evaluations: int | None = None,
    until: float = 0.0,
    seed: int = 0,
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> Explanation:
    """How a row's score differs from the background's, shared among its features (Shapley, 1953).

    The value of a coalition is the mean score of the background rows in which the coalition's
    features are the row's. Features that differ from no row of the background have the value 0 and
    cost nothing. Nothing of coalitions x background x features is ever whole in memory.

    Args:
        model: a handmill model, an estimator with ``predict_proba`` or ``predict``, or a function
            of rows.
        x: rows (rows, features), images, or a nesting of inputs as the model takes it.
        background: rows that absent features are taken from; 100 at most are used, drawn with the
            seed. A number, or one row, is a single baseline.
        target: what is explained; None: the predicted class, or the only output. See
            :func:`handmill.explanation.targets_for`; a function picks a number of each row from
            the outputs.
        method: ``"exact"`` (up to 20 varying players; 2**players coalitions), ``"permutation"``,
            ``"kernel"`` (the regression of KernelSHAP, without its selection of ten features), or
            ``"auto"``: exact up to 15 players, else permutations.
        groups: lists of columns that are there or absent together, or a dict of them by name.
        segments: of images, (height, width) numbers of segments, or the side of squares.
        max_evaluations: coalitions at most, each asked for with every background row; default: 32
            orders with their reverses, or 2 * players + 2048 for the regression.
        until: stops the sampling when the largest standard error is below this part of the largest
            value; 0: never before ``max_evaluations``. For permutations.
        seed: of the sampling.
        feature_names: names of columns; a table that has names brings them.
        class_names: names of the classes.

    :class:`ShapExplainer` takes the same and explains row after row.

    Returns:
        An :class:`Explanation` whose values sum to score - base value; with standard errors where
        it was sampled. ``details["background_error"]`` of exact values: the standard error that
        comes from the choice of background rows.

    Raises:
        ValueError: for arguments that do not fit each other, a missing background, more players
            than can be exact, and scores that are not finite.

    Example:
        >>> import numpy as np
        >>> from handmill import explanation
        >>> weights = np.array([1.0, -2.0, 0.5])
        >>> found = explanation.shap(lambda x: x @ weights, np.array([[3.0, 1.0, 2.0]]), 0.0)
        >>> found.values
        array([[ 3., -2.,  1.]])
    """
    explainer = ShapExplainer(
        model,
        background,
        method,
        groups=groups,
        segments=segments,
        max_evaluations=max_evaluations,
        until=until,
        seed=seed,
        feature_names=feature_names,
        class_names=class_names,
    )
    return explainer(x, target)


class ShapExplainer:
    """Explains rows by Shapley values, call after call; see :func:`shap` for the arguments.

    What does not depend on the rows is made once: for single rows of small models that is most of
    the time. One explainer is for one thread at a time.

    Example:
        >>> import numpy as np
        >>> from handmill.explanation import ShapExplainer
        >>> explainer = ShapExplainer(lambda x: x[:, 0] * x[:, 1], np.zeros((1, 2)))
        >>> explainer(np.array([[2.0, 3.0]])).values
        array([[3., 3.]])
    """

    def __init__(
        self,
        model: Any,
        background: Any = None,
        method: str = "auto",
        *,
        groups: Any = None,
        segments: Any = None,
        max_evaluations: int | None = None,
        until: float = 0.0,
        seed: int = 0,
        feature_names: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"`method` must be one of {METHODS}. Received: {method!r}")
        if max_evaluations is not None:
            whole_number("max_evaluations", max_evaluations, 1)
        if not 0 <= until < 1:
            raise ValueError(f"`until` must be 0 or a part of 1, such as 0.05. Received: {until!r}")
        self._model = model
        self._background = background
        self._groups = groups, segments, feature_names
        self._sampling = method, max_evaluations, until, checked_seed(seed)
        self._class_names = class_names
        self._made_for: Any = None

    def _prepare(self, made: Any, arrays: list[Array], names: Any) -> None:
        """Makes what rows of the same shapes share."""
        key = [(a.shape[1:], a.dtype) for a in arrays], names
        if self._made_for == key:
            return
        groups, segments, feature_names = self._groups
        method, budget, until, seed = self._sampling
        rows, self._notes = background_rows(self._background, arrays, seed)
        _, self._rows = alike(arrays, for_model(self._model, rows, "background"))
        self._players = players_for(arrays, groups, segments, feature_names or names)
        self._box = BlackBox(self._model, made)
        self._runner = _Runner(self._box, self._players, self._rows, method, budget, until, seed)
        self._made_for = key

    def _is_known(self, x: Any) -> bool:
        """Whether ``x`` is an array as the last one was, which was looked at."""
        return (
            type(x) is np.ndarray
            and x.ndim > 0
            and self._made_for == ([(x.shape[1:], x.dtype)], None)
            and x.flags.c_contiguous
        )

    def __call__(self, x: Any, target: Any = None) -> Explanation:
        """Explains rows.

        Args:
            x: rows, nested as the model takes them.
            target: what is explained; None: the predicted class, or the only output.
        """
        began = time.perf_counter()
        made, arrays, names = x, [x], None
        if not self._is_known(x):
            made, arrays, names = rows_of(x)
            arrays = for_model(self._model, arrays)
            self._prepare(made, arrays, names)
        players, box, rows, runner = self._players, self._box, self._rows, self._runner
        arrays = [np.ascontiguousarray(a, b.dtype) for a, b in zip(arrays, rows, strict=True)]
        asked = box.evaluations
        targets, scores, outputs = box.explain(arrays, target, self._class_names, rows)
        if len(outputs) == 1:
            outputs = outputs[0].astype(np.float64)
        else:
            outputs = outputs.mean(0, dtype=np.float64)
        count = len(scores)
        values, error = np.zeros((count, players.count)), np.zeros((count, players.count))
        spread = np.full((count, players.count), np.nan)
        base = np.zeros(count)
        runner.begin()
        for row in range(count):
            parts = [a[row] for a in arrays]
            base[row] = float(targets.offset[row]) + float(
                outputs @ targets.seeds[row].astype(np.float64)
            )
            varying = players.varying(parts, rows)
            if not len(varying):
                continue
            score = box.scoring(targets, row)
            one = runner.run(row, parts, varying, score, base[row], scores[row])
            values[row, varying], error[row, varying], spread[row, varying] = one
        details: dict[str, Any] = {
            "evaluations": box.evaluations - asked,
            "seconds": time.perf_counter() - began,
            "background_rows": len(rows[0]),
        }
        if runner.is_exact and len(rows[0]) > 1:
            details["background_error"] = spread
        return Explanation(
            values=told(players, values, made),
            data=players.data(made, arrays),
            method=runner.name,
            scores=scores,
            base_values=base,
            targets=targets.names,
            classes=targets.classes,
            error=None if runner.is_exact else told(players, error, made),
            complete=True,
            feature_names=players.names,
            notes=self._notes,
            details=details,
        )


class _Runner:
    """Explains row after row; keeps what rows with the same varying players share."""

    def __init__(
        self,
        box: BlackBox,
        players: Players,
        background: list[Array],
        method: str,
        budget: int | None,
        until: float,
        seed: int,
    ) -> None:
        self._composer = box.composer(players, background)
        self._method = method
        self._budget = budget
        self._until = until
        self._seed = seed
        self.begin()

    def begin(self) -> None:
        """Begins with rows for which nothing was sampled yet."""
        self.is_exact = True
        self.name = "exact Shapley values"

    def run(
        self,
        row: int,
        parts: list[Array],
        varying: Array,
        score: Any,
        empty: float,
        full: float,
    ) -> tuple[Array, Array | float, Array | float]:
        """The values of the varying players, their standard errors, those of the background."""
        count, method = len(varying), self._method
        if method == "auto":
            fits = self._budget is None or 1 << count <= self._budget
            method = "exact" if count <= EXACT_BY_DEFAULT and fits else "permutation"
        if method == "exact":
            if count > MOST_PLAYERS:
                raise ValueError(
                    f"row {row} has {count} players that vary, and exact values need 2**{count} "
                    f"coalitions: at most {MOST_PLAYERS} players are exact. Join columns with "
                    "`groups`, or use method='permutation'"
                )
            if self._budget is not None and self._budget < 1 << count:
                raise ValueError(
                    f"max_evaluations={self._budget} is too few for exact values: row {row} has "
                    f"{count} players that vary, whose coalitions are {1 << count}. Leave it out, "
                    "or use method='permutation'"
                )
            return self._exact(parts, varying, score)
        if count == 1:
            return np.array([full - empty]), 0.0, np.nan

        def value(members: Array) -> Array:
            return self._composer.means(parts, varying, members, score)

        if method == "permutation":
            self.name, self.is_exact = "permutation SHAP", False
            return self._permuted(value, count, empty, full, make_key(self._seed, row))
        self.name = "kernel SHAP"
        budget = 2 * count + 2048 if self._budget is None else self._budget
        _enough(budget, count)
        values, error, _ = by_regression(value, count, empty, full, budget, make_key(self._seed))
        if error is None:
            return values, 0.0, np.nan
        self.is_exact = False
        return values, error, np.nan

    def _permuted(
        self, value: Any, count: int, empty: float, full: float, key: int
    ) -> tuple[Array, Array, float]:
        pairs = PAIRS
        if self._budget is not None:
            _enough(self._budget, count)
            pairs = max(1, (self._budget - 1) // (2 * count))
        values, error, _ = by_permutations(value, count, empty, full, pairs, self._until, key)
        return values, error, np.nan

    def _exact(self, parts: list[Array], varying: Array, score: Any) -> tuple[Array, float, Any]:
        rows = self._composer.rows
        low = min(len(varying), self._composer.block.bit_length() - 1, _SUMMED)
        others = np.arange(low, len(varying))
        sums = ShapleySums(len(varying), low, rows)
        for first, block in self._composer.blocks(parts, varying, None, score):
            for start in range(0, len(block), 1 << low):
                sums.add((first + start >> others & 1) == 1, block[start : start + (1 << low)])
        found = sums.values()
        if rows == 1:
            return found[:, 0], 0.0, np.nan
        return found.mean(1), 0.0, found.std(1, ddof=1) / np.sqrt(rows)


def _enough(budget: int, players: int) -> None:
    if budget < 2 * players + 1:
        raise ValueError(
            f"max_evaluations={budget} is too few for {players} players that vary: one order and "
            f"its reverse, like the regression, need {2 * players + 1}"
        )


def told(players: Players, values: Array, made: Any) -> Any:
    """Values of players (rows, players), nested and shaped as an explanation tells them."""
    parts = players.spread(values)
    return tree.pack_sequence_as(made, parts) if tree.is_nested(made) else parts[0]
