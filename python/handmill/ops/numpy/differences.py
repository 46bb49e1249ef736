"""What lies between neighbours along an axis, or between extremes."""

from __future__ import annotations

from typing import Any

from handmill.errors import shape_error
from handmill.ops.numpy.elementwise import add, multiply, subtract
from handmill.ops.numpy.logic import not_equal
from handmill.ops.numpy.movement import reshape
from handmill.ops.numpy.reductions import max, min, sum
from handmill.primitives.emit import slice_axis
from handmill.primitives.operands import (
    Axis,
    Tensor,
    dtype_of,
    normal_axis,
    promote_float,
    shape_of,
    tensor,
)


def diff(a: Tensor, n: int = 1, axis: int = -1) -> Any:
    """Returns the differences of neighbours along an axis.

    Args:
        a: the input; of bool, whether neighbours differ.
        n: how often to take differences.
        axis: the axis, which gets shorter by ``n``.

    Example:
        >>> from handmill import ops
        >>> ops.diff([1, 4, 9])
        array([3, 5], dtype=int32)
    """
    if n < 0:
        raise ValueError(f"diff: `n` must not be negative, got n={n}")
    x = tensor(a)
    axis = normal_axis("diff", axis, len(shape_of(x)))
    for _ in range(n):
        before, behind = _neighbours(x, axis)
        x = (not_equal if dtype_of(x) == "bool" else subtract)(behind, before)
    return x


def _neighbours(x: Any, axis: int) -> tuple[Any, Any]:
    """All but the last along an axis, and all but the first."""
    size = shape_of(x)[axis]
    if size == 0:
        return x, x
    return slice_axis(x, axis, 0, size - 1), slice_axis(x, axis, 1, size)


def trapezoid(y: Tensor, x: Tensor = None, dx: Tensor = 1.0, axis: int = -1) -> Any:
    """Integrates along an axis by the trapezoidal rule.

    Args:
        y: the values of the function.
        x: where it has them: a vector along the axis, or of the shape of ``y``.
        dx: the distance of neighbours, if ``x`` is missing.
        axis: the axis.

    Example:
        >>> from handmill import ops
        >>> float(ops.trapezoid([1.0, 2.0, 3.0]))
        4.0
    """
    rank = len(shape_of(tensor(y)))
    axis = normal_axis("trapezoid", axis, rank)
    if x is None:
        (y,) = promote_float(y)
        width = dx
    else:
        y, x = promote_float(y, x)
        if len(shape_of(x)) == 1:
            width = reshape(diff(x), tuple(-1 if a == axis else 1 for a in range(rank)))
        elif len(shape_of(x)) == rank:
            width = diff(x, axis=axis)
        else:
            shapes = {"y": shape_of(y), "x": shape_of(x)}
            raise shape_error("trapezoid", "`x` must be a vector or of the shape of `y`", shapes)
    before, behind = _neighbours(y, axis)
    return multiply(sum(multiply(add(before, behind), width), axis), 0.5)


def ptp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the distance from the least to the largest element along axes.

    Args:
        x: the input.
        axis: an axis or several. Default: all.
        keepdims: whether reduced axes stay, with size 1.

    Example:
        >>> from handmill import ops
        >>> ops.ptp([[1, 5], [3, 4]], axis=1)
        array([4, 1], dtype=int32)
    """
    return subtract(max(x, axis, keepdims), min(x, axis, keepdims))
