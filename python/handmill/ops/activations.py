"""Activation functions: elementwise operators with derivatives of their own, and compositions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.ir.op import Array, Attrs, Exact, Ulp
from handmill.ir.trace import apply
from handmill.ops.convert import Tensor, promote_float, shape_of
from handmill.ops.elementwise import add, binary_op, multiply, negative, subtract, unary_op
from handmill.ops.logic import greater, where
from handmill.ops.samples import binary, unary
from handmill.ops.unary import (
    absolute,
    clip,
    erfc_reference,
    sigmoid,
    sigmoid_reference,
    size_of_dy,
    sqrt,
    square,
    tanh,
)

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
_FINITE = (0.0, -0.0, 1.0, -1.0, 30.0, -30.0, 1e-45, -1e-40, np.nan)


def _size_of_x(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return np.abs(inputs[0])


RELU = unary_op(
    "relu",
    lambda x: np.maximum(x, np.zeros((), x.dtype)),
    lambda x, y, dy: apply(RELU_GRAD, dy, y),
    unary(kinks=(0.0,)),
    Exact(),
    epilogue=("activation", "relu"),
)
RELU_GRAD = binary_op(
    "relu_grad",
    lambda dy, y: np.where(y > 0, dy, np.zeros((), dy.dtype)),
    None,
    binary(smooth=False),
    Exact(),
    epilogue=("act_grad", "relu"),
)
LEAKY_RELU = unary_op(
    "leaky_relu",
    lambda x, *, negative_slope: np.where(x < 0, x * np.asarray(negative_slope, x.dtype), x),
    lambda x, y, dy, *, negative_slope: apply(
        LEAKY_RELU_GRAD, dy, x, negative_slope=negative_slope
    ),
    unary(kinks=(0.0,), negative_slope=0.25),
    Exact(),
    tile_imm=lambda attrs: (attrs["negative_slope"],),
)
LEAKY_RELU_GRAD = binary_op(
    "leaky_relu_grad",
    lambda dy, x, *, negative_slope: np.where(x > 0, dy, dy * np.asarray(negative_slope, dy.dtype)),
    None,
    binary(smooth=False, negative_slope=0.25),
    Exact(),
    tile_imm=lambda attrs: (attrs["negative_slope"],),
)
# expm1 holds 2 units; the product with alpha rounds once more and may double the unit.
ELU = unary_op(
    "elu",
    lambda x, *, alpha: np.where(
        x < 0, np.asarray(alpha, x.dtype) * np.expm1(np.minimum(x, np.zeros((), x.dtype))), x
    ),
    lambda x, y, dy, *, alpha: apply(ELU_GRAD, dy, y, alpha=alpha),
    unary(kinks=(0.0,), alpha=0.75),
    Ulp(5),
    tile_imm=lambda attrs: (attrs["alpha"],),
)
# y = alpha (e^x - 1) for x <= 0: dy/dx = alpha e^x = y + alpha. For |y| <= alpha the sum rounds
# half a unit of alpha, the product half a unit of the result.
ELU_GRAD = binary_op(
    "elu_grad",
    lambda dy, y, *, alpha: np.where(y > 0, dy, dy * (y + np.asarray(alpha, dy.dtype))),
    None,
    binary(-0.75, 3.0, smooth=False, special=(0.0, -0.75, 1.0, -0.5, np.nan), alpha=0.75),
    Ulp(3, of=size_of_dy),
    tile_imm=lambda attrs: (attrs["alpha"],),
)
# softplus = max(x, 0) + log1p(e^-|x|): an error of 2 units of exp passes through log1p, which
# adds 2; the sum adds a half.
SOFTPLUS = unary_op(
    "softplus",
    lambda x: np.maximum(x, np.zeros((), x.dtype)) + np.log1p(np.exp(-np.abs(x))),
    lambda x, y, dy: apply(SOFTPLUS_GRAD, dy, x),
    unary(-20.0, 20.0),
    Ulp(5),
)
# d/dx log(1 + e^x) = sigmoid(x): 2 units, which the product may double, and its rounding.
SOFTPLUS_GRAD = binary_op(
    "softplus_grad",
    lambda dy, x: dy * sigmoid_reference(x),
    None,
    binary(smooth=False, special=_FINITE),
    Ulp(5),
)
# Two roundings, of 1 + |x| and of the quotient.
SOFTSIGN = unary_op(
    "softsign",
    lambda x: x / (1 + np.abs(x)),
    lambda x, y, dy: apply(SOFTSIGN_GRAD, dy, x),
    unary(kinks=(0.0,), special=_FINITE),
    Ulp(2),
)
# d/dx x / (1 + |x|) = 1 / (1 + |x|)^2: roundings of the sum (squared: twice), square, quotient.
SOFTSIGN_GRAD = binary_op(
    "softsign_grad",
    lambda dy, x: dy / np.square(1 + np.abs(x)),
    None,
    binary(smooth=False, special=_FINITE),
    Ulp(4),
)
# x sigmoid(x): 2 units, which the product may double, and its rounding.
SILU = unary_op(
    "silu",
    lambda x: x * sigmoid_reference(x),
    lambda x, y, dy: apply(SILU_GRAD, dy, x),
    unary(-8.0, 8.0, special=_FINITE),
    Ulp(5),
)


def _silu_grad(dy: Array, x: Array) -> Array:
    s = sigmoid_reference(x)
    return np.asarray(dy * (s * (1 + x * (1 - s))))


# With s = sigmoid(x): d/dx x s = s + x s (1 - s) = s (1 + x (1 - s)). Errors relative to
# |dy| (1 + |x|): 2 units of s enter three times, and four roundings.
SILU_GRAD = binary_op(
    "silu_grad",
    _silu_grad,
    None,
    binary(smooth=False, special=_FINITE),
    Ulp(16, of=lambda inputs, attrs: np.abs(inputs[0]) * (1 + np.abs(inputs[1]))),
)
# gelu = x Phi(x) = x (1 + erf(x / sqrt 2)) / 2. 1 + erf cancels for x < 0, hence units of x:
# 2 of erf and one more of its argument, halved; the sum and the product round once each.
GELU = unary_op(
    "gelu",
    lambda x: x * erfc_reference(x * np.asarray(-math.sqrt(0.5), x.dtype)) / 2,
    lambda x, y, dy: apply(GELU_GRAD, dy, x),
    unary(special=_FINITE),
    Ulp(4, of=_size_of_x),
)


def _gelu_grad(dy: Array, x: Array) -> Array:
    cdf = erfc_reference(x * np.asarray(-math.sqrt(0.5), x.dtype)) / 2
    return np.asarray(
        dy * (cdf + x * np.exp(-x * x / 2) / np.asarray(math.sqrt(2 * math.pi), x.dtype))
    )


# d/dx x Phi(x) = Phi(x) + x phi(x), phi = e^(-x^2/2) / sqrt(2 pi). Phi: 3 units as in gelu;
# x phi <= 1/4 with 2 units of exp, the rounding of x^2 / 2 (times x^3 phi / 2 <= 1/4), and three
# products; the last product. A unit of |dy| counts up to twice.
GELU_GRAD = binary_op(
    "gelu_grad",
    _gelu_grad,
    None,
    binary(smooth=False, special=_FINITE),
    Ulp(10, of=size_of_dy),
)
_TANH_SCALE = math.sqrt(2 / math.pi)


def _gelu_tanh(x: Array) -> Array:
    # (1 + tanh u) / 2 = sigmoid(2 u), which does not cancel.
    u = np.asarray(_TANH_SCALE, x.dtype) * (x + np.asarray(0.044715, x.dtype) * x**3)
    return np.asarray(x * sigmoid_reference(2 * u))


# Like gelu; the argument u of tanh has 5 roundings, and |u (1 - tanh(u)^2)| < 1/2.
GELU_TANH = unary_op(
    "gelu_tanh",
    _gelu_tanh,
    lambda x, y, dy: apply(GELU_TANH_GRAD, dy, x),
    unary(special=_FINITE),
    Ulp(6, of=_size_of_x),
)


def _gelu_tanh_grad(dy: Array, x: Array) -> Array:
    cubic = np.asarray(0.044715, x.dtype)
    u = np.asarray(_TANH_SCALE, x.dtype) * (x + cubic * x**3)
    slope = np.asarray(_TANH_SCALE, x.dtype) * (1 + 3 * cubic * x * x)
    s = sigmoid_reference(2 * u)
    return np.asarray(dy * (s + x * (2 * s * (1 - s)) * slope))


# y = x (1 + t) / 2, t = tanh(u): dy/dx = (1 + t) / 2 + x (1 - t^2) u' / 2. 1 - t^2 carries
# 2 * 2 units of t, multiplied by |x u'| / 2.
GELU_TANH_GRAD = binary_op(
    "gelu_tanh_grad",
    _gelu_tanh_grad,
    None,
    binary(smooth=False, special=_FINITE[:4]),
    Ulp(
        12,
        of=lambda inputs, attrs: (
            np.abs(inputs[0]) * (1 + np.abs(inputs[1]) + np.abs(inputs[1]) ** 3)
        ),
    ),
)


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
    return clip(promote_float(x)[0], 0, 6)


def leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Any:
    """Returns ``x`` if it is positive, ``negative_slope * x`` otherwise.

    Example:
        >>> from handmill import ops
        >>> ops.leaky_relu([-1.0, 2.0], negative_slope=0.5)
        array([-0.5,  2. ], dtype=float32)
    """
    return apply(LEAKY_RELU, *promote_float(x), negative_slope=float(negative_slope))


def elu(x: Tensor, alpha: float = 1.0) -> Any:
    """Returns ``x`` if it is positive, ``alpha * (exp(x) - 1)`` otherwise.

    Example:
        >>> from handmill import ops
        >>> ops.elu([-100.0, 2.0])
        array([-1.,  2.], dtype=float32)
    """
    return apply(ELU, *promote_float(x), alpha=float(alpha))


def selu(x: Tensor) -> Any:
    """Returns the scaled exponential linear unit, ``1.0507 * elu(x, 1.6733)``.

    Example:
        >>> from handmill import ops
        >>> ops.selu([0.0, 1.0])
        array([0.       , 1.0507009], dtype=float32)
    """
    return multiply(elu(x, SELU_ALPHA), SELU_SCALE)


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
        >>> ops.log_sigmoid([-100.0, 200.0]).tolist()
        [-100.0, 0.0]
    """
    return negative(softplus(negative(x)))


def hard_sigmoid(x: Tensor) -> Any:
    """Returns ``relu6(x + 3) / 6``.

    Example:
        >>> from handmill import ops
        >>> ops.hard_sigmoid([-5.0, 0.0, 5.0])
        array([0. , 0.5, 1. ], dtype=float32)
    """
    return multiply(relu6(add(x, 3.0)), 1 / 6)


def hard_silu(x: Tensor) -> Any:
    """Returns ``x * relu6(x + 3) / 6``, also called hard swish.

    Example:
        >>> from handmill import ops
        >>> ops.hard_silu([-5.0, 0.0, 5.0]) + 0
        array([0., 0., 5.], dtype=float32)
    """
    (x,) = promote_float(x)
    return multiply(x, hard_sigmoid(x))


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
    (x,) = promote_float(x)
    return multiply(x, tanh(softplus(x)))


def glu(x: Tensor, axis: int = -1) -> Any:
    """Splits ``x`` into halves ``a`` and ``b`` along an axis and returns ``a * sigmoid(b)``.

    Example:
        >>> from handmill import ops
        >>> ops.glu([4.0, 0.0])
        array([2.], dtype=float32)
    """
    from handmill.ops.arrange import split

    (x,) = promote_float(x)
    if shape_of(x)[axis] % 2:
        raise ValueError(f"`axis` must have an even size, got shape {shape_of(x)}, axis={axis}")
    a, b = split(x, 2, axis=axis)
    return multiply(a, sigmoid(b))
