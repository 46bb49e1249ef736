"""Functions element by element: arithmetic under broadcasting, and of one operand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from handmill.ir.dims import set_arithmetic
from handmill.ir.graph import Value
from handmill.ir.shapes import FLOATS
from handmill.ir.trace import apply
from handmill.ops.numpy.logic import equal, where
from handmill.primitives.elementwise import arithmetic, unary
from handmill.primitives.operands import (
    Tensor,
    converted,
    dtype_of,
    promote,
    promote_float,
    promote_number,
    rounded,
    tensor,
)
from handmill.runtime.planned import planned


@planned
def add(x1: Tensor, x2: Tensor) -> Any:
    """Adds element by element.

    Example:
        >>> from handmill import ops
        >>> ops.add([1.0, 2.0], 10)
        array([11., 12.], dtype=float32)
    """
    return apply(arithmetic.ADD, *promote(x1, x2))


@planned
def subtract(x1: Tensor, x2: Tensor) -> Any:
    """Subtracts element by element.

    Example:
        >>> from handmill import ops
        >>> ops.subtract([1.0, 2.0], 10)
        array([-9., -8.], dtype=float32)
    """
    return apply(arithmetic.SUBTRACT, *promote(x1, x2))


@planned
def multiply(x1: Tensor, x2: Tensor) -> Any:
    """Multiplies element by element.

    Example:
        >>> from handmill import ops
        >>> ops.multiply([1.0, 2.0], 10)
        array([10., 20.], dtype=float32)
    """
    return apply(arithmetic.MULTIPLY, *promote(x1, x2))


@planned
def divide(x1: Tensor, x2: Tensor) -> Any:
    """Divides element by element; integers become float32 before.

    Example:
        >>> from handmill import ops
        >>> ops.divide([1, 2], 4)
        array([0.25, 0.5 ], dtype=float32)
    """
    return apply(arithmetic.DIVIDE, *promote_float(x1, x2))


def divide_no_nan(x1: Tensor, x2: Tensor) -> Any:
    """Divides element by element; 0 where the divisor is 0, also in the gradient.

    Example:
        >>> from handmill import ops
        >>> ops.divide_no_nan([1.0, 2.0], [0.0, 4.0])
        array([0. , 0.5], dtype=float32)
    """
    x1, x2 = promote_float(x1, x2)
    is_zero = equal(x2, 0)
    return where(is_zero, 0.0, divide(x1, where(is_zero, 1.0, x2)))


@planned
def power(x1: Tensor, x2: Tensor) -> Any:
    """Raises to a power element by element.

    Example:
        >>> from handmill import ops
        >>> ops.power([1.0, 2.0, 3.0], 2)
        array([1., 4., 9.], dtype=float32)
    """
    base, exponent = promote(x1, x2)
    if dtype_of(base) == "bool":
        base, exponent = promote_number(base), promote_number(exponent)
    if isinstance(x2, int | float) and x2 == 2:
        return square(base)
    return apply(arithmetic.POWER, base, exponent)


@planned
def maximum(x1: Tensor, x2: Tensor) -> Any:
    """Returns the larger of two, element by element; NaN if either is.

    Example:
        >>> from handmill import ops
        >>> ops.maximum([1.0, -2.0], 0)
        array([1., 0.], dtype=float32)
    """
    return apply(arithmetic.MAXIMUM, *promote(x1, x2))


@planned
def minimum(x1: Tensor, x2: Tensor) -> Any:
    """Returns the smaller of two, element by element; NaN if either is.

    Example:
        >>> from handmill import ops
        >>> ops.minimum([1.0, -2.0], 0)
        array([ 0., -2.], dtype=float32)
    """
    return apply(arithmetic.MINIMUM, *promote(x1, x2))


@planned
def negative(x: Tensor) -> Any:
    """Changes the sign.

    Example:
        >>> from handmill import ops
        >>> ops.negative([1.0, -2.0])
        array([-1.,  2.], dtype=float32)
    """
    return apply(arithmetic.NEGATIVE, *promote(x))


@planned
def absolute(x: Tensor) -> Any:
    """Drops the sign.

    Example:
        >>> from handmill import ops
        >>> ops.absolute([1.0, -2.0])
        array([1., 2.], dtype=float32)
    """
    return apply(unary.ABSOLUTE, *promote(x))


abs = absolute


@planned
def square(x: Tensor) -> Any:
    """Multiplies each element by itself.

    Example:
        >>> from handmill import ops
        >>> ops.square([3.0, -2.0])
        array([9., 4.], dtype=float32)
    """
    return apply(unary.SQUARE, promote_number(x))


@planned
def sqrt(x: Tensor) -> Any:
    """Returns the square root; NaN for negative numbers.

    Example:
        >>> from handmill import ops
        >>> ops.sqrt([4.0, 9.0])
        array([2., 3.], dtype=float32)
    """
    return apply(unary.SQRT, *promote_float(x))


@planned
def reciprocal(x: Tensor) -> Any:
    """Returns ``1 / x``.

    Example:
        >>> from handmill import ops
        >>> ops.reciprocal([4.0, 0.5])
        array([0.25, 2.  ], dtype=float32)
    """
    return apply(unary.RECIPROCAL, *promote_float(x))


@planned
def exp(x: Tensor) -> Any:
    """Returns ``e ** x``.

    Example:
        >>> from handmill import ops
        >>> ops.exp([0.0, 1.0]).round(4)
        array([1.    , 2.7183], dtype=float32)
    """
    return apply(unary.EXP, *promote_float(x))


@planned
def exp2(x: Tensor) -> Any:
    """Returns ``2 ** x``.

    Example:
        >>> from handmill import ops
        >>> ops.exp2([-1.0, 0.0, 10.0])
        array([5.000e-01, 1.000e+00, 1.024e+03], dtype=float32)
    """
    return apply(unary.EXP2, *promote_float(x))


@planned
def expm1(x: Tensor) -> Any:
    """Returns ``e ** x - 1``, accurate near zero.

    Example:
        >>> from handmill import ops
        >>> ops.expm1([0.0, 1e-8])
        array([0.e+00, 1.e-08], dtype=float32)
    """
    return apply(unary.EXPM1, *promote_float(x))


@planned
def log(x: Tensor) -> Any:
    """Returns the natural logarithm; NaN for negative numbers.

    Example:
        >>> from handmill import ops
        >>> ops.log([1.0, 10.0]).round(4)
        array([0.    , 2.3026], dtype=float32)
    """
    return apply(unary.LOG, *promote_float(x))


@planned
def log1p(x: Tensor) -> Any:
    """Returns ``log(1 + x)``, accurate near zero.

    Example:
        >>> from handmill import ops
        >>> ops.log1p([0.0, 1e-8])
        array([0.e+00, 1.e-08], dtype=float32)
    """
    return apply(unary.LOG1P, *promote_float(x))


def log2(x: Tensor) -> Any:
    """Returns the logarithm to base 2.

    Example:
        >>> from handmill import ops
        >>> ops.log2([1.0, 8.0]).round(5)
        array([0., 3.], dtype=float32)
    """
    return multiply(log(x), 1 / math.log(2))


def log10(x: Tensor) -> Any:
    """Returns the logarithm to base 10.

    Example:
        >>> from handmill import ops
        >>> ops.log10([1.0, 100.0]).round(5)
        array([0., 2.], dtype=float32)
    """
    return multiply(log(x), 1 / math.log(10))


@planned
def sin(x: Tensor) -> Any:
    """Returns the sine of angles in radians.

    Example:
        >>> from handmill import ops
        >>> ops.sin([0.0]).tolist()
        [0.0]
    """
    return apply(unary.SIN, *promote_float(x))


@planned
def cos(x: Tensor) -> Any:
    """Returns the cosine of angles in radians.

    Example:
        >>> from handmill import ops
        >>> ops.cos([0.0]).tolist()
        [1.0]
    """
    return apply(unary.COS, *promote_float(x))


def tan(x: Tensor) -> Any:
    """Returns the tangent of angles in radians.

    Example:
        >>> from handmill import ops
        >>> ops.tan([0.0]).tolist()
        [0.0]
    """
    (x,) = promote_float(x)
    return sin(x) / cos(x)


@planned
def tanh(x: Tensor) -> Any:
    """Returns the hyperbolic tangent.

    Example:
        >>> from handmill import ops
        >>> ops.tanh([0.0, 100.0])
        array([0., 1.], dtype=float32)
    """
    return apply(unary.TANH, *promote_float(x))


@planned
def sign(x: Tensor) -> Any:
    """Returns -1, 0 or 1; its gradient is zero.

    Example:
        >>> from handmill import ops
        >>> ops.sign([-2.5, 0.0, 9.0])
        array([-1.,  0.,  1.], dtype=float32)
    """
    return apply(unary.SIGN, *promote(x))


@planned
def floor(x: Tensor) -> Any:
    """Rounds down; its gradient is zero.

    Example:
        >>> from handmill import ops
        >>> ops.floor([1.5, -1.5])
        array([ 1., -2.], dtype=float32)
    """
    return apply(unary.FLOOR, *promote_float(x))


@planned
def ceil(x: Tensor) -> Any:
    """Rounds up; its gradient is zero.

    Example:
        >>> from handmill import ops
        >>> ops.ceil([1.5, 0.5])
        array([2., 1.], dtype=float32)
    """
    return apply(unary.CEIL, *promote_float(x))


@planned
def trunc(x: Tensor) -> Any:
    """Rounds towards zero, integers not at all; its gradient is zero.

    Example:
        >>> from handmill import ops
        >>> ops.trunc([1.5, -1.5])
        array([ 1., -1.], dtype=float32)
    """
    x = tensor(x)
    return apply(unary.TRUNC, x) if dtype_of(x) in FLOATS else x


def logaddexp(x1: Tensor, x2: Tensor) -> Any:
    """``log(exp(x1) + exp(x2))`` without overflow, with broadcasting.

    Args:
        x1: the first operand.
        x2: the second operand.

    Example:
        >>> from handmill import ops
        >>> ops.logaddexp([1000.0, 0.0], [1000.0, 0.0])
        array([1.0006932e+03, 6.9314718e-01], dtype=float32)
    """
    x1, x2 = promote_float(x1, x2)
    distance = subtract(x1, x2)
    larger = maximum(x1, x2)
    found = add(larger, log1p(exp(negative(absolute(distance)))))
    # Where the distance is not a number, both are the same infinity, or one is NaN.
    return where(equal(distance, distance), found, add(x1, x2))


def round(x: Tensor, decimals: int = 0) -> Any:
    """Rounds to the nearest, halves to even; its gradient is zero.

    Args:
        x: the input; integers stay as they are.
        decimals: decimal places to keep; negative: places before the point to drop.

    Example:
        >>> from handmill import ops
        >>> ops.round([0.5, 1.5, 2.6])
        array([0., 2., 3.], dtype=float32)
    """
    x = promote_number(x)
    if dtype_of(x) not in FLOATS:
        if decimals >= 0:
            return x
        dtype, unit = dtype_of(x), 10.0**-decimals
        return converted(apply(unary.ROUND, converted(x, "float64") / unit) * unit, dtype)
    if decimals == 0:
        return apply(unary.ROUND, x)
    scale = 10.0**decimals
    return apply(unary.ROUND, x * scale) / scale


def clip(x: Tensor, x_min: Any, x_max: Any) -> Any:
    """Limits to the interval from ``x_min`` to ``x_max``.

    The gradient is 1 inside and on the borders, 0 outside; a limit that is an array shares it
    there.

    Args:
        x: the input.
        x_min: the least value: a number, or an array that broadcasts.
        x_max: the largest value.

    Example:
        >>> from handmill import ops
        >>> ops.clip([-5.0, 0.5, 5.0], -1, 1)
        array([-1. ,  0.5,  1. ], dtype=float32)
    """
    x = tensor(x)
    if isinstance(x_min, int | float) and isinstance(x_max, int | float):
        if dtype_of(x) not in FLOATS and type(x_min) is type(x_max) is int:
            info = np.iinfo("int32" if dtype_of(x) == "bool" else dtype_of(x))
            # What lies beyond the dtype on its own side limits nothing.
            return minimum(maximum(x, max(x_min, info.min)), min(x_max, info.max))
        if dtype_of(x).startswith("float") and not (math.isnan(x_min) or math.isnan(x_max)):
            return apply(unary.CLIP, x, lo=rounded(x_min, x), hi=rounded(x_max, x))
    return minimum(maximum(x, x_min), x_max)


set_arithmetic(lambda name, *operands: Value.operators[name](*operands))
Value.operators.update(
    add=add,
    subtract=subtract,
    multiply=multiply,
    divide=divide,
    power=power,
    negative=negative,
    absolute=absolute,
    round=round,
)
