"""Activation functions by the names of ``keras.ops``."""

from __future__ import annotations

from typing import Any

from handmill.ir.trace import apply
from handmill.ops.numpy.arrange import split
from handmill.primitives.cast import Tensor, promote_float, rounded
from handmill.primitives.elementwise.activations import (
    ELU,
    GELU,
    GELU_TANH,
    HARD_SIGMOID,
    HARD_SILU,
    LEAKY_RELU,
    MISH,
    RELU,
    RELU6,
    SELU,
    SILU,
    SOFTPLUS,
    SOFTSIGN,
)
from handmill.primitives.elementwise.arithmetic import add, multiply, negative, subtract
from handmill.primitives.elementwise.logic import greater, where
from handmill.primitives.elementwise.unary import absolute, clip, sigmoid, sqrt, square, tanh


def relu(x: Tensor) -> Any:
    """Returns ``max(x, 0)``.

    Example:
        >>> from handmill import ops
        >>> ops.relu([-1.0, 0.0, 2.0])
        array([0., 0., 2.], dtype=float32)
    """
    return apply(RELU, *promote_float(x))


def relu6(x: Tensor) -> Any:
    """Returns ``min(max(x, 0), 6)``.

    Example:
        >>> from handmill import ops
        >>> ops.relu6([-1.0, 2.0, 8.0])
        array([0., 2., 6.], dtype=float32)
    """
    return apply(RELU6, *promote_float(x))


def leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Any:
    """Returns ``x`` if it is positive, ``negative_slope * x`` otherwise.

    Example:
        >>> from handmill import ops
        >>> ops.leaky_relu([-1.0, 2.0], negative_slope=0.5)
        array([-0.5,  2. ], dtype=float32)
    """
    (x,) = promote_float(x)
    return apply(LEAKY_RELU, x, negative_slope=rounded(negative_slope, x))


def elu(x: Tensor, alpha: float = 1.0) -> Any:
    """Returns ``x`` if it is positive, ``alpha * (exp(x) - 1)`` otherwise.

    Example:
        >>> from handmill import ops
        >>> ops.elu([-100.0, 2.0])
        array([-1.,  2.], dtype=float32)
    """
    (x,) = promote_float(x)
    return apply(ELU, x, alpha=rounded(alpha, x))


def selu(x: Tensor) -> Any:
    """Returns the scaled exponential linear unit, ``1.0507 * elu(x, 1.6733)``.

    Example:
        >>> from handmill import ops
        >>> ops.selu([0.0, 1.0]).round(4)
        array([0.    , 1.0507], dtype=float32)
    """
    return apply(SELU, *promote_float(x))


def celu(x: Tensor, alpha: float = 1.0) -> Any:
    """Returns ``x`` if it is positive, ``alpha * (exp(x / alpha) - 1)`` otherwise.

    Example:
        >>> from handmill import ops
        >>> ops.celu([-100.0, 2.0], alpha=2.0)
        array([-2.,  2.], dtype=float32)
    """
    return multiply(elu(multiply(x, 1 / alpha)), alpha)


def softplus(x: Tensor) -> Any:
    """Returns ``log(1 + exp(x))`` without overflow.

    Example:
        >>> from handmill import ops
        >>> ops.softplus([-200.0, 100.0])
        array([  0., 100.], dtype=float32)
    """
    return apply(SOFTPLUS, *promote_float(x))


def softsign(x: Tensor) -> Any:
    """Returns ``x / (1 + |x|)``.

    Example:
        >>> from handmill import ops
        >>> ops.softsign([1.0, -3.0])
        array([ 0.5 , -0.75], dtype=float32)
    """
    return apply(SOFTSIGN, *promote_float(x))


def silu(x: Tensor) -> Any:
    """Returns ``x * sigmoid(x)``, also called swish.

    Example:
        >>> from handmill import ops
        >>> ops.silu([0.0, 100.0])
        array([  0., 100.], dtype=float32)
    """
    return apply(SILU, *promote_float(x))


swish = silu


def gelu(x: Tensor, approximate: bool = True) -> Any:
    """Returns ``x`` times the probability that a standard normal number is below ``x``.

    Args:
        x: the input.
        approximate: whether to compute the probability with tanh instead of erf.

    Example:
        >>> from handmill import ops
        >>> ops.gelu([0.0, 100.0])
        array([  0., 100.], dtype=float32)

    References:
        - [Hendrycks et al., 2016](https://arxiv.org/abs/1606.08415)
    """
    return apply(GELU_TANH if approximate else GELU, *promote_float(x))


def log_sigmoid(x: Tensor) -> Any:
    """Returns ``log(sigmoid(x))`` without underflow.

    Example:
        >>> from handmill import ops
        >>> ops.log_sigmoid([-100.0, 0.0]).round(4)
        array([-100.    ,   -0.6931], dtype=float32)
    """
    return negative(softplus(negative(x)))


def hard_sigmoid(x: Tensor) -> Any:
    """Returns ``relu6(x + 3) / 6``.

    Example:
        >>> from handmill import ops
        >>> ops.hard_sigmoid([-5.0, 0.0, 5.0])
        array([0. , 0.5, 1. ], dtype=float32)
    """
    return apply(HARD_SIGMOID, *promote_float(x))


def hard_silu(x: Tensor) -> Any:
    """Returns ``x * relu6(x + 3) / 6``, also called hard swish.

    Example:
        >>> from handmill import ops
        >>> ops.hard_silu([-5.0, 0.0, 5.0]) + 0
        array([0., 0., 5.], dtype=float32)
    """
    return apply(HARD_SILU, *promote_float(x))


hard_swish = hard_silu


def hard_tanh(x: Tensor) -> Any:
    """Returns ``x`` limited to the interval from -1 to 1.

    Example:
        >>> from handmill import ops
        >>> ops.hard_tanh([-5.0, 0.5])
        array([-1. ,  0.5], dtype=float32)
    """
    return clip(promote_float(x)[0], -1, 1)


def hard_shrink(x: Tensor, threshold: float = 0.5) -> Any:
    """Returns ``x`` where ``|x| > threshold``, else 0.

    Example:
        >>> from handmill import ops
        >>> ops.hard_shrink([-0.5, 1.0])
        array([0., 1.], dtype=float32)
    """
    (x,) = promote_float(x)
    return where(greater(absolute(x), threshold), x, 0.0)


def soft_shrink(x: Tensor, threshold: float = 0.5) -> Any:
    """Moves ``x`` towards 0 by ``threshold``, not past it.

    Example:
        >>> from handmill import ops
        >>> ops.soft_shrink([-0.25, 1.0])
        array([0. , 0.5], dtype=float32)
    """
    (x,) = promote_float(x)
    return subtract(x, clip(x, -threshold, threshold))


def tanh_shrink(x: Tensor) -> Any:
    """Returns ``x - tanh(x)``.

    Example:
        >>> from handmill import ops
        >>> ops.tanh_shrink([0.0, 100.0])
        array([ 0., 99.], dtype=float32)
    """
    (x,) = promote_float(x)
    return subtract(x, tanh(x))


def threshold(x: Tensor, threshold: float, default_value: float) -> Any:
    """Returns ``x`` where it exceeds ``threshold``, else ``default_value``.

    Example:
        >>> from handmill import ops
        >>> ops.threshold([0.5, 2.0], 1.0, 9.0)
        array([9., 2.], dtype=float32)
    """
    (x,) = promote_float(x)
    return where(greater(x, threshold), x, default_value)


def squareplus(x: Tensor, b: float = 4) -> Any:
    """Returns ``(x + sqrt(x^2 + b)) / 2``.

    Example:
        >>> from handmill import ops
        >>> ops.squareplus([0.0, 1.5])
        array([1., 2.], dtype=float32)
    """
    (x,) = promote_float(x)
    return multiply(add(x, sqrt(add(square(x), b))), 0.5)


def mish(x: Tensor) -> Any:
    """Returns ``x * tanh(softplus(x))``.

    Example:
        >>> from handmill import ops
        >>> ops.mish([0.0, 100.0])
        array([  0., 100.], dtype=float32)
    """
    return apply(MISH, *promote_float(x))


def glu(x: Tensor, axis: int = -1) -> Any:
    """Splits ``x`` into halves ``a`` and ``b`` along an axis and returns ``a * sigmoid(b)``.

    Example:
        >>> from handmill import ops
        >>> ops.glu([4.0, 0.0])
        array([2.], dtype=float32)
    """
    (x,) = promote_float(x)
    a, b = split(x, 2, axis=axis)
    return multiply(a, sigmoid(b))
