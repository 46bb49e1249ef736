"""Rows that are put aside to choose by, and the folds of a cross-validation."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.models.layout import split

_PARTS = 5
"""One of so many is put aside where nobody says what to validate on."""


def hold_out(x: Any, y: Any, sample_weight: Any = None, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Puts a fifth of the rows aside: drawn at random, equal shares of each class.

    Args:
        x: inputs: an array, or a list or dict of arrays, of as many rows each.
        y: targets.
        sample_weight: a factor for each row.
        seed: of the draw.

    Returns:
        x, y and sample_weight of the other rows, and ``(x, y)`` or ``(x, y, sample_weight)`` of
        those put aside; each in the order in which they stood.

    Raises:
        ValueError: if lengths differ, or there are fewer than 10 rows.

    Example:
        >>> import numpy as np
        >>> from handmill.strategy import hold_out
        >>> x, y, _, (x_held, y_held) = hold_out(np.arange(10), np.repeat([0, 1], 5))
        >>> len(x), sorted(y_held.tolist())
        (8, [0, 1])
    """
    layout, arrays = split(x, y, sample_weight)
    rows = len(arrays[0])
    if any(len(a) != rows for a in arrays):
        raise ValueError(
            "x, y and sample_weight must have equally many rows. Received: "
            f"{', '.join(str(len(a)) for a in arrays)}"
        )
    if rows < 2 * _PARTS:
        raise ValueError(
            f"{rows} rows are too few to put some aside to choose by: {2 * _PARTS} are the least. "
            "Pass validation_data=(x, y), or splits="
        )
    held = deal(rows, classes_of(y, rows), _PARTS, seed) == 0
    kept, aside = (layout.join([a[part] for a in arrays]) for part in (~held, held))
    return (*kept, aside if sample_weight is not None else aside[:2])


def check_varied(y: Any, rows: int) -> None:
    """Raises a ValueError for targets that are all alike.

    Args:
        y: targets.
        rows: how many rows there are.
    """
    given = np.asarray(y) if isinstance(y, np.ndarray | list | tuple) else np.empty(0)
    if rows < 2 or given.size != rows or given.dtype.kind not in "biufU":
        return
    flat = given.reshape(-1)
    if (flat == flat[0]).all():
        raise ValueError(
            f"y holds nothing but {'class ' * (flat.dtype.kind != 'f')}{flat[0]!s} in {rows} rows: "
            "there is nothing to learn (for a loss that does not look at y leave it out)"
        )


def classes_of(y: Any, rows: int) -> Array | None:
    """The class number of each row; None where ``y`` does not hold classes.

    Args:
        y: targets: whole numbers, booleans or texts, shape (rows,) or (rows, 1).
        rows: how many rows there are.
    """
    given = np.asarray(y) if isinstance(y, np.ndarray | list | tuple) else np.empty(0)
    if given.dtype.kind not in "biuU" or given.size != rows or not rows:
        return None
    found, numbers = np.unique(given.reshape(-1), return_inverse=True)
    # Whole numbers that hardly repeat are counts or ages, not classes.
    return numbers if len(found) <= max(2, rows // 2) else None


def deal(rows: int, classes: Array | None, folds: int, seed: int) -> Array:
    """Returns the fold of each row: shuffled, then dealt out class after class.

    Folds differ by one row at most, and by one row of each class.

    Args:
        rows: how many rows there are.
        classes: the class number of each row, shape (rows,); None for one class.
        folds: how many.
        seed: of the shuffle.
    """
    order = np.random.Generator(np.random.Philox(seed)).permutation(rows)
    if classes is not None:
        order = order[np.argsort(classes[order], kind="stable")]
    found = np.empty(rows, np.int64)
    found[order] = np.arange(rows) % folds
    return found


def deal_groups(groups: Array, folds: int, seed: int) -> Array:
    """Returns the fold of each row such that no group is in two folds: largest groups first.

    Args:
        groups: the group of each row, shape (rows,).
        folds: how many.
        seed: of the order of groups that are equally large.

    Raises:
        ValueError: for fewer groups than folds.
    """
    names, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise ValueError(
            f"{folds} folds need at least as many groups, there are {len(names)}: "
            f"{names[:10].tolist()}"
        )
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(names))
    fold_of = np.empty(len(names), np.int64)
    filled = np.zeros(folds)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[group] = int(filled.argmin())
        filled[fold_of[group]] += sizes[group]
    return np.asarray(fold_of[numbers.reshape(-1)])
