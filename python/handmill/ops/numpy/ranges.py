"""Numbers spaced evenly, or by equal factors, between two ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.ir.shapes import numpy_dtype
from handmill.ops.core import cast
from handmill.ops.numpy.arrange import moveaxis
from handmill.ops.numpy.elementwise import (
    absolute,
    add,
    divide,
    exp,
    log,
    multiply,
    power,
    sign,
    subtract,
)
from handmill.ops.numpy.movement import expand_dims, reshape
from handmill.primitives.operands import (
    Tensor,
    check_dtype,
    dtype_of,
    is_symbolic,
    promote_float,
    shape_of,
)


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """Returns evenly spaced numbers from ``start`` to ``stop``.

    Args:
        start: the first number, or an array of them.
        stop: the last.
        num: how many.
        endpoint: whether ``stop`` is one of them.
        retstep: whether to return the distance, too.
        dtype: the dtype. Default: float32.
        axis: where the numbers stand, if ``start`` or ``stop`` are arrays.

    Example:
        >>> from handmill import ops
        >>> ops.linspace(0.0, 1.0, 3)
        array([0. , 0.5, 1. ], dtype=float32)
    """
    dtype = check_dtype(dtype or "float32")
    if is_symbolic(start) or is_symbolic(stop):
        numbers = cast(_evenly_between(start, stop, num, endpoint, axis), dtype)
        return (numbers, divide(subtract(stop, start), num - endpoint)) if retstep else numbers
    numbers, step = np.linspace(start, stop, num, endpoint=endpoint, retstep=True, axis=axis)
    numbers = numbers.astype(numpy_dtype(dtype))
    return (numbers, step) if retstep else numbers


def _evenly_between(
    start: Tensor, stop: Tensor, num: int, endpoint: bool = True, axis: int = 0
) -> Any:
    """Returns ``num`` numbers from ``start`` to ``stop``, in a graph where they are symbolic."""
    start, stop = promote_float(start, stop)
    rank = max(len(shape_of(start)), len(shape_of(stop)))
    share = np.linspace(0.0, 1.0, num, endpoint=endpoint).reshape((num,) + (1,) * rank)
    share = share.astype(numpy_dtype(dtype_of(start)))
    numbers = add(multiply(start, 1 - share), multiply(stop, share))
    return moveaxis(numbers, 0, axis) if axis else numbers


def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """Returns numbers whose logarithms are evenly spaced.

    Args:
        start: the logarithm of the first number, or an array of them.
        stop: the logarithm of the last.
        num: how many.
        endpoint: whether the last is one of them.
        base: of the logarithms.
        dtype: the dtype. Default: float32.
        axis: where the numbers stand, if ``start`` or ``stop`` are arrays.

    Example:
        >>> from handmill import ops
        >>> ops.logspace(0, 2, 3)
        array([  1.,  10., 100.], dtype=float32)
    """
    dtype = check_dtype(dtype or "float32")
    if is_symbolic(start) or is_symbolic(stop):
        exponents = _evenly_between(start, stop, num, endpoint, axis)
        return cast(power(base, exponents), dtype)
    numbers = np.logspace(start, stop, num, endpoint=endpoint, base=base, axis=axis)
    return numbers.astype(numpy_dtype(dtype))


def geomspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """Returns numbers each of which is the one before it times the same factor.

    Args:
        start: the first number, or an array of them.
        stop: the last; of the sign of ``start``.
        num: how many.
        endpoint: whether ``stop`` is one of them.
        dtype: the dtype. Default: float32.
        axis: where the numbers stand, if ``start`` or ``stop`` are arrays.

    Example:
        >>> from handmill import ops
        >>> ops.geomspace(1, 1000, 4)
        array([   1.,   10.,  100., 1000.], dtype=float32)
    """
    dtype = check_dtype(dtype or "float32")
    if is_symbolic(start) or is_symbolic(stop):
        start, stop = promote_float(start, stop)
        first, last = log(absolute(start)), log(absolute(stop))
        sizes = exp(_evenly_between(first, last, num, endpoint, axis))
        side = sign(start)
        rank = len(shape_of(sizes))
        side = expand_dims(side, axis) if shape_of(side) else reshape(side, (1,) * rank)
        return cast(multiply(side, sizes), dtype)
    numbers = np.geomspace(start, stop, num, endpoint=endpoint, axis=axis)
    return numbers.astype(numpy_dtype(dtype))
