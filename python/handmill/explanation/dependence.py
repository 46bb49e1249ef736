"""Partial dependence and individual curves: the score with a column set to value after value."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.explanation.black_box import BlackBox
from handmill.explanation.composition import rows_of_block
from handmill.explanation.explanation import Explanation
from handmill.explanation.players import column_of
from handmill.explanation.rows import for_model, rows_of
from handmill.ir.op import Array

KINDS = ("average", "individual")


def partial_dependence(
    model: Any,
    x: Any,
    features: Any,
    target: Any = None,
    *,
    kind: str = "average",
    grid: Any = None,
    points: int = 50,
    centered: bool = False,
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> Explanation:
    """The mean score of all rows when a feature is set to each value of a grid (Friedman, 2001).

    Args:
        model: a handmill model, an estimator, or a function of rows.
        x: rows of a table.
        features: a column (number or name), or two of them for a surface.
        target: the class or output whose score is drawn, the same for all rows; may be left out
            only where the model gives one number.
        kind: ``"average"`` (partial dependence) or ``"individual"``: a curve for each row (ICE).
        grid: the values; of two features, two lists. Default: the feature's own values if they are
            no more than ``points``, else so many between its 5 % and 95 % quantiles.
        points: of the default grid.
        centered: whether each curve begins at 0.
        feature_names: names of columns.
        class_names: names of the classes.

    Returns:
        An :class:`Explanation`: ``values`` (1, grid), of individual curves (rows, grid), of two
        features (..., grid, grid); ``details["grid"]`` and, of a surface, ``details["grid2"]``.
        ``error`` of an average: its standard error over the rows.

    Raises:
        ValueError: for arguments that do not fit.

    Example:
        >>> import numpy as np
        >>> from handmill import explanation
        >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
        >>> square = lambda x: x[:, 0] ** 2 + x[:, 1]
        >>> explanation.partial_dependence(square, x, 0, grid=[0, 1, 2]).values
        array([[3., 4., 7.]])
    """
    began = time.perf_counter()
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {KINDS}. Received: {kind!r}")
    whole_number("points", points, 2)
    made, arrays, names = rows_of(x)
    rows: Array = for_model(model, arrays)[0] if len(arrays) == 1 else np.zeros(0)
    if rows.ndim != 2 or not len(rows):
        raise ValueError(
            "partial_dependence() takes one or more rows of a table (rows, features). Received "
            f"{len(arrays)} input(s), the first of the shape {arrays[0].shape}"
        )
    named = feature_names or names
    several = isinstance(features, list | tuple | np.ndarray)
    chosen = [column_of(f, named, rows.shape[1]) for f in (features if several else [features])]
    if len(chosen) not in (1, 2) or len(set(chosen)) != len(chosen):
        raise ValueError(f"`features` must be one column, or two different. Received: {features!r}")
    grids = _grids(rows, chosen, grid, points)
    if any(len(g) and g.dtype.kind == "f" and rows.dtype.kind in "iub" for g in grids):
        rows = rows.astype(np.float64)
    box = BlackBox(model, made)
    targets, scores, _ = box.explain([rows], target, class_names)
    if target is None and targets.seeds.shape[1] > 1:
        raise ValueError(
            f"the model gives {targets.seeds.shape[1]} numbers a row: say whose curve is drawn "
            "with `target`, such as target=0"
        )
    if len(np.unique(targets.seeds, axis=0)) > 1:
        raise ValueError("`target` must be the same for all rows: the curve is a mean over them")
    curves = _curves(box, box.scoring(targets, 0), rows, chosen, grids)
    if centered:
        curves = curves - curves[:, :1] if len(grids) == 1 else curves - curves[:, :1, :1]
    error = None
    if kind == "average":
        if len(rows) > 1:
            error = curves.std(0, ddof=1)[None] / np.sqrt(len(rows))
        curves, scores = curves.mean(0)[None], np.array([scores.mean()])
    column = str(named[chosen[0]]) if named is not None else f"x{chosen[0]}"
    details: dict[str, Any] = {
        "grid": grids[0],
        "features": chosen,
        "evaluations": box.evaluations,
        "seconds": time.perf_counter() - began,
    }
    if len(grids) == 2:
        details["grid2"] = grids[1]
    return Explanation(
        values=curves,
        data=np.zeros((len(curves), 0)) if kind == "average" else rows,
        method="partial dependence" if kind == "average" else "individual curves",
        scores=scores,
        targets=targets.names[: len(curves)],
        classes=None if targets.classes is None else targets.classes[: len(curves)],
        error=error,
        feature_names=[f"{column} = {v:.6g}" for v in grids[0]] if len(grids) == 1 else None,
        details=details,
    )


def _grids(rows: Array, chosen: list[int], grid: Any, points: int) -> list[Array]:
    if grid is not None:
        given = [np.asarray(g) for g in (grid if len(chosen) == 2 else [grid])]
        if len(given) != len(chosen) or any(
            g.ndim != 1 or not len(g) or g.dtype.kind not in "fiub" for g in given
        ):
            raise ValueError(
                f"`grid` must be a list of numbers, of two features two lists. Received: {grid!r}"
            )
        return given
    found = []
    for column in chosen:
        own = np.unique(rows[:, column])
        own = own[np.isfinite(own)]
        if not len(own):
            raise ValueError(f"column {column} has no finite number to make a grid of")
        if len(own) > points:
            low, high = np.nanquantile(rows[:, column], [0.05, 0.95])
            own = np.linspace(low, high, points)
        found.append(own)
    return found


def _curves(box: BlackBox, score: Any, rows: Array, chosen: list[int], grids: list[Array]) -> Array:
    """The score of every row at every value: (rows, grid) or (rows, grid, grid)."""
    values = np.empty((len(rows), *map(len, grids)))
    size = rows_of_block([rows], box.is_planned)
    for start in range(0, len(rows), size):
        at = slice(start, start + size)
        block = rows[at].copy()
        for i, first in enumerate(grids[0]):
            block[:, chosen[0]] = first
            if len(grids) == 1:
                values[at, i] = score([block])
                continue
            for j, second in enumerate(grids[1]):
                block[:, chosen[1]] = second
                values[at, i, j] = score([block])
    return values
