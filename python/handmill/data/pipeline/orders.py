"""Orders of rows, found without the rows: those that chains of verbs over arrays amount to."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count as counted
from typing import Protocol

import numpy as np

from handmill import random
from handmill.data.keyed_random import make_key, words
from handmill.ir.op import Array

INFINITE = -1


class Order(Protocol):
    """The numbers of rows in the order in which they come.

    Attributes:
        count: how many; ``INFINITE`` without an end.
        is_fixed: whether each pass has the same.
        repeats: whether a pass may have a row more than once.
    """

    count: int
    is_fixed: bool
    repeats: bool

    def runs(self, pass_: int) -> Iterator[Array]:
        """Yields the order in pieces (int64)."""


class Plain:
    """Rows as they lie, from one to another."""

    is_fixed = True
    repeats = False

    def __init__(self, first: int, end: int) -> None:
        self.first = first
        self.count = end - first

    def runs(self, pass_: int) -> Iterator[Array]:
        yield np.arange(self.first, self.first + self.count)


class Mixed:
    """The order of a shuffling buffer over another order that ends."""

    def __init__(self, above: Order, size: int, seed: int, reshuffles: bool) -> None:
        self.count = above.count
        self.is_fixed = above.is_fixed and not reshuffles
        self.repeats = above.repeats
        self._above = above
        self._shuffle = (size, seed, reshuffles)

    def runs(self, pass_: int) -> Iterator[Array]:
        size, seed, reshuffles = self._shuffle
        order = whole(self._above, pass_)
        yield order[buffered_order(shuffle_key(seed, pass_, reshuffles), len(order), size)]


class Part:
    """Another order from a place on, up to another."""

    def __init__(self, above: Order, start: int, stop: int | None) -> None:
        self.is_fixed, self.repeats = above.is_fixed, above.repeats
        self._above = above
        self._start = start
        if above.count == INFINITE:
            self.count = INFINITE if stop is None else max(stop - start, 0)
        else:
            end = above.count if stop is None else min(stop, above.count)
            self.count = max(end - start, 0)

    def runs(self, pass_: int) -> Iterator[Array]:
        return cut(self._above.runs(pass_), self._start, self.count)


class Again:
    """Another order several times over, None for ever."""

    def __init__(self, above: Order, count: int | None) -> None:
        self.is_fixed, self.repeats = above.is_fixed, above.repeats or count != 1
        self._above = above
        self._times = count
        if count is None:
            self.count = INFINITE if above.count else 0
        else:
            self.count = 0 if count == 0 else above.count * count if above.count >= 0 else INFINITE

    def runs(self, pass_: int) -> Iterator[Array]:
        if self.count == 0:
            return
        for number in counted() if self._times is None else range(self._times):
            yield from self._above.runs(repeat_pass(pass_, number))


class First:
    """Another order as it was in the first pass."""

    is_fixed = True

    def __init__(self, above: Order) -> None:
        self.count, self.repeats = above.count, above.repeats
        self._above = above

    def runs(self, pass_: int) -> Iterator[Array]:
        return self._above.runs(0)


def whole(order: Order, pass_: int) -> Array:
    """Returns an order that ends, in one piece."""
    runs = list(order.runs(pass_))
    return runs[0] if len(runs) == 1 else np.concatenate([np.empty(0, np.int64), *runs])


def cut(runs: Iterator[Array], start: int, count: int) -> Iterator[Array]:
    """Yields the pieces of an order from a place on, ``count`` rows of them or all."""
    for run in runs:
        if start >= len(run):
            start -= len(run)
            continue
        run, start = run[start:], 0
        if count >= 0:
            run = run[:count]
            count -= len(run)
        if len(run):
            yield run
        if count == 0:
            return


def shuffle_key(seed: int, pass_: int, reshuffles: bool) -> int:
    """Returns the key of the numbers that a shuffle draws."""
    return make_key(seed, pass_ if reshuffles else 0, 2)


def repeat_pass(pass_: int, number: int) -> int:
    """Returns the pass of a repetition; the first is that of the whole.

    Even passes follow odd ones here too: some functions of ``map_rows`` alternate.
    """
    if number == 0:
        return pass_
    return make_key(pass_, number, 3) & ~1 | pass_ + number & 1


def rest_of_buffer(key: int, count: int) -> Array:
    """Returns the order in which the last elements of a buffer leave it."""
    return random.permutation(key >> 1, 1, count)


def places(key: int, first: int, count: int, size: int) -> list[int]:
    """Returns which elements of a full buffer leave it, from draw ``first`` on."""
    drawn: list[int] = (words(key, np.arange(first, first + count)) % np.uint64(size)).tolist()
    return drawn


def buffered_order(key: int, count: int, size: int) -> Array:
    """Returns the order in which ``count`` elements leave a buffer of ``size``."""
    if count <= size:
        return rest_of_buffer(key, count)
    buffer = list(range(size))
    left = []
    drawn = places(key, 0, count - size, size)
    for place, following in zip(drawn, range(size, count), strict=True):
        left.append(buffer[place])
        buffer[place] = following
    rest = np.array(buffer, np.int64)[rest_of_buffer(key, size)]
    return np.concatenate([np.array(left, np.int64), rest])
