"""Whole quotients, remainders, common divisors, and the bits of integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from handmill.ir.graph import Value
from handmill.ir.op import Op
from handmill.ir.trace import apply
from handmill.ops.numpy.logic import logical_and, logical_not, logical_or, logical_xor
from handmill.primitives.elementwise.division import (
    BITWISE_AND,
    BITWISE_OR,
    BITWISE_XOR,
    FLOOR_DIVIDE,
    FMOD,
    GCD,
    LCM,
    LEFT_SHIFT,
    MOD,
    RIGHT_SHIFT,
)
from handmill.primitives.operands import Tensor, converted, dtype_of, promote, tensor


def _numbers(x1: Tensor, x2: Tensor) -> list[Any]:
    operands = promote(x1, x2)
    return [converted(x, "int32") if dtype_of(x) == "bool" else x for x in operands]


def floor_divide(x1: Tensor, x2: Tensor) -> Any:
    """Divides and rounds towards minus infinity, element by element.

    Example:
        >>> from handmill import ops
        >>> ops.floor_divide([7.0, -7.0], 2)
        array([ 3., -4.], dtype=float32)
    """
    return apply(FLOOR_DIVIDE, *_numbers(x1, x2))


def mod(x1: Tensor, x2: Tensor) -> Any:
    """Returns what is left by :func:`floor_divide`; it has the sign of the divisor.

    Example:
        >>> from handmill import ops
        >>> ops.mod([7, -7], 3)
        array([1, 2], dtype=int32)
    """
    return apply(MOD, *_numbers(x1, x2))


def _bits(op: Op, logical: Callable[[Any, Any], Any], x: Tensor, y: Tensor) -> Any:
    operands = promote(x, y)
    if all(dtype_of(v) == "bool" for v in operands):
        return logical(*operands)
    return apply(op, *operands)


def bitwise_and(x: Tensor, y: Tensor) -> Any:
    """Returns the bits that both integers have; of booleans, whether both are true.

    Example:
        >>> from handmill import ops
        >>> ops.bitwise_and([6, 5], 3)
        array([2, 1], dtype=int32)
    """
    return _bits(BITWISE_AND, logical_and, x, y)


def bitwise_or(x: Tensor, y: Tensor) -> Any:
    """Returns the bits that either integer has; of booleans, whether either is true.

    Example:
        >>> from handmill import ops
        >>> ops.bitwise_or([6, 5], 3)
        array([7, 7], dtype=int32)
    """
    return _bits(BITWISE_OR, logical_or, x, y)


def bitwise_xor(x: Tensor, y: Tensor) -> Any:
    """Returns the bits that one of the integers has; of booleans, whether just one is true.

    Example:
        >>> from handmill import ops
        >>> ops.bitwise_xor([6, 5], 3)
        array([5, 6], dtype=int32)
    """
    return _bits(BITWISE_XOR, logical_xor, x, y)


def bitwise_invert(x: Tensor) -> Any:
    """Returns the integer with all bits turned; of booleans, the opposite.

    Example:
        >>> from handmill import ops
        >>> ops.bitwise_invert([0, 5])
        array([-1, -6], dtype=int32)
    """
    x = tensor(x)
    if dtype_of(x) == "bool":
        return logical_not(x)
    ones = np.asarray(255 if dtype_of(x) == "uint8" else -1, dtype_of(x))
    return bitwise_xor(x, ones)


def bitwise_not(x: Tensor) -> Any:
    """Returns the integer with all bits turned, as :func:`bitwise_invert` does.

    Example:
        >>> from handmill import ops
        >>> ops.bitwise_not([True, False])
        array([False,  True])
    """
    return bitwise_invert(x)


def fmod(x1: Tensor, x2: Tensor) -> Any:
    """Returns the remainder of a division that rounds towards zero; it has the sign of ``x1``.

    Example:
        >>> from handmill import ops
        >>> ops.fmod([7, -7], 3)
        array([ 1, -1], dtype=int32)
    """
    return apply(FMOD, *_numbers(x1, x2))


def gcd(x1: Tensor, x2: Tensor) -> Any:
    """Returns the greatest common divisor of integers.

    Example:
        >>> from handmill import ops
        >>> ops.gcd([12, 7], 18)
        array([6, 1], dtype=int32)
    """
    return apply(GCD, *_numbers(x1, x2))


def lcm(x1: Tensor, x2: Tensor) -> Any:
    """Returns the least common multiple of integers.

    Example:
        >>> from handmill import ops
        >>> ops.lcm([4, 7], 6)
        array([12, 42], dtype=int32)
    """
    return apply(LCM, *_numbers(x1, x2))


def left_shift(x: Tensor, y: Tensor) -> Any:
    """Moves the bits of integers to the left; 0 where all of them leave.

    Example:
        >>> from handmill import ops
        >>> ops.left_shift([1, 5], 2)
        array([ 4, 20], dtype=int32)
    """
    return apply(LEFT_SHIFT, *_numbers(x, y))


def right_shift(x: Tensor, y: Tensor) -> Any:
    """Moves the bits of integers to the right; the sign stays.

    Example:
        >>> from handmill import ops
        >>> ops.right_shift([8, -5], 1)
        array([ 4, -3], dtype=int32)
    """
    return apply(RIGHT_SHIFT, *_numbers(x, y))


def bitwise_left_shift(x: Tensor, y: Tensor) -> Any:
    """Moves the bits of integers to the left, as :func:`left_shift` does.

    Example:
        >>> from handmill import ops
        >>> ops.bitwise_left_shift([1, 5], 2)
        array([ 4, 20], dtype=int32)
    """
    return left_shift(x, y)


def bitwise_right_shift(x: Tensor, y: Tensor) -> Any:
    """Moves the bits of integers to the right, as :func:`right_shift` does.

    Example:
        >>> from handmill import ops
        >>> ops.bitwise_right_shift([8, -5], 1)
        array([ 4, -3], dtype=int32)
    """
    return right_shift(x, y)


Value.operators.update(
    floor_divide=floor_divide,
    mod=mod,
    bitwise_and=bitwise_and,
    bitwise_or=bitwise_or,
    bitwise_xor=bitwise_xor,
    invert=bitwise_invert,
)
