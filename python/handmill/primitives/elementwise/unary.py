"""Mathematical functions of one operand, element by element."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.ir.op import Array, Attrs, Exact, Op, Ulp
from handmill.ir.trace import apply
from handmill.primitives.elementwise.arithmetic import ROUNDED, binary_op, unary_op
from handmill.primitives.emit import cos, exp, negative, sign, sin, square
from handmill.primitives.samples import binary, unary

# Bounds: exp, exp2, expm1, log, log1p, tanh, sigmoid and erf hold 2 units by the contract of
# csrc/simd/math.h.
ABSOLUTE = unary_op(
    "absolute",
    np.abs,
    lambda x, y, dy: dy * sign(x),
    unary(kinks=(0.0,)),
    Exact(),
    tile="abs",
    floats_only=False,
)
SQUARE = unary_op(
    "square", np.square, lambda x, y, dy: dy * (x * 2), unary(), ROUNDED, floats_only=False
)
# y = sqrt(x): dy/dx = 1 / (2 y).
SQRT = unary_op("sqrt", np.sqrt, lambda x, y, dy: dy / (y * 2), unary(0.1, 9.0), ROUNDED)
# y = x^(-1/2): dy/dx = -1/2 x^(-3/2) = -y^3 / 2. Two roundings, of the root and the quotient:
# half a unit of the root moves the quotient by up to one unit.
RSQRT = unary_op(
    "rsqrt",
    lambda x: 1 / np.sqrt(x),
    lambda x, y, dy: dy * (y * y * y * -0.5),
    unary(0.1, 9.0),
    Ulp(2),
)
RECIPROCAL = unary_op(
    "reciprocal",
    lambda x: np.ones((), x.dtype) / x,
    lambda x, y, dy: negative(dy * y * y),
    unary(0.3, 4.0),
    ROUNDED,
)
EXP = unary_op("exp", np.exp, lambda x, y, dy: dy * y, unary(-5.0, 5.0), Ulp(2))
# y = 2^x: dy/dx = y ln 2.
EXP2 = unary_op(
    "exp2", np.exp2, lambda x, y, dy: dy * (y * math.log(2.0)), unary(-8.0, 8.0), Ulp(2)
)
EXPM1 = unary_op("expm1", np.expm1, lambda x, y, dy: dy * (y + 1), unary(-3.0, 3.0), Ulp(2))
LOG = unary_op("log", np.log, lambda x, y, dy: dy / x, unary(0.1, 50.0), Ulp(2))
LOG1P = unary_op("log1p", np.log1p, lambda x, y, dy: dy / (x + 1), unary(-0.9, 20.0), Ulp(2))
# sin and cos: 2 units of 1, since an argument near a multiple of pi is rounded before.
SIN = unary_op(
    "sin",
    np.sin,
    lambda x, y, dy: dy * cos(x),
    unary(-9.0, 9.0, special=(0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45)),
    Ulp(2, of=lambda inputs, attrs: np.ones(inputs[0].shape)),
)
COS = unary_op(
    "cos",
    np.cos,
    lambda x, y, dy: negative(dy * sin(x)),
    unary(-9.0, 9.0, special=(0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45)),
    Ulp(2, of=lambda inputs, attrs: np.ones(inputs[0].shape)),
)


def elementwise_function(function: Any) -> Any:
    """Returns a scalar function of :mod:`math` as one of arrays, computed in float64."""
    vectorized = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(vectorized(np.asarray(x, np.float64)), np.float64).astype(x.dtype)


erf_reference = elementwise_function(math.erf)
erfc_reference = elementwise_function(math.erfc)

# d/dx erf(x) = 2 / sqrt(pi) exp(-x^2).
ERF = unary_op(
    "erf",
    erf_reference,
    lambda x, y, dy: dy * (exp(negative(square(x))) * (2 / math.sqrt(math.pi))),
    unary(-3.0, 3.0),
    Ulp(2),
)


def sigmoid_reference(x: Array) -> Array:
    """1 / (1 + e^-x) without overflow."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, np.ones((), x.dtype)) / (1 + e))


SIGMOID = unary_op(
    "sigmoid",
    sigmoid_reference,
    lambda x, y, dy: apply(SIGMOID_GRAD, dy, y),
    unary(-8.0, 8.0),
    Ulp(2),
    epilogue=("activation", "sigmoid"),
    link="sigmoid",
)
TANH = unary_op(
    "tanh",
    np.tanh,
    lambda x, y, dy: apply(TANH_GRAD, dy, y),
    unary(-4.0, 4.0),
    Ulp(2),
    epilogue=("activation", "tanh"),
)


def size_of_dy(inputs: Sequence[Array], attrs: Attrs) -> Array:
    """The magnitude of a gradient whose factor may cancel but is at most about 1."""
    return np.abs(inputs[0])


# y = sigmoid(x): dy/dx = y (1 - y); three roundings.
SIGMOID_GRAD: Op = binary_op(
    "sigmoid_grad",
    lambda dy, y: dy * (y * (1 - y)),
    lambda dy, y, dx, d: (apply(SIGMOID_GRAD, d, y), d * dy * (1 - y * 2)),
    binary(0.0, 1.0, special=(0.0, 1.0, 0.5, 1e-45, np.nan)),
    Ulp(3),
    epilogue=("act_grad", "sigmoid"),
)
# y = tanh(x): dy/dx = 1 - y^2; the rounding of y^2 <= 1 is half a unit of 1, and the two
# roundings after it add one unit.
TANH_GRAD: Op = binary_op(
    "tanh_grad",
    lambda dy, y: dy * (1 - y * y),
    lambda dy, y, dx, d: (apply(TANH_GRAD, d, y), d * dy * (y * -2)),
    binary(-1.0, 1.0, special=(0.0, 1.0, -1.0, 0.5, np.nan)),
    Ulp(3, of=size_of_dy),
    epilogue=("act_grad", "tanh"),
)

SIGN = unary_op("sign", np.sign, None, unary(kinks=(0.0,)), Exact(), floats_only=False, signed=True)
FLOOR = unary_op("floor", np.floor, None, unary(-5.0, 5.0, smooth=False), Exact())
TRUNC = unary_op("trunc", np.trunc, None, unary(-5.0, 5.0, smooth=False), Exact())
CEIL = unary_op("ceil", np.ceil, None, unary(-5.0, 5.0, smooth=False), Exact())
ROUND = unary_op("round", np.rint, None, unary(-5.0, 5.0, smooth=False), Exact())


def _clip_reference(x: Array, *, lo: float, hi: float) -> Array:
    low, high = np.asarray(lo, x.dtype), np.asarray(hi, x.dtype)
    return np.asarray(np.minimum(np.maximum(x, low), high))


CLIP = unary_op(
    "clip",
    _clip_reference,
    lambda x, y, dy, *, lo, hi: apply(CLIP_GRAD, dy, x, lo=lo, hi=hi),
    unary(kinks=(-1.0, 2.5), lo=-1.0, hi=2.5),
    Exact(),
    tile_imm=lambda attrs: (attrs["lo"], attrs["hi"]),
)
CLIP_GRAD: Op = binary_op(
    "clip_grad",
    lambda dy, x, *, lo, hi: np.where((x >= lo) & (x <= hi), dy, np.zeros((), dy.dtype)),
    lambda dy, x, dx, d, *, lo, hi: (apply(CLIP_GRAD, d, x, lo=lo, hi=hi), None),
    binary(kinks=(-1.0, 2.5), lo=-1.0, hi=2.5),
    Exact(),
    tile_imm=lambda attrs: (attrs["lo"], attrs["hi"]),
)
