"""The axes along which layers normalize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill.errors import ShapeError


def axis_argument(axis: Any) -> int | list[int]:
    """Returns an argument ``axis``: an integer, or a list of them.

    Raises:
        TypeError: if it is neither.
    """
    if isinstance(axis, list | tuple) and all(isinstance(a, int) for a in axis):
        return list(axis)
    if isinstance(axis, int) and not isinstance(axis, bool):
        return axis
    raise TypeError(
        "Invalid value for `axis` argument: expected an int or a list/tuple of ints. "
        f"Received: axis={axis!r}"
    )


def sizes_along(layer: Any, axes: Sequence[int], input_shape: Any) -> tuple[int, ...]:
    """The sizes of the axes of an input, for weights.

    Raises:
        ShapeError: if an axis does not exist or its size is open.
    """
    shape = tuple(input_shape)
    for axis in axes:
        if not -len(shape) <= axis < len(shape):
            raise ShapeError(
                f"{layer.describe()}: Axis {axis} is out of bounds for input shape {shape}. "
                f"Received: axis={layer.axis}"
            )
        if shape[axis] is None:
            raise ShapeError(
                f"{layer.describe()}: axis {axis} of the input tensor should have a defined "
                f"dimension but the layer received an input with shape {shape}; its weights need "
                "the size"
            )
    return tuple(shape[axis] for axis in axes)
