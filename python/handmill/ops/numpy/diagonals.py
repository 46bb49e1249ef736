"""Diagonals of matrices, and their sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import is_fixed
from handmill.ops.numpy.arrange import diag, moveaxis, ravel
from handmill.ops.numpy.movement import reshape
from handmill.ops.numpy.reductions import sum
from handmill.ops.numpy.sorting import take
from handmill.primitives.operands import Tensor, normal_axes, normal_axis, shape_of, tensor


def diagonal(x: Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Returns the diagonals of the matrices of two axes, as a new last axis.

    Args:
        x: the input, of two or more dimensions; both axes of a fixed size.
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
    if not is_fixed((rows, columns)):
        raise shape_error("diagonal", "the matrices have no fixed size", {"x": shape_of(x)})
    places = np.arange(int(rows) * int(columns)).reshape(int(rows), int(columns))
    flat = reshape(x, (*rest, rows * columns))
    return take(flat, np.diagonal(places, offset).astype(np.int32), axis=rank - 2)


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
        x: the input, of two or more dimensions; both axes of a fixed size.
        offset: how far above the main diagonal; negative: below.
        axis1: the axis of the rows.
        axis2: the axis of the columns.

    Example:
        >>> from handmill import ops
        >>> float(ops.trace([[1.0, 2.0], [3.0, 4.0]]))
        5.0
    """
    return sum(diagonal(x, offset, axis1, axis2), -1)
