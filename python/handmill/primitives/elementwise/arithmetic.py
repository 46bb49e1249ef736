"""Arithmetic, element by element under broadcasting; how elementwise operators are registered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.graph import Value
from handmill.ir.op import Attrs, Bound, Exact, Op, Sample, Ulp, register
from handmill.ir.shapes import Shape, Spec, broadcast_shapes
from handmill.ir.trace import apply
from handmill.primitives.cast import Tensor, promote, promote_float
from handmill.primitives.samples import binary, unary

Samples = Callable[[], Iterable[Sample]]

ROUNDED = Ulp(0.5)
"""The bound of operations that IEEE 754 wants rounded correctly: half a unit."""


def native_float(specs: Sequence[Spec], attrs: Attrs) -> bool:
    """Tile programs compute in float32; booleans are read as 0 and 1."""
    return all(s.dtype in ("float32", "bool") for s in specs)


def unbroadcast(dy: Value, shape: Shape) -> Any:
    """Sums ``dy`` over the axes along which an operand of ``shape`` was broadcast."""
    from handmill.primitives.movement import reshape
    from handmill.primitives.reduce import sum as reduce_sum

    if dy.shape == shape:
        return dy
    added = len(dy.shape) - len(shape)
    axes = [
        axis
        for axis, dim in enumerate(dy.shape)
        if axis < added or (shape[axis - added] == 1 and dim != 1)
    ]
    if axes:
        dy = reduce_sum(dy, axis=tuple(axes))
    return reshape(dy, shape)


def unary_op(
    name: str,
    reference: Callable[..., Any],
    derivative: Callable[..., Any] | None,
    samples: Samples,
    bound: Bound,
    *,
    tile: str = "",
    floats_only: bool = True,
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
        floats_only: whether integers are refused (public functions convert them before).
        **fields: further fields of the record.
    """

    def infer(x: Spec, **attrs: Any) -> Spec:
        if floats_only and not x.is_float:
            raise shape_error(name, f"a floating dtype was expected, got {x.dtype}", {"x": x})
        return x

    def vjp(inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> tuple[Any, ...]:
        return (derivative(inputs[0], outputs[0], dys[0], **attrs) if derivative else None,)

    return register(
        Op(
            name,
            infer=infer,
            reference=reference,
            samples=samples,
            bound=bound,
            vjp=vjp,
            native=native_float,
            tile=tile or name,
            alias=((0, 0),),
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
    dtype: str = "",
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
        dtype: the output's dtype, if it is not the operands'.
        **fields: further fields of the record.
    """

    def infer(x: Spec, y: Spec, **attrs: Any) -> Spec:
        if x.dtype != y.dtype:
            raise shape_error(
                name, f"dtypes differ: {x.dtype} and {y.dtype}", {"x": x, "y": y}, "use ops.cast"
            )
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
            native=native_float,
            tile=tile or name,
            alias=((0, 0), (0, 1)) if makes_float else (),
            **fields,
        )
    )


ADD = binary_op(
    "add", np.add, lambda x, y, out, dy: (dy, dy), binary(), ROUNDED, epilogue=("bias", "")
)
SUBTRACT = binary_op(
    "subtract",
    np.subtract,
    lambda x, y, out, dy: (dy, negative(dy)),
    binary(),
    ROUNDED,
    tile="sub",
)
MULTIPLY = binary_op(
    "multiply",
    np.multiply,
    lambda x, y, out, dy: (dy * y, dy * x),
    binary(),
    ROUNDED,
    tile="mul",
)
# out = x / y: d/dx = 1 / y, d/dy = -x / y^2 = -out / y.
DIVIDE = binary_op(
    "divide",
    np.divide,
    lambda x, y, out, dy: (dy / y, negative(dy * out / y)),
    binary(0.5, 4.0),
    ROUNDED,
    tile="div",
)


def _power_derivatives(x: Any, y: Any, out: Any, dy: Any) -> tuple[Any, Any]:
    # d/dx x^y = y x^(y-1), zero for y = 0 also where x = 0.
    # d/dy x^y = x^y ln x for x > 0; where x <= 0 the power is not differentiable in y.
    from handmill.primitives.elementwise.logic import equal, greater, where
    from handmill.primitives.elementwise.unary import log

    is_zero = equal(y, 0)
    positive = greater(x, 0)
    dx = where(is_zero, 0.0, y * power(x, where(is_zero, 1.0, y - 1)))
    dexponent = where(positive, out * log(where(positive, x, 1.0)), 0.0)
    return dy * dx, dy * dexponent


# Computed in float64 and rounded once.
POWER = binary_op(
    "power",
    np.power,
    _power_derivatives,
    binary(0.1, 3.0, special=(0.0, 1.0, 2.0, 3.0, -1.0, 0.5, np.inf, np.nan)),
    Ulp(1),
    tile="pow",
)


def _maximum_derivatives(x: Any, y: Any, out: Any, dy: Any) -> tuple[Any, Any]:
    from handmill.primitives.elementwise.logic import greater_equal, where

    first = greater_equal(x, y)  # at a tie the gradient goes to x, as in Keras
    return where(first, dy, 0.0), where(first, 0.0, dy)


def _minimum_derivatives(x: Any, y: Any, out: Any, dy: Any) -> tuple[Any, Any]:
    from handmill.primitives.elementwise.logic import less_equal, where

    first = less_equal(x, y)
    return where(first, dy, 0.0), where(first, 0.0, dy)


MAXIMUM = binary_op("maximum", np.maximum, _maximum_derivatives, binary(), Exact())
MINIMUM = binary_op("minimum", np.minimum, _minimum_derivatives, binary(), Exact())


NEGATIVE = unary_op(
    "negative",
    np.negative,
    lambda x, y, dy: negative(dy),
    unary(),
    Exact(),
    tile="neg",
    floats_only=False,
)


def add(x1: Tensor, x2: Tensor) -> Any:
    """Adds element by element.

    Example:
        >>> from handmill import ops
        >>> ops.add([1.0, 2.0], 10)
        array([11., 12.], dtype=float32)
    """
    return apply(ADD, *promote(x1, x2))


def subtract(x1: Tensor, x2: Tensor) -> Any:
    """Subtracts element by element.

    Example:
        >>> from handmill import ops
        >>> ops.subtract([1.0, 2.0], 10)
        array([-9., -8.], dtype=float32)
    """
    return apply(SUBTRACT, *promote(x1, x2))


def multiply(x1: Tensor, x2: Tensor) -> Any:
    """Multiplies element by element.

    Example:
        >>> from handmill import ops
        >>> ops.multiply([1.0, 2.0], 10)
        array([10., 20.], dtype=float32)
    """
    return apply(MULTIPLY, *promote(x1, x2))


def divide(x1: Tensor, x2: Tensor) -> Any:
    """Divides element by element; integers become float32 before.

    Example:
        >>> from handmill import ops
        >>> ops.divide([1, 2], 4)
        array([0.25, 0.5 ], dtype=float32)
    """
    return apply(DIVIDE, *promote_float(x1, x2))


def divide_no_nan(x1: Tensor, x2: Tensor) -> Any:
    """Divides element by element; 0 where the divisor is 0, also in the gradient.

    Example:
        >>> from handmill import ops
        >>> ops.divide_no_nan([1.0, 2.0], [0.0, 4.0])
        array([0. , 0.5], dtype=float32)
    """
    from handmill.primitives.elementwise.logic import equal, where

    x1, x2 = promote_float(x1, x2)
    is_zero = equal(x2, 0)
    return where(is_zero, 0.0, divide(x1, where(is_zero, 1.0, x2)))


def power(x1: Tensor, x2: Tensor) -> Any:
    """Raises to a power element by element.

    Example:
        >>> from handmill import ops
        >>> ops.power([1.0, 2.0, 3.0], 2)
        array([1., 4., 9.], dtype=float32)
    """
    if isinstance(x2, int | float) and x2 == 2:
        from handmill.primitives.elementwise.unary import square

        return square(x1)
    return apply(POWER, *promote(x1, x2))


def maximum(x1: Tensor, x2: Tensor) -> Any:
    """Returns the larger of two, element by element; NaN if either is.

    Example:
        >>> from handmill import ops
        >>> ops.maximum([1.0, -2.0], 0)
        array([1., 0.], dtype=float32)
    """
    return apply(MAXIMUM, *promote(x1, x2))


def minimum(x1: Tensor, x2: Tensor) -> Any:
    """Returns the smaller of two, element by element; NaN if either is.

    Example:
        >>> from handmill import ops
        >>> ops.minimum([1.0, -2.0], 0)
        array([ 0., -2.], dtype=float32)
    """
    return apply(MINIMUM, *promote(x1, x2))


def negative(x: Tensor) -> Any:
    """Changes the sign.

    Example:
        >>> from handmill import ops
        >>> ops.negative([1.0, -2.0])
        array([-1.,  2.], dtype=float32)
    """
    return apply(NEGATIVE, *promote(x))
