"""How the arrays of a batch lie in a row: inputs, then targets, then sample weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import tree
from handmill.data import tables
from handmill.data.tables import is_table
from handmill.ir.arrays import array_of, check_readable, foreign_array
from handmill.ir.op import Array
from handmill.ir.shapes import DTYPES, name_of_dtype
from handmill.runtime.feed import packed

PLAIN = "*"
_STAND_INS = {
    "float16": "float32",
    "float64": "float32",
    "longdouble": "float32",
    "int16": "int32",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
}


_HINTS = {
    "M": "; make of dates what matters of them: x.astype('datetime64[D]').astype('float32') are "
    "days",
    "m": "; make a number of each duration: x / numpy.timedelta64(1, 's') are seconds",
    "c": "; put x.real and x.imag beside each other",
    "V": "; put its fields beside each other: numpy.lib.recfunctions.structured_to_unstructured(x)",
}
"""What to do with arrays of these kinds."""

READY = frozenset(np.dtype(name) for name in ("float32", "int64", "int32", "uint8", "int8", "bool"))
"""Dtypes of arrays that programs take as they are."""


class Layout:
    """The nesting of ``(x, y, sample_weight)``; equal ones share a traced step.

    Args:
        x: the inputs with a placeholder for each array.
        y: the targets, None for none.
        sample_weight: the weights, None for none.
        numbered: whether the numbers of the rows in the data (int64) stand behind the weights.

    Attributes:
        key: hashable; equal for equal nestings.
    """

    __slots__ = ("_with_numbers", "counts", "key", "numbered", "structures")

    def __init__(self, x: Any, y: Any, sample_weight: Any, numbered: bool = False) -> None:
        self.structures = (x, y, sample_weight)
        self.key = (key_of(x), key_of(y), key_of(sample_weight), numbered)
        self.counts = tuple(len(leaves(s)) for s in self.structures)
        self.numbered = numbered
        self._with_numbers: Layout | None = self if numbered else None

    def with_numbers(self) -> Layout:
        """Returns the same layout with the numbers of the rows."""
        if self._with_numbers is None:
            self._with_numbers = Layout(*self.structures, numbered=True)
        return self._with_numbers

    def join(self, values: Sequence[Any]) -> tuple[Any, Any, Any]:
        """Returns ``(x, y, sample_weight)`` made of a row of values."""
        found = []
        start = 0
        for structure, count in zip(self.structures, self.counts, strict=True):
            found.append(fill(structure, iter(values[start : start + count])))
            start += count
        return found[0], found[1], found[2]


def key_of(structure: Any) -> Any:
    """Returns a hashable description of a nesting."""
    if isinstance(structure, dict):
        return ("dict", *((key, key_of(structure[key])) for key in tree.ordered_keys(structure)))
    if isinstance(structure, list | tuple):
        return ("list", *map(key_of, structure))
    return None if structure is None else PLAIN


def leaves(structure: Any) -> list[Any]:
    """Returns the leaves that are not None."""
    return [leaf for leaf in tree.flatten(structure) if leaf is not None]


def fill(structure: Any, values: Any) -> Any:
    """Returns ``structure`` with its leaves (in order, except None) replaced."""
    if isinstance(structure, dict):
        made = {key: fill(structure[key], values) for key in tree.ordered_keys(structure)}
        return {key: made[key] for key in structure}
    if isinstance(structure, list | tuple):
        return [fill(item, values) for item in structure]
    return None if structure is None else next(values)


SINGLE = {
    (count_y, count_w): Layout(PLAIN, PLAIN if count_y else None, PLAIN if count_w else None)
    for count_y in (False, True)
    for count_w in (False, True)
}
"""The layouts of one input, at most one target array and one weight array."""


def split(
    x: Any, y: Any, sample_weight: Any, keeps_sparse: bool = False
) -> tuple[Layout, list[Any]]:
    """Returns the layout of nested data, and its arrays, ready for a program.

    Args:
        x: the inputs.
        y: the targets, or None.
        sample_weight: the sample weights, or None.
        keeps_sparse: whether sparse inputs stay matrices, of which rows can be taken.

    Raises:
        ValueError: for ragged lists, objects and strings.
    """
    if type(x) is np.ndarray and (y is None or type(y) is np.ndarray):
        arrays = [as_data(x, "x")]
        if y is not None:
            arrays.append(as_data(y, "y"))
        if sample_weight is None or type(sample_weight) is np.ndarray:
            if sample_weight is not None:
                arrays.append(as_weights(sample_weight))
            return SINGLE[y is not None, sample_weight is not None], arrays
    x, y, sample_weight = nested(x), nested(y), nested(sample_weight)
    as_input = as_data_or_sparse if keeps_sparse else as_data
    if x is not None and not any(map(tree.is_nested, (x, y, sample_weight))):
        # Tensors of others: what follows takes 15 microseconds more.
        arrays = [as_input(x, "x")]
        if y is not None:
            arrays.append(as_data(y, "y"))
        if sample_weight is not None:
            arrays.append(as_weights(sample_weight))
        return SINGLE[y is not None, sample_weight is not None], arrays
    arrays = [as_input(leaf, "x") for leaf in leaves(x)]
    arrays += [as_data(leaf, "y") for leaf in leaves(y)]
    arrays += [as_weights(leaf) for leaf in leaves(sample_weight)]
    places = [tree.map_structure(_place, s) for s in (x, y, sample_weight)]
    return Layout(*places), arrays


def _place(leaf: Any) -> Any:
    return None if leaf is None else PLAIN


def nested(data: Any) -> Any:
    """Returns ``data`` with lists of numbers made arrays and data frames made arrays."""
    if isinstance(data, dict):
        if is_sparse(data):  # a dictionary of keys is a matrix all the same
            return data.tocsr()  # type: ignore[attr-defined]
        return {key: nested(item) for key, item in data.items()}
    if isinstance(data, list | tuple):
        if data and all(_is_plain(item) for item in data):
            return np.asarray(data)
        if data and isinstance(data[0], list | tuple) and _is_number(_first(data)):
            return array_of(data)
        return [nested(item) for item in data]
    if data is None or isinstance(data, np.ndarray) or is_table(data) or is_sparse(data):
        return data
    if isinstance(data, memoryview) or hasattr(data, "__array__") or hasattr(data, "__dlpack__"):
        return foreign_array(data, "the data")
    return data


def _first(data: Any) -> Any:
    while isinstance(data, list | tuple) and data:
        data = data[0]
    return data


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float | np.generic)


def _is_plain(x: Any) -> bool:
    return isinstance(x, int | float | str | np.generic)


def as_data(x: Any, name: str) -> Array:
    """Returns an array whose dtype programs know; floats become float32.

    Raises:
        ValueError: for arrays of objects, strings, dates, complex numbers.
    """
    if type(x) is np.ndarray and x.dtype in READY:
        return x if x.flags.aligned else x.copy()
    check_readable(x, name)
    if is_sparse(x):
        x = x.toarray()
    if tables.is_lazy_table(x):
        raise ValueError(f"`{name}` is a query ({type(x).__name__}): pass {name}.collect()")
    if is_table(x):
        array = tables.as_array(x, name)
        if array.ndim == 1 and name != "sample_weight":
            array = array[:, None]  # a column is a feature or a target of each row, as in Keras
    else:
        array = foreign_array(x, f"`{name}`")
    dtype = array.dtype
    if dtype in READY:
        return array if array.flags.aligned else array.copy()
    if dtype.isnative and name_of_dtype(dtype) in DTYPES and dtype != np.float64:
        return array
    if dtype.kind in "fiu":
        wanted = _STAND_INS.get(dtype.name, "float32" if dtype.kind == "f" else "int64")
        if dtype.name in DTYPES and dtype.name != "float64":
            wanted = dtype.name
        return packed(array, wanted)
    if dtype.kind == "b":
        return array.astype(np.bool_)
    hint = ""
    if dtype.kind == "O":
        inner = sorted({type(v).__name__ for v in array.reshape(-1)[:100]})
        hint = (
            f" (its entries are of type {', '.join(inner)}; a column of objects or a ragged list "
            "becomes numbers with numpy.asarray(data, 'float32'), after mending or padding it)"
        )
    hint = _HINTS.get(dtype.kind, hint)
    is_text = dtype.kind in "SUT" or (dtype.kind == "O" and inner == ["str"])
    if is_text and name == "y":
        hint = (
            "; make class numbers of labels: classes, y = numpy.unique(labels, return_inverse=True)"
        )
    elif is_text and name == "sample_weight":
        hint = ": a factor for each sample"
    elif is_text:
        hint = (
            "; strings become numbers with StringLookup, TextVectorization or Hashing: call such a "
            "layer on the data, or begin the model with Input(shape, dtype='string') and the layer"
        )
    raise ValueError(f"`{name}` must hold numbers, got an array of dtype {dtype}{hint}")


def is_sparse(x: Any) -> bool:
    """Whether ``x`` is a sparse matrix or array of scipy's."""
    return type(x) is not np.ndarray and type(x).__module__.startswith("scipy.sparse")


def has_sparse(x: Any) -> bool:
    """Whether there is a sparse matrix among the arrays of ``x``."""
    if isinstance(x, dict) and not is_sparse(x):
        return any(map(has_sparse, x.values()))
    return any(map(has_sparse, x)) if isinstance(x, list | tuple) else is_sparse(x)


def as_data_or_sparse(x: Any, name: str) -> Any:
    """Returns an array as :func:`as_data` does, or a sparse matrix whose rows can be taken."""
    return x.tocsr() if is_sparse(x) else as_data(x, name)


def as_weights(x: Any) -> Array:
    """Returns sample weights as float32."""
    return np.asarray(as_data(x, "sample_weight"), np.float32)
