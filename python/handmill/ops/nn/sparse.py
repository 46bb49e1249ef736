"""Activation functions that give exact zeros."""

from __future__ import annotations

from typing import Any

from handmill.ir.trace import apply
from handmill.ops.numpy.elementwise import add, clip, divide, maximum, multiply, square, subtract
from handmill.ops.numpy.logic import greater, less, where
from handmill.ops.numpy.movement import reshape
from handmill.ops.numpy.reductions import sum
from handmill.ops.numpy.sorting import cumsum, take_along_axis
from handmill.primitives.operands import (
    Tensor,
    converted,
    dtype_of,
    normal_axis,
    promote_float,
    shape_of,
)
from handmill.primitives.sizes import steps_to
from handmill.primitives.sort import ARGSORT


def sparse_plus(x: Tensor) -> Any:
    """Returns 0 up to -1, ``(x + 1)^2 / 4`` up to 1, and ``x`` above.

    Example:
        >>> from handmill import ops
        >>> ops.sparse_plus([-2.0, 0.0, 3.0])
        array([0.  , 0.25, 3.  ], dtype=float32)
    """
    (x,) = promote_float(x)
    middle = multiply(square(add(x, 1.0)), 0.25)
    return where(less(x, 1.0), where(greater(x, -1.0), middle, 0.0), x)


def sparse_sigmoid(x: Tensor) -> Any:
    """Returns 0 up to -1, ``(x + 1) / 2`` up to 1, and 1 above.

    Example:
        >>> from handmill import ops
        >>> ops.sparse_sigmoid([-2.0, 0.0, 3.0])
        array([0. , 0.5, 1. ], dtype=float32)
    """
    (x,) = promote_float(x)
    return multiply(clip(add(x, 1.0), 0.0, 2.0), 0.5)


def sparsemax(x: Tensor, axis: int = -1) -> Any:
    """Returns the probabilities that are nearest to ``x``: small ones are exactly 0.

    The order of the elements is found on the host.

    Args:
        x: the input.
        axis: the axis along which they add up to 1.

    Example:
        >>> from handmill import ops
        >>> ops.sparsemax([1.0, 0.5, -1.0])
        array([0.75, 0.25, 0.  ], dtype=float32)

    References:
        - [Martins and Astudillo, 2016](https://arxiv.org/abs/1602.02068)
    """
    (x,) = promote_float(x)
    rank = len(shape_of(x))
    axis = normal_axis("sparsemax", axis, rank)
    order = apply(ARGSORT, x, axis=axis, descending=True)
    largest = take_along_axis(x, order, axis=axis)
    sums = cumsum(largest, axis=axis)
    size = shape_of(x)[axis]
    along = [size if a == axis else 1 for a in range(rank)]
    count = reshape(converted(add(steps_to(size, like=x), 1), dtype_of(x)), along)
    # The largest ones have a part as long as each is above the threshold that all before it make.
    inside = greater(largest, divide(subtract(sums, 1.0), count))
    taken = sum(converted(inside, dtype_of(x)), axis=axis, keepdims=True)
    total = sum(where(inside, largest, 0.0), axis=axis, keepdims=True)
    return maximum(subtract(x, divide(subtract(total, 1.0), taken)), 0.0)
