"""Functions of elements, of vectors and of matrices."""

from __future__ import annotations

from typing import Any

from handmill.errors import ShapeError
from handmill.ir.dims import same
from handmill.ir.trace import apply
from handmill.ops.core import cast, stop_gradient
from handmill.ops.numpy.determinants import slogdet
from handmill.ops.numpy.elementwise import absolute, add, exp, log, sqrt, square, subtract
from handmill.ops.numpy.logic import equal, greater, isnan, less, where
from handmill.ops.numpy.movement import expand_dims, reshape
from handmill.ops.numpy.reductions import max, sum
from handmill.ops.numpy.reductions import sum as reduce_sum
from handmill.ops.numpy.sorting import take_along_axis
from handmill.primitives.elementwise.special import ERFC, ERFINV
from handmill.primitives.elementwise.unary import ERF, RSQRT
from handmill.primitives.emit import slice_axis
from handmill.primitives.operands import (
    Axis,
    Tensor,
    normal_axes,
    promote_float,
    shape_of,
    tensor,
)
from handmill.primitives.reduce import reduced_shape
from handmill.primitives.sort import ARGSORT
from handmill.runtime.planned import planned


def top_k(x: Tensor, k: int, sorted: bool = True) -> tuple[Any, Any]:
    """Returns the ``k`` largest elements along the last axis, and their indices.

    Args:
        x: the input.
        k: how many.
        sorted: whether the largest comes first; it always does here.

    Example:
        >>> from handmill import ops
        >>> ops.top_k([5.0, 1.0, 7.0], k=2)
        (array([7., 5.], dtype=float32), array([2, 0], dtype=int32))
    """
    x = tensor(x)
    axis = len(shape_of(x)) - 1
    order = apply(ARGSORT, x, axis=axis, descending=True)
    indices = slice_axis(order, axis, 0, int(k))
    return take_along_axis(x, indices, axis=axis), indices


def in_top_k(targets: Tensor, predictions: Tensor, k: int) -> Any:
    """Returns whether each label is among the ``k`` largest predictions of its row.

    Example:
        >>> from handmill import ops
        >>> ops.in_top_k([2, 0], [[0.1, 0.2, 0.7], [0.1, 0.2, 0.7]], k=2)
        array([ True, False])
    """
    targets, predictions = tensor(targets), tensor(predictions)
    own = take_along_axis(predictions, expand_dims(targets, -1), axis=-1)
    own = where(isnan(own), float("-inf"), own)  # NaN is no large probability
    larger = reduce_sum(cast(greater(predictions, own), "float32"), axis=-1)
    return less(add(larger, 0.0), k)


@planned
def rsqrt(x: Tensor) -> Any:
    """Returns ``1 / sqrt(x)``.

    Example:
        >>> from handmill import ops
        >>> ops.rsqrt([4.0, 16.0])
        array([0.5 , 0.25], dtype=float32)
    """
    return apply(RSQRT, *promote_float(x))


@planned
def erf(x: Tensor) -> Any:
    """Returns the error function, ``2 / sqrt(pi)`` times the integral of ``exp(-t^2)`` to x.

    Example:
        >>> from handmill import ops
        >>> ops.erf([0.0, 10.0])
        array([0., 1.], dtype=float32)
    """
    return apply(ERF, *promote_float(x))


@planned
def erfc(x: Tensor) -> Any:
    """Returns ``1 - erf(x)``, with digits where erf is almost 1.

    Example:
        >>> from handmill import ops
        >>> ops.erfc([1.0, 5.0])
        array([1.5729921e-01, 1.5374598e-12], dtype=float32)
    """
    return apply(ERFC, *promote_float(x))


@planned
def erfinv(x: Tensor) -> Any:
    """Returns the inverse of the error function; NaN outside of [-1, 1].

    Example:
        >>> from handmill import ops
        >>> ops.erfinv([0.0, 1.0])
        array([ 0., inf], dtype=float32)
    """
    return apply(ERFINV, *promote_float(x))


def logdet(x: Tensor) -> Any:
    """Returns the logarithm of the absolute value of the determinants of matrices.

    Args:
        x: matrices ``(..., N, N)``.

    Example:
        >>> from handmill import ops
        >>> float(ops.logdet([[1.0, 0.0], [0.0, 1.0]]))
        0.0
    """
    return slogdet(x)[1]


def cdist(x: Tensor, y: Tensor) -> Any:
    """Returns the distances of each vector of ``x`` from each of ``y``.

    Args:
        x: vectors ``(..., M, D)``.
        y: vectors ``(..., N, D)``.

    Returns:
        Distances ``(..., M, N)``.

    Example:
        >>> from handmill import ops
        >>> ops.cdist([[0.0, 0.0]], [[3.0, 4.0], [0.0, 1.0]])
        array([[5., 1.]], dtype=float32)
    """
    x, y = promote_float(x, y)
    if len(shape_of(x)) < 2 or len(shape_of(y)) < 2:
        raise ShapeError("`cdist` inputs must have rank >= 2")
    if not same(shape_of(x)[-1], shape_of(y)[-1]):
        raise ShapeError("Last dimension of inputs to `cdist` must match")
    difference = subtract(expand_dims(x, -2), expand_dims(y, -3))
    return sqrt(sum(square(difference), axis=-1))


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
