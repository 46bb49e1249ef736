"""Sums, extremes and averages of what is not NaN."""

from __future__ import annotations

import math
from typing import Any

from handmill.ir.shapes import FLOATS
from handmill.ops.core import cast
from handmill.ops.numpy.elementwise import divide, sqrt, square, subtract
from handmill.ops.numpy.logic import isnan, logical_not, where
from handmill.ops.numpy.reductions import all, argmax, argmin, max, min, prod, sum
from handmill.ops.numpy.sorting import cumprod, cumsum
from handmill.primitives.operands import Axis, Tensor, dtype_of, promote_float, tensor


def _filled(x: Tensor, value: float) -> Any:
    """The input with a number in the place of NaN."""
    x = tensor(x)
    return where(isnan(x), value, x) if dtype_of(x) in FLOATS else x


def nansum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Adds up along axes; NaN counts as 0.

    Args:
        x: the input.
        axis: an axis or several. Default: all.
        keepdims: whether reduced axes stay, with size 1.

    Example:
        >>> from handmill import ops
        >>> float(ops.nansum([1.0, float("nan"), 2.0]))
        3.0
    """
    return sum(_filled(x, 0.0), axis, keepdims)


def nanprod(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Multiplies along axes; NaN counts as 1.

    Example:
        >>> from handmill import ops
        >>> float(ops.nanprod([2.0, float("nan"), 3.0]))
        6.0
    """
    return prod(_filled(x, 1.0), axis, keepdims)


def nanmax(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the largest number along axes; NaN if there is none.

    Example:
        >>> from handmill import ops
        >>> float(ops.nanmax([1.0, float("nan"), 2.0]))
        2.0
    """
    return _extreme(max, x, -math.inf, axis, keepdims)


def nanmin(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the smallest number along axes; NaN if there is none.

    Example:
        >>> from handmill import ops
        >>> float(ops.nanmin([1.0, float("nan"), 2.0]))
        1.0
    """
    return _extreme(min, x, math.inf, axis, keepdims)


def _extreme(reduce: Any, x: Tensor, last: float, axis: Axis, keepdims: bool) -> Any:
    x = tensor(x)
    if dtype_of(x) not in FLOATS:
        return reduce(x, axis, keepdims)
    found = reduce(_filled(x, last), axis, keepdims)
    return where(all(isnan(x), axis, keepdims), math.nan, found)


def nanargmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Any:
    """Returns the index of the largest number, int32; -1 where all are NaN.

    Example:
        >>> from handmill import ops
        >>> int(ops.nanargmax([1.0, float("nan"), 2.0]))
        2
    """
    return _place(argmax, x, -math.inf, axis, keepdims)


def nanargmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Any:
    """Returns the index of the smallest number, int32; -1 where all are NaN.

    Example:
        >>> from handmill import ops
        >>> int(ops.nanargmin([float("nan"), 1.0, 2.0]))
        1
    """
    return _place(argmin, x, math.inf, axis, keepdims)


def _place(reduce: Any, x: Tensor, last: float, axis: int | None, keepdims: bool) -> Any:
    x = tensor(x)
    if dtype_of(x) not in FLOATS:
        return reduce(x, axis, keepdims)
    found = reduce(_filled(x, last), axis, keepdims)
    return where(all(isnan(x), axis, keepdims), -1, found)


def nanmean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Averages the numbers along axes; NaN where there are none.

    Example:
        >>> from handmill import ops
        >>> float(ops.nanmean([1.0, float("nan"), 2.0]))
        1.5
    """
    (x,) = promote_float(x)
    return divide(nansum(x, axis, keepdims), _numbers(x, axis, keepdims))


def _numbers(x: Any, axis: Axis, keepdims: bool) -> Any:
    """How many are numbers, in the dtype of the input."""
    return sum(cast(logical_not(isnan(x)), dtype_of(x)), axis, keepdims)


def nanvar(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the variance of the numbers along axes; NaN where there are none.

    Example:
        >>> from handmill import ops
        >>> float(ops.nanvar([1.0, float("nan"), 3.0]))
        1.0
    """
    (x,) = promote_float(x)
    distance = subtract(x, nanmean(x, axis, keepdims=True))
    squares = square(where(isnan(x), 0.0, distance))
    return divide(sum(squares, axis, keepdims), _numbers(x, axis, keepdims))


def nanstd(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the standard deviation of the numbers along axes; NaN where there are none.

    Example:
        >>> from handmill import ops
        >>> float(ops.nanstd([1.0, float("nan"), 5.0]))
        2.0
    """
    return sqrt(nanvar(x, axis, keepdims))


def nancumsum(x: Tensor, axis: int | None = None, dtype: Any = None) -> Any:
    """Returns the running sums along an axis; NaN counts as 0.

    Example:
        >>> from handmill import ops
        >>> ops.nancumsum([1.0, float("nan"), 2.0])
        array([1., 1., 3.], dtype=float32)
    """
    return cumsum(_filled(x, 0.0), axis, dtype)


def nancumprod(x: Tensor, axis: int | None = None, dtype: Any = None) -> Any:
    """Returns the running products along an axis; NaN counts as 1.

    Example:
        >>> from handmill import ops
        >>> ops.nancumprod([2.0, float("nan"), 3.0])
        array([2., 2., 6.], dtype=float32)
    """
    return cumprod(_filled(x, 1.0), axis, dtype)
