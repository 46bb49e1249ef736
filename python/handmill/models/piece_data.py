"""Chains of a Dataset over arrays as steps: their rows are gathered by the program itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from handmill.data.batches import unpack_x_y_sample_weight
from handmill.data.pipeline.elements import rebuilt
from handmill.data.pipeline.rows import Piece, RowBatches
from handmill.ir.op import Array
from handmill.models.layout import Layout, split
from handmill.models.portions import Rows, warn_out_of_data
from handmill.models.row_numbers import numbers_of
from handmill.runtime.feed import Feed

Weigh = Callable[[Any, Mapping[int, float], Any], Array]


class PieceData:
    """Batches of rows of arrays, pass after pass.

    Args:
        source: the data set.
        steps: steps of an epoch; None for a whole pass.
        class_weight: factors of the samples' weights by class.
        weigh: makes weights of them.
        check: called with the targets.
        numbered: whether batches come with the numbers of their rows in the arrays.
    """

    shuffled = True
    is_ahead = False

    def __init__(
        self,
        source: RowBatches,
        steps: int | None,
        class_weight: Mapping[int, float] | None,
        weigh: Weigh,
        check: Callable[[Any], Any] | None,
        numbered: bool,
    ) -> None:
        x, y, weight = unpack_x_y_sample_weight(rebuilt(source.nested, source.arrays))
        if check is not None and y is not None:
            y = check(y)
        if class_weight is not None:
            weight = weigh(y, class_weight, weight)
        self.layout, self.arrays = split(x, y, weight)
        self.numbered = numbered
        if numbered:
            self.layout = self.layout.with_numbers()
            self.arrays.append(numbers_of(len(self.arrays[0])))
        self.source = source
        self.steps = steps
        self.feed = Feed(self.arrays)
        self._pieces: Iterator[Piece] | None = None
        self._size = 1
        self._end = 0  # rows of the piece that is being taken
        self._done = 0  # batches of the pass before that piece
        self._pass = 0

    @property
    def num_batches(self) -> int | None:
        """Steps of an epoch, None if there is no end."""
        return self.steps or self.source.num_batches

    def sample(self, count: int) -> list[Array]:
        """Returns the first rows of each array."""
        return [a[:count] for a in self.arrays]

    def whole(self) -> list[Array]:
        """All rows of the arrays, of which a pass may leave some out."""
        return self.arrays

    def rows_in_use(self) -> Array:
        """The rows of the pass that is under way (or of the next one), in order."""
        pass_ = self._pass if self._pieces is not None else self.source.next_pass()["pass"]
        found: list[Array] = []
        left = self.num_batches
        for order, size in self.source.pieces(pass_, 0):
            found.append(order if left is None else order[: left * size])
            if left is not None:
                left -= -(-len(order) // size)
                if left <= 0:
                    break
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)

    def look(self) -> tuple[Layout, list[Any]]:
        """The layout of a batch, and what its arrays are like."""
        return self.layout, self.feed.batch(self.source.batch_size)

    def begin_epoch(self) -> None:
        """Starts a new pass, unless the last epoch left batches of one."""
        if self._pieces is None:
            self._open()

    def _open(self) -> None:
        self._pass, start = self.source._begin(self._position)
        self._pieces = self.source.pieces(self._pass, start)
        self._done, self._end, self.feed.position = start, 0, 0

    def _position(self) -> tuple[int, int]:
        return self._pass, self._done + -(-self.feed.position // self._size)

    def position(self) -> dict[str, Any]:
        """The place in the data, as plain data."""
        is_open = self._pieces is not None
        state = self.source.get_state() if is_open else self.source.next_pass()
        return {"is_open": is_open, "source": state}

    def go_to(self, position: Mapping[str, Any]) -> None:
        """Goes to a place that :meth:`position` gave."""
        self.source.set_state(position["source"])
        if position["is_open"]:
            self._open()

    def _next_piece(self) -> bool:
        piece = None if self._pieces is None else next(self._pieces, None)
        if piece is None:
            self._pieces = None
            return False
        self._done += -(-self._end // self._size)
        self.feed.set_order(piece.order)
        self.feed.position = 0
        self._size, self._end = piece.size, len(piece.order)
        return True

    def restart(self) -> None:
        """Lets the next epoch start with a pass of its own."""
        self._pieces = None

    def next_portion(self, done: int) -> Rows | None:
        """Returns the batches that come next, None if there are none."""
        if self.feed.position >= self._end and not self._next_piece():
            if self.num_batches is None and done:
                return None
            if not done and self.num_batches is not None:  # it ended where the last epoch did
                self._open()
                if self._next_piece():
                    return self._portion()
            warn_out_of_data()
            return None
        return self._portion()

    def _portion(self) -> Rows:
        left, size = self._end - self.feed.position, self._size
        return Rows(self, size, left // size) if left >= size else Rows(self, left, 1)

    def end_epoch(self, done: int) -> None:
        """Is told that the epoch is over."""
        if self.steps is None:
            self._pieces = None
            self._end = self.feed.position
