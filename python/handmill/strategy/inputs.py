"""Data as the checks see them: inputs as parts with rows and columns, whatever they came as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.data.tables import is_lazy_table, is_table
from handmill.ir.op import Array
from handmill.models.layout import fill, leaves, nested

BLOCK = 1 << 22
"""Numbers looked at in one piece: what the checks need beside the data stays at some ten MB."""


@dataclass(frozen=True)
class Part:
    """One array of the inputs.

    Attributes:
        name: its key in a dict, its place in a list; empty for an array by itself.
        values: numbers of shape ``(rows, ...)``, or texts of shape ``(rows,)`` as objects.
        columns: the names of the columns of a table, empty for anything else.
    """

    name: str
    values: Array
    columns: tuple[str, ...]

    @property
    def is_text(self) -> bool:
        """Whether it holds texts (or other objects) in place of numbers."""
        return self.values.dtype.kind == "O"

    @property
    def is_table(self) -> bool:
        """Whether its columns mean something each: images and sequences are no tables."""
        return self.values.ndim <= 2

    def flat(self, begin: int = 0, end: int | None = None) -> Array:
        """Some rows, shape ``(rows, numbers of a row)``."""
        rows = self.values[begin:end]
        return rows.reshape(len(rows), -1)

    @property
    def width(self) -> int:
        """The numbers of a row."""
        return int(np.prod(self.values.shape[1:], dtype=np.int64))

    def place(self, number: int) -> str:
        """What a column, or a number of a row, is called."""
        if self.columns:
            return self.columns[number]
        if self.values.ndim == 1:
            return self.name or "x"
        index = np.unravel_index(number, self.values.shape[1:])
        return f"{self.name or 'x'}[:, {', '.join(str(int(i)) for i in index)}]"


@dataclass(frozen=True)
class Inputs:
    """The inputs of some rows.

    Attributes:
        parts: their arrays.
        rows: how many rows there are.
    """

    parts: tuple[Part, ...]
    rows: int

    @property
    def numbers(self) -> tuple[Part, ...]:
        """The parts that hold numbers."""
        return tuple(part for part in self.parts if not part.is_text)


def inputs_of(x: Any, name: str) -> Inputs:
    """Returns data as parts, without copies of what are arrays already.

    Args:
        x: an array, a frame of pandas or polars, a dict, list or tuple of them.
        name: what it is called in errors.

    Raises:
        TypeError: for what has no rows that can be looked at again, such as a generator.
        ValueError: if the lengths differ, or there are no rows.
    """
    parts = _parts(x, "", name)
    lengths = {part.name or name: len(part.values) for part in parts}
    if not lengths:
        raise ValueError(f"{name}: expected arrays with rows, got {x!r}")
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{part!r}: {rows}" for part, rows in lengths.items())
        raise ValueError(f"{name}: all its arrays need the same number of rows, got {text}")
    rows = next(iter(lengths.values()))
    if rows == 0:
        raise ValueError(f"{name}: expected at least one row, got none")
    return Inputs(tuple(parts), rows)


def check_alike(inputs: Inputs, other: Inputs, name: str) -> None:
    """Checks that two sets of rows have the same columns.

    Raises:
        ValueError: naming the first difference.
    """
    ours, theirs = [p.name for p in inputs.parts], [p.name for p in other.parts]
    if ours != theirs:
        raise ValueError(f"{name}: expected the inputs {ours} of x, got {theirs}")
    for part, second in zip(inputs.parts, other.parts, strict=True):
        where = f" of {part.name!r}" if part.name else ""
        if part.values.shape[1:] != second.values.shape[1:]:
            raise ValueError(
                f"{name}: expected rows{where} of shape {part.values.shape[1:]} as in x, got "
                f"{second.values.shape[1:]}"
            )
        if part.columns != second.columns:
            wrong = next(
                f"{b!r} in the place of {a!r}"
                for a, b in zip(part.columns, second.columns, strict=True)
                if a != b
            )
            raise ValueError(f"{name}: expected the columns of x, got {wrong}")
        if part.is_text != second.is_text:
            kinds = ["texts" if p.is_text else "numbers" for p in (part, second)]
            raise ValueError(f"{name}: expected {kinds[0]}{where} as in x, got {kinds[1]}")


def taken(data: Any, rows: Array) -> Any:
    """Some rows of inputs or targets, nested as they are; frames stay frames."""
    data = nested(data)
    parts = [leaf.iloc[rows] if hasattr(leaf, "iloc") else leaf[rows] for leaf in leaves(data)]
    return fill(data, iter(parts))


def _parts(x: Any, key: str, name: str) -> list[Part]:
    if isinstance(x, dict):
        return [p for k, item in x.items() for p in _parts(item, _joined(key, k), name)]
    if isinstance(x, list | tuple) and any(_has_rows(item) for item in x):
        return [p for i, item in enumerate(x) for p in _parts(item, _joined(key, i), name)]
    if is_lazy_table(x):
        raise TypeError(f"{name} is a query ({type(x).__name__}): pass {name}.collect()")
    if is_table(x) and hasattr(x, "columns"):
        return _frame_parts(x, key)
    if type(x).__module__.startswith("scipy.sparse"):
        raise TypeError(f"{name} is a sparse matrix: pass {name}.toarray()")
    if isinstance(x, list | tuple) or _has_rows(x):
        return [_part(_array(x, name), key, name)]
    raise TypeError(
        f"{name}: expected an array, a data frame, or a dict or list of arrays, got "
        f"{type(x).__name__}; rows of a generator or Dataset can be collected with numpy.stack"
    )


def _joined(key: str, part: object) -> str:
    return f"{key}/{part}" if key else str(part)


def _has_rows(x: Any) -> bool:
    return isinstance(x, np.ndarray) or is_table(x) or hasattr(x, "__array__")


def _array(x: Any, name: str) -> Array:
    """An array of numbers or of objects; lists of texts become objects."""
    if is_table(x):  # a column
        return _column(x)
    try:
        array = np.asarray(x)
    except ValueError as error:  # ragged
        raise ValueError(f"{name}: expected rows of one length: {error}") from None
    if array.ndim == 0:
        raise ValueError(f"{name}: expected rows, got the single value {x!r}")
    return array


def _part(array: Array, key: str, name: str) -> Part:
    kind = array.dtype.kind
    if kind in "biuf":
        return Part(key, array if kind != "b" else array.view(np.uint8), ())
    if kind in "mM":
        return Part(key, array.view(np.int64), ())
    if kind in "OSUT":
        if array.ndim > 1 and array.shape[1:] != (1,):
            raise ValueError(
                f"{name}: expected numbers, or texts in one column, got an array of dtype "
                f"{array.dtype} and shape {array.shape}; pass mixed columns as a dict of arrays"
            )
        return Part(key, _numbers_or_texts(array.reshape(-1)), ())
    if array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        return Part(key, array.astype(np.float32), ())
    raise ValueError(f"{name}: expected numbers or texts, got an array of dtype {array.dtype}")


def _frame_parts(table: Any, key: str) -> list[Part]:
    """Columns of numbers as one matrix for each dtype, texts and other objects one by one."""
    names = [str(column) for column in table.columns]
    columns = [_column(table[column]) for column in table.columns]
    together: dict[np.dtype[Any], list[int]] = {}
    found = []
    for i, column in enumerate(columns):
        if column.dtype.kind in "OSUT":
            values = _numbers_or_texts(column)
            if values.dtype.kind == "O":
                found.append(Part(_joined(key, names[i]), values, (names[i],)))
                continue
            columns[i] = values
        elif column.dtype.kind in "mM":
            columns[i] = column.view(np.int64)
        elif column.dtype.kind == "b":
            columns[i] = column.astype(np.int64)
        together.setdefault(columns[i].dtype, []).append(i)
    matrices = [
        Part(
            _joined(key, ", ".join(names[i] for i in numbers)),
            np.stack([columns[i] for i in numbers], axis=1),
            tuple(names[i] for i in numbers),
        )
        for numbers in together.values()
    ]
    return matrices + found


def _column(column: Any) -> Array:
    """A column of a frame; missing entries of whole numbers make it floats."""
    array = np.asarray(column.to_numpy())
    if array.dtype.kind != "O" or not str(column.dtype).lower().startswith(
        ("int", "uint", "float", "bool")
    ):
        return array
    return np.array([np.nan if is_missing(v) else float(v) for v in array])


def _numbers_or_texts(array: Array) -> Array:
    """Objects that are all numbers as float64; all else as objects, missing ones as None."""
    if array.dtype.kind == "O":
        present = [v for v in array if not is_missing(v)]
        if present and all(isinstance(v, int | float | np.number | np.bool_) for v in present):
            return np.array([np.nan if is_missing(v) else float(v) for v in array])
    texts = np.empty(len(array), object)
    texts[:] = [None if is_missing(v) else v if isinstance(v, str) else str(v) for v in array]
    return texts


def is_missing(value: Any) -> bool:
    """Whether an object stands for no value: None, NaN, pandas' NA and NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def text_codes(columns: Sequence[Array]) -> tuple[list[Array], list[str | None]]:
    """Numbers the texts of columns, those of all in one count.

    Returns:
        The numbers (int64) of each column, and the text of each number.
    """
    numbers: dict[str | None, int] = {}
    coded = [
        np.array([numbers.setdefault(text, len(numbers)) for text in column], np.int64)
        for column in columns
    ]
    return coded, list(numbers)
