"""Diagonals of matrices, and their sums."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Dim, is_fixed, lower_bound
from handmill.ir.shapes import numpy_dtype
from handmill.ops.numpy.arrange import moveaxis, pad, ravel
from handmill.ops.numpy.elementwise import add, multiply
from handmill.ops.numpy.logic import equal, where
from handmill.ops.numpy.movement import reshape
from handmill.ops.numpy.reductions import sum
from handmill.ops.numpy.sorting import take
from handmill.primitives.operands import (
    Tensor,
    dtype_of,
    normal_axes,
    normal_axis,
    shape_of,
    tensor,
)
from handmill.primitives.places import dtype_of_places
from handmill.primitives.sizes import places, steps_to


def diagonal(x: Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Returns the diagonals of the matrices of two axes, as a new last axis.

    Args:
        x: the input, of two or more dimensions.
        offset: how far above the main diagonal; negative: below.
        axis1: the axis of the rows.
        axis2: the axis of the columns.

    Example:
        >>> from handmill import ops
        >>> ops.diagonal([[1, 2], [3, 4]])
        array([1, 4], dtype=int32)
    """
    x = tensor(x)
    rank = len(shape_of(x))
    if rank < 2:
        raise shape_error("diagonal", "a matrix was expected", {"x": shape_of(x)})
    normal_axes("diagonal", (axis1, axis2), rank)  # refuses equal ones
    x = moveaxis(x, [normal_axis("diagonal", a, rank) for a in (axis1, axis2)], [-2, -1])
    *rest, rows, columns = shape_of(x)
    flat = reshape(x, (*rest, rows * columns))
    if is_fixed((rows, columns)):
        start = offset if offset >= 0 else -offset * columns
        length = builtins.min(rows - builtins.max(-offset, 0), columns - builtins.max(offset, 0))
        indices = np.arange(builtins.max(length, 0)) * (columns + 1) + start
        return take(flat, indices.astype(dtype_of_places(rows * columns)), axis=rank - 2)
    below = builtins.max(-offset, 0)
    length = _smaller(rows - below, columns - builtins.max(offset, 0))
    if length is None:
        raise shape_error(
            "diagonal", "it is not known which of both sizes is the smaller", {"x": shape_of(x)}
        )
    steps = multiply(steps_to(length, like=x), columns + 1)
    return take(flat, add(steps, below * columns + builtins.max(offset, 0)), axis=rank - 2)


def _smaller(a: Dim, b: Dim) -> Dim | None:
    """The smaller of two sizes, None if a call decides which it is."""
    if lower_bound(a - b) >= 0:
        return b
    return a if lower_bound(b - a) >= 0 else None


def diag(x: Tensor, k: int = 0) -> Any:
    """Returns the diagonal of a matrix, or a matrix with this diagonal.

    Example:
        >>> from handmill import ops
        >>> ops.diag([1, 2])
        array([[1, 0],
               [0, 2]], dtype=int32)
    """
    x = tensor(x)
    if not 1 <= len(shape_of(x)) <= 2:
        raise shape_error("diag", "a vector or a matrix was expected", {"x": shape_of(x)})
    if len(shape_of(x)) == 2:
        return diagonal(x, k)
    above, below = builtins.max(k, 0), builtins.max(-k, 0)
    size = shape_of(x)[0] + above + below
    if is_fixed((size,)):
        on_it: Any = np.eye(int(size), k=k, dtype=bool)
    else:
        on_it = equal(*places(size, size, k, like=x))
    return where(on_it, pad(x, (above, below)), np.zeros((), numpy_dtype(dtype_of(x))))


def diagflat(x: Tensor, k: int = 0) -> Any:
    """Returns a matrix with the elements of ``x`` on diagonal ``k``.

    Example:
        >>> from handmill import ops
        >>> ops.diagflat([[1], [2]])
        array([[1, 0],
               [0, 2]], dtype=int32)
    """
    return diag(ravel(x), k)


def trace(x: Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Returns the sums of the diagonals of the matrices of two axes.

    Args:
        x: the input, of two or more dimensions.
        offset: how far above the main diagonal; negative: below.
        axis1: the axis of the rows.
        axis2: the axis of the columns.

    Example:
        >>> from handmill import ops
        >>> float(ops.trace([[1.0, 2.0], [3.0, 4.0]]))
        5.0
    """
    return sum(diagonal(x, offset, axis1, axis2), -1)
