"""What ``adapt`` learns from: arrays, and what makes batches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from handmill.data import tables
from handmill.ir.arrays import check_readable, foreign_array
from handmill.ir.op import Array


def is_array(data: Any) -> bool:
    """Whether ``data`` is an array, a column or a frame."""
    marks = ("__array__", "__dlpack__", "to_numpy")
    return isinstance(data, np.ndarray) or any(hasattr(data, mark) for mark in marks)


def batches_of(data: Any, steps: int | None = None) -> Iterator[Any]:
    """Yields the batches of a data set, a PyDataset, a generator or a list of them.

    Args:
        data: what makes batches.
        steps: how many at most.

    Raises:
        TypeError: for what makes no batches.
    """
    if hasattr(data, "__getitem__") and hasattr(data, "num_batches"):
        count = data.num_batches
        if count is None and steps is None:
            raise ValueError(
                f"`adapt` would never end: {type(data).__name__} has no length. Pass `steps`."
            )
        limit = steps if count is None else count if steps is None else min(count, steps)
        return (data[i] for i in range(int(limit or 0)))
    if not hasattr(data, "__iter__") or isinstance(data, str | bytes | dict):
        raise TypeError(
            f"Unsupported data type: {type(data)}. `adapt` takes an array, a data set, a PyDataset "
            "or an iterable of batches."
        )
    return islice(iter(data), steps)


def numbers_of(data: Any, subject: str, infinite: bool = True, whole: bool = False) -> Array:
    """Returns data to learn from as an array of numbers.

    Args:
        data: an array, a column, a frame or a list.
        subject: what errors call the layer.
        infinite: whether infinities are numbers here.
        whole: whether only whole numbers are.

    Raises:
        ValueError: for what holds no numbers; the message names the first row.
    """
    check_readable(data, "data")
    if hasattr(data, "__dlpack__") and not isinstance(data, np.ndarray):
        data = foreign_array(data, "the data")
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ValueError(f"{subject} cannot learn from rows of different lengths") from error
    if array.dtype.kind not in "biuf" and tables.is_table(data):
        array = tables.as_array(data, "data")  # of pandas' own types; names what holds no numbers
    if array.dtype.kind not in "biuf":
        wanted = "whole numbers" if whole else "numbers"
        raise ValueError(
            f"{subject} takes {wanted}. adapt() received an array of dtype {array.dtype}; texts "
            "are for StringLookup and TextVectorization, and other things become numbers first"
        )
    if array.dtype.kind == "f" and array.size:
        good = np.isfinite(array) if not infinite or whole else ~np.isnan(array)
        if whole:
            good &= array == np.floor(array)
        if not good.all():
            rows = good.reshape(len(array), -1).all(axis=1) if array.ndim else good.reshape(1)
            row = int(np.argmin(rows))
            first = array.reshape(len(rows), -1)[row][~good.reshape(len(rows), -1)[row]][0]
            kind = "missing or infinite" if np.isnan(first) or np.isinf(first) else "not whole"
            raise ValueError(
                f"{subject} cannot learn from {first!s}: {len(rows) - np.count_nonzero(rows)} of "
                f"{len(rows)} rows of the data for adapt() hold numbers that are {kind} (first row "
                f"{row}); leave these rows out, or mend them"
            )
    return array


def check_not_empty(rows: int, subject: str) -> None:
    """Raises a ValueError if there was nothing to learn from."""
    if not rows:
        raise ValueError(f"{subject}: adapt() received no data: there are no rows to learn from")
