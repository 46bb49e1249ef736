"""Linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.ir.trace import apply
from handmill.ops.numpy.elementwise import absolute, sqrt, square
from handmill.ops.numpy.reductions import max, sum
from handmill.primitives.operands import Axis, Tensor, normal_axes, promote_float, shape_of
from handmill.primitives.reduce import SUM_OF_SQUARES

__all__ = [
    "norm",
]


def norm(x: Tensor, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the norm of vectors.

    Args:
        x: the input.
        ord: 1, 2, infinity, or None for the root of the sum of squares.
        axis: the axis or axes over which the norm is taken. Default: all.
        keepdims: whether reduced axes stay, with size 1.

    Example:
        >>> from handmill import ops
        >>> float(ops.norm([3.0, 4.0]))
        5.0
    """
    (x,) = promote_float(x)
    if ord in (None, 2, "fro"):
        if ord == 2 and len(normal_axes("norm", axis, len(shape_of(x)))) > 1:
            raise ValueError("the spectral norm (ord=2 of a matrix) is not supported")
        if axis is None and not keepdims:
            return sqrt(apply(SUM_OF_SQUARES, x))
        return sqrt(sum(square(x), axis, keepdims))
    if ord == 1:
        return sum(absolute(x), axis, keepdims)
    if ord == np.inf:
        return max(absolute(x), axis, keepdims)
    raise ValueError(f"`ord` must be None, 1, 2, 'fro' or infinity, got ord={ord!r}")
