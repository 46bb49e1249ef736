"""Contents of files as buffers that follow each other, so that large arrays are not copied."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from handmill.ir.op import Array

Content = bytes | memoryview
"""Bytes of a file, in memory."""

Part = tuple[int, int, Any]
"""A place in a file, how many bytes, and what they are read into: nothing, for None."""

Pieces = list[Any]
"""Objects with a buffer; one after the other they are the content."""


def bytes_of(array: Array) -> memoryview:
    """The bytes of an array, in C order; those of the array itself if it lies so."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def size_of(pieces: Iterable[Any]) -> int:
    """How many bytes pieces are together."""
    return sum(memoryview(piece).nbytes for piece in pieces)


def crc32(data: Any, value: int = 0) -> int:
    """Continues a CRC-32 over more bytes."""
    return _crc32()(data, value)


@functools.cache
def _crc32() -> Callable[[Any, int], int]:
    from handmill import config

    if config.has_kernels():
        from handmill import _core

        return _core.crc32  # 22 GB/s from the cache; zlib's, mostly without SIMD, 2.4
    return zlib.crc32


_READ_AT_ONCE = 1 << 19  # is in the second-level cache when its checksum is made


def read_content(file: Any, size: int, checked: bool = False) -> tuple[memoryview, int]:
    """Returns the next bytes of a file, read-only, and their CRC-32.

    Args:
        file: has ``readinto``.
        size: how many there are; fewer are returned if the file ends before, of one on disk none.
        checked: whether the CRC-32 is wanted; 0 otherwise.
    """
    # NumPy's memory has huge pages: that of bytes takes twice as long to read into.
    content = np.empty(size, np.uint8).data
    with contextlib.suppress(io.UnsupportedOperation):
        descriptor = file.fileno()
        try:
            crc = read_parts(descriptor, [(file.tell(), size, content)], checked)
        except EOFError:
            return memoryview(b""), 0
        file.seek(size, os.SEEK_CUR)
        return content.toreadonly(), crc
    at = crc = 0
    while at < size and (count := file.readinto(content[at : at + _READ_AT_ONCE])):
        if checked:
            crc = crc32(content[at : at + count], crc)
        at += count
    return content[:at].toreadonly(), crc


def read_parts(descriptor: int, parts: Sequence[Part], checked: bool = False) -> int:
    """Reads parts of an open file, and returns the CRC-32 of all of them, one after the other.

    Args:
        descriptor: of the file.
        parts: into writable buffers, or states where there are kernels.
        checked: whether the CRC-32 is wanted; 0 otherwise.

    Raises:
        EOFError: if the file ends before.
        OSError: if it cannot be read.
    """
    from handmill import config

    if config.has_kernels():
        from handmill import _core

        return _core.read_parts(descriptor, list(parts), checked)
    crc = 0
    for start, size, target in parts:
        for at in range(0, size, _READ_AT_ONCE):
            piece = os.pread(descriptor, min(_READ_AT_ONCE, size - at), start + at)
            if len(piece) < min(_READ_AT_ONCE, size - at):
                raise EOFError("the file ends before its content")
            if checked:
                crc = crc32(piece, crc)
            if target is not None:
                memoryview(target).cast("B")[at : at + len(piece)] = piece
    return crc


class ContentFile:
    """A file that is read from memory, and knows which of its bytes were read.

    It has what h5py asks of a file object.
    """

    def __init__(self, content: Any) -> None:
        self._content = content
        self._position = 0
        self._ends: dict[int, int] = {}

    def seek(self, position: int, whence: int = 0) -> int:
        """Goes to a place."""
        self._position = position + (0, self._position, len(self._content))[whence]
        return self._position

    def tell(self) -> int:
        """The place of the next read."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Reads from the place."""
        wanted = memoryview(buffer).cast("B")
        start = self._position
        part = self._content[start : start + len(wanted)]
        wanted[: len(part)] = part
        self._position += len(part)
        self._ends[start] = max(self._position, self._ends.get(start, 0))
        return len(part)

    def read(self, size: int) -> bytes:
        """Reads from the place."""
        found = bytearray(size)
        return bytes(found[: self.readinto(found)])

    def were_read(self) -> list[tuple[int, int]]:
        """The begins and ends of what was read, in order, none beside or over another."""
        found: list[tuple[int, int]] = []
        for start, end in sorted(self._ends.items()):
            if found and start <= found[-1][1]:
                found[-1] = (found[-1][0], max(end, found[-1][1]))
            else:
                found.append((start, end))
        return found


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
