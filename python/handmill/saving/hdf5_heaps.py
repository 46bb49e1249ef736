"""Texts of variable length in HDF5, checked before HDF5's own library reads them.

A text is a reference: its length, the address of a heap, a number in the heap. The library copies
as many bytes as the heap says into room for as many as the reference says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_SIGNATURE = b"GCOL"


def check_heaps(content: bytes) -> None:
    """Looks at all heaps, and at all that may be a reference into one of them.

    Raises:
        ValueError: for a heap that does not lie inside the file, or a reference of another length.
    """
    for heap in _places(content, _SIGNATURE):
        sizes = _objects(content, heap)
        for at in _places(content, struct.pack("<Q", heap)):
            if at < 4 or at + 12 > len(content):
                continue
            (length,) = struct.unpack_from("<I", content, at - 4)
            (number,) = struct.unpack_from("<I", content, at + 8)
            if length and sizes.get(number, length) != length:
                raise ValueError(
                    f"a text at byte {at - 4} claims {length} bytes, but has {sizes[number]}"
                )


def _places(content: bytes, what: bytes) -> Iterator[int]:
    at = content.find(what)
    while at >= 0:
        yield at
        at = content.find(what, at + 1)


def _objects(content: bytes, heap: int) -> dict[int, int]:
    """The sizes of the texts in a heap by number."""
    if heap + 16 > len(content):
        raise ValueError(f"the heap at byte {heap} is cut off")
    version, size = content[heap + 4], struct.unpack_from("<Q", content, heap + 8)[0]
    if version != 1 or size < 16 or heap + size > len(content):
        raise ValueError(f"the heap at byte {heap} claims {size} bytes")
    found: dict[int, int] = {}
    at, end = heap + 16, heap + size
    while at + 16 <= end:
        number, _, _, length = struct.unpack_from("<HHIQ", content, at)
        if number == 0:  # what is free, to the end
            if length != end - at:
                raise ValueError(f"the heap at byte {heap} has {length} bytes that are free")
            break
        room = 16 + -(-length // 8) * 8
        if number in found or at + room > end:
            raise ValueError(f"the heap at byte {heap} has a damaged entry {number}")
        found[number] = length
        at += room
    return found
