"""Comparison, logic and selection, element by element under broadcasting."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.ir.graph import Value
from handmill.ir.trace import apply
from handmill.primitives.elementwise.logic import (
    EQUAL,
    GREATER,
    GREATER_EQUAL,
    ISFINITE,
    ISINF,
    ISNAN,
    LESS,
    LESS_EQUAL,
    LOGICAL_AND,
    LOGICAL_NOT,
    LOGICAL_OR,
    NOT_EQUAL,
    WHERE,
)
from handmill.primitives.operands import (
    Tensor,
    as_bool,
    comparable,
    is_symbolic,
    promote,
    promote_float,
    tensor,
)
from handmill.primitives.places import as_places


def equal(x1: Tensor, x2: Tensor) -> Any:
    """Returns ``x1 == x2`` element by element.

    Example:
        >>> from handmill import ops
        >>> ops.equal([1, 2], [1, 3])
        array([ True, False])
    """
    return apply(EQUAL, *comparable(x1, x2))


def not_equal(x1: Tensor, x2: Tensor) -> Any:
    """Returns ``x1 != x2`` element by element.

    Example:
        >>> from handmill import ops
        >>> ops.not_equal([1, 2], [1, 3])
        array([False,  True])
    """
    return apply(NOT_EQUAL, *comparable(x1, x2))


def less(x1: Tensor, x2: Tensor) -> Any:
    """Returns ``x1 < x2`` element by element.

    Example:
        >>> from handmill import ops
        >>> ops.less([1, 2], [2, 2])
        array([ True, False])
    """
    return apply(LESS, *comparable(x1, x2))


def less_equal(x1: Tensor, x2: Tensor) -> Any:
    """Returns ``x1 <= x2`` element by element.

    Example:
        >>> from handmill import ops
        >>> ops.less_equal([1, 2, 3], 2)
        array([ True,  True, False])
    """
    return apply(LESS_EQUAL, *comparable(x1, x2))


def greater(x1: Tensor, x2: Tensor) -> Any:
    """Returns ``x1 > x2`` element by element.

    Example:
        >>> from handmill import ops
        >>> ops.greater([1, 2, 3], 2)
        array([False, False,  True])
    """
    return apply(GREATER, *comparable(x1, x2))


def greater_equal(x1: Tensor, x2: Tensor) -> Any:
    """Returns ``x1 >= x2`` element by element.

    Example:
        >>> from handmill import ops
        >>> ops.greater_equal([1, 2, 3], 2)
        array([False,  True,  True])
    """
    return apply(GREATER_EQUAL, *comparable(x1, x2))


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
        condition: bool, or zero and non-zero. Alone, outside of programs: the indices of what
            is not zero are returned, as :func:`nonzero` does.
        x1: taken where the condition holds.
        x2: taken elsewhere. Condition, x1 and x2 are broadcast together.

    Example:
        >>> from handmill import ops
        >>> ops.where([True, False], 1.0, [5.0, 6.0])
        array([1., 6.], dtype=float32)
    """
    if x1 is None and x2 is None and not is_symbolic(condition):
        return tuple(as_places("where", i) for i in np.nonzero(tensor(condition)))
    if x1 is None and x2 is None:
        raise ValueError("`where` needs x1 and x2: the number of hits is not known to a program")
    if x1 is None or x2 is None:
        missing = "x1" if x1 is None else "x2"
        raise ValueError(
            "where: `x1` and `x2` either both should be `None`, for the places of what is not "
            f"zero, or both be given; got {missing}=None"
        )
    return apply(WHERE, as_bool(condition), *promote(x1, x2))


Value.operators.update(
    equal=equal,
    not_equal=not_equal,
    logical_and=logical_and,
    logical_or=logical_or,
    logical_xor=logical_xor,
    logical_not=logical_not,
    less=less,
    less_equal=less_equal,
    greater=greater,
    greater_equal=greater_equal,
)
