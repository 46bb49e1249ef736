"""Zip files whose members are stored as they are: written from pieces, read without copies.

Python's ``zipfile`` finds the members; it would pass over their bytes with zlib's CRC-32, which
takes longer than reading them.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from handmill.saving.file_range import FileRange
from handmill.saving.pieces import Pieces, crc32, read_content, size_of

_LARGEST_32 = (1 << 31) - 1  # as zipfile has it: some readers take 32 bits with a sign
_MOST_ENTRIES_16 = (1 << 16) - 1
_OF_TENSORS = (".safetensors", ".h5")
_ZIP64 = 45  # the version that reads fields of 64 bits
_LOCAL = struct.Struct("<4s2B4HL2L2H")


def to_archive(members: Mapping[str, Any]) -> Pieces:
    """Returns the content of a file with these members, each bytes or pieces of them."""
    content: Pieces = []
    directory: Pieces = []
    at = 0
    for name, data in members.items():
        pieces = data if isinstance(data, list) else [data]
        entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        entry.external_attr = 0o600 << 16  # as ZipFile.writestr has it
        entry.file_size = entry.compress_size = size_of(pieces)
        for piece in pieces:
            entry.CRC = crc32(piece, getattr(entry, "CRC", 0))
        header = entry.FileHeader()
        content += [header, *pieces]
        directory.append(_directory_entry(entry, header, at))
        at += len(header) + entry.file_size
    return [*content, *directory, _end(len(directory), size_of(directory), at)]


def _directory_entry(entry: zipfile.ZipInfo, header: bytes, at: int) -> bytes:
    """What the directory says of a member: what its header says, and where it is."""
    wide = [entry.file_size, entry.compress_size] if entry.file_size > _LARGEST_32 else []
    if at > _LARGEST_32:
        wide.append(at)
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    name = header[_LOCAL.size :][: _LOCAL.unpack_from(header)[-2]]
    version = max(entry.extract_version, _ZIP64 if wide else 0)
    return b"".join(
        (
            b"PK\1\2",
            bytes([max(entry.create_version, version), entry.create_system, version]),
            header[5:28],
            struct.pack("<4H", len(extra), 0, 0, entry.internal_attr),
            struct.pack("<LL", entry.external_attr, 0xFFFFFFFF if at > _LARGEST_32 else at),
            name,
            extra,
        )
    )


def _end(count: int, size: int, at: int) -> bytes:
    """The end of a file: how many members its directory has, its bytes, and where it begins."""
    wide = b""
    if count > _MOST_ENTRIES_16 or max(size, at) > _LARGEST_32:
        wide = struct.pack(
            "<4sQ2H2L4Q", b"PK\6\6", 44, _ZIP64, _ZIP64, 0, 0, count, count, size, at
        )
        wide += struct.pack("<4sLQL", b"PK\6\7", 0, at + size, 1)
    count, size, at = min(count, 0xFFFF), min(size, 0xFFFFFFFF), min(at, 0xFFFFFFFF)
    return wide + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, size, at, 0)


def read_members(
    file: Any, entries: Sequence[zipfile.ZipInfo], in_place: str = ""
) -> dict[str, Any]:
    """Returns the bytes of members that are stored, whose sizes the caller has checked.

    Args:
        file: where they are.
        entries: what ``zipfile`` says of them.
        in_place: what errors call the file, if members of tensors are not read, but given as
            :class:`FileRange`, to be read and checked while it is open.

    Raises:
        zipfile.BadZipFile: if they do not lie there, or are damaged.
    """
    found: dict[str, Any] = {}
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise zipfile.BadZipFile(f"Overlapped entries: {entry.orig_filename!r}")
        file.seek(entry.header_offset)
        header = file.read(_LOCAL.size)
        if len(header) < _LOCAL.size:
            raise zipfile.BadZipFile("Truncated file header")
        signature, _, _, flags, *_, of_name, of_extra = _LOCAL.unpack(header)
        if signature != b"PK\3\4":
            raise zipfile.BadZipFile("Bad magic number for file header")
        name = file.read(of_name).decode("utf-8" if flags & 0x800 else "cp437")
        if name != entry.orig_filename:
            raise zipfile.BadZipFile(
                f"File name in directory {entry.orig_filename!r} and header {name!r} differ."
            )
        file.seek(of_extra, 1)
        if in_place and entry.filename.endswith(_OF_TENSORS):
            label = f"{in_place}: {entry.filename}"
            start = file.tell()
            found[entry.filename] = FileRange(
                file.fileno(), start, entry.file_size, label, entry.CRC
            )
            end = start + entry.file_size
            continue
        content, crc = read_content(file, entry.file_size, checked=True)
        if len(content) != entry.file_size or crc != entry.CRC:
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {entry.orig_filename!r}")
        end = file.tell()
        found[entry.filename] = content
    return {entry.filename: found[entry.filename] for entry in entries}
