"""Data sets whose rows a program gathers by itself."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from handmill import config
from handmill.ir.arrays import check_file, file_of
from handmill.ir.op import Array
from handmill.ir.shapes import DTYPES


def _owner_of(array: Array) -> Array:
    """The array whose memory ``array`` shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


_ROWS_AT_ONCE = 1024


def packed(array: Array, dtype: Any = None) -> Array:
    """Returns an array with its rows one after the other in memory; itself, if it lies so.

    Args:
        array: the array.
        dtype: to which it is converted; default: its own.
    """
    wanted = np.dtype(array.dtype if dtype is None else dtype)
    by_columns = array.ndim == 2 and array.flags.f_contiguous and not array.flags.c_contiguous
    if not by_columns or len(array) <= _ROWS_AT_ONCE:
        return np.ascontiguousarray(array, wanted)
    return interleaved(list(array.T), wanted)


def interleaved(columns: Sequence[Array], dtype: Any) -> Array:
    """Returns columns, as data frames hold them, as a table with its rows one after the other.

    They are turned some rows at a time, which stay in the cache until they are full, on all
    threads: 1,000,000 x 30 numbers in 27 ms at best, where NumPy's loops take 50 at best.

    Args:
        columns: arrays with one dimension, equally long.
        dtype: to which they are converted.
    """
    result = np.empty((len(columns[0]), len(columns)), dtype)
    if config.has_kernels() and all(map(_is_ready, (result, *columns))):
        from handmill import _core

        _core.interleave(list(columns), result)
        return result
    return np.stack(columns, axis=1, out=result, casting="unsafe")


_OF_KERNELS = frozenset(np.dtype(name) for name in DTYPES if name != "bfloat16")


def _is_ready(array: Array) -> bool:
    return array.dtype in _OF_KERNELS and array.flags.c_contiguous and array.flags.aligned


class Feed:
    """Data sets whose rows a program gathers by itself, batch after batch.

    Args:
        sources: arrays with equally many rows (or lists of rows of one shape), one for each
            input of the program.
        order: the rows in the order in which they are taken (int64); default: as they lie.

    Attributes:
        position: how many rows have been taken.
        files: arrays of the files in which rows lie.
    """

    def __init__(self, sources: Sequence[Array], order: Array | None = None) -> None:
        found = map(packed, sources)
        self.sources = [s if s.flags.aligned else s.copy() for s in found]
        rows = {len(s) for s in self.sources}
        if len(rows) > 1:
            raise ValueError(f"expected arrays with equally many rows, got {sorted(rows)}")
        # NumPy does not let an array be resized in place that somebody has a weak reference to.
        self._pins = [weakref.ref(_owner_of(s)) for s in self.sources]
        self.files = [
            file for s in self.sources if s.base is not None and (file := file_of(s)) is not None
        ]
        if self.files:
            self.check_files()
        self._order = order
        self._position = 0
        self._results: Sequence[Array] = ()
        self._first_result = 0
        self._native: Any = None

    def batch(self, size: int) -> list[Any]:
        """What is asked of the arrays of a batch before there are any: shapes and dtypes."""
        return [_Like((size, *s.shape[1:]), s.dtype) for s in self.sources]

    @property
    def native(self) -> Any:
        """The C++ feed; made when first needed."""
        if self._native is None:
            from handmill import _core

            self._native = _core.Feed(self.sources, self._order)
            self._native.position = self._position
            if self._results:
                self._native.set_results(list(self._results), self._first_result)
        return self._native

    @property
    def rows(self) -> int:
        """The number of rows of a pass."""
        return len(self.sources[0]) if self._order is None else len(self._order)

    @property
    def position(self) -> int:
        return self._position if self._native is None else int(self._native.position)

    @position.setter
    def position(self, position: int) -> None:
        self._position = position
        if self._native is not None:
            self._native.position = position

    def set_order(self, order: Array | None) -> None:
        """Sets the order of the next pass."""
        self._order = order
        if self._native is not None:
            self._native.set_order(order)

    def collect(self, results: Sequence[Array], first: int) -> None:
        """Sets where the outputs of the program go; without it they are dropped.

        Args:
            results: an array for each output, C-contiguous, of its dtype; runs end where they do.
            first: the row of the pass that their first row is for.
        """
        self._results, self._first_result = results, first
        if self._native is not None:
            self._native.set_results(list(results), first)

    def keep(self, outputs: Sequence[Array]) -> None:
        """Writes what a batch at the position gave to where outputs go."""
        at = self.position - self._first_result
        for result, output in zip(self._results, outputs, strict=False):  # or nowhere
            result[at : at + len(output)] = output

    @property
    def end(self) -> int:
        """The row at which runs end."""
        lengths = [self._first_result + len(result) for result in self._results]
        return min([self.rows, *lengths])

    def check_files(self) -> None:
        """Raises a ValueError if a file in which rows lie has been cut meanwhile."""
        for file in self.files:
            check_file(file)

    def take(self, start: int, count: int) -> tuple[list[Array], Array]:
        """Returns a batch as arrays, and the numbers of its rows."""
        self.check_files()
        rows = (
            np.arange(start, start + count)
            if self._order is None
            else self._order[start : start + count]
        )
        return [s[rows] for s in self.sources], rows


class _Like(NamedTuple):
    """What is asked of an array before there is one."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)
