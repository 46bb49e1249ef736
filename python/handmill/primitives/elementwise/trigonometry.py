"""Angles, hyperbolic functions and their inverses; Bessel functions run in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from handmill.ir.op import REGISTRY, Array, Attrs, Op, Ulp
from handmill.ir.trace import apply
from handmill.primitives.elementwise.arithmetic import binary_op, unary_op
from handmill.primitives.emit import negative, square
from handmill.primitives.samples import binary, unary


def _sqrt(x: Any) -> Any:
    return apply(REGISTRY["sqrt"], x)


def _rsqrt(x: Any) -> Any:
    return apply(REGISTRY["rsqrt"], x)


def in_float64(function: Callable[..., Any]) -> Callable[..., Array]:
    """Returns a function of NumPy as one that computes in float64 and rounds once."""

    def reference(*operands: Array) -> Array:
        with np.errstate(all="ignore"):
            wide = function(*(x.astype(np.float64) for x in operands))
            return np.asarray(wide, operands[0].dtype)

    return reference


# Bounds: the contract of csrc/simd/angles.h.


def _of_one(name: str, derivative: Callable[..., Any], low: float, high: float, units: int) -> Op:
    return unary_op(
        name,
        in_float64(getattr(np, name)),
        derivative,
        unary(low, high),
        Ulp(units),
    )


SINH: Op = _of_one("sinh", lambda x, y, dy: dy * apply(COSH, x), -5.0, 5.0, 4)
COSH: Op = _of_one("cosh", lambda x, y, dy: dy * apply(SINH, x), -5.0, 5.0, 4)
# d/dx arcsin = (1 - x^2)^(-1/2); the product keeps the digits that 1 - x^2 loses near 1.
ARCSIN = _of_one("arcsin", lambda x, y, dy: dy * _rsqrt((1 - x) * (x + 1)), -0.9, 0.9, 4)
ARCCOS = _of_one("arccos", lambda x, y, dy: negative(dy * _rsqrt((1 - x) * (x + 1))), -0.9, 0.9, 4)
ARCTAN = _of_one("arctan", lambda x, y, dy: dy / (square(x) + 1), -5.0, 5.0, 3)
ARCSINH = _of_one("arcsinh", lambda x, y, dy: dy * _rsqrt(square(x) + 1), -5.0, 5.0, 4)
ARCCOSH = _of_one("arccosh", lambda x, y, dy: dy * _rsqrt((x - 1) * (x + 1)), 1.2, 9.0, 4)
ARCTANH = _of_one("arctanh", lambda x, y, dy: dy / ((1 - x) * (x + 1)), -0.9, 0.9, 4)


def _arctan2_derivatives(y: Any, x: Any, out: Any, d: Any) -> tuple[Any, Any]:
    # The angle of (x, y): its gradient is (x, -y) / (x^2 + y^2).
    scaled = d / (square(x) + square(y))
    return scaled * x, negative(scaled * y)


ARCTAN2 = binary_op(
    "arctan2",
    in_float64(np.arctan2),
    _arctan2_derivatives,
    binary(0.3, 4.0),
    Ulp(3),
)


def _bessel(x: Array, *, order: int) -> Array:
    # I_n(x) = 1/pi times the integral of exp(x cos t) cos(n t) from 0 to pi. The trapezoidal rule
    # on a periodic function converges faster than any power: 256 points leave nothing up to
    # |x| = 700, where float64 ends.
    points = 256
    size = np.abs(np.asarray(x, np.float64))
    total = np.zeros(size.shape)
    with np.errstate(all="ignore"):
        for t in np.arange(points) * (2 * np.pi / points):
            total += np.exp(size * np.cos(t)) * np.cos(order * t)
        total = np.where(np.isinf(size), np.inf, total / points)
        return np.asarray(np.where(x < 0, -total, total) if order % 2 else total, x.dtype)


def _largest_bessel(inputs: Any, attrs: Attrs) -> Array:
    return _bessel(inputs[0], order=0)


# The modified Bessel functions of the first kind: d/dx I_n = (I_(n-1) + I_(n+1)) / 2, where
# I_(-1) = I_1. What is summed up is as large as I_0.
BESSEL_I: Op = unary_op(
    "bessel_i",
    _bessel,
    lambda x, y, dy, *, order: (
        dy * (apply(BESSEL_I, x, order=abs(order - 1)) + apply(BESSEL_I, x, order=order + 1)) * 0.5
    ),
    unary(-4.0, 4.0, order=0, special=(0.0, -0.0, 1.0, -1.0, 60.0, np.inf, np.nan)),
    Ulp(1, of=_largest_bessel),
    kernel=False,
)
