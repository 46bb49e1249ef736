"""Rows that a program composes by itself: some entries of one row, the others of a background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.runtime.feed import Feed

MOST_PLAYERS = 30
"""Players whose coalitions can be told by their numbers."""


class ComposedFeed(Feed):
    """Coalition after coalition, each with every row of a background, batch after batch.

    Nothing of coalitions x background x entries is in memory but one batch, written in place.

    Args:
        background: rows of each input of the program.
        row: one row of each, of the same shapes and dtypes: what coalitions have entries of.
        entries: for each input the player of each entry of a row, int32; -1: of none.
        players: their number.
        members: bool (coalitions, players), who is in them; None: all 2**players coalitions, in
            whose number player j is bit j.

    Row ``s * len(background) + b`` is that of coalition s and background row b.
    """

    def __init__(
        self,
        background: Sequence[Array],
        row: Sequence[Array],
        entries: Sequence[Array],
        players: int,
        members: Array | None = None,
    ) -> None:
        super().__init__(background)
        if members is None and players > MOST_PLAYERS:
            raise ValueError(f"all coalitions are those of {MOST_PLAYERS} players at most")
        self._row = [np.ascontiguousarray(part) for part in row]
        self._entries = [np.ascontiguousarray(part, np.int32) for part in entries]
        self._players = players
        self._members = members

    @property
    def native(self) -> Any:
        """The C++ feed; made when first needed."""
        if self._native is None:
            from handmill import _core

            self._native = _core.Feed.composed(
                self.sources, self._row, self._entries, self._players
            )
            self._native.set_coalitions(self._members)
            self._native.position = self._position
            if self._results:
                self._native.set_results(list(self._results), self._first_result)
        return self._native

    @property
    def rows(self) -> int:
        """The number of rows of all coalitions."""
        count = 1 << self._players if self._members is None else len(self._members)
        return count * len(self.sources[0])

    def set_order(self, order: Array | None) -> None:
        """Refuses: coalitions have an order of their own."""
        raise TypeError("a feed that composes rows has no order")

    def take(self, start: int, count: int) -> tuple[list[Array], Array]:
        """Returns a batch as arrays, and the numbers of its rows."""
        rows = np.arange(start, start + count)
        coalition, absent = np.divmod(rows, len(self.sources[0]))
        if self._members is None:
            members = (coalition[:, None] >> np.arange(self._players) & 1).astype(bool)
        else:
            members = self._members[coalition]
        there = np.pad(members, ((0, 0), (0, 1)))  # the last column is player -1
        made = [
            np.where(there[:, entry.reshape(-1)].reshape(count, *own.shape), own, source[absent])
            for entry, own, source in zip(self._entries, self._row, self.sources, strict=True)
        ]
        return made, rows
