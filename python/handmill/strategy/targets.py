"""Targets as the checks see them: classes by number, or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.data.tables import is_lazy_table, is_table
from handmill.ir.op import Array
from handmill.strategy.inputs import is_missing

TASKS = ("classification", "regression")

_MISSING = -1


@dataclass(frozen=True)
class Targets:
    """The targets of some rows.

    Attributes:
        codes: the class of each row as an index into ``names``, -1 where the label is missing; None
            if the targets are numbers.
        names: the classes of all splits, in order; empty if the targets are numbers.
        values: the targets as they came, shape ``(rows, ...)``.
        one_hot: whether classes came as one-hot rows.
    """

    codes: Array | None
    names: tuple[Any, ...]
    values: Array
    one_hot: bool = False

    def counts(self) -> Array:
        """How many rows each class has."""
        found: Array = np.bincount(self.labels[self.labels >= 0], minlength=len(self.names))
        return found

    @property
    def labels(self) -> Array:
        """``codes`` of targets that are classes.

        Raises:
            ValueError: if they are numbers.
        """
        if self.codes is None:
            raise ValueError("expected classes as targets, got numbers")
        return self.codes


def class_names(names: Any, codes: Any) -> str:
    """The first classes of a list of numbers, as text."""
    shown = [repr(names[k]) for k in codes[:5]]
    return ", ".join(shown + (["..."] if len(codes) > 5 else []))


def targets_of(given: Mapping[str, Any], task: str | None = None) -> dict[str, Targets]:
    """Returns the targets of some splits, their classes numbered alike.

    Classes are texts, bools, one-hot rows, and whole numbers of which few are distinct: at most 2,
    or a quarter of the rows up to 1,000.

    Args:
        given: split -> targets: an array or column of numbers or texts, or one-hot rows.
        task: ``"classification"`` or ``"regression"``; None to see.

    Raises:
        ValueError: for an unknown task, targets of no rows or of another kind than in the first
            split, numbers that are no classes.
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(map(repr, TASKS))}, got {task!r}")
    arrays = {split: _array(y, split) for split, y in given.items()}
    first = next(iter(arrays.values()))
    for split, array in arrays.items():
        if (array.dtype.kind == "O") != (first.dtype.kind == "O"):
            raise ValueError(f"{split}: expected targets of the kind of y, got {array.dtype}")
        if array.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"{split}: expected targets of shape {first.shape[1:]} as in y, got "
                f"{array.shape[1:]}"
            )
    one_hot = first.ndim == 2 and all(map(_is_one_hot, arrays.values()))
    if task == "regression" or not (one_hot or _are_classes(list(arrays.values()), task)):
        return {split: Targets(None, (), array) for split, array in arrays.items()}
    if one_hot:
        names: tuple[Any, ...] = tuple(range(first.shape[1]))
        return {s: Targets(_one_hot_codes(a), names, a, True) for s, a in arrays.items()}
    missing = {split: _missing(array) for split, array in arrays.items()}
    known = np.concatenate([a[~missing[s]] for s, a in arrays.items()])
    if known.dtype.kind == "f":
        known = known.astype(np.int64)
    found = np.unique(known.astype(str) if known.dtype.kind == "O" else known)
    names = tuple(found.tolist())
    result = {}
    for split, array in arrays.items():
        codes = np.full(len(array), _MISSING, np.int64)
        there = array[~missing[split]]
        codes[~missing[split]] = np.searchsorted(found, there.astype(found.dtype))
        result[split] = Targets(codes, names, array)
    return result


def _array(y: Any, split: str) -> Array:
    if is_lazy_table(y):
        raise TypeError(f"the targets of {split} are a query: pass y.collect()")
    array = np.asarray(y.to_numpy() if is_table(y) else y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 0 or len(array) == 0:
        raise ValueError(f"{split}: expected a target for each row, got {y!r}")
    kind = array.dtype.kind
    if kind in "SUOT" and array.ndim == 1:
        return array.astype(object)
    if kind in "mM":
        return array.view(np.int64)
    if kind not in "biuf":
        raise ValueError(
            f"{split}: expected targets that are numbers, texts or one-hot rows, got an array of "
            f"dtype {array.dtype} and shape {array.shape}"
        )
    return array


def _missing(array: Array) -> Array:
    if array.dtype.kind == "O":
        return np.array([is_missing(v) for v in array], bool)
    return ~np.isfinite(array) if array.dtype.kind == "f" else np.zeros(len(array), bool)


def _is_one_hot(array: Array) -> bool:
    if array.shape[1] < 2:
        return False
    rows = array[np.isfinite(array).all(axis=1)]
    return bool(len(rows) and ((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all())


def _one_hot_codes(array: Array) -> Array:
    finite = np.isfinite(array).all(axis=1)
    return np.where(finite, np.argmax(array, axis=1), _MISSING)


def _are_classes(arrays: list[Array], task: str | None) -> bool:
    if arrays[0].ndim > 1:
        if task == "classification":
            raise ValueError(
                "task='classification': expected one class for each row (numbers, texts or one-hot "
                f"rows), got targets of shape {arrays[0].shape}"
            )
        return False
    if arrays[0].dtype.kind in "bO":
        return True
    known = np.concatenate([a[~_missing(a)] for a in arrays])
    if known.dtype.kind == "f" and not (known == np.floor(known)).all():
        if task == "classification":
            row = int(np.argmax(known != np.floor(known)))
            raise ValueError(
                f"task='classification': expected whole numbers, texts or one-hot rows as classes, "
                f"got {known[row]!r}"
            )
        return False
    distinct = len(np.unique(known))
    return task == "classification" or distinct <= max(2, min(1000, len(known) // 4))
