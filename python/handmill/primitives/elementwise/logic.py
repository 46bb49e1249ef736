"""Comparison, logic and selection, element by element under broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.op import Array, Exact, Op, Sample, register
from handmill.ir.shapes import Spec, broadcast_shapes
from handmill.ir.trace import apply
from handmill.primitives.cast import Tensor, as_bool, promote, promote_float
from handmill.primitives.elementwise.arithmetic import Samples, binary_op, native_float, unbroadcast
from handmill.primitives.samples import SHAPES, binary, name_of, unary


def _comparison(name: str, reference: Callable[..., Any]) -> Op:
    samples = binary(-2.0, 2.0, smooth=False)
    return binary_op(name, reference, None, samples, Exact(), dtype="bool", grad_none=(0, 1))


EQUAL = _comparison("equal", np.equal)
NOT_EQUAL = _comparison("not_equal", np.not_equal)
LESS = _comparison("less", np.less)
LESS_EQUAL = _comparison("less_equal", np.less_equal)
GREATER = _comparison("greater", np.greater)
GREATER_EQUAL = _comparison("greater_equal", np.greater_equal)


def _booleans(operands: int) -> Samples:
    def make(shape: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[Array, ...]]:
        return lambda rng: tuple(rng.random(shape) < 0.5 for _ in range(operands))

    return lambda: [Sample(name_of(s), make(s), smooth=False) for s in SHAPES]


LOGICAL_AND = binary_op(
    "logical_and", np.logical_and, None, _booleans(2), Exact(), dtype="bool", grad_none=(0, 1)
)
LOGICAL_OR = binary_op(
    "logical_or", np.logical_or, None, _booleans(2), Exact(), dtype="bool", grad_none=(0, 1)
)
LOGICAL_NOT = register(
    Op(
        "logical_not",
        infer=lambda x: Spec(x.shape, "bool"),
        reference=np.logical_not,
        samples=_booleans(1),
        bound=Exact(),
        native=native_float,
        tile="logical_not",
        grad_none=(0,),
    )
)


def _classification(name: str, reference: Callable[..., Any]) -> Op:
    return register(
        Op(
            name,
            infer=lambda x: Spec(x.shape, "bool"),
            reference=reference,
            samples=unary(smooth=False),
            bound=Exact(),
            native=native_float,
            tile=name,
            grad_none=(0,),
        )
    )


ISFINITE = _classification("isfinite", np.isfinite)
ISNAN = _classification("isnan", np.isnan)
ISINF = _classification("isinf", np.isinf)


def _where_infer(condition: Spec, x: Spec, y: Spec) -> Spec:
    operands = {"condition": condition, "x": x, "y": y}
    if condition.dtype != "bool" or x.dtype != y.dtype:
        raise shape_error("where", "a bool and two operands of one dtype were expected", operands)
    try:
        return Spec(broadcast_shapes(condition.shape, x.shape, y.shape), x.dtype)
    except ValueError as error:
        raise shape_error("where", str(error), operands) from error


def _where_vjp(inputs: Any, outputs: Any, dys: Any) -> tuple[Any, ...]:
    condition, x, y = inputs
    dx, dy = where(condition, dys[0], 0.0), where(condition, 0.0, dys[0])
    return None, unbroadcast(dx, x.shape), unbroadcast(dy, y.shape)


def _where_samples() -> Iterable[Sample]:
    for c, x, y in [((), (), ())] + [(s, s, s) for s in SHAPES] + [((4, 1), (1, 9), ())]:

        def make(rng: np.random.Generator, c: Any = c, x: Any = x, y: Any = y) -> tuple[Array, ...]:
            a, b = (np.asarray(rng.normal(size=s), np.float32) for s in (x, y))
            return np.asarray(rng.random(c) < 0.5), a, b

        yield Sample(f"{name_of(c)}_{name_of(x)}_{name_of(y)}", make, smooth=0 not in c)


WHERE = register(
    Op(
        "where",
        infer=_where_infer,
        reference=np.where,
        samples=_where_samples,
        bound=Exact(),
        vjp=_where_vjp,
        native=native_float,
        tile="where",
        alias=((0, 1), (0, 2)),
        grad_none=(0,),
    )
)


def equal(x1: Tensor, x2: Tensor) -> Any:
    """Returns ``x1 == x2`` element by element.

    Example:
        >>> from handmill import ops
        >>> ops.equal([1, 2], [1, 3])
        array([ True, False])
    """
    return apply(EQUAL, *promote(x1, x2))


def not_equal(x1: Tensor, x2: Tensor) -> Any:
    """Returns ``x1 != x2`` element by element.

    Example:
        >>> from handmill import ops
        >>> ops.not_equal([1, 2], [1, 3])
        array([False,  True])
    """
    return apply(NOT_EQUAL, *promote(x1, x2))


def less(x1: Tensor, x2: Tensor) -> Any:
    """Returns ``x1 < x2`` element by element.

    Example:
        >>> from handmill import ops
        >>> ops.less([1, 2], [2, 2])
        array([ True, False])
    """
    return apply(LESS, *promote(x1, x2))


def less_equal(x1: Tensor, x2: Tensor) -> Any:
    """Returns ``x1 <= x2`` element by element.

    Example:
        >>> from handmill import ops
        >>> ops.less_equal([1, 2, 3], 2)
        array([ True,  True, False])
    """
    return apply(LESS_EQUAL, *promote(x1, x2))


def greater(x1: Tensor, x2: Tensor) -> Any:
    """Returns ``x1 > x2`` element by element.

    Example:
        >>> from handmill import ops
        >>> ops.greater([1, 2, 3], 2)
        array([False, False,  True])
    """
    return apply(GREATER, *promote(x1, x2))


def greater_equal(x1: Tensor, x2: Tensor) -> Any:
    """Returns ``x1 >= x2`` element by element.

    Example:
        >>> from handmill import ops
        >>> ops.greater_equal([1, 2, 3], 2)
        array([False,  True,  True])
    """
    return apply(GREATER_EQUAL, *promote(x1, x2))


def logical_and(x1: Tensor, x2: Tensor) -> Any:
    """Returns whether both are true (not zero), element by element.

    Example:
        >>> from handmill import ops
        >>> ops.logical_and([True, False], True)
        array([ True, False])
    """
    return apply(LOGICAL_AND, as_bool(x1), as_bool(x2))


def logical_or(x1: Tensor, x2: Tensor) -> Any:
    """Returns whether either is true (not zero), element by element.

    Example:
        >>> from handmill import ops
        >>> ops.logical_or([True, False], False)
        array([ True, False])
    """
    return apply(LOGICAL_OR, as_bool(x1), as_bool(x2))


def logical_not(x: Tensor) -> Any:
    """Returns whether the input is false (zero), element by element.

    Example:
        >>> from handmill import ops
        >>> ops.logical_not([True, False])
        array([False,  True])
    """
    return apply(LOGICAL_NOT, as_bool(x))


def logical_xor(x1: Tensor, x2: Tensor) -> Any:
    """Returns whether exactly one is true (not zero), element by element.

    Example:
        >>> from handmill import ops
        >>> ops.logical_xor([True, True], [True, False])
        array([False,  True])
    """
    return apply(NOT_EQUAL, as_bool(x1), as_bool(x2))


def isfinite(x: Tensor) -> Any:
    """Returns whether each element is neither infinite nor NaN.

    Example:
        >>> from handmill import ops
        >>> ops.isfinite([1.0, float("inf"), float("nan")])
        array([ True, False, False])
    """
    return apply(ISFINITE, *promote_float(x))


def isnan(x: Tensor) -> Any:
    """Returns whether each element is NaN.

    Example:
        >>> from handmill import ops
        >>> ops.isnan([1.0, float("inf"), float("nan")])
        array([False, False,  True])
    """
    return apply(ISNAN, *promote_float(x))


def isinf(x: Tensor) -> Any:
    """Returns whether each element is infinite.

    Example:
        >>> from handmill import ops
        >>> ops.isinf([1.0, float("-inf"), float("nan")])
        array([False,  True, False])
    """
    return apply(ISINF, *promote_float(x))


def where(condition: Tensor, x1: Tensor = None, x2: Tensor = None) -> Any:
    """Takes ``x1`` where the condition holds and ``x2`` elsewhere.

    Args:
        condition: bool, or zero and non-zero.
        x1: taken where the condition holds.
        x2: taken elsewhere. Condition, x1 and x2 are broadcast together.

    Example:
        >>> from handmill import ops
        >>> ops.where([True, False], 1.0, [5.0, 6.0])
        array([1., 6.], dtype=float32)
    """
    if x1 is None or x2 is None:
        raise ValueError("`where` needs x1 and x2: the number of hits is not known to a program")
    return apply(WHERE, as_bool(condition), *promote(x1, x2))
