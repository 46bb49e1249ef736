"""Moments and normalizations by the names of ``keras.ops``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill import config
from handmill.errors import shape_error
from handmill.ir.dims import same
from handmill.ir.trace import apply
from handmill.ops.core import cast
from handmill.ops.linalg import norm
from handmill.ops.math import rsqrt
from handmill.ops.numpy.elementwise import add, divide, maximum, multiply, square, subtract
from handmill.ops.numpy.movement import reshape
from handmill.ops.numpy.reductions import mean, sum, var
from handmill.primitives.moments import COLUMN_MOMENTS
from handmill.primitives.normalize import LAYER_NORM, RMS_NORM
from handmill.primitives.operands import (
    Axis,
    Tensor,
    common_dtype,
    dtype_of,
    normal_axes,
    normal_axis,
    promote_float,
    shape_of,
    tensor,
)


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
    (x,) = promote_float(x)
    shape = shape_of(x)
    found = normal_axes("moments", axes, len(shape))
    if dtype_of(x) != "float32" or not found or found != tuple(range(len(shape) - 1)):
        return mean(x, found, keepdims), var(x, found, keepdims)
    mean_of, variance = apply(COLUMN_MOMENTS, x)
    if keepdims:
        kept = (*[1] * len(found), shape[-1])
        return reshape(mean_of, kept), reshape(variance, kept)
    return mean_of, variance


def normalize(x: Tensor, axis: Axis = -1, order: int = 2, epsilon: float | None = None) -> Any:
    """Divides by the norm along an axis.

    Args:
        x: the input.
        axis: the axis or axes of each vector.
        order: of the norm, a positive integer.
        epsilon: the least norm to divide by. Default: ``config.epsilon()``.

    Example:
        >>> from handmill import ops
        >>> ops.normalize([[3.0, 4.0]])
        array([[0.6, 0.8]], dtype=float32)
    """
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"Argument `order` must be an int >= 1. Received: order={order!r}")
    (x,) = promote_float(x)
    if not shape_of(x):
        x = reshape(x, (1,))
    least = config.epsilon() if epsilon is None else epsilon
    if order == 2:
        squares = sum(square(x), axis, keepdims=True)
        return multiply(x, rsqrt(maximum(squares, least * least)))
    return divide(x, maximum(norm(x, order, axis, keepdims=True), least))


def batch_normalization(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    axis: int,
    offset: Tensor | None = None,
    scale: Tensor | None = None,
    epsilon: float = 1e-3,
) -> Any:
    """Returns ``(x - mean) / sqrt(variance + epsilon) * scale + offset``.

    Args:
        x: the input.
        mean: a number for each place along the axis.
        variance: a number for each place along the axis.
        axis: the axis.
        offset: a number for each place along the axis, or None.
        scale: a number for each place along the axis, or None.
        epsilon: added to the variance.

    Example:
        >>> from handmill import ops
        >>> ops.batch_normalization([[1.0], [3.0]], [2.0], [4.0], axis=-1, epsilon=0.0)
        array([[-0.5],
               [ 0.5]], dtype=float32)
    """
    given = {"mean": mean, "variance": variance, "offset": offset, "scale": scale}
    operands = {name: tensor(v) for name, v in given.items() if v is not None}
    x, *others = promote_float(x, *operands.values())
    rank = len(shape_of(x))
    axis = normal_axis("batch_normalization", axis, rank)
    size = shape_of(x)[axis]
    at: dict[str, Any] = {}
    for name, v in zip(operands, others, strict=True):
        if len(shape_of(v)) != 1 or not same(shape_of(v)[0], size):
            raise shape_error(
                "batch_normalization",
                f"Arguments `{name}` must be a vector of length `x.shape[axis]`",
                {"x": shape_of(x), name: shape_of(v)},
            )
        at[name] = reshape(v, tuple(size if a == axis else 1 for a in range(rank)))
    factor = rsqrt(add(at["variance"], epsilon))
    if scale is not None:
        factor = multiply(factor, at["scale"])
    y = multiply(subtract(x, at["mean"]), factor)
    return y if offset is None else add(y, at["offset"])


def layer_normalization(
    x: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    axis: int | Sequence[int] = -1,
    epsilon: float | None = None,
) -> Any:
    """Gives the elements along axes mean 0 and variance 1, then scales and shifts them.

    It computes in float32 at least. The mean is subtracted before anything is multiplied, so no
    digits are lost where it is large.

    Args:
        x: the input.
        gamma: factors, one for each element along the axes.
        beta: offsets, one for each element along the axes.
        axis: the axis or axes.
        epsilon: added to the variance. Default: ``config.epsilon()``.

    Example:
        >>> from handmill import ops
        >>> ops.layer_normalization([[1.0, 3.0]], epsilon=0.0)
        array([[-1.,  1.]], dtype=float32)
    """
    x, given, axes = _in_float32(x, axis)
    least = config.epsilon() if epsilon is None else epsilon
    if gamma is not None and beta is not None:
        vectors = [_vector(v, x, axes) for v in (gamma, beta)]
        if all(v is not None for v in vectors):
            return cast(apply(LAYER_NORM, x, *vectors, epsilon=float(least))[0], given)
    centered = subtract(x, mean(x, axes, keepdims=True))
    y = multiply(centered, rsqrt(add(mean(square(centered), axes, keepdims=True), least)))
    if gamma is not None:
        y = multiply(y, _along_axes(gamma, x, axes))
    if beta is not None:
        y = add(y, _along_axes(beta, x, axes))
    return cast(y, given)


def rms_normalization(
    x: Tensor,
    scale: Tensor | None = None,
    axis: int | Sequence[int] = -1,
    epsilon: float | None = None,
) -> Any:
    """Divides by the root of the mean square along axes, then scales; in float32 at least.

    Args:
        x: the input.
        scale: factors, one for each element along the axes.
        axis: the axis or axes.
        epsilon: added to the mean square. Default: ``config.epsilon()``.

    Example:
        >>> from handmill import ops
        >>> ops.rms_normalization([[1.0, 7.0]], epsilon=0.0)
        array([[0.2, 1.4]], dtype=float32)
    """
    x, given, axes = _in_float32(x, axis)
    least = config.epsilon() if epsilon is None else epsilon
    vector = None if scale is None else _vector(scale, x, axes)
    if vector is not None:
        return cast(apply(RMS_NORM, x, vector, epsilon=float(least))[0], given)
    y = multiply(x, rsqrt(add(mean(square(x), axes, keepdims=True), least)))
    if scale is not None:
        y = multiply(y, _along_axes(scale, x, axes))
    return cast(y, given)


def _in_float32(x: Tensor, axis: int | Sequence[int]) -> tuple[Any, str, tuple[int, ...]]:
    """A tensor in float32 at least, its own dtype, and axes in ascending order."""
    x = tensor(x)
    given = dtype_of(x)
    axes = (axis,) if isinstance(axis, int) else tuple(sorted(axis))
    rank = len(shape_of(x))
    if not rank:
        x, rank = reshape(x, (1,)), 1
    for one in axes:
        normal_axis("normalization", one, rank)
    return cast(x, common_dtype((given, "float32"))), given, axes


def _vector(factors: Tensor, x: Any, axes: tuple[int, ...]) -> Any:
    """Factors of the last axis of float32 numbers, for the operators that do all of it; or None."""
    factors = tensor(factors)
    shape, size = shape_of(factors), shape_of(x)[-1]
    if dtype_of(x) != "float32" or [axis % len(shape_of(x)) for axis in axes] != [
        len(shape_of(x)) - 1
    ]:
        return None
    return cast(factors, "float32") if len(shape) == 1 and same(shape[0], size) else None


def _along_axes(factors: Tensor, x: Any, axes: tuple[int, ...]) -> Any:
    """Factors of the elements along ``axes``, so that they broadcast."""
    rank = len(shape_of(x))
    factors = cast(tensor(factors), dtype_of(x))
    if len(shape_of(factors)) == rank or [axis % rank for axis in axes] == [rank - 1]:
        return factors
    sizes: list[Any] = [1] * rank
    for axis in axes:
        sizes[axis] = shape_of(x)[axis]
    return reshape(factors, tuple(sizes))
