"""Floating-point numbers: their parts, special values, and nearness."""

from __future__ import annotations

import math
from typing import Any

from handmill.ir.shapes import FLOATS
from handmill.ir.trace import apply
from handmill.ops.core import cast, stop_gradient
from handmill.ops.numpy.elementwise import (
    absolute,
    add,
    divide,
    exp2,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    sqrt,
    square,
    subtract,
)
from handmill.ops.numpy.logic import (
    equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_or,
    where,
)
from handmill.ops.numpy.reductions import all
from handmill.primitives.elementwise import floating as records
from handmill.primitives.operands import (
    Tensor,
    dtype_of,
    number_as,
    promote,
    promote_float,
    tensor,
)
from handmill.runtime.planned import planned

# The largest finite number of each dtype.
_LARGEST = {
    "bfloat16": 3.3895313892515355e38,
    "float32": 3.4028234663852886e38,
    "float64": 1.7976931348623157e308,
}


def fabs(x: Tensor) -> Any:
    """Drops the sign; integers become float32.

    Example:
        >>> from handmill import ops
        >>> ops.fabs([1, -2])
        array([1., 2.], dtype=float32)
    """
    return absolute(*promote_float(x))


@planned
def cbrt(x: Tensor) -> Any:
    """Returns the cube root, also of negative numbers.

    Example:
        >>> from handmill import ops
        >>> ops.cbrt([8.0, -27.0])
        array([ 2., -3.], dtype=float32)
    """
    return apply(records.CBRT, *promote_float(x))


def true_divide(x1: Tensor, x2: Tensor) -> Any:
    """Divides element by element, as :func:`divide` does.

    Example:
        >>> from handmill import ops
        >>> ops.true_divide([1, 2], 4)
        array([0.25, 0.5 ], dtype=float32)
    """
    return divide(x1, x2)


def signbit(x: Tensor) -> Any:
    """Returns whether the sign is minus, that of zeros and NaN included.

    Example:
        >>> from handmill import ops
        >>> ops.signbit([1.0, -0.0, -3.0])
        array([False,  True,  True])
    """
    x = tensor(x)
    if dtype_of(x) not in FLOATS:
        return less(x, 0)
    return apply(records.SIGNBIT, x)


def heaviside(x1: Tensor, x2: Tensor) -> Any:
    """Returns 0 for negative ``x1``, 1 for positive ones, and ``x2`` for zeros.

    Example:
        >>> from handmill import ops
        >>> ops.heaviside([-1.5, 0.0, 2.0], 0.5)
        array([0. , 0.5, 1. ], dtype=float32)
    """
    x1, x2 = promote_float(x1, x2)
    x1 = stop_gradient(x1)  # of NaN is left
    return where(less(x1, 0), 0.0, where(less(0, x1), 1.0, where(equal(x1, 0), x2, x1)))


def hypot(x1: Tensor, x2: Tensor) -> Any:
    """Returns ``sqrt(x1 ** 2 + x2 ** 2)`` without overflow; its gradient is 0 at the origin.

    Example:
        >>> from handmill import ops
        >>> ops.hypot([3.0, 1e30], [4.0, 0.0])
        array([5.e+00, 1.e+30], dtype=float32)
    """
    x1, x2 = promote_float(x1, x2)
    infinite = logical_or(isinf(x1), isinf(x2))
    size = stop_gradient(maximum(absolute(x1), absolute(x2)))
    zero = equal(size, 0)
    scale = where(logical_or(zero, infinite), 1.0, size)
    total = add(square(divide(x1, scale)), square(divide(x2, scale)))
    found = multiply(sqrt(where(zero, 1.0, total)), scale)
    return where(infinite, math.inf, where(zero, 0.0, found))


def fmax(x1: Tensor, x2: Tensor) -> Any:
    """Returns the larger of two, element by element; of NaN and a number, the number.

    Example:
        >>> from handmill import ops
        >>> ops.fmax([1.0, float("nan")], [2.0, 3.0])
        array([2., 3.], dtype=float32)
    """
    x1, x2 = promote(x1, x2)
    if dtype_of(x1) not in FLOATS:
        return maximum(x1, x2)
    return where(isnan(x1), x2, where(isnan(x2), x1, maximum(x1, x2)))


def fmin(x1: Tensor, x2: Tensor) -> Any:
    """Returns the smaller of two, element by element; of NaN and a number, the number.

    Example:
        >>> from handmill import ops
        >>> ops.fmin([1.0, float("nan")], [2.0, 3.0])
        array([1., 3.], dtype=float32)
    """
    x1, x2 = promote(x1, x2)
    if dtype_of(x1) not in FLOATS:
        return minimum(x1, x2)
    return where(isnan(x1), x2, where(isnan(x2), x1, minimum(x1, x2)))


def nextafter(x1: Tensor, x2: Tensor) -> Any:
    """Returns the number next to ``x1`` on the way to ``x2``.

    Example:
        >>> from handmill import ops
        >>> ops.nextafter([1.0], [2.0]) - 1.0
        array([1.1920929e-07], dtype=float32)
    """
    return apply(records.NEXTAFTER, *promote_float(x1, x2))


def ldexp(x1: Tensor, x2: Tensor) -> Any:
    """Returns ``x1 * 2 ** x2`` for integers ``x2``.

    Raises:
        TypeError: if ``x2`` is not of integers.

    Example:
        >>> from handmill import ops
        >>> ops.ldexp([1.0, 0.75], [3, -1])
        array([8.   , 0.375], dtype=float32)
    """
    (x,), exponent = promote_float(x1), tensor(x2)
    if dtype_of(exponent) in (*FLOATS, "bool"):
        raise TypeError(f"ldexp: `x2` must be integers, got dtype {dtype_of(exponent)}")
    return apply(records.LDEXP, x, exponent)


def logaddexp2(x1: Tensor, x2: Tensor) -> Any:
    """``log2(2 ** x1 + 2 ** x2)`` without overflow, with broadcasting.

    Example:
        >>> from handmill import ops
        >>> ops.logaddexp2([1000.0, 1.0], [1000.0, 1.0])
        array([1001.,    2.], dtype=float32)
    """
    x1, x2 = promote_float(x1, x2)
    distance = subtract(x1, x2)
    spread = multiply(log1p(exp2(negative(absolute(distance)))), 1 / math.log(2))
    # Where the distance is not a number, both are the same infinity, or one is NaN.
    return where(equal(distance, distance), add(maximum(x1, x2), spread), add(x1, x2))


def nan_to_num(x: Tensor, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """Puts numbers in the place of NaN and the infinities.

    Args:
        x: the input; integers stay as they are.
        nan: what stands for NaN.
        posinf: what stands for infinity. Default: the largest number of the dtype.
        neginf: what stands for minus infinity. Default: the smallest.

    Example:
        >>> from handmill import ops
        >>> ops.nan_to_num([float("nan"), float("inf"), 2.0], posinf=9.0)
        array([0., 9., 2.], dtype=float32)
    """
    x = tensor(x)
    if dtype_of(x) not in FLOATS:
        return x
    largest = _LARGEST[dtype_of(x)]
    high, low, nan = (
        number_as(v, dtype_of(x)) if isinstance(v, int | float) else cast(v, dtype_of(x))
        for v in (
            largest if posinf is None else posinf,
            -largest if neginf is None else neginf,
            nan,
        )
    )
    return where(isnan(x), nan, where(isinf(x), where(less(x, 0), low, high), x))


def isposinf(x: Tensor) -> Any:
    """Returns whether each element is plus infinity.

    Example:
        >>> from handmill import ops
        >>> ops.isposinf([1.0, float("inf"), float("-inf")])
        array([False,  True, False])
    """
    (x,) = promote_float(x)
    return equal(x, math.inf)


def isneginf(x: Tensor) -> Any:
    """Returns whether each element is minus infinity.

    Example:
        >>> from handmill import ops
        >>> ops.isneginf([1.0, float("inf"), float("-inf")])
        array([False, False,  True])
    """
    (x,) = promote_float(x)
    return equal(x, -math.inf)


def isclose(
    x1: Tensor, x2: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Returns whether elements are equal up to ``atol + rtol * abs(x2)``.

    Args:
        x1: the first operand.
        x2: the second operand, whose size the relative tolerance is of.
        rtol: the relative tolerance.
        atol: the absolute tolerance.
        equal_nan: whether NaN equals NaN.

    Example:
        >>> from handmill import ops
        >>> ops.isclose([1.0, 2.0], [1.000001, 2.1])
        array([ True, False])
    """
    x1, x2 = promote_float(x1, x2)
    near = less_equal(absolute(subtract(x1, x2)), add(multiply(absolute(x2), rtol), atol))
    finite = logical_and(isfinite(x1), isfinite(x2))
    found = logical_or(logical_and(near, finite), equal(x1, x2))
    return logical_or(found, logical_and(isnan(x1), isnan(x2))) if equal_nan else found


def allclose(
    x1: Tensor, x2: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Returns whether all elements are close, as :func:`isclose` says.

    Example:
        >>> from handmill import ops
        >>> bool(ops.allclose([1.0, 2.0], [1.000001, 2.0]))
        True
    """
    return all(isclose(x1, x2, rtol, atol, equal_nan))
