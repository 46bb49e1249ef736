"""The file format: a stored zip of JSON and safetensors members, written whole or not at all.

Reading runs nothing, opens no other file, and needs no more memory than the file has bytes: every
size is checked before anything is allocated.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from handmill import files
from handmill.ir.op import Array
from handmill.ir.shapes import numpy_dtype
from handmill.saving.atomic_file import write_bytes

MEMBERS = (
    "config.json",
    "constants.safetensors",
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
)
FORMAT_VERSION = 1
_MAX_JSON = 16 << 20
_MAX_HEADER = 16 << 20
_MAX_DEPTH = 512  # about 160 models inside each other; building more exceeds Python's stack


class FileFormatError(ValueError):
    """A file that is damaged, or not what its name says."""


def write_file(path: Path, members: Mapping[str, bytes], overwrite: bool) -> None:
    """Writes a file of members, whole or not at all.

    Args:
        path: where.
        members: member name -> content.
        overwrite: whether an existing file may be replaced.

    Raises:
        FileExistsError: if the file exists and may not be replaced.
        OSError: if it cannot be written; nothing is changed then.
    """
    if not overwrite and path.exists():
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
    write_bytes(Path(os.path.realpath(path)), to_archive(members))


def to_archive(members: Mapping[str, bytes]) -> memoryview:
    """Returns the content of a file with these members."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return content.getbuffer()


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


def read_file(path: Path, wanted: Iterable[str] = MEMBERS) -> dict[str, bytes]:
    """Returns the members of a file.

    Args:
        path: the file.
        wanted: the members to be read; others of the format are left alone.

    Raises:
        FileNotFoundError: if there is no such file.
        FileFormatError: if the file is damaged or holds anything else.
    """
    with open_regular(path) as file:
        return from_archive(file, os.fstat(file.fileno()).st_size, str(path), wanted)


def from_archive(
    file: BinaryIO, size: int, name: str, wanted: Iterable[str] = MEMBERS
) -> dict[str, bytes]:
    """Returns the members of an open file of ``size`` bytes, as :func:`read_file` does.

    Args:
        file: the content.
        size: its bytes.
        name: what errors call it.
        wanted: the members to be read.

    Raises:
        FileFormatError: if it is damaged or holds anything else.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_entries(name, entries, size)
            return {e.filename: archive.read(e) for e in entries if e.filename in set(wanted)}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise FileFormatError(f"{name} is damaged or not a .hmill file: {error}") from None
    except (ValueError, struct.error, OverflowError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{name} is damaged: {error}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: an offset before the start of the file
            raise
        raise FileFormatError(f"{name} is damaged: {error}") from None


def _check_entries(path: str, entries: list[zipfile.ZipInfo], size: int) -> None:
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise FileFormatError(f"{path} holds a member twice: {sorted(names)}")
    if unknown := sorted(set(names) - set(MEMBERS)):
        raise FileFormatError(f"{path} holds members that do not belong there: {unknown[:5]}")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise FileFormatError(f"{path}: member {entry.filename} is compressed or encrypted")
        if entry.file_size != entry.compress_size:
            raise FileFormatError(f"{path}: member {entry.filename} has two different sizes")
        if entry.filename.endswith(".json") and entry.file_size > _MAX_JSON:
            raise FileFormatError(f"{path}: member {entry.filename} is larger than 16 MB")
    if sum(entry.file_size for entry in entries) > size:
        raise FileFormatError(f"{path}: its members claim more bytes than the file has")


def to_json(data: Any, name: str) -> bytes:
    """Returns data as JSON that :func:`from_json` reads.

    Args:
        data: plain data.
        name: what errors call it.

    Raises:
        TypeError: for what is not plain data.
        ValueError: for NaN and infinities, which JSON has not, and for what is nested too deeply
            or too long to be read again.
    """
    try:
        too_deep = _depth(data) > _MAX_DEPTH
        content = json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False).encode()
    except RecursionError:
        too_deep, content = True, b""
    if too_deep:
        raise ValueError(
            f"{name} would be nested more than {_MAX_DEPTH} levels deep, which cannot be read "
            "again; put fewer models inside each other"
        )
    if len(content) > _MAX_JSON:
        raise ValueError(
            f"{name} would have {len(content) / 1e6:.3g} MB, and at most {_MAX_JSON >> 20} MB can "
            "be read again; return large tables from get_config() as arrays, which are stored as "
            "tensors"
        )
    return content


def from_json(content: bytes, name: str) -> Any:
    """Returns the data in JSON.

    Raises:
        FileFormatError: if it is not JSON, nested too deeply, has a key twice or a number that is
            NaN or infinite.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise FileFormatError(f"{name} has a key twice")
        return found

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise FileFormatError(f"{name} has the number {text}, which is not finite")
        return value

    try:
        data = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=unique,
            parse_constant=number,
            parse_float=number,
        )
    except FileFormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{name} is not valid JSON: {error}") from None
    if _depth(data) > _MAX_DEPTH:
        raise FileFormatError(f"{name} is nested more than {_MAX_DEPTH} levels deep")
    return data


def _depth(data: Any) -> int:
    depth, level = 0, [data]
    while level and depth <= _MAX_DEPTH:
        depth += 1
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                following.extend(item.values())
            elif isinstance(item, list | tuple):
                following.extend(item)
        level = following
    return depth


def to_tensors(arrays: Mapping[str, Array], notes: Mapping[str, str] | None = None) -> bytes:
    """Returns arrays as safetensors that :func:`from_tensors` reads.

    Raises:
        ValueError: if there are too many to be read again.
    """
    import safetensors.numpy

    content: bytes = safetensors.numpy.save(dict(arrays), dict(notes) if notes else None)
    (header,) = struct.unpack("<Q", content[:8])
    if header > _MAX_HEADER:
        raise ValueError(
            f"the names and shapes of {len(arrays)} tensors need {header / 1e6:.3g} MB; at most "
            f"{_MAX_HEADER >> 20} MB can be read again"
        )
    return content


def tensor_names(paths: Iterable[str]) -> list[str]:
    """Returns names for tensors that sort in the order given: number, then path."""
    paths = list(paths)
    digits = max(5, len(str(len(paths) - 1)))
    plain = [re.sub(r"[^A-Za-z0-9_-]+", ".", path).strip(".") for path in paths]
    return [f"{i:0{digits}d}.{path}" for i, path in enumerate(plain)]


# Names of tensors are never used as paths. Two points after the number stand in files that were
# written when a layer's name began with another character, before names were stripped of it.
_NUMBER = re.compile(r"^[0-9]{5,}\.\.?(?![./])")


def _is_tensor_name(name: str) -> bool:
    return ".." not in _NUMBER.sub("", name, count=1) and all(
        c.isascii() and (c.isalnum() or c in "_./-") for c in name
    )


def from_tensors(content: bytes, name: str) -> dict[str, Array]:
    """Returns the arrays in safetensors, in the order of their names.

    Raises:
        FileFormatError: if the content is damaged, or a name is not one that is written here.
    """
    import safetensors

    if len(content) < 8:
        raise FileFormatError(f"{name} is damaged: it is only {len(content)} bytes long")
    (header,) = struct.unpack("<Q", content[:8])
    if header > min(_MAX_HEADER, len(content) - 8):
        raise FileFormatError(f"{name} is damaged: its header claims {header} bytes")
    try:
        arrays = {
            key: np.frombuffer(about["data"], _dtype_of(about["dtype"])).reshape(about["shape"])
            for key, about in safetensors.deserialize(content)  # type: ignore[no-untyped-call]
        }
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise FileFormatError(f"{name} is damaged: {error}") from None
    for key in arrays:
        if not _is_tensor_name(key):
            raise FileFormatError(f"{name} holds a tensor with the name {key[:80]!r}")
    return {key: arrays[key] for key in sorted(arrays)}


_DTYPES = {"BF16": "bfloat16", "BOOL": "bool", "F16": "float16", "F32": "float32"}
_DTYPES |= {"F64": "float64", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64"}
_DTYPES |= {"I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64"}


def _dtype_of(code: str) -> np.dtype[Any]:
    """The dtype of a code of safetensors, whose own reader for NumPy knows no bfloat16.

    Raises:
        KeyError: for a dtype that no variable has.
    """
    return numpy_dtype(_DTYPES[code])
