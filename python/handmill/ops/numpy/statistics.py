"""Averages, deviations and norms, composed of other operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import config
from handmill.ir.trace import apply
from handmill.primitives.cast import (
    Tensor,
    normal_axes,
    normal_axis,
    promote_float,
    shape_of,
    stop_gradient,
)
from handmill.primitives.elementwise.arithmetic import add, divide, maximum, multiply, subtract
from handmill.primitives.elementwise.logic import equal, where
from handmill.primitives.elementwise.unary import absolute, exp, log, rsqrt, sqrt, square
from handmill.primitives.movement import broadcast_to, reshape
from handmill.primitives.reduce import SUM_OF_SQUARES, Axis, max, mean, reduced_shape, sum


def var(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the variance along axes, divided by the number of elements.

    Example:
        >>> from handmill import ops
        >>> float(ops.var([1.0, 3.0]))
        1.0
    """
    (x,) = promote_float(x)
    return mean(square(subtract(x, mean(x, axis, keepdims=True))), axis, keepdims)


def std(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the standard deviation along axes.

    Example:
        >>> from handmill import ops
        >>> float(ops.std([1.0, 5.0]))
        2.0
    """
    return sqrt(var(x, axis, keepdims))


def average(x: Tensor, axis: Axis = None, weights: Tensor = None) -> Any:
    """Returns the weighted average along axes.

    Example:
        >>> from handmill import ops
        >>> float(ops.average([1.0, 4.0], weights=[2.0, 1.0]))
        2.0
    """
    if weights is None:
        return mean(x, axis)
    x, weights = promote_float(x, weights)
    if len(shape_of(weights)) == 1 and len(shape_of(x)) > 1 and isinstance(axis, int):
        axis = normal_axis("average", axis, len(shape_of(x)))
        weights = reshape(weights, tuple(-1 if a == axis else 1 for a in range(len(shape_of(x)))))
    total = sum(broadcast_to(weights, shape_of(x)), axis)
    return divide(sum(multiply(x, weights), axis), total)


def logsumexp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns ``log(sum(exp(x)))`` without overflow.

    Example:
        >>> from handmill import ops
        >>> float(ops.logsumexp([1000.0, -1000.0]))
        1000.0
    """
    (x,) = promote_float(x)
    top = stop_gradient(max(x, axis, keepdims=True))
    top = where(equal(absolute(top), float("inf")), 0.0, top)  # all -inf: the result is -inf
    y = add(log(sum(exp(subtract(x, top)), axis, keepdims=True)), top)
    if keepdims:
        return y
    axes = normal_axes("logsumexp", axis, len(shape_of(x)))
    return reshape(y, reduced_shape(shape_of(x), axes, False))


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


def moments(
    x: Tensor, axes: Axis, keepdims: bool = False, synchronized: bool = False
) -> tuple[Any, Any]:
    """Returns mean and variance along axes.

    Args:
        x: the input.
        axes: an axis or several.
        keepdims: whether reduced axes stay, with size 1.
        synchronized: not supported; must be False.

    Example:
        >>> from handmill import ops
        >>> m, v = ops.moments([1.0, 3.0], axes=0)
        >>> float(m), float(v)
        (2.0, 1.0)
    """
    if synchronized:
        raise ValueError("moments over several processes are not supported")
    return mean(x, axes, keepdims), var(x, axes, keepdims)


def normalize(x: Tensor, axis: Axis = -1, order: int = 2, epsilon: float | None = None) -> Any:
    """Divides by the norm along an axis.

    Args:
        x: the input.
        axis: the axis or axes of each vector.
        order: 1 or 2.
        epsilon: the least norm to divide by. Default: ``config.epsilon()``.

    Example:
        >>> from handmill import ops
        >>> ops.normalize([[3.0, 4.0]])
        array([[0.6, 0.8]], dtype=float32)
    """
    (x,) = promote_float(x)
    least = config.epsilon() if epsilon is None else epsilon
    if order == 2:
        squares = sum(square(x), axis, keepdims=True)
        return multiply(x, rsqrt(maximum(squares, least * least)))
    return divide(x, maximum(norm(x, order, axis, keepdims=True), least))
