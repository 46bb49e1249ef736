"""Places of elements along an axis: int32, as in Keras, or refused; they never wrap around."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Dim
from handmill.ir.op import Array
from handmill.ir.shapes import Spec

_MOST = (1 << 31) - 1


def check_places(name: str, x: Spec, axis: int) -> None:
    """Raises ShapeError if the places along ``axis`` do not fit the int32 that ``name`` returns."""
    size = x.shape[axis]
    if isinstance(size, int) and size - 1 > _MOST:
        raise shape_error(
            name,
            f"it returns places along axis {axis} as int32, which counts to {_MOST:,}, and the "
            f"axis has {size:,} elements",
            {"x": x},
            "give it parts of the array",
        )


def as_places(name: str, found: Any) -> Array:
    """Returns the places or counts that NumPy found as int32.

    Raises:
        ValueError: if one of them does not fit.
    """
    if found.size and (largest := int(found.max())) > _MOST:
        raise ValueError(
            f"{name}: it returns int32, which counts to {_MOST:,}, and found {largest:,}; give it "
            f"parts of the array, or use numpy.{name}, which returns int64"
        )
    return np.asarray(found, np.int32)


def dtype_of_places(size: Dim) -> str:
    """The dtype of indices into ``size`` elements: int32 wherever it can hold them."""
    return "int64" if isinstance(size, int) and size - 1 > _MOST else "int32"
