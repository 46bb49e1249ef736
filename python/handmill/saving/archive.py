"""The container of ``.hmill`` and ``.keras``: a stored zip, written whole or not at all.

Reading runs nothing, opens no other file, and needs no more memory than the file has bytes: every
size is checked before anything is allocated.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from handmill import files
from handmill.errors import FileFormatError
from handmill.saving.atomic_file import write_bytes
from handmill.saving.file_range import FileRange
from handmill.saving.json_data import MAX_JSON
from handmill.saving.pieces import Content
from handmill.saving.stored_zip import read_members, to_archive

MEMBERS = (
    "config.json",
    "constants.safetensors",
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
)


Members = Callable[[str], bool]
"""Whether a member of a name is meant."""


def write_file(path: Path, members: Mapping[str, Any], overwrite: bool) -> None:
    """Writes a file of members, whole or not at all.

    Args:
        path: where.
        members: member name -> content, or pieces of it.
        overwrite: whether an existing file may be replaced.

    Raises:
        FileExistsError: if the file exists and may not be replaced.
        OSError: if it cannot be written; nothing is changed then.
    """
    if not overwrite and path.exists():
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
    write_bytes(Path(os.path.realpath(path)), to_archive(members))


def open_regular(path: Path) -> BinaryIO:
    """Opens a file for reading; does not wait for the writer of a pipe.

    Raises:
        FileNotFoundError: if there is no such file.
        FileFormatError: for a directory, pipe, device or socket.
    """
    # A look before the opening, which devices may answer to; the path may change between the two.
    descriptor = files.open_regular(path) if stat.S_ISREG(path.stat().st_mode) else None
    if descriptor is None:
        raise FileFormatError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def _of_hmill(name: str) -> bool:
    return name in MEMBERS


def read_file(
    path: Path, wanted: Members | None = None, known: Members = _of_hmill
) -> dict[str, Content]:
    """Returns the members of a file.

    Args:
        path: the file.
        wanted: the members to be read; default: all that are known.
        known: the members that the format has.

    Raises:
        FileNotFoundError: if there is no such file.
        FileFormatError: if the file is damaged or holds anything else.
    """
    with open_regular(path) as file:
        return from_archive(file, os.fstat(file.fileno()).st_size, str(path), wanted, known)


@contextmanager
def opened_file(path: Path, known: Members = _of_hmill) -> Iterator[dict[str, Any]]:
    """Gives the members of a file; those of tensors as :class:`FileRange`, in the block alone.

    These are checked when they are read, at the end of the block at the latest; what was made of
    them inside is to be thrown away if the block fails.

    Raises:
        FileNotFoundError: if there is no such file.
        FileFormatError: if the file is damaged or holds anything else.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        members = from_archive(file, size, str(path), known=known, in_place=True)
        ranges = [content for content in members.values() if isinstance(content, FileRange)]
        try:
            yield members
        finally:  # where damage led to another error, this one is raised
            for content in ranges:
                content.check()


def from_archive(
    file: BinaryIO,
    size: int,
    name: str,
    wanted: Members | None = None,
    known: Members = _of_hmill,
    in_place: bool = False,
) -> dict[str, Any]:
    """Returns the members of an open file of ``size`` bytes, as :func:`read_file` does.

    Args:
        file: the content.
        size: its bytes.
        name: what errors call it.
        wanted: the members to be read; default: all that are known.
        known: the members that the format has.
        in_place: whether members of tensors stay in the file, which stays open.

    Raises:
        FileFormatError: if it is damaged or holds anything else.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_entries(name, entries, size, known)
            wanted = wanted or known
            chosen = [entry for entry in entries if wanted(entry.filename)]
            return read_members(file, chosen, name if in_place else "")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        kind = Path(name).suffix or ".hmill"
        raise FileFormatError(f"{name} is damaged or not a {kind} file: {error}") from None
    except (ValueError, struct.error, OverflowError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{name} is damaged: {error}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: an offset before the start of the file
            raise
        raise FileFormatError(f"{name} is damaged: {error}") from None


def _check_entries(path: str, entries: list[zipfile.ZipInfo], size: int, known: Members) -> None:
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise FileFormatError(f"{path} holds a member twice: {sorted(names)}")
    if unknown := sorted(name for name in names if not known(name)):
        raise FileFormatError(f"{path} holds members that do not belong there: {unknown[:5]}")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x61:
            raise FileFormatError(
                f"{path}: member {entry.filename} is compressed or encrypted; members are read as "
                "they are stored, so that none is a decompression bomb"
            )
        if entry.file_size != entry.compress_size:
            raise FileFormatError(f"{path}: member {entry.filename} has two different sizes")
        if entry.filename.endswith(".json") and entry.file_size > MAX_JSON:
            raise FileFormatError(f"{path}: member {entry.filename} is larger than 16 MB")
    if sum(entry.file_size for entry in entries) > size:
        raise FileFormatError(f"{path}: its members claim more bytes than the file has")
