"""Shapes: asking for them, and giving the same elements other ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Dim, SymbolicDim
from handmill.ir.shapes import size_of
from handmill.ir.trace import apply
from handmill.primitives.movement import BROADCAST_TO, CONCATENATE, RESHAPE, TRANSPOSE
from handmill.primitives.operands import Tensor, normal_axes, normal_axis, promote, shape_of, tensor


def ndim(x: Tensor) -> int:
    """Returns the number of dimensions.

    Example:
        >>> from handmill import ops
        >>> ops.ndim([[1, 2]])
        2
    """
    return len(shape_of(x))


def size(x: Tensor) -> Any:
    """Returns the number of elements.

    Example:
        >>> from handmill import ops
        >>> ops.size([[1, 2, 3]])
        3
    """
    return size_of(shape_of(x))


def reshape(x: Tensor, newshape: Any) -> Any:
    """Gives the same elements another shape.

    Args:
        x: the input.
        newshape: an int or a tuple of ints; one may be -1, which stands for what is left.

    Example:
        >>> from handmill import ops
        >>> ops.reshape([1, 2, 3, 4], (2, -1))
        array([[1, 2],
               [3, 4]], dtype=int32)
    """
    x = tensor(x)
    dims = (newshape,) if isinstance(newshape, int | np.integer | SymbolicDim) else newshape
    shape = tuple(d if isinstance(d, SymbolicDim) else int(d) for d in dims)
    return x if shape == shape_of(x) else apply(RESHAPE, x, shape=shape)


def transpose(x: Tensor, axes: Sequence[int] | None = None) -> Any:
    """Reorders the axes.

    Args:
        x: the input.
        axes: for each axis of the result, the axis it was. Default: reversed.

    Example:
        >>> from handmill import ops
        >>> ops.transpose([[1, 2], [3, 4]])
        array([[1, 3],
               [2, 4]], dtype=int32)
    """
    x = tensor(x)
    rank = len(shape_of(x))
    perm = tuple(range(rank))[::-1] if axes is None else tuple(axes)
    perm = tuple(normal_axis("transpose", a, rank) for a in perm)
    if sorted(perm) != list(range(rank)):
        raise shape_error("transpose", f"axes must name each of {rank} axes once, got {axes}")
    return x if perm == tuple(range(rank)) else apply(TRANSPOSE, x, perm=perm)


def broadcast_to(x: Tensor, shape: Any) -> Any:
    """Repeats along axes of size 1 and new leading axes.

    Example:
        >>> from handmill import ops
        >>> ops.broadcast_to([1, 2], (2, 2))
        array([[1, 2],
               [1, 2]], dtype=int32)
    """
    x = tensor(x)
    shape = tuple(shape)
    return x if shape == shape_of(x) else apply(BROADCAST_TO, x, shape=shape)


def concatenate(xs: Sequence[Tensor], axis: int | None = 0) -> Any:
    """Joins along an existing axis.

    Args:
        xs: tensors of equal shapes but for ``axis``.
        axis: the axis along which to join. None: all of them flattened.

    Example:
        >>> from handmill import ops
        >>> ops.concatenate([[1, 2], [3]])
        array([1, 2, 3], dtype=int32)
    """
    operands = promote(*xs)
    if axis is None:
        operands, axis = [reshape(x, (-1,)) for x in operands], 0
    axis = normal_axis("concatenate", axis, len(shape_of(operands[0])))
    return operands[0] if len(operands) == 1 else apply(CONCATENATE, *operands, axis=axis)


def expand_dims(x: Tensor, axis: int | Sequence[int]) -> Any:
    """Inserts axes of size 1.

    Example:
        >>> from handmill import ops
        >>> ops.expand_dims([1, 2], axis=-1).shape
        (2, 1)
    """
    x = tensor(x)
    count = 1 if isinstance(axis, int) else len(axis)
    rank = len(shape_of(x)) + count
    axes = normal_axes("expand_dims", axis, rank)
    rest: Iterable[Dim] = iter(shape_of(x))
    return reshape(x, tuple(1 if a in axes else next(rest) for a in range(rank)))  # type: ignore[call-overload]


def squeeze(x: Tensor, axis: int | Sequence[int] | None = None) -> Any:
    """Removes axes of size 1.

    Args:
        x: the input.
        axis: the axes to remove. Default: all of size 1.

    Example:
        >>> from handmill import ops
        >>> ops.squeeze([[1], [2]], axis=1)
        array([1, 2], dtype=int32)
    """
    x = tensor(x)
    shape = shape_of(x)
    if axis is None:
        axes: tuple[int, ...] = tuple(a for a, d in enumerate(shape) if d == 1)
    else:
        axes = normal_axes("squeeze", axis, len(shape))
        if any(shape[a] != 1 for a in axes):
            raise shape_error("squeeze", f"axis {axis} of shape {shape} is not of size 1")
    return reshape(x, tuple(d for a, d in enumerate(shape) if a not in axes))
