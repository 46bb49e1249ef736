"""Selection by index, order, and running sums along an axis."""

from __future__ import annotations

from typing import Any

from handmill.errors import shape_error
from handmill.ir.shapes import broadcast_shapes
from handmill.ir.trace import apply
from handmill.ops.core import cast
from handmill.ops.numpy.movement import reshape
from handmill.primitives.cumulate import CUMPROD, CUMSUM
from handmill.primitives.emit import broadcast_to
from handmill.primitives.gather import TAKE
from handmill.primitives.operands import (
    Tensor,
    check_dtype,
    normal_axis,
    promote_number,
    shape_of,
    tensor,
)
from handmill.primitives.sort import ARGSORT, TAKE_ALONG


def take(x: Tensor, indices: Tensor, axis: int | None = None) -> Any:
    """Returns the elements at ``indices`` along an axis.

    Negative indices count from the end. An index out of range gives NaN (in integers
    0); nothing outside of ``x`` is ever read.

    Args:
        x: the input.
        indices: integers of any shape, which takes the place of the axis.
        axis: the axis. Default: the flattened input.

    Example:
        >>> from handmill import ops
        >>> ops.take([10, 20, 30], [2, 0])
        array([30, 10], dtype=int32)
    """
    x, indices = tensor(x), tensor(indices)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = normal_axis("take", axis, len(shape_of(x)))
    return apply(TAKE, x, indices, axis=axis)


def take_along_axis(x: Tensor, indices: Tensor, axis: int | None = None) -> Any:
    """Returns ``x[..., indices[..., k, ...], ...]``: other axes go together, one to one.

    Args:
        x: the input.
        indices: integers, of the shape of ``x`` but for ``axis``; the other axes of both are
            broadcast. One out of range gives NaN (in integers 0).
        axis: the axis. Default: both flattened.

    Example:
        >>> from handmill import ops
        >>> ops.take_along_axis([[1, 2], [3, 4]], [[1], [0]], axis=1)
        array([[2],
               [3]], dtype=int32)
    """
    x, indices = tensor(x), tensor(indices)
    if axis is None:
        return take_along_axis(reshape(x, (-1,)), reshape(indices, (-1,)), axis=0)
    own, wanted = shape_of(x), shape_of(indices)
    axis = normal_axis("take_along_axis", axis, len(own))
    if len(own) == len(wanted):
        others = ((*own[:axis], 1, *own[axis + 1 :]), (*wanted[:axis], 1, *wanted[axis + 1 :]))
        try:
            joint = broadcast_shapes(*others)
        except ValueError:
            operands = {"x": own, "indices": wanted}
            raise shape_error(
                "take_along_axis", f"axes other than {axis} do not broadcast", operands
            ) from None
        x = broadcast_to(x, (*joint[:axis], own[axis], *joint[axis + 1 :]))
        indices = broadcast_to(indices, (*joint[:axis], wanted[axis], *joint[axis + 1 :]))
    return apply(TAKE_ALONG, x, indices, axis=axis)


def cumsum(x: Tensor, axis: int | None = None, dtype: Any = None) -> Any:
    """Returns the running sums along an axis.

    Args:
        x: the input.
        axis: the axis. Default: the flattened input.
        dtype: dtype of the sums. Default: that of the input, int32 for bool.

    Example:
        >>> from handmill import ops
        >>> ops.cumsum([1, 2, 3])
        array([1, 3, 6], dtype=int32)
    """
    x, axis = _row("cumsum", x, axis, dtype)
    return apply(CUMSUM, x, axis=axis, reverse=False)


def cumprod(x: Tensor, axis: int | None = None, dtype: Any = None) -> Any:
    """Returns the running products along an axis.

    Args:
        x: the input.
        axis: the axis. Default: the flattened input.
        dtype: dtype of the products. Default: that of the input, int32 for bool.

    Example:
        >>> from handmill import ops
        >>> ops.cumprod([1, 2, 3, 4])
        array([ 1,  2,  6, 24], dtype=int32)
    """
    x, axis = _row("cumprod", x, axis, dtype)
    return apply(CUMPROD, x, axis=axis)


def _row(op: str, x: Tensor, axis: Any, dtype: Any) -> tuple[Any, int]:
    """The input in the dtype to count in, and the axis along which its rows lie."""
    x = promote_number(x) if dtype is None else cast(x, check_dtype(dtype))
    if axis is None:
        return reshape(x, (-1,)), 0
    if isinstance(axis, tuple | list):
        if len(axis) != 1:
            raise TypeError(f"{op}: `axis` must be an integer or None, got axis={axis!r}")
        (axis,) = axis
    return x, normal_axis(op, axis, len(shape_of(x)))


def argsort(x: Tensor, axis: int | None = -1) -> Any:
    """Returns the indices that sort along an axis; int32. None sorts all elements in one row.

    Example:
        >>> from handmill import ops
        >>> ops.argsort([3.0, 1.0, 2.0])
        array([1, 2, 0], dtype=int32)
    """
    x = tensor(x)
    if axis is None or not shape_of(x):
        x, axis = reshape(x, (-1,)), 0
    return apply(ARGSORT, x, axis=normal_axis("argsort", axis, len(shape_of(x))), descending=False)


def sort(x: Tensor, axis: int | None = -1) -> Any:
    """Sorts along an axis. None sorts all elements in one row.

    Example:
        >>> from handmill import ops
        >>> ops.sort([3.0, 1.0, 2.0])
        array([1., 2., 3.], dtype=float32)
    """
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    return take_along_axis(x, argsort(x, axis), axis=axis)
