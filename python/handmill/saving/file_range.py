"""Arrays of an open file, read straight into the memory of variables.

A model that is made from a file needs no second copy of its weights: the pass over the file that
makes the checksum puts them where they stay.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import FileFormatError
from handmill.ir.op import Array
from handmill.ir.shapes import numpy_dtype
from handmill.runtime.variable import Variable
from handmill.saving.pieces import Part, read_parts


class FileRange:
    """Bytes of an open file, read when they are asked for.

    Args:
        descriptor: of the file, which stays open as long as this is used.
        start: where they begin.
        size: how many there are, which the file was seen to have.
        name: what errors call them.
        crc: their CRC-32; None if the file tells none.
    """

    def __init__(
        self, descriptor: int, start: int, size: int, name: str, crc: int | None = None
    ) -> None:
        self._descriptor = descriptor
        self._start = start
        self._size = size
        self._name = name
        self._crc = crc

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, which: slice) -> bytes:
        start, stop, _ = which.indices(self._size)
        return os.pread(self._descriptor, max(0, stop - start), self._start + start)

    def check(self) -> None:
        """Passes over the bytes, if nothing has yet, to see that they are whole.

        Raises:
            FileFormatError: if they are damaged.
        """
        if self._crc is not None:
            self._read([(0, self._size, None)])

    def read_into(self, targets: Iterable[tuple[StoredArray, Any]]) -> None:
        """Reads arrays that lie in these bytes, and checks the bytes if nothing has yet.

        Args:
            targets: each with a writable buffer or state of as many bytes.

        Raises:
            FileFormatError: if the bytes are damaged; what was read is not to be used then.
        """
        parts: list[Part] = []
        end = 0
        for array, target in sorted(targets, key=lambda pair: pair[0].start):
            if array.start < end:  # two names of one array: not one pass
                self.check()
            elif self._crc is not None and array.start > end:
                parts.append((end, array.start - end, None))
            parts.append((array.start, array.nbytes, target))
            end = max(end, array.start + array.nbytes)
        if self._crc is not None and end < self._size:
            parts.append((end, self._size - end, None))
        self._read(parts)

    def _read(self, parts: Sequence[Part]) -> None:
        checked = self._crc is not None
        moved = [(self._start + at, size, target) for at, size, target in parts]
        try:
            crc = read_parts(self._descriptor, moved, checked)
        except EOFError as error:
            raise FileFormatError(f"{self._name} is damaged: {error}") from None
        if checked and crc != self._crc:
            raise FileFormatError(f"{self._name} is damaged: its CRC-32 is wrong")
        self._crc = None


class StoredArray:
    """An array that lies in a file.

    Args:
        content: bytes of the file.
        start: where in them it begins.
        dtype: of its elements.
        shape: of it; it lies inside the content.
    """

    def __init__(
        self, content: FileRange, start: int, dtype: np.dtype[Any], shape: Sequence[int]
    ) -> None:
        self.content = content
        self.start = start
        self.dtype = dtype
        self.shape = tuple(shape)
        self.nbytes = math.prod(self.shape) * dtype.itemsize

    def view(self, dtype: np.dtype[Any]) -> StoredArray:
        """The same bytes as elements of another dtype of that size."""
        return StoredArray(self.content, self.start, dtype, self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = np.empty(self.shape, self.dtype)
        self.content.check()  # nobody sees numbers that are not those that were written
        self.content.read_into([(self, array.reshape(-1).view(np.uint8))])
        return array if dtype is None else array.astype(dtype, copy=False)


def array_in(content: Any, start: int, dtype: np.dtype[Any], shape: Sequence[int]) -> Any:
    """An array in bytes of a file: a view of those in memory, a :class:`StoredArray` of others."""
    if isinstance(content, FileRange):
        return StoredArray(content, start, dtype, shape)
    count = math.prod(shape)
    return np.frombuffer(content, dtype, count, start if count else 0).reshape(shape)


def assign_stored(pairs: Iterable[tuple[Variable, Any]]) -> None:
    """Assigns arrays of the shapes of variables: those in files are read into their memory.

    Raises:
        FileFormatError: if a file is damaged; the content of the variables is undefined then.
    """
    from handmill import config

    in_memory = not config.has_kernels()
    direct: dict[int, tuple[FileRange, list[tuple[StoredArray, Any]]]] = {}
    others = []
    for variable, array in pairs:
        is_direct = isinstance(array, StoredArray) and not in_memory
        if is_direct and array.dtype == numpy_dtype(variable.spec.dtype):
            _, targets = direct.setdefault(id(array.content), (array.content, []))
            targets.append((array, variable.state))
        else:
            others.append((variable, array))
    for content, targets in direct.values():
        content.read_into(targets)
    for variable, array in others:
        variable.assign(np.asarray(array))
