"""Arguments of image layers: how far something may go, and between which values pixels lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.arguments import whole_number

FILL_MODES = ("reflect", "wrap", "constant", "nearest")
INTERPOLATIONS = ("nearest", "bilinear")


def is_number(value: Any) -> bool:
    """Whether this is one real number; a bool is none."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def factor_range(
    name: str, value: Any, bounds: tuple[float, float] = (-1.0, 1.0)
) -> tuple[Any, Any]:
    """The least and the largest of what is drawn.

    Args:
        name: of the argument.
        value: two numbers in any order, or one: then from minus that, or the lower bound where
            that is larger, to that.
        bounds: what is allowed; two numbers may reach beyond one of them, as in Keras.

    Raises:
        ValueError: if it is none of these.
    """
    low, high = bounds
    if is_number(value):
        if low <= value <= high:
            return max(-abs(value), low), abs(value)
    elif is_pair(value) and value[0] <= high and value[1] >= low:
        lower, upper = sorted(value)
        return lower, upper
    raise ValueError(
        f"The `{name}` argument should be a number (or a list of two numbers) in the range "
        f"[{low}, {high}]. Received: {name}={value}"
    )


def each_within(
    name: str, value: Any, low: float, high: float, least: float | None = None, open_: bool = False
) -> tuple[Any, Any]:
    """The least and the largest of what is drawn, where each end must be allowed.

    Args:
        name: of the argument.
        value: two numbers in any order, or one: then from ``least`` to that.
        low: the least that is allowed.
        high: the largest that is allowed.
        least: where a single number starts; None for minus that number.
        open_: whether ``low`` itself is not allowed.

    Raises:
        ValueError: if it is none of these.
    """
    ends = (value,) if is_number(value) else tuple(value) if is_pair(value) else ()
    inside = bool(ends) and all(
        (low < end if open_ else low <= end) and end <= high for end in ends
    )
    if not inside:
        raise ValueError(
            f"The `{name}` argument should be a number (or a list of two numbers) in the range "
            f"{'(' if open_ else '['}{low}, {high}]. Received: {name}={value}"
        )
    if len(ends) == 1:
        return (-abs(ends[0]) if least is None else least), abs(ends[0])
    lower, upper = sorted(ends)
    return lower, upper


def is_pair(value: Any) -> bool:
    """Whether these are two numbers."""
    listed = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1)
    return listed and len(value) == 2 and all(map(is_number, value))


def sorted_range(value: Any) -> list[Any]:
    """The values between which pixels lie, the lower first.

    Raises:
        ValueError: if these are not two numbers.
    """
    return sorted(checked_range(value))


def checked_range(value: Any) -> Sequence[Any]:
    """The values between which pixels lie, as they were given.

    Raises:
        ValueError: if these are not two different numbers.
    """
    if not is_pair(value) or value[0] == value[1]:
        raise ValueError(
            "The `value_range` argument should be a list of two numbers: the least and the "
            f"largest value of a pixel. Received: value_range={value}"
        )
    found: Sequence[Any] = value
    return found


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """Refuses what is none of the known settings.

    Raises:
        NotImplementedError: as in Keras; names those that there are.
    """
    if value not in known:
        raise NotImplementedError(f"Unknown `{name}` {value}. Expected of one {tuple(known)}.")


def positive_size(name: str, value: Any) -> int:
    """A height or width in pixels.

    Raises:
        ValueError: if it is no positive integer.
    """
    return whole_number(f"`{name}`", value, least=1)
