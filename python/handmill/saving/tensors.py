"""Arrays as safetensors: alone in a file, or as members of others."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from handmill.errors import FileFormatError
from handmill.ir.op import Array
from handmill.ir.shapes import numpy_dtype

_MAX_HEADER = 16 << 20


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
