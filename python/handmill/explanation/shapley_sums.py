"""Exact Shapley values from the values of all coalitions, two additions for each.

With w(s) = s! (M - s - 1)! / M!, and w(-1) = w(M) = 0, player i has

    phi_i = sum over S with i of (w(s-1) + w(s)) v(S)  -  sum over all S of w(s) v(S),

and the sums over the S that have a player are made by halving. The second sum is the same for every
player. Sums are float64 in a fixed order. (The formula is Shapley's of 1953, rearranged.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from handmill.ir.op import Array

MOST_PLAYERS = 20
_TABLED = 9  # players whose sums are one product with a table of ones and zeros


class ShapleySums:
    """Takes the values of coalitions block by block, and gives the Shapley values.

    Args:
        players: their number M, 1 or more.
        low: how many of them change within a block: the bits of a coalition's place in it.
        columns: numbers that each coalition has (one for each row of a background).
    """

    def __init__(self, players: int, low: int, columns: int) -> None:
        self._low = low
        self._tables = _tables(players, low)
        high = players - low
        # By how many of the others are there: the weights of a block follow from it.
        self._by_size: Array | None = None  # until the first block
        self._of_high = np.zeros((high, columns))
        self._common = np.zeros(columns)

    def add(self, present: Array, values: Array) -> None:
        """Takes a block.

        Args:
            present: bool (high players,): which of the others are there.
            values: (2**low, columns).
        """
        count = int(np.count_nonzero(present))
        wide = np.asarray(values, np.float64)
        if len(self._tables) == 1:  # nobody else: this block is all there is
            self._by_size = wide[None]
        else:
            if self._by_size is None:
                self._by_size = np.zeros((len(self._tables), *wide.shape))
            self._by_size[count] += wide
        both = self._tables[count]
        if wide.shape[1] > 1:
            inside, outside = both @ wide
        else:
            column = wide[:, 0]
            inside = both[0] @ column if count else 0.0
            outside = both[1] @ column
        if count:
            self._of_high[present] += inside
        self._common += outside

    def values(self) -> Array:
        """The Shapley values (players, columns), players of the block first."""
        if self._by_size is None:
            raise ValueError("no block of coalitions was added")
        sums = self._by_size[0] * self._tables[0][0][:, None]
        for part, (inside, _) in zip(self._by_size[1:], self._tables[1:], strict=True):
            sums += part * inside[:, None]
        found = np.empty((self._low + len(self._of_high), sums.shape[1]))
        for player in reversed(range(_TABLED, self._low)):
            half = len(sums) // 2
            sums[half:].sum(0, out=found[player])
            sums = sums[:half] + sums[half:]
        rest = min(self._low, _TABLED)
        found[:rest] = _members(rest) @ sums
        found[self._low :] = self._of_high
        return found - self._common


def shapley_of_game(value: Callable[[Array], Array], players: int) -> Array:
    """Exact Shapley values of a game.

    Args:
        value: gives the values of coalitions: bool (coalitions, players) -> (coalitions,).
        players: their number, 20 at most.

    Returns:
        float64 (players,).

    Example:
        >>> import numpy as np
        >>> from handmill.explanation import shapley_of_game
        >>> gloves = lambda there: np.minimum(there[:, 0] + there[:, 1], there[:, 2])
        >>> shapley_of_game(gloves, 3).round(4)
        array([0.1667, 0.1667, 0.6667])

    Raises:
        ValueError: for more players, or values of another shape.
    """
    if not 0 <= players <= MOST_PLAYERS:
        raise ValueError(f"`players` must be 0 to {MOST_PLAYERS}: 2**{players} coalitions")
    if not players:
        return np.zeros(0)
    low = min(players, 12)
    sums = ShapleySums(players, low, 1)
    inside = coalitions(low)
    for number in range(1 << (players - low)):
        present = np.array([number >> j & 1 for j in range(players - low)], bool)
        there = np.concatenate([inside, np.broadcast_to(present, (len(inside), len(present)))], 1)
        found = np.asarray(value(there), np.float64)
        if found.shape != (len(there),):
            raise ValueError(
                f"`value` returned the shape {found.shape} for {len(there)} coalitions"
            )
        sums.add(present, found[:, None])
    return sums.values()[:, 0]


def coalitions(players: int) -> Array:
    """All coalitions, bool (2**players, players): player j is there where bit j of the row is."""
    return np.asarray((np.arange(1 << players)[:, None] >> np.arange(players)) & 1, bool)


@functools.lru_cache(maxsize=32)
def _weights(players: int) -> tuple[Array, Array]:
    """By the size of a coalition: w(s - 1) + w(s), and w(s)."""
    weight = np.zeros(players + 2)  # weight[s + 1] is w(s)
    weight[1] = 1.0 / players
    for size in range(1, players):
        weight[size + 1] = weight[size] * size / (players - size)
    return weight[:-1] + weight[1:], weight[1:]


@functools.lru_cache(maxsize=32)
def _tables(players: int, low: int) -> list[Array]:
    """By how many others are there, both weights (2, 2**low) of the coalitions of a block."""
    inside, outside = _weights(players)
    sizes = coalitions(low).sum(1)
    return [np.stack([inside[h + sizes], outside[h + sizes]]) for h in range(players - low + 1)]


@functools.lru_cache(maxsize=32)
def _members(players: int) -> Array:
    """1 where a player (rows) is in a coalition (columns), float64."""
    return np.ascontiguousarray(coalitions(players).T, np.float64)
