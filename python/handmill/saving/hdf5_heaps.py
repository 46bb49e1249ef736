"""Texts of variable length in HDF5, checked before HDF5's own library reads them.

A text is a reference: its length, the address of a heap, a number in the heap. The library makes
room for as many bytes as the reference says, whatever that is, then copies as many as the heap
says. Attributes are found by their names, in what the library has read: what it knows of a file
lies there, and numbers, of which it reads none, need not be looked through.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from handmill.saving.pieces import Content

_REFERENCE = struct.Struct("<IQI")


def check_texts(content: Any, were_read: Sequence[tuple[int, int]], name: str) -> None:
    """Looks at the references of all attributes of a name that the library knows.

    Args:
        content: the file.
        were_read: where the parts of it that the library has read begin and end.
        name: of the attributes.

    Raises:
        ValueError: for a heap that does not lie inside the file, a reference that leads to none,
            or one of another length; and if there is no such attribute.
    """
    heaps: dict[int, dict[int, int]] = {}
    found = False
    for start, count in _attributes(content, were_read, name.encode() + b"\0"):
        found = True
        if start + count * _REFERENCE.size > len(content):
            raise ValueError(f"attribute {name!r} claims {count} texts")
        for at in range(start, start + count * _REFERENCE.size, _REFERENCE.size):
            length, heap, number = _REFERENCE.unpack(content[at : at + _REFERENCE.size])
            if not length:
                continue
            if heap not in heaps:
                heaps[heap] = _objects(content, heap)
            if heaps[heap].get(number) != length:
                raise ValueError(f"a text of attribute {name!r} claims {length} bytes")
    if not found:
        raise ValueError(f"attribute {name!r} is stored in a way that is not read")


def _attributes(
    content: Any, were_read: Sequence[tuple[int, int]], name: bytes
) -> Iterator[tuple[int, int]]:
    """Where the values of attributes of a name begin, and how many there are."""
    for begin, end in were_read:
        part = bytes(content[begin:end])
        at = part.find(name)
        while at >= 0:
            yield from _attribute(content, begin + at, name)
            at = part.find(name, at + 1)


def _attribute(content: Any, at: int, name: bytes) -> Iterator[tuple[int, int]]:
    """The same for what may be an attribute whose name is at a place, in any version."""
    for version, header, pad in ((1, 8, 8), (2, 8, 1), (3, 9, 1)):
        begin = at - header
        if begin < 0 or content[begin : begin + 1] != bytes([version]):
            continue
        sizes = struct.unpack("<HHH", content[begin + 2 : begin + 8])
        if sizes[0] != len(name):
            continue
        sizes = tuple(-(-size // pad) * pad for size in sizes)
        space = at + sizes[0] + sizes[1]
        if (count := _count(content[space : space + sizes[2]])) is not None:
            yield space + sizes[2], count


def _count(space: Content) -> int | None:
    """The number of elements that a dataspace has; None if it is none."""
    if len(space) < 4 or space[0] not in (1, 2):
        return None
    start, rank = (8 if space[0] == 1 else 4), space[1]
    if len(space) < start + 8 * rank:
        return None
    return math.prod(int(n) for n in struct.unpack_from(f"<{rank}Q", space, start))


def _objects(content: Any, heap: int) -> dict[int, int]:
    """The sizes of the texts in a heap by number."""
    if heap + 16 > len(content) or content[heap : heap + 4] != b"GCOL":
        raise ValueError(f"there is no heap at byte {heap}")
    version, size = struct.unpack("<B3xQ", content[heap + 4 : heap + 16])
    if version != 1 or size < 16 or heap + size > len(content):
        raise ValueError(f"the heap at byte {heap} claims {size} bytes")
    found: dict[int, int] = {}
    whole = bytes(content[heap : heap + size])
    at, end = 16, size
    while at + 16 <= end:
        number, _, _, length = struct.unpack_from("<HHIQ", whole, at)
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
