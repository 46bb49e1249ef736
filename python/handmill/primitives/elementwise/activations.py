"""Operators for activation functions; each has a derivative of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.ir.op import Array, Attrs, Exact, Op, Ulp
from handmill.ir.trace import apply
from handmill.primitives.elementwise.arithmetic import ROUNDED, binary_op, unary_op
from handmill.primitives.elementwise.unary import (
    SIGMOID,
    SIGMOID_GRAD,
    erfc_reference,
    sigmoid_reference,
    size_of_dy,
)
from handmill.primitives.emit import absolute, exp, greater, less, sign, tanh, where
from handmill.primitives.samples import binary, unary

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
_TANH_SCALE = math.sqrt(2 / math.pi)
_FINITE = (0.0, -0.0, 1.0, -1.0, 30.0, -30.0, 1e-45, -1e-40, np.nan)


# Second derivatives, for gradients of gradients.


def _below(y: Any, curved: Any) -> Any:
    """``curved`` where ``y`` is not positive; the function is straight elsewhere."""
    return where(greater(y, 0.0), 0.0, curved)


def _between(x: Any, curved: Any) -> Any:
    """``curved`` where x lies between -3 and 3."""
    return where(less(absolute(x), 3.0), curved, 0.0)


def _silu_curvature(x: Any) -> Any:
    # y = x s, s = sigmoid(x): y'' = 2 s' + x s'', s' = s (1 - s), s'' = s' (1 - 2 s).
    s = apply(SIGMOID, x)
    return s * (1 - s) * (x * (1 - s * 2) + 2)


def _gelu_curvature(x: Any) -> Any:
    # y' = Phi + x phi, phi' = -x phi: y'' = (2 - x^2) phi.
    squared = x * x
    return exp(squared * -0.5) * (2 - squared) * (1 / math.sqrt(2 * math.pi))


def _gelu_tanh_curvature(x: Any) -> Any:
    # y = x s, s = sigmoid(2 u): y'' = 2 s' + x s'', s' = 2 s (1 - s) u',
    # s'' = 2 (1 - 2 s) s' u' + 2 s (1 - s) u''.
    squared = x * x
    u = x * (squared * 0.044715 + 1) * _TANH_SCALE
    slope = (squared * (3 * 0.044715) + 1) * _TANH_SCALE
    s = apply(SIGMOID, u * 2)
    spread = s * (1 - s) * 2
    first = spread * slope
    second = (1 - s * 2) * 2 * first * slope + spread * x * (6 * 0.044715 * _TANH_SCALE)
    return first * 2 + x * second


def _mish_curvature(x: Any) -> Any:
    # y = x t, t = tanh(softplus(x)): y'' = 2 t' + x t'', t' = (1 - t^2) s, s = sigmoid(x),
    # t'' = (1 - t^2) s (1 - s) - 2 t t' s.
    t, s = tanh(apply(SOFTPLUS, x)), apply(SIGMOID, x)
    first = (1 - t * t) * s
    return first * 2 + x * (first * (1 - s) - t * first * s * 2)


def _size_of_x(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return np.abs(inputs[0])


RELU: Op = unary_op(
    "relu",
    lambda x: np.maximum(x, np.zeros((), x.dtype)),
    lambda x, y, dy: apply(RELU_GRAD, dy, y),
    unary(kinks=(0.0,)),
    Exact(),
    epilogue=("activation", "relu"),
    # Guided backpropagation hands back only what is positive, too (Springenberg et al. 2015);
    # a deconvolution that alone, whatever the operand was (Zeiler and Fergus 2014).
    rules={
        "guided": lambda inputs, outputs, dys: (apply(RELU, apply(RELU_GRAD, dys[0], outputs[0])),),
        "deconvolution": lambda inputs, outputs, dys: (apply(RELU, dys[0]),),
    },
)
RELU_GRAD: Op = binary_op(
    "relu_grad",
    lambda dy, y: np.where(y > 0, dy, np.zeros((), dy.dtype)),
    lambda dy, y, dx, d: (apply(RELU_GRAD, d, y), None),
    binary(kinks=(0.0,)),
    Exact(),
    epilogue=("act_grad", "relu"),
)
RELU6 = unary_op(
    "relu6",
    lambda x: np.clip(x, np.zeros((), x.dtype), np.asarray(6, x.dtype)),
    lambda x, y, dy: apply(RELU6_GRAD, dy, y),
    unary(-3.0, 9.0, kinks=(0.0, 6.0)),
    Exact(),
    epilogue=("activation", "relu6"),
)
RELU6_GRAD: Op = binary_op(
    "relu6_grad",
    lambda dy, y: np.where((y > 0) & (y < 6), dy, np.zeros((), dy.dtype)),
    lambda dy, y, dx, d: (apply(RELU6_GRAD, d, y), None),
    binary(0.0, 7.0, kinks=(0.0, 6.0)),
    Exact(),
    epilogue=("act_grad", "relu6"),
)
LEAKY_RELU = unary_op(
    "leaky_relu",
    lambda x, *, negative_slope: np.where(x < 0, x * np.asarray(negative_slope, x.dtype), x),
    lambda x, y, dy, *, negative_slope: apply(
        LEAKY_RELU_GRAD, dy, x, negative_slope=negative_slope
    ),
    unary(kinks=(0.0,), negative_slope=0.25),
    ROUNDED,
    tile_imm=lambda attrs: (attrs["negative_slope"],),
)
LEAKY_RELU_GRAD: Op = binary_op(
    "leaky_relu_grad",
    lambda dy, x, *, negative_slope: np.where(x > 0, dy, dy * np.asarray(negative_slope, dy.dtype)),
    lambda dy, x, dx, d, **attrs: (apply(LEAKY_RELU_GRAD, d, x, **attrs), None),
    binary(kinks=(0.0,), negative_slope=0.25),
    ROUNDED,
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
ELU_GRAD: Op = binary_op(
    "elu_grad",
    lambda dy, y, *, alpha: np.where(y > 0, dy, dy * (y + np.asarray(alpha, dy.dtype))),
    lambda dy, y, dx, d, *, alpha: (apply(ELU_GRAD, d, y, alpha=alpha), _below(y, d * dy)),
    binary(-0.75, 3.0, kinks=(0.0,), special=(0.0, -0.75, 1.0, -0.5, np.nan), alpha=0.75),
    Ulp(3, of=size_of_dy),
    tile_imm=lambda attrs: (attrs["alpha"],),
)


def _selu(x: Array) -> Array:
    below = SELU_ALPHA * np.expm1(np.minimum(x, np.zeros((), x.dtype)))
    return np.asarray(SELU_SCALE * np.where(x < 0, below, x), x.dtype)


# scale alpha expm1(x): 2 units, two constants and two products of half a unit each, which the
# last product may double.
SELU = unary_op(
    "selu",
    _selu,
    lambda x, y, dy: apply(SELU_GRAD, dy, y),
    unary(kinks=(0.0,)),
    Ulp(8),
    epilogue=("activation", "selu"),
)


def _selu_grad(dy: Array, y: Array) -> Array:
    slope = np.where(y > 0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA)
    return np.asarray(dy * slope, dy.dtype)


# y = scale alpha (e^x - 1) for x <= 0: dy/dx = y + scale alpha, up to 1.76; constant, sum and
# product round half a unit of that each.
SELU_GRAD: Op = binary_op(
    "selu_grad",
    _selu_grad,
    lambda dy, y, dx, d: (apply(SELU_GRAD, d, y), _below(y, d * dy)),
    binary(-1.7, 3.0, kinks=(0.0,), special=(0.0, 1.0, -0.5, np.nan)),
    Ulp(6, of=size_of_dy),
    epilogue=("act_grad", "selu"),
)
# softplus = max(x, 0) + log1p(e^-|x|): an error of 2 units of exp passes through log1p, which
# adds 2; the sum adds a half.
SOFTPLUS = unary_op(
    "softplus",
    lambda x: np.maximum(x, np.zeros((), x.dtype)) + np.log1p(np.exp(-np.abs(x))),
    lambda x, y, dy: apply(SOFTPLUS_GRAD, dy, x),
    unary(-20.0, 20.0),
    Ulp(5),
    epilogue=("activation", "softplus"),
)
# d/dx log(1 + e^x) = sigmoid(x): 2 units, which the product may double, and its rounding.
SOFTPLUS_GRAD: Op = binary_op(
    "softplus_grad",
    lambda dy, x: dy * sigmoid_reference(x),
    lambda dy, x, dx, d: (
        apply(SOFTPLUS_GRAD, d, x),
        apply(SIGMOID_GRAD, d * dy, apply(SIGMOID, x)),
    ),
    binary(special=_FINITE),
    Ulp(5),
)
# Two roundings, of 1 + |x| and of the quotient.
SOFTSIGN = unary_op(
    "softsign",
    lambda x: x / (1 + np.abs(x)),
    lambda x, y, dy: apply(SOFTSIGN_GRAD, dy, x),
    unary(kinks=(0.0,), special=_FINITE),
    Ulp(2),
    epilogue=("activation", "softsign"),
)
# d/dx x / (1 + |x|) = 1 / (1 + |x|)^2: roundings of the sum (squared: twice), square, quotient.
SOFTSIGN_GRAD: Op = binary_op(
    "softsign_grad",
    lambda dy, x: dy / np.square(1 + np.abs(x)),
    lambda dy, x, dx, d: (
        apply(SOFTSIGN_GRAD, d, x),
        apply(SOFTSIGN_GRAD, d * dy, x) * (sign(x) * -2) / (absolute(x) + 1),
    ),
    binary(kinks=(0.0,), special=_FINITE),
    Ulp(4),
)
# x sigmoid(x): 2 units, which the product may double, and its rounding.
SILU = unary_op(
    "silu",
    lambda x: x * sigmoid_reference(x),
    lambda x, y, dy: apply(SILU_GRAD, dy, x),
    unary(-8.0, 8.0, special=_FINITE),
    Ulp(5),
    epilogue=("activation", "silu"),
)


def _silu_grad(dy: Array, x: Array) -> Array:
    s = sigmoid_reference(x)
    return np.asarray(dy * (s * (1 + x * (1 - s))))


def _gelu(x: Array) -> Array:
    share = erfc_reference(x * np.asarray(-math.sqrt(0.5), x.dtype)) / 2
    return np.where(share == 0, np.zeros((), x.dtype), x * share)  # -inf times 0 is 0 here


# With s = sigmoid(x): d/dx x s = s + x s (1 - s) = s (1 + x (1 - s)). Errors relative to
# |dy| (1 + |x|): 2 units of s enter three times, and four roundings.
SILU_GRAD: Op = binary_op(
    "silu_grad",
    _silu_grad,
    lambda dy, x, dx, d: (apply(SILU_GRAD, d, x), d * dy * _silu_curvature(x)),
    binary(special=_FINITE),
    Ulp(16, of=lambda inputs, attrs: np.abs(inputs[0]) * (1 + np.abs(inputs[1]))),
    epilogue=("act_grad", "silu"),
)
# gelu = x Phi(x) = x (1 + erf(x / sqrt 2)) / 2. Errors of Phi in units of 2^-24, those of its
# logarithm times Phi <= 1/2: the fit 0.7, the roundings of both halves of the polynomial and of
# their sum 0.35 each, the power of 2 0.8 and its rounding a half, the difference from 1 a half; in
# units of x, which are 2^-24 x or more, 3.6 and a half of the last product. They never meet: the
# largest error is 2.9 at every level (every seventh float from 1e-10 to 14, both signs).
GELU = unary_op(
    "gelu",
    _gelu,
    lambda x, y, dy: apply(GELU_GRAD, dy, x),
    unary(special=_FINITE),
    Ulp(4, of=_size_of_x),
    epilogue=("activation", "gelu"),
)


def _gelu_grad(dy: Array, x: Array) -> Array:
    cdf = erfc_reference(x * np.asarray(-math.sqrt(0.5), x.dtype)) / 2
    return np.asarray(
        dy * (cdf + x * np.exp(-x * x / 2) / np.asarray(math.sqrt(2 * math.pi), x.dtype))
    )


# d/dx x Phi(x) = Phi(x) + x phi(x), phi = e^(-x^2/2) / sqrt(2 pi): e^(-x^2/2) times a polynomial
# of two halves, each below 2 where the power is above 1/4 (2 units of 2^-24 together), the fit 1.2,
# the power and the rounding of x^2 / 2 (times x^2 / 2 e^(-x^2/2) <= 0.4) 1.5; the last product. A
# unit of |dy| counts up to twice. The largest error is 4.1.
GELU_GRAD: Op = binary_op(
    "gelu_grad",
    _gelu_grad,
    lambda dy, x, dx, d: (apply(GELU_GRAD, d, x), d * dy * _gelu_curvature(x)),
    binary(special=_FINITE),
    Ulp(10, of=size_of_dy),
    epilogue=("act_grad", "gelu"),
)


def _gelu_tanh(x: Array) -> Array:
    # (1 + tanh u) / 2 = sigmoid(2 u), which does not cancel.
    u = np.asarray(_TANH_SCALE, x.dtype) * (x + np.asarray(0.044715, x.dtype) * x**3)
    return np.asarray(x * sigmoid_reference(2 * u))


# Like gelu, the fit 0.6. The largest error is 3.4 (every seventh float from 1e-10 to 15, both
# signs).
GELU_TANH = unary_op(
    "gelu_tanh",
    _gelu_tanh,
    lambda x, y, dy: apply(GELU_TANH_GRAD, dy, x),
    unary(special=_FINITE),
    Ulp(6, of=_size_of_x),
    epilogue=("activation", "gelu_tanh"),
)


def _gelu_tanh_grad(dy: Array, x: Array) -> Array:
    cubic = np.asarray(0.044715, x.dtype)
    u = np.asarray(_TANH_SCALE, x.dtype) * (x + cubic * x**3)
    slope = np.asarray(_TANH_SCALE, x.dtype) * (1 + 3 * cubic * x * x)
    s = sigmoid_reference(2 * u)
    return np.asarray(dy * (s + x * (2 * s * (1 - s)) * slope))


# t = sigmoid(-v) of u = |x|: dy/dx is t (1 - (1 - t) u v') at -u, and 1 less that at u. An error of
# t counts |1 - (1 - 2 t) u v'| times, which grows as u^3 while t vanishes. The largest error is 3.1
# units of |dy| alone (the same floats).
GELU_TANH_GRAD: Op = binary_op(
    "gelu_tanh_grad",
    _gelu_tanh_grad,
    lambda dy, x, dx, d: (apply(GELU_TANH_GRAD, d, x), d * dy * _gelu_tanh_curvature(x)),
    binary(special=_FINITE[:4]),
    Ulp(
        12,
        of=lambda inputs, attrs: (
            np.abs(inputs[0]) * (1 + np.abs(inputs[1]) + np.abs(inputs[1]) ** 3)
        ),
    ),
    epilogue=("act_grad", "gelu_tanh"),
)


def _hard_sigmoid(x: Array) -> Array:
    shifted = x + np.asarray(3, x.dtype)
    return np.asarray(np.clip(shifted, np.zeros((), x.dtype), np.asarray(6, x.dtype)) / 6)


# x + 3 rounds once (near -3 it is exact), the factor 1 / 6 and the product once each.
HARD_SIGMOID = unary_op(
    "hard_sigmoid",
    _hard_sigmoid,
    lambda x, y, dy: apply(HARD_SIGMOID_GRAD, dy, y),
    unary(-5.0, 5.0, kinks=(-3.0, 3.0)),
    Ulp(3),
    epilogue=("activation", "hard_sigmoid"),
)
HARD_SIGMOID_GRAD: Op = binary_op(
    "hard_sigmoid_grad",
    lambda dy, y: np.where((y > 0) & (y < 1), dy / np.asarray(6, dy.dtype), np.zeros((), dy.dtype)),
    lambda dy, y, dx, d: (apply(HARD_SIGMOID_GRAD, d, y), None),
    binary(0.0, 1.0),
    Ulp(2),
    epilogue=("act_grad", "hard_sigmoid"),
)
HARD_SILU = unary_op(
    "hard_silu",
    lambda x: x * _hard_sigmoid(x),
    lambda x, y, dy: apply(HARD_SILU_GRAD, dy, x),
    unary(-5.0, 5.0, kinks=(-3.0, 3.0), special=_FINITE),
    Ulp(5),
    epilogue=("activation", "hard_silu"),
)


def _hard_silu_grad(dy: Array, x: Array) -> Array:
    slope = np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, (2 * x + 3) / 6))
    return np.asarray(dy * slope, dy.dtype)


# d/dx x (x + 3) / 6 = (2 x + 3) / 6 between -3 and 3, up to 1.5; a sum up to 9 rounds.
HARD_SILU_GRAD: Op = binary_op(
    "hard_silu_grad",
    _hard_silu_grad,
    lambda dy, x, dx, d: (apply(HARD_SILU_GRAD, d, x), _between(x, d * dy / 3)),
    binary(kinks=(-3.0, 3.0), special=_FINITE),
    Ulp(6, of=size_of_dy),
)
# tanh(log(1 + e^x)) = w / (w + 2) with w = e (e + 2), e = e^x: e holds 2 units, w 5, the
# quotient 6, the product 7, each unit counted up to twice.
MISH = unary_op(
    "mish",
    lambda x: x * np.tanh(np.logaddexp(np.zeros((), x.dtype), x)),
    lambda x, y, dy: apply(MISH_GRAD, dy, x),
    unary(special=_FINITE),
    Ulp(14),
)


def _mish_grad(dy: Array, x: Array) -> Array:
    t = np.tanh(np.logaddexp(np.zeros((), x.dtype), x))
    return np.asarray(dy * (t + x * (1 - t * t) * sigmoid_reference(x)))


# d/dx x t = t + x (1 - t^2) sigmoid(x), t = tanh(softplus(x)). t carries 6 units, so does
# 1 - t^2 in units of 1, times |x|; sigmoid 3, and four roundings. A unit counts up to twice.
MISH_GRAD: Op = binary_op(
    "mish_grad",
    _mish_grad,
    lambda dy, x, dx, d: (apply(MISH_GRAD, d, x), d * dy * _mish_curvature(x)),
    binary(special=_FINITE),
    Ulp(26, of=lambda inputs, attrs: np.abs(inputs[0]) * (1 + np.abs(inputs[1]))),
)
