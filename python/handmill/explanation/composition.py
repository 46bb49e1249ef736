"""Rows in which some players come from the row explained and the others from a background.

Nothing of coalitions x background x features is ever whole in memory: a program composes each
batch where it reads it; for a function a block of rows is composed, and the next in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from handmill.explanation.players import Players
from handmill.ir.op import Array
from handmill.runtime.composed_feed import ComposedFeed

_PLANNED_BYTES, _PLANNED_ROWS = 1 << 21, 8192  # a block that stays in the cache of a core
_FED_BYTES, _FED_LEAST = 1 << 19, 8  # a batch leaves room for what layers make of it
_CALLED_BYTES, _CALLED_ROWS = 1 << 24, 65536  # a function has a cost for each call
_COLLECTED_ROWS = 1 << 15  # whose outputs are held
_CACHED_BYTES = 1 << 18  # composed in one go by NumPy


class Score(Protocol):
    """Gives one number (float64) for each row."""

    def __call__(self, arrays: Sequence[Array]) -> Array:
        """Asks for rows; they may not be kept."""

    def of(self, outputs: Any, rows: int) -> Array:
        """Takes the outputs of so many rows."""


class Program(Protocol):
    """A prediction that composes its batches by itself."""

    def buffers(self, rows: int) -> list[Array]:
        """Arrays for the outputs of so many rows."""

    def run(self, feed: ComposedFeed, batch: int, steps: int) -> None:
        """Runs batches; their outputs go where the feed collects them."""

    def nested(self, outputs: Sequence[Array]) -> Any:
        """The outputs as the model nests them."""


def rows_of_block(arrays: Sequence[Array], is_planned: bool) -> int:
    """How many rows a block has."""
    size = sum(int(a.nbytes) // max(len(a), 1) for a in arrays)
    most, rows = (_PLANNED_BYTES, _PLANNED_ROWS) if is_planned else (_CALLED_BYTES, _CALLED_ROWS)
    return max(1, min(rows, most // max(size, 1)))


def _rows_of_batch(arrays: Sequence[Array]) -> int:
    """How many rows a program composes and runs together; a few share a pass over the weights."""
    size = sum(int(a.nbytes) // max(len(a), 1) for a in arrays)
    return min(_PLANNED_ROWS, max(_FED_LEAST, _FED_BYTES // max(size, 1)))


class Composer:
    """Asks for the scores of coalitions of players.

    Args:
        players: which entries are there or absent together.
        background: rows of each input; what absent players are taken from.
        program: the prediction that composes rows by itself, if there is one.
        is_planned: whether calls are programs, for which small batches cost nothing.
    """

    def __init__(
        self,
        players: Players,
        background: Sequence[Array],
        program: Program | None,
        is_planned: bool,
    ) -> None:
        self._background = [np.ascontiguousarray(b) for b in background]
        self._players = players
        self._program = program
        self.rows = len(background[0])
        if program is None:
            rows = self._batch = rows_of_block(background, is_planned)
        else:
            rows, self._batch = _COLLECTED_ROWS, _rows_of_batch(background)
        self.block = 1 << (max(1, rows // self.rows).bit_length() - 1)
        """Coalitions of a block, a power of two."""
        self._entries: tuple[bytes, list[Array]] | None = None
        self._buffers: dict[int, list[Array]] = {}

    def blocks(
        self, row: Sequence[Array], chosen: Array, members: Array | None, score: Score
    ) -> Iterator[tuple[int, Array]]:
        """Asks for the scores of coalitions over all rows of the background, block after block.

        Args:
            row: the row explained, an array for each input.
            chosen: the players (their numbers) that coalitions are made of; of the others
                entries are the background's.
            members: bool (coalitions, chosen players), who is there; None: all 2**chosen
                coalitions, in whose number player j is bit j.
            score: what is asked.

        Returns:
            The number of each block's first coalition, and its scores, float64 (coalitions of the
            block, background rows); of the last block there may be less.
        """
        entries = self._entries_of(chosen)
        count = 1 << len(chosen) if members is None else len(members)
        if self._program is not None:
            feed = ComposedFeed(self._background, row, entries, len(chosen), members)
            for first in range(0, count, self.block):
                size = min(self.block, count - first)
                yield first, self._collected(self._program, feed, size, score)
            return
        parts = [
            _Part(b, np.ascontiguousarray(own), entry, len(chosen))
            for b, own, entry in zip(self._background, row, entries, strict=True)
        ]
        for first in range(0, count, self.block):
            last = min(first + self.block, count)
            there = _numbered(first, last, len(chosen)) if members is None else members[first:last]
            yield first, self._called(parts, there, score)

    def means(self, row: Sequence[Array], chosen: Array, members: Array, score: Score) -> Array:
        """The mean scores of coalitions over the rows of the background; see :meth:`blocks`."""
        found = np.empty(len(members))
        for first, values in self.blocks(row, chosen, members, score):
            found[first : first + len(values)] = values[:, 0] if self.rows == 1 else values.mean(1)
        return found

    def _entries_of(self, chosen: Array) -> list[Array]:
        """For each input the place among the chosen players of each entry; -1: absent."""
        key = chosen.tobytes()
        if self._entries is None or self._entries[0] != key:
            place = np.full(self._players.count, -1, np.int32)
            place[chosen] = np.arange(len(chosen))
            self._entries = key, [place[label] for label in self._players.labels]
        return self._entries[1]

    def _collected(
        self, program: Program, feed: ComposedFeed, coalitions: int, score: Score
    ) -> Array:
        """The scores of the next coalitions of a feed."""
        rows = coalitions * self.rows
        results = self._buffers.get(rows)
        if results is None:
            results = program.buffers(rows)
            self._buffers = {rows: results, **dict(list(self._buffers.items())[:1])}
        feed.collect(results, feed.position)
        calls = -(-rows // self._batch)
        batch = -(-rows // calls)  # batches of one size, but for the last
        program.run(feed, batch, rows // batch)
        if rows % batch:
            program.run(feed, rows % batch, 1)
        return score.of(program.nested(results), rows).reshape(coalitions, self.rows)

    def _called(self, parts: Sequence[_Part], there: Array, score: Score) -> Array:
        """The scores of coalitions, asked for in blocks of composed rows."""
        at_once = min(self.rows, self._batch)
        found = np.empty((len(there), self.rows))
        for start in range(0, self.rows, at_once):
            stop = min(start + at_once, self.rows)
            size = len(there) * (stop - start)
            block = self._buffers.get(size)
            if block is None:
                block = [np.empty((size, *b.shape[1:]), b.dtype) for b in self._background]
                self._buffers = {size: block, **dict(list(self._buffers.items())[:1])}
            for part, into in zip(parts, block, strict=True):
                part.compose(there, start, stop, into)
            found[:, start:stop] = score(block).reshape(len(there), stop - start)
        return found


class _Part:
    """Composes rows of one input.

    An entry is ``background ^ (mask & (row ^ background))`` on its bits: exactly one or the other,
    with two passes of the processor's widest instructions and no branch for any dtype.
    """

    def __init__(self, background: Array, row: Array, entries: Array, players: int) -> None:
        self._bits = _as_bits(background.reshape(len(background), -1))
        self._difference = self._bits ^ _as_bits(row.reshape(1, -1))
        self._entries = entries.reshape(-1)
        self._has_absent = bool((self._entries < 0).any())
        self._is_each = np.array_equal(self._entries, np.arange(players))

    def compose(self, there: Array, start: int, stop: int, into: Array) -> None:
        """Writes rows of coalitions (bool), each with the background rows from start to stop."""
        rows = _as_bits(into).reshape(len(there), stop - start, -1)
        each = max(1, _CACHED_BYTES * len(there) // max(1, into.nbytes))
        for first in range(0, len(there), each):
            part, chosen = rows[first : first + each], there[first : first + each]
            words = np.negative(chosen.astype(rows.dtype))  # all bits set where a player is there
            if self._has_absent:
                words = np.pad(words, ((0, 0), (0, 1)))
            if not self._is_each:
                words = words[:, self._entries]
            np.bitwise_and(words[:, None], self._difference[start:stop], out=part)
            np.bitwise_xor(part, self._bits[start:stop], out=part)


def _numbered(first: int, last: int, players: int) -> Array:
    """The coalitions of those numbers, bool (coalitions, players)."""
    bits = np.arange(first, last, dtype="<u4").view(np.uint8).reshape(-1, 4)
    return np.unpackbits(bits, axis=1, bitorder="little")[:, :players].view(bool)


def _as_bits(array: Array) -> Array:
    """The same memory as unsigned integers of its width."""
    return array.view(f"u{array.dtype.itemsize}")
