"""Arrays of what users pass, where NumPy is silent (masks) or unclear (ragged lists)."""

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
        check_unmasked(x, name)
    try:
        return np.asarray(x, dtype)
    except ValueError as error:
        ragged = ragged_list(x)
        if ragged is None:
            raise
        raise ragged from error


def check_unmasked(x: Any, name: str = "") -> None:
    """Raises a ValueError if ``x`` has masked entries, which no program can leave out."""
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
