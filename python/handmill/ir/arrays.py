"""Arrays of what users pass, where NumPy is silent (masks, files) or unclear (ragged lists)."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from handmill.ir.op import Array


def array_of(x: Any, dtype: Any = None, name: str = "") -> Array:
    """Returns ``x`` as an array, as ``numpy.asarray`` does.

    Args:
        x: an array, or nested lists of numbers.
        dtype: that of the array; default: as ``x`` has it.
        name: what errors call ``x``.

    Raises:
        ValueError: for lists whose rows differ in length, and arrays with masked entries.
    """
    if type(x) is not np.ndarray:
        check_readable(x, name)
        if not isinstance(x, np.ndarray) and hasattr(x, "__dlpack__"):
            x = foreign_array(x, f"`{name}`" if name else "the array")
    try:
        return np.asarray(x, dtype)
    except ValueError as error:
        ragged = ragged_list(x)
        if ragged is None:
            raise
        raise ragged from error


def foreign_array(x: Any, name: str) -> Array:
    """An array of what has its memory elsewhere, such as a tensor of another library.

    Raises:
        ValueError: if it lies where NumPy cannot read it.
    """
    if getattr(x, "requires_grad", False):
        x = x.detach()  # the numbers are the same
    if str(getattr(x, "dtype", "")) == "torch.bfloat16":
        x = x.float()
    try:
        if not hasattr(x, "__array__") and hasattr(x, "__dlpack__"):
            return np.from_dlpack(x)
        return np.asarray(x)
    except (BufferError, TypeError, RuntimeError) as error:
        if not hasattr(x, "__dlpack__"):
            raise
        raise ValueError(
            f"{name} cannot be read by NumPy: {error}\n  hint: programs run on the CPU and take "
            "dense arrays: pass x.cpu(), x.to_dense(), or a NumPy array"
        ) from error


def file_of(x: Any) -> np.memmap[Any, Any] | None:
    """Returns the array of a whole file that ``x`` is a view of, if its memory is one's."""
    found = None
    while isinstance(x, np.ndarray):
        found, x = x, x.base
    return found if isinstance(found, np.memmap) else None


def check_file(array: np.memmap[Any, Any], name: str = "") -> None:
    """Raises a ValueError if a file has become shorter than the array that maps it.

    Whoever reads behind the end of a file through memory is ended by the system.
    """
    mapped = array._mmap  # type: ignore[attr-defined]  # the file may have another name by now
    try:
        size = mapped.size()
    except (AttributeError, OSError, ValueError):  # memory without a file, or none any more
        return
    needed = array.offset + array.nbytes
    if size < needed:
        raise ValueError(
            f"{f'`{name}`' if name else 'an array'} lies in the file {array.filename}, which has "
            f"been cut: its numbers take {needed:,} bytes, the file has {size:,}. Write it again, "
            "and open it anew"
        )


def check_readable(x: Any, name: str = "") -> None:
    """Raises a ValueError if ``x`` has masked entries, or lies in a file that has been cut."""
    if isinstance(x, np.memmap) and (file := file_of(x)) is not None:
        check_file(file, name)
    if is_masked(x):
        raise ValueError(
            f"{f'`{name}`' if name else 'the array'} is a masked array with masked entries, which "
            "programs cannot leave out; fill them first (x.filled(0)), and give rows no weight "
            "with `sample_weight`"
        )


def is_masked(x: Any) -> bool:
    """Whether ``x`` has masked entries; without numpy.ma, which is slow to import, none has."""
    if not isinstance(x, np.ndarray) or "numpy.ma" not in sys.modules:
        return False
    return isinstance(x, np.ma.MaskedArray) and bool(np.ma.is_masked(x))


def ragged_list(x: Any) -> ValueError | None:
    """Returns an error that says where the rows of nested lists differ, None if they do not."""
    if not isinstance(x, list | tuple) or not x:
        return None
    lengths = [len(row) if isinstance(row, list | tuple) else None for row in x]
    odd = next((i for i, n in enumerate(lengths) if n != lengths[0]), None)
    if odd is None:
        return next((found for row in x if (found := ragged_list(row)) is not None), None)
    if lengths[0] is None or lengths[odd] is None:
        return ValueError("a list holds numbers and lists beside each other; pad its rows")
    return ValueError(
        f"the rows of a list differ in length: row 0 has {lengths[0]} entries, row {odd} has "
        f"{lengths[odd]}. Pad them to one length, or pass a NumPy array."
    )
