"""Numbers that are given as arguments, looked at before anything is done with them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """Returns a whole number.

    Args:
        name: what errors call it.
        value: what was given.
        least: the smallest that it may be; None for any.

    Raises:
        ValueError: if it is none, or smaller.
    """
    try:
        number = None if isinstance(value, bool) and least is not None else operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        range_ = "" if least is None else f" of {least} or more"
        raise ValueError(f"{name} must be a whole number{range_}. Received: {value!r}")
    return number


def real_number(name: str, value: Any) -> float:
    """Returns a number as a float.

    Raises:
        ValueError: if it is none; a text is none.
    """
    try:
        if not isinstance(value, str | bytes):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{name} must be a number. Received: {value!r}")


def finite_number(name: str, value: Any) -> float:
    """Returns a number as a float.

    Raises:
        ValueError: if it is none, NaN or infinite.
    """
    number = real_number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number. Received: {value!r}")
    return number


def pair_of(name: str, value: Any, convert: Callable[[str, Any], T], of: str) -> tuple[T, T]:
    """Returns two numbers.

    Args:
        name: what errors call them.
        value: what was given.
        convert: makes one of its name and what was given.
        of: what errors call the numbers.

    Raises:
        ValueError: if they are not two, or one is refused.
    """
    if isinstance(value, str | bytes) or not hasattr(value, "__len__") or len(value) != 2:
        raise ValueError(f"Expected {name} to be a tuple of 2 {of}. Received: {value!r}")
    first, second = value
    return convert(name, first), convert(name, second)
