"""Angles, and hyperbolic functions, element by element."""

from __future__ import annotations

import math
from typing import Any

from handmill.ir.trace import apply
from handmill.ops.numpy.elementwise import divide, multiply, sin
from handmill.ops.numpy.logic import equal, where
from handmill.primitives.elementwise import trigonometry as records
from handmill.primitives.operands import Tensor, promote_float
from handmill.runtime.planned import planned


def deg2rad(x: Tensor) -> Any:
    """Converts angles from degrees to radians.

    Example:
        >>> from handmill import ops
        >>> ops.deg2rad([0.0, 180.0]).round(4)
        array([0.    , 3.1416], dtype=float32)
    """
    (x,) = promote_float(x)
    return multiply(x, math.pi / 180)


def rad2deg(x: Tensor) -> Any:
    """Converts angles from radians to degrees.

    Example:
        >>> from handmill import ops
        >>> ops.rad2deg([0.0, 3.1415927]).round(2)
        array([  0., 180.], dtype=float32)
    """
    (x,) = promote_float(x)
    return multiply(x, 180 / math.pi)


@planned
def sinh(x: Tensor) -> Any:
    """Returns the hyperbolic sine.

    Example:
        >>> from handmill import ops
        >>> ops.sinh([0.0, 1.0]).round(4)
        array([0.    , 1.1752], dtype=float32)
    """
    return apply(records.SINH, *promote_float(x))


@planned
def cosh(x: Tensor) -> Any:
    """Returns the hyperbolic cosine.

    Example:
        >>> from handmill import ops
        >>> ops.cosh([0.0, 1.0]).round(4)
        array([1.    , 1.5431], dtype=float32)
    """
    return apply(records.COSH, *promote_float(x))


@planned
def arcsin(x: Tensor) -> Any:
    """Returns the angle whose sine is ``x``, between -pi/2 and pi/2; NaN beyond 1.

    Example:
        >>> from handmill import ops
        >>> ops.arcsin([0.0, 1.0]).round(4)
        array([0.    , 1.5708], dtype=float32)
    """
    return apply(records.ARCSIN, *promote_float(x))


@planned
def arccos(x: Tensor) -> Any:
    """Returns the angle whose cosine is ``x``, between 0 and pi; NaN beyond 1.

    Example:
        >>> from handmill import ops
        >>> ops.arccos([1.0, 0.0]).round(4)
        array([0.    , 1.5708], dtype=float32)
    """
    return apply(records.ARCCOS, *promote_float(x))


@planned
def arctan(x: Tensor) -> Any:
    """Returns the angle whose tangent is ``x``, between -pi/2 and pi/2.

    Example:
        >>> from handmill import ops
        >>> ops.arctan([0.0, 1.0]).round(4)
        array([0.    , 0.7854], dtype=float32)
    """
    return apply(records.ARCTAN, *promote_float(x))


@planned
def arctan2(x1: Tensor, x2: Tensor) -> Any:
    """Returns the angle of the point ``(x2, x1)``, between -pi and pi.

    Example:
        >>> from handmill import ops
        >>> ops.arctan2([1.0, 1.0, -1.0], [1.0, -1.0, -1.0]).round(4)
        array([ 0.7854,  2.3562, -2.3562], dtype=float32)
    """
    return apply(records.ARCTAN2, *promote_float(x1, x2))


@planned
def arcsinh(x: Tensor) -> Any:
    """Returns the inverse of the hyperbolic sine.

    Example:
        >>> from handmill import ops
        >>> ops.arcsinh([0.0, 1.0]).round(4)
        array([0.    , 0.8814], dtype=float32)
    """
    return apply(records.ARCSINH, *promote_float(x))


@planned
def arccosh(x: Tensor) -> Any:
    """Returns the inverse of the hyperbolic cosine; NaN below 1.

    Example:
        >>> from handmill import ops
        >>> ops.arccosh([1.0, 2.0]).round(4)
        array([0.   , 1.317], dtype=float32)
    """
    return apply(records.ARCCOSH, *promote_float(x))


@planned
def arctanh(x: Tensor) -> Any:
    """Returns the inverse of the hyperbolic tangent; NaN beyond 1.

    Example:
        >>> from handmill import ops
        >>> ops.arctanh([0.0, 0.5]).round(4)
        array([0.    , 0.5493], dtype=float32)
    """
    return apply(records.ARCTANH, *promote_float(x))


def sinc(x: Tensor) -> Any:
    """Returns ``sin(pi x) / (pi x)``, 1 at zero.

    Example:
        >>> from handmill import ops
        >>> ops.sinc([0.0, 0.5]).round(4)
        array([1.    , 0.6366], dtype=float32)
    """
    (x,) = promote_float(x)
    is_zero = equal(x, 0)
    angle = multiply(where(is_zero, 1.0, x), math.pi)
    return where(is_zero, 1.0, divide(sin(angle), angle))


def i0(x: Tensor) -> Any:
    """Returns the modified Bessel function of the first kind and order 0.

    Example:
        >>> from handmill import ops
        >>> ops.i0([0.0, 1.0]).round(4)
        array([1.    , 1.2661], dtype=float32)
    """
    return apply(records.BESSEL_I, *promote_float(x), order=0)
