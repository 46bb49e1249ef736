"""Linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.errors import ShapeError
from handmill.ir.trace import apply
from handmill.ops.numpy.elementwise import absolute, power, sqrt, square
from handmill.ops.numpy.logic import not_equal
from handmill.ops.numpy.movement import reshape
from handmill.ops.numpy.reductions import max, min, sum
from handmill.primitives.operands import (
    Axis,
    Tensor,
    converted,
    dtype_of,
    normal_axes,
    normal_axis,
    promote_float,
    shape_of,
)
from handmill.primitives.reduce import SUM_OF_SQUARES, reduced_shape


def norm(x: Tensor, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the norm of vectors or matrices.

    Args:
        x: the input.
        ord: of vectors a number or plus or minus infinity; of matrices 1, -1 (largest and least
            sum of a column), infinity, minus infinity (of a row) or "fro". None: the root of the
            sum of squares.
        axis: the axis of the vectors, or the two axes of the matrices (rows first). Default: the
            whole input, a vector or, if it has two dimensions and ``ord`` is given, a matrix.
        keepdims: whether reduced axes stay, with size 1.

    Example:
        >>> from handmill import ops
        >>> float(ops.norm([3.0, 4.0])), float(ops.norm([[1.0, -2.0], [3.0, 4.0]], ord=1))
        (5.0, 6.0)
    """
    (x,) = promote_float(x)
    rank = len(shape_of(x))
    axes = normal_axes("norm", axis, rank)
    if ord is None or (ord == 2 and len(axes) == 1) or (ord == "fro" and len(axes) == 2):
        if axis is None and not keepdims:
            return sqrt(apply(SUM_OF_SQUARES, x))
        return sqrt(sum(square(x), axes, keepdims))
    if len(axes) == 1:
        return _vector_norm(absolute(x), ord, axes, keepdims)
    if len(axes) != 2:
        raise ShapeError(f"norm: ord={ord!r} is a norm of vectors or matrices, got axis={axis}")
    if ord not in (1, -1, np.inf, -np.inf):
        hint = "; the norms of singular values (2, -2, 'nuc') are not supported"
        raise ValueError(
            f"norm: `ord` of matrices must be 1, -1, 'fro' or infinity{hint}, got {ord!r}"
        )
    rows, columns = axes if axis is None else (normal_axis("norm", int(a), rank) for a in axis)
    summed, other = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = sum(absolute(x), summed, keepdims=True)
    y = (max if ord > 0 else min)(sums, other, keepdims=True)
    return y if keepdims else reshape(y, reduced_shape(shape_of(x), axes, False))


def _vector_norm(size: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if isinstance(ord, str):
        raise ValueError(f"norm: `ord` of vectors must be a number, got {ord!r}")
    if ord in (np.inf, -np.inf):
        return (max if ord > 0 else min)(size, axes, keepdims)
    if ord == 0:
        return sum(converted(not_equal(size, 0), dtype_of(size)), axes, keepdims)
    if ord == 1:
        return sum(size, axes, keepdims)
    return power(sum(power(size, float(ord)), axes, keepdims), 1.0 / ord)
