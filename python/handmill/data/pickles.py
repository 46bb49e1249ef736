"""Arrays of NumPy out of pickles and .npz files of old data sets, without running anything."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from handmill.files import read_regular
from handmill.ir.op import Array

MOST_BYTES = 1 << 32
"""No member of such a file is larger."""


def _empty_array(kind: Any, shape: Any, code: Any) -> Array:
    """NumPy's own function makes arrays of any size; pickles only ever ask for none."""
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError(f"it asks for an array of shape {shape}")
    result: Array = np.ndarray((0,), np.dtype(code))
    return result


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _KNOWN.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return found


def load_pickle(data: bytes, name: str, encoding: str = "ASCII") -> Any:
    """Returns what a pickle holds: Python's own values and arrays of NumPy.

    Args:
        data: the pickle.
        name: what it is called in errors.
        encoding: of texts of Python 2; ``"bytes"`` leaves them as bytes.

    Raises:
        ValueError: if it asks for anything else, or is damaged.
    """
    try:
        return _Reader(io.BytesIO(data), encoding=encoding).load()
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle makes pickle raise almost anything
        raise ValueError(
            f"cannot read {name}: {error}; such a file holds numbers and arrays alone, so it is "
            "damaged or malicious"
        ) from None


def load_npz(path: Path) -> dict[str, Array]:
    """Returns the arrays of an ``.npz`` file, those of lists (dtype object) included.

    Raises:
        ValueError: if it is damaged, or asks for more than numbers; the message names it.
    """
    found = {}
    try:
        with zipfile.ZipFile(io.BytesIO(read_regular(path))) as archive:
            for info in archive.infolist():
                if info.file_size > MOST_BYTES:
                    raise ValueError(f"{info.filename} has {info.file_size} bytes")
                member = f"{str(path)!r}, {info.filename}"
                found[info.filename.removesuffix(".npy")] = _load_npy(archive.read(info), member)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise ValueError(f"cannot read {str(path)!r}: {error}") from None
    return found


def _load_npy(data: bytes, name: str) -> Array:
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0
            if version[0] == 1
            else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read(stream)
    except Exception as error:
        raise ValueError(f"cannot read {name}: {error}") from None
    if dtype.hasobject:
        loaded = load_pickle(data[stream.tell() :], name)
        if not isinstance(loaded, np.ndarray):
            raise ValueError(f"cannot read {name}: it holds {type(loaded).__name__}, no array")
        objects: Array = loaded
        return objects
    there = len(data) - stream.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != there:
        raise ValueError(f"cannot read {name}: {shape} of {dtype} are not the {there} bytes there")
    flat = np.frombuffer(data, dtype, math.prod(shape), stream.tell())
    result: Array = flat.reshape(shape[::-1]).T if is_fortran else flat.reshape(shape)
    owned: Array = result.copy()
    return owned
