"""Whole quotients, remainders, divisors, and the bits of integers; they run in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.op import (
    REGISTRY,
    Array,
    Bound,
    Exact,
    Op,
    Sample,
    Ulp,
    never_native,
    register,
)
from handmill.ir.shapes import Spec, broadcast_shapes
from handmill.ir.trace import apply
from handmill.primitives.emit import divide, multiply, negative, unbroadcast
from handmill.primitives.samples import given

_INTEGERS = ("int32", "int64", "uint8", "int8")


def _infer(name: str, integers_only: bool) -> Callable[..., Spec]:
    def infer(x: Spec, y: Spec) -> Spec:
        operands: dict[str, object] = {"x": x, "y": y}
        if x.dtype != y.dtype:
            raise shape_error(name, f"dtypes differ: {x.dtype} and {y.dtype}", operands)
        if x.dtype == "bool" or (integers_only and x.is_float):
            raise shape_error(name, f"{x.dtype} has no such operation", operands)
        try:
            return Spec(broadcast_shapes(x.shape, y.shape), x.dtype)
        except ValueError as error:
            raise shape_error(name, str(error), operands) from error

    return infer


def _samples(floats: bool) -> Callable[[], Iterable[Sample]]:
    def samples() -> Iterable[Sample]:
        x = [[7, -7, 5, 0], [127, -128, 3, 9]]
        y = [3, 3, -2, 4]
        for dtype in _INTEGERS:
            kept = np.array(x).astype(dtype), np.array(y).astype(dtype)
            yield Sample(dtype, given(*kept), smooth=False)
        zeros = given(np.array([5, -5, 0], np.int32), np.array([0, 0, 0], np.int32))
        yield Sample("zero", zeros, smooth=False)
        column = given(np.array([[9], [4]], np.int64), np.array([2, 5], np.int64))
        yield Sample("column", column, smooth=False)
        if floats:
            first = np.array([[7.25, -7.25, 1.1], [0.4, 5.1, -5.1]], np.float32)
            yield Sample("float32", given(first, np.array([2.0, 2.0, 0.25], np.float32)))
            special = given([np.inf, np.nan, 3.0, -3.0], [2.0, 2.0, np.inf, np.inf])
            yield Sample("special", special, smooth=False)

    return samples


def _record(
    name: str,
    reference: Callable[..., Any],
    derivatives: Callable[..., Any] | None,
    bound: Bound,
    floats: bool,
) -> Op:
    def vjp(inputs: Any, outputs: Any, dys: Any) -> tuple[Any, ...]:
        if derivatives is None:
            return None, None
        found = derivatives(*inputs, dys[0])
        return tuple(
            None if dx is None else unbroadcast(dx, x.shape)
            for x, dx in zip(inputs, found, strict=True)
        )

    return register(
        Op(
            name,
            infer=_infer(name, not floats),
            reference=reference,
            samples=_samples(floats),
            bound=bound,
            vjp=vjp,
            native=never_native,
        )
    )


def _mod_derivatives(x: Any, y: Any, dy: Any) -> tuple[Any, Any]:
    # x mod y = x - y floor(x / y), and the quotient is constant between its jumps.
    return dy, negative(multiply(dy, apply(FLOOR_DIVIDE, x, y)))


def _quiet(function: Callable[[Array, Array], Any]) -> Callable[[Array, Array], Array]:
    def reference(x: Array, y: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(x, y), x.dtype)

    return reference


# Quotients are rounded towards minus infinity; the remainder has the sign of the divisor and is
# exact but for one rounding where the signs differ.
FLOOR_DIVIDE = _record("floor_divide", _quiet(np.floor_divide), None, Exact(), floats=True)
MOD = _record("mod", _quiet(np.mod), _mod_derivatives, Ulp(1), floats=True)
BITWISE_AND = _record("bitwise_and", np.bitwise_and, None, Exact(), floats=False)
BITWISE_OR = _record("bitwise_or", np.bitwise_or, None, Exact(), floats=False)
BITWISE_XOR = _record("bitwise_xor", np.bitwise_xor, None, Exact(), floats=False)


def _fmod_derivatives(x: Any, y: Any, dy: Any) -> tuple[Any, Any]:
    # The same with the quotient rounded towards zero.
    quotient = divide(x, y)
    return dy, negative(multiply(dy, apply(REGISTRY["trunc"], quotient)))


def _shift(function: Callable[[Array, Array], Any]) -> Callable[[Array, Array], Array]:
    # C leaves shifts by the width or more, and by negative counts, open: nothing of the number is
    # left but, to the right, its sign.
    def reference(x: Array, y: Array) -> Array:
        bits = x.dtype.itemsize * 8
        outside = (y < 0) | (y >= bits)
        left = function is np.left_shift
        rest = np.zeros((), x.dtype) if left else np.where(x < 0, -1, 0).astype(x.dtype)
        return np.where(outside, rest, function(x, np.where(outside, 0, y)))

    return reference


# The sign of the dividend; exact.
FMOD = _record("fmod", _quiet(np.fmod), _fmod_derivatives, Exact(), floats=True)
GCD = _record("gcd", np.gcd, None, Exact(), floats=False)
LCM = _record("lcm", _quiet(np.lcm), None, Exact(), floats=False)
LEFT_SHIFT = _record("left_shift", _shift(np.left_shift), None, Exact(), floats=False)
RIGHT_SHIFT = _record("right_shift", _shift(np.right_shift), None, Exact(), floats=False)
