"""Arithmetic, element by element under broadcasting; how elementwise operators are registered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import ShapeError, shape_error
from handmill.ir.op import (
    Array,
    Attrs,
    Bound,
    Exact,
    Op,
    Sample,
    Ulp,
    never_native,
    register,
)
from handmill.ir.shapes import Spec, broadcast_shapes
from handmill.ir.tile import computes_in
from handmill.primitives.emit import (
    equal,
    greater,
    less,
    log,
    negative,
    power,
    unbroadcast,
    where,
)
from handmill.primitives.samples import binary, unary

Samples = Callable[[], Iterable[Sample]]

ROUNDED = Ulp(0.5)
"""The bound of operations that IEEE 754 wants rounded correctly: half a unit."""


def native_tile(opcode: str) -> Callable[[Sequence[Spec], Attrs], bool]:
    """Returns the rule of an operator that is an instruction of tile programs."""
    return lambda specs, attrs: computes_in(opcode, [s.dtype for s in specs])


def _no_bool(name: str, operands: dict[str, Spec]) -> ShapeError:
    return shape_error(name, "not of bool", operands, "use ops.cast(x, 'int32') or logical ops")


def unary_op(
    name: str,
    reference: Callable[..., Any],
    derivative: Callable[..., Any] | None,
    samples: Samples,
    bound: Bound,
    *,
    tile: str = "",
    kernel: bool = True,
    floats_only: bool = True,
    signed: bool = False,
    dtype: str = "",
    **fields: Any,
) -> Op:
    """Registers an elementwise operator of one operand.

    Args:
        name: the operator's name.
        reference: the function in NumPy.
        derivative: ``(x, y, dy, **attrs)`` -> gradient of x, or None where it is zero.
        samples: see :class:`Op`.
        bound: see :class:`Op`.
        tile: the opcode, if it is not the name.
        kernel: whether it is an instruction of tile programs; if not, it runs in NumPy.
        floats_only: whether integers are refused (public functions convert them before).
        signed: whether bool is refused.
        dtype: the output's dtype, if it is not the operand's.
        **fields: further fields of the record.
    """

    def infer(x: Spec, **attrs: Any) -> Spec:
        if floats_only and not x.is_float:
            raise shape_error(name, f"a floating dtype was expected, got {x.dtype}", {"x": x})
        if signed and x.dtype == "bool":
            raise _no_bool(name, {"x": x})
        return Spec(x.shape, dtype) if dtype else x

    def vjp(inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> tuple[Any, ...]:
        return (derivative(inputs[0], outputs[0], dys[0], **attrs) if derivative else None,)

    if not kernel:
        fields.setdefault("attribution", "quotient")
    return register(
        Op(
            name,
            infer=infer,
            reference=reference,
            samples=samples,
            bound=bound,
            vjp=vjp,
            native=native_tile(tile or name) if kernel else never_native,
            tile=(tile or name) if kernel else None,
            alias=((0, 0),) if kernel else (),
            **fields,
        )
    )


def binary_op(
    name: str,
    reference: Callable[..., Any],
    derivatives: Callable[..., Any] | None,
    samples: Samples,
    bound: Bound,
    *,
    tile: str = "",
    kernel: bool = True,
    dtype: str = "",
    signed: bool = False,
    **fields: Any,
) -> Op:
    """Registers an elementwise operator of two operands of one dtype.

    Args:
        name: the operator's name.
        reference: the function in NumPy.
        derivatives: ``(x, y, out, dy, **attrs)`` -> gradients of x and y, before the sum over
            broadcast axes. None: not differentiable.
        samples: see :class:`Op`.
        bound: see :class:`Op`.
        tile: the opcode, if it is not the name.
        kernel: whether it is an instruction of tile programs; if not, it runs in NumPy.
        dtype: the output's dtype, if it is not the operands'.
        signed: whether bool is refused.
        **fields: further fields of the record.
    """

    def infer(x: Spec, y: Spec, **attrs: Any) -> Spec:
        if x.dtype != y.dtype:
            raise shape_error(
                name, f"dtypes differ: {x.dtype} and {y.dtype}", {"x": x, "y": y}, "use ops.cast"
            )
        if signed and x.dtype == "bool":
            raise _no_bool(name, {"x": x, "y": y})
        try:
            return Spec(broadcast_shapes(x.shape, y.shape), dtype or x.dtype)
        except ValueError as error:
            raise shape_error(
                name,
                f"shapes {x.shape} and {y.shape} do not broadcast",
                {"x": x, "y": y},
                "dimensions must be equal, counted from the last, or 1",
            ) from error

    def vjp(inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> tuple[Any, ...]:
        if derivatives is None:
            return (None, None)
        found = derivatives(*inputs, outputs[0], dys[0], **attrs)
        return tuple(
            None if dx is None else unbroadcast(dx, x.shape)
            for x, dx in zip(inputs, found, strict=True)
        )

    makes_float = not dtype
    return register(
        Op(
            name,
            infer=infer,
            reference=reference,
            samples=samples,
            bound=bound,
            vjp=vjp if derivatives is not None or not makes_float else None,
            native=native_tile(tile or name) if kernel else never_native,
            tile=(tile or name) if kernel else None,
            alias=((0, 0), (0, 1)) if kernel and makes_float else (),
            **fields,
        )
    )


ADD = binary_op(
    "add",
    np.add,
    lambda x, y, out, dy: (dy, dy),
    binary(),
    ROUNDED,
    epilogue=("bias", ""),
    attribution="midpoint",
)
SUBTRACT = binary_op(
    "subtract",
    np.subtract,
    lambda x, y, out, dy: (dy, negative(dy)),
    binary(),
    ROUNDED,
    tile="sub",
    signed=True,
    attribution="midpoint",
)
MULTIPLY = binary_op(
    "multiply",
    np.multiply,
    lambda x, y, out, dy: (dy * y, dy * x),
    binary(),
    ROUNDED,
    tile="mul",
    epilogue=("scale", ""),
    attribution="midpoint",
)


def _quotient_shares(
    inputs: Any, others: Any, outputs: Any, other_outputs: Any, dys: Any, varying: Any
) -> Any:
    # x u with u = 1 / y: the product by the mean of its factors, u by -1 / (y y').
    (x, y), (x2, y2), (dy,) = inputs, others, dys
    dx = dy * ((y + y2) / y / y2 * 0.5)
    dv = negative(dy * (x + x2)) * 0.5 / y / y2
    return unbroadcast(dx, x.shape), unbroadcast(dv, y.shape)


# out = x / y: d/dx = 1 / y, d/dy = -x / y^2 = -out / y.
DIVIDE = binary_op(
    "divide",
    np.divide,
    lambda x, y, out, dy: (dy / y, negative(dy * out / y)),
    binary(0.5, 4.0),
    ROUNDED,
    tile="div",
    attribution=_quotient_shares,
)


def _power_derivatives(x: Any, y: Any, out: Any, dy: Any) -> tuple[Any, Any]:
    # d/dx x^y = y x^(y-1), zero for y = 0 also where x = 0.
    # d/dy x^y = x^y ln x for x > 0; where x <= 0 the power is not differentiable in y.
    is_zero = equal(y, 0)
    positive = greater(x, 0)
    dx = where(is_zero, 0.0, y * power(x, where(is_zero, 1.0, y - 1)))
    dexponent = where(positive, out * log(where(positive, x, 1.0)), 0.0)
    return dy * dx, dy * dexponent


def _power_reference(x: Array, y: Array) -> Array:
    # Integers: 0 for a negative exponent, but 1 and -1 have such powers; NumPy refuses them.
    if x.dtype.kind not in "iu":
        return np.asarray(np.power(x, y))
    whole = np.power(x, np.maximum(y, 0))
    odd = np.where(y % 2 == 0, 1, x)
    return np.where(y >= 0, whole, np.where(np.abs(x) == 1, odd, 0)).astype(x.dtype)


# Computed in float64 and rounded once.
POWER = binary_op(
    "power",
    _power_reference,
    _power_derivatives,
    binary(0.1, 3.0, special=(0.0, 1.0, 2.0, 3.0, -1.0, 0.5, np.inf, np.nan)),
    Ulp(1),
    tile="pow",
)


def _maximum_derivatives(x: Any, y: Any, out: Any, dy: Any) -> tuple[Any, Any]:
    return _shared(greater(x, y), equal(x, y), dy)


def _minimum_derivatives(x: Any, y: Any, out: Any, dy: Any) -> tuple[Any, Any]:
    return _shared(less(x, y), equal(x, y), dy)


def _shared(first: Any, tie: Any, dy: Any) -> tuple[Any, Any]:
    """The gradient for the operand that was taken; at a tie half of it for each, as in JAX."""
    half = dy * 0.5
    return where(tie, half, where(first, dy, 0.0)), where(tie, half, where(first, 0.0, dy))


MAXIMUM = binary_op(
    "maximum", np.maximum, _maximum_derivatives, binary(), Exact(), attribution="max"
)
MINIMUM = binary_op(
    "minimum", np.minimum, _minimum_derivatives, binary(), Exact(), attribution="min"
)


NEGATIVE = unary_op(
    "negative",
    np.negative,
    lambda x, y, dy: negative(dy),
    unary(),
    Exact(),
    tile="neg",
    attribution="midpoint",
    floats_only=False,
    signed=True,
)
