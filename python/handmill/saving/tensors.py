"""Arrays as safetensors: alone in a file, or as members of others."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from handmill.errors import FileFormatError
from handmill.ir.op import Array
from handmill.ir.shapes import numpy_dtype
from handmill.saving.file_range import array_in
from handmill.saving.json_data import from_json
from handmill.saving.pieces import Content, Pieces, bytes_of

_MAX_HEADER = 16 << 20


def to_tensors(arrays: Mapping[str, Array], notes: Mapping[str, str] | None = None) -> Pieces:
    """Returns arrays as safetensors that :func:`from_tensors` reads: a header, then their bytes.

    Args:
        arrays: by name.
        notes: texts beside them, which other libraries ask for; left out when they are read.

    Raises:
        ValueError: if there are too many to be read again.
    """
    entries: dict[str, Any] = {"__metadata__": dict(notes)} if notes else {}
    pieces: Pieces = []
    end = 0
    for name in sorted(arrays, key=lambda n: (-arrays[n].dtype.itemsize, n)):
        array = arrays[name]
        start, end = end, end + array.nbytes
        code = _CODES[array.dtype.name]
        entries[name] = {"dtype": code, "shape": array.shape, "data_offsets": [start, end]}
        pieces.append(bytes_of(array))
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > _MAX_HEADER:
        raise ValueError(
            f"the names and shapes of {len(arrays)} tensors need {len(header) / 1e6:.3g} MB; at "
            f"most {_MAX_HEADER >> 20} MB can be read again"
        )
    return [struct.pack("<Q", len(header)) + header, *pieces]


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


def from_tensors(content: Content, name: str) -> dict[str, Array]:
    """Returns the arrays in safetensors, in the order of their names.

    Raises:
        FileFormatError: if the content is damaged, or a name is not one that is written here.
    """
    if len(content) < 8:
        raise FileFormatError(f"{name} is damaged: it is only {len(content)} bytes long")
    (header,) = struct.unpack("<Q", content[:8])
    if header > min(_MAX_HEADER, len(content) - 8):
        raise FileFormatError(f"{name} is damaged: its header claims {header} bytes")
    entries = from_json(content[8 : 8 + header], name)
    try:
        arrays = _arrays(entries, content, 8 + header, name)
    except FileFormatError:
        raise
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise FileFormatError(f"{name} is damaged: {error}") from None
    for key in arrays:
        if not _is_tensor_name(key):
            raise FileFormatError(f"{name} holds a tensor with the name {key[:80]!r}")
    return {key: arrays[key] for key in sorted(arrays)}


_DTYPES = {"BF16": "bfloat16", "BOOL": "bool", "F16": "float16", "F32": "float32"}
_DTYPES |= {"F64": "float64", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64"}
_DTYPES |= {"I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64"}


_CODES = {name: code for code, name in _DTYPES.items()}


def _arrays(entries: Any, content: Content, begin: int, name: str) -> dict[str, Array]:
    """The arrays that a header describes, which must cover the data exactly, one by one."""
    found: dict[str, Array] = {}
    end, whole = 0, len(content) - begin
    described = [(key, about) for key, about in entries.items() if key != "__metadata__"]
    for key, about in sorted(described, key=lambda entry: entry[1]["data_offsets"]):
        if about["dtype"] not in _DTYPES:
            raise FileFormatError(
                f"{name}: tensor {key[:80]!r} has the dtype {str(about['dtype'])[:40]!r}; these "
                f"are read: {', '.join(sorted(_DTYPES))}"
            )
        dtype = numpy_dtype(_DTYPES[about["dtype"]])
        shape, (start, stop) = about["shape"], about["data_offsets"]
        if any(type(n) is not int or n < 0 for n in (*shape, start, stop)):
            raise ValueError(f"tensor {key[:80]!r} has a shape or place that is none")
        if start != end or stop > whole or stop - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"tensor {key[:80]!r} does not lie where the one before ends")
        end = stop
        found[key] = array_in(content, begin + start, dtype, shape)
    if end != whole:
        raise ValueError(f"its tensors end at byte {end} of {whole}")
    return found
