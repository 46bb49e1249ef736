"""What a search may choose: numbers between two ends, or one of some values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handmill.arguments import finite_number, whole_number
from handmill.strategy.sobol import MOST_DIMENSIONS, sobol


@dataclass(frozen=True)
class Float:
    """A real number from ``low`` to ``high``.

    Args:
        low: the least.
        high: the largest.
        log: whether each factor of it is as likely as any other, as for learning rates.

    Raises:
        ValueError: if the ends are not in order, or not above 0 with ``log``.

    Example:
        >>> from handmill.strategy import Float
        >>> Float(1e-4, 1e-2, log=True).at(0.5)
        0.001
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        low, high = (finite_number(n, v) for n, v in (("low", self.low), ("high", self.high)))
        _check_ends(self, low, high)

    def at(self, share: float) -> float:
        """The value at a share of the way, from 0 to 1."""
        if self.log:
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + (self.high - self.low) * share
        return float(f"{min(max(value, self.low), self.high):.6g}")  # what is read is what is run


@dataclass(frozen=True)
class Int:
    """A whole number from ``low`` to ``high``, both included.

    Args:
        low: the least.
        high: the largest.
        log: whether each factor of it is as likely as any other, as for units.

    Raises:
        ValueError: if the ends are not whole, not in order, or not above 0 with ``log``.

    Example:
        >>> from handmill.strategy import Int
        >>> [Int(8, 128, log=True).at(share) for share in (0, 0.5, 0.999)]
        [8, 31, 128]
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check_ends(self, whole_number("low", self.low), whole_number("high", self.high))

    def at(self, share: float) -> int:
        """The value at a share of the way, from 0 to 1."""
        low, high = self.low - 0.5, self.high + 0.5
        value = low * (high / low) ** share if self.log else low + (high - low) * share
        return min(max(round(value), self.low), self.high)


def _check_ends(range_: Any, low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"low must not be above high. Received: {range_}")
    if range_.log and low <= 0:
        raise ValueError(f"with log=True both ends must be above 0. Received: {range_}")


Space = Mapping[str, "Float | Int | Sequence[Any]"]


def checked_space(space: Any) -> dict[str, Any]:
    """Returns a space whose lists are lists.

    Raises:
        TypeError: for what is no dict of ranges and lists.
        ValueError: for a list without values, or more settings than there are dimensions.
    """
    if not isinstance(space, Mapping):
        raise TypeError(
            "the space must be a dict such as {'units': Int(8, 64), 'activation': ['relu', "
            f"'tanh']}}. Received: {type(space).__name__}"
        )
    found: dict[str, Any] = {}
    for name, given in space.items():
        if isinstance(given, Float | Int):
            found[name] = given
        elif isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
            raise TypeError(
                f"{name!r} must be a list of values, strategy.Float(low, high) or "
                f"strategy.Int(low, high). Received: {given!r}"
            )
        else:
            found[name] = list(given)
            if not found[name]:
                raise ValueError(f"{name!r} has no values to try")
    if not 1 <= len(found) <= MOST_DIMENSIONS:
        raise ValueError(
            f"a space has from 1 to {MOST_DIMENSIONS} settings. Received: {len(found)}"
        )
    return found


def size_of(space: Mapping[str, Any]) -> float:
    """How many configurations there are; infinite with a real number."""
    sizes = [
        math.inf if isinstance(v, Float) else v.high - v.low + 1 if isinstance(v, Int) else len(v)
        for v in space.values()
    ]
    return math.prod(sizes)


def drawn(space: Mapping[str, Any], count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yields different configurations of a space, evenly spread, ``count`` at most.

    Args:
        space: as :func:`checked_space` returns it.
        count: how many; fewer where the space has no more.
        seed: of Sobol's sequence.
    """
    count = int(min(count, size_of(space)))
    seen: set[str] = set()
    points, begun = max(count, 16), 0
    while len(seen) < count and points <= 64 * max(count, 16):
        for point in sobol(points, len(space), seed)[begun:]:
            made = {
                name: _at(v, share) for (name, v), share in zip(space.items(), point, strict=True)
            }
            key = repr(made)
            if key not in seen and len(seen) < count:
                seen.add(key)
                yield made
        points, begun = 2 * points, points


def _at(values: Any, share: float) -> Any:
    if isinstance(values, Float | Int):
        return values.at(share)
    return values[min(int(share * len(values)), len(values) - 1)]
