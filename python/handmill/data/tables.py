"""Data frames and columns of pandas and polars as arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.runtime.feed import interleaved, packed

_TEXTS = ("object", "str", "string", "utf8")
_REMEDIES = (
    (_TEXTS, "layers.StringLookup or pandas.get_dummies for texts, "
     "pandas.to_numeric for numbers that were read as texts"),
    (("category", "categorical", "enum"), "its codes (column.cat.codes, or to_physical()), or one "
     "column for each category (get_dummies, to_dummies)"),
    (("datetime", "date", "time", "duration", "period"), "parts of the time that matter, such as "
     "column.dt.hour, or seconds since a day"),
    (("decimal",), "floats (column.cast(polars.Float64))"),
    (("list", "array", "struct"), "an array of its own, such as numpy.stack(column), in a list or "
     "dict of inputs"),
)  # fmt: skip


def is_table(x: Any) -> bool:
    """Whether ``x`` is a frame, or a column of one, of pandas, polars or what behaves so."""
    if isinstance(x, np.ndarray) or not hasattr(x, "to_numpy"):
        return False
    return hasattr(x, "dtypes") or hasattr(x, "dtype")


def holds_numbers(table: Any) -> bool:
    """Whether all columns of a frame hold numbers or bools."""
    return all(_kind(dtype) in "biuf" for dtype in _columns(table)[1])


def is_lazy_table(x: Any) -> bool:
    """Whether ``x`` is a query whose rows have not been collected."""
    return type(x).__name__ == "LazyFrame" and hasattr(x, "collect")


def as_array(table: Any, name: str) -> Array:
    """Returns a frame or column as an array, its rows one after the other in memory.

    Columns of one dtype keep it; numbers of several dtypes, and those with missing entries,
    which become NaN, become float32.

    Args:
        table: the frame or column.
        name: what it is called in errors.

    Raises:
        ValueError: if a column holds something else; the message names it with its remedy.
    """
    names, dtypes = _columns(table)
    if not dtypes:
        return np.empty((len(table), 0), np.float32)
    kinds = [_kind(dtype) for dtype in dtypes]
    for column, dtype, kind in zip(names, dtypes, kinds, strict=True):
        if kind not in "biuf":
            raise ValueError(_refusal(name, column, dtype))
    texts = {str(dtype).lower() for dtype in dtypes}
    if (columns := _plain_columns(table)) is not None:
        return interleaved(columns, _joint_dtype(kinds, columns))
    if len(texts) == 1 and _has_no_gaps(table):
        array = np.asarray(table.to_numpy())
        if array.dtype.kind == "O":  # pandas' own types, such as Int64
            array = array.astype({"b": "bool", "i": "int64", "u": "uint64"}.get(kinds[0], "f4"))
    elif set(kinds) == {"b"} and _has_no_gaps(table):
        array = _filled(table, "bool")
    elif set(kinds) <= set("biu") and _has_no_gaps(table):
        array = _filled(table, "int64")
    else:
        array = _filled(table, "float32")
    return packed(array, np.float32 if array.dtype == np.float64 else array.dtype)


_LARGE = 1 << 16  # numbers; below, to take columns one by one costs more than a copy


def _plain_columns(table: Any) -> list[Array] | None:
    """The columns of a large frame without gaps, as they lie; None for anything else."""
    if getattr(table, "ndim", 2) != 2 or not hasattr(table, "columns"):
        return None
    if math.prod(table.shape) < _LARGE or len(table) < 64 * table.shape[1]:
        return None
    if hasattr(table, "get_columns"):  # polars
        found = [column.to_numpy() for column in table.get_columns()] if _has_no_gaps(table) else []
    elif hasattr(table, "isna") and len(set(dtypes := list(table.dtypes))) > 1:  # pandas
        is_plain = all(isinstance(dtype, np.dtype) for dtype in dtypes)
        found = [column.to_numpy() for _, column in table.items()] if is_plain else []
    else:  # of one dtype: one block, mostly
        return None
    return found if found and all(c.dtype.kind in "biuf" for c in found) else None


def _joint_dtype(kinds: Sequence[str], columns: Sequence[Array]) -> np.dtype[Any]:
    """That of a table of columns: their own if they share one, but for float64."""
    dtypes = {column.dtype for column in columns}
    if len(dtypes) == 1:
        (dtype,) = dtypes
        return np.dtype(np.float32) if dtype == np.float64 else dtype
    return np.dtype("int64" if set(kinds) <= set("biu") else "float32")


def _columns(table: Any) -> tuple[list[Any], list[Any]]:
    dtypes = getattr(table, "dtypes", None)
    if dtypes is None or hasattr(dtypes, "kind") or not hasattr(dtypes, "__iter__"):
        return [getattr(table, "name", None)], [table.dtype if dtypes is None else dtypes]
    found = list(dtypes)
    names = list(getattr(table, "columns", range(len(found))))
    return names if len(names) == len(found) else list(range(len(found))), found


def _kind(dtype: Any) -> str:
    """The letter that NumPy has for a dtype, ``"O"`` for what holds no numbers."""
    kind = getattr(dtype, "kind", None)
    if isinstance(kind, str):
        subtype = getattr(dtype, "subtype", None)  # of pandas' sparse columns
        return _kind(subtype) if subtype is not None else kind
    text = str(dtype).lower()
    if text.startswith("bool"):
        return "b"
    for start, letter in (("int", "i"), ("uint", "u"), ("float", "f")):
        if text.startswith(start) and text[len(start) :].isdigit():
            return letter
    return "O"


def _has_no_gaps(table: Any) -> bool:
    if hasattr(table, "isna"):  # pandas
        dtypes = _columns(table)[1]
        if all(isinstance(dtype, np.dtype) for dtype in dtypes):
            return True  # a missing number is NaN already
        return not np.asarray(table.isna()).any()
    count = getattr(table, "null_count", None)
    if count is None:
        return True
    found = count()
    return not (found if isinstance(found, int) else sum(found.row(0)))


def _filled(table: Any, dtype: str) -> Array:
    """The table as one dtype, NaN where entries are missing."""
    if hasattr(table, "isna"):
        gaps = {"na_value": np.nan} if dtype == "float32" else {}
        return np.asarray(table.to_numpy(dtype=dtype, **gaps))
    return np.asarray(table.to_numpy()).astype(dtype, copy=False)  # polars has NaN for gaps


def _refusal(name: str, column: Any, dtype: Any) -> str:
    text = str(dtype).lower()
    remedy = next(
        (remedy for starts, remedy in _REMEDIES if text.startswith(starts)),
        "numbers",
    )
    if name == "y" and text.startswith(_TEXTS):
        remedy = "class numbers, such as pandas.factorize(column)[0] or column.rank('dense') - 1"
    where = "it" if column is None else f"column {column!r}"
    return (
        f"`{name}` must hold numbers, but {where} of it has dtype {dtype}: make of it {remedy}, "
        "or leave it out"
    ).replace("but it of it has", "but it has")
