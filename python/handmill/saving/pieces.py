"""Contents of files as buffers that follow each other, so that large arrays are not copied."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.ir.op import Array

Pieces = list[Any]
"""Objects with a buffer; one after the other they are the content."""


def bytes_of(array: Array) -> memoryview:
    """The bytes of an array, in C order; those of the array itself if it lies so."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def size_of(pieces: Iterable[Any]) -> int:
    """How many bytes pieces are together."""
    return sum(memoryview(piece).nbytes for piece in pieces)


class Collector:
    """A file to be written that keeps what it is given as pieces.

    What was written may be written over only as it was written, piece for piece.
    """

    def __init__(self) -> None:
        self.pieces: Pieces = []
        self._starts: list[int] = []
        self._position = 0
        self._end = 0

    def write(self, data: Any) -> int:
        """Takes a piece, which must not change any more."""
        size = memoryview(data).nbytes
        if self._position == self._end:
            self.pieces.append(data)
            self._starts.append(self._end)
            self._end += size
        else:
            at = bisect.bisect_left(self._starts, self._position)
            fits = at < len(self._starts) and self._starts[at] == self._position
            if not fits or memoryview(self.pieces[at]).nbytes != size:
                raise ValueError("only a whole piece can be written over")
            self.pieces[at] = data
        self._position += size
        return size

    def seek(self, position: int, whence: int = 0) -> int:
        """Goes to a place."""
        self._position = position + (0, self._position, self._end)[whence]
        return self._position

    def tell(self) -> int:
        """The place of the next write."""
        return self._position

    def flush(self) -> None:
        """Does nothing: there is nothing below."""


_PAGE = 4096


class SparseFile:
    """A file in memory of which large parts are never written.

    It has what h5py asks of a file object.
    """

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._position = 0
        self._end = 0

    def seek(self, position: int, whence: int = 0) -> int:
        """Goes to a place."""
        self._position = position + (0, self._position, self._end)[whence]
        return self._position

    def tell(self) -> int:
        """The place of the next read or write."""
        return self._position

    def write(self, data: Any) -> int:
        """Writes at the place."""
        left = memoryview(data).cast("B")
        size = len(left)
        while len(left):
            number, start = divmod(self._position, _PAGE)
            part = left[: _PAGE - start]
            page = self._pages.setdefault(number, bytearray(_PAGE))
            page[start : start + len(part)] = part
            left = left[len(part) :]
            self._position += len(part)
        self._end = max(self._end, self._position)
        return size

    def readinto(self, buffer: Any) -> int:
        """Reads from the place; what was never written is 0."""
        wanted = memoryview(buffer).cast("B")
        size = max(0, min(len(wanted), self._end - self._position))
        wanted[:size] = self._between(self._position, self._position + size)
        self._position += size
        return size

    def read(self, size: int) -> bytes:
        """Reads from the place."""
        found = bytearray(size)
        return bytes(found[: self.readinto(found)])

    def truncate(self, size: int) -> int:
        """Sets the size of the file."""
        self._end = size
        return size

    def flush(self) -> None:
        """Does nothing: there is nothing below."""

    def _between(self, start: int, stop: int) -> bytes:
        first, last = start // _PAGE, -(-stop // _PAGE)
        pages = (bytes(self._pages.get(n, bytes(_PAGE))) for n in range(first, last))
        return b"".join(pages)[start - first * _PAGE : stop - first * _PAGE]

    def pieces(self, parts: Sequence[tuple[int, memoryview]]) -> Pieces:
        """Returns the content, with parts put in at their places.

        Args:
            parts: places and contents.
        """
        found: Pieces = []
        position = 0
        for start, part in sorted(parts, key=lambda item: item[0]):
            found += [self._between(position, start), part]
            position = start + part.nbytes
        found.append(self._between(position, self._end))
        return found
