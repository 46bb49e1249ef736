"""Sparse matrices of scipy as steps: the rows of a batch become dense when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.models.layout import Layout, as_data
from handmill.models.portions import Given, warn_out_of_data


class SparseData:
    """Arrays in memory, some of them sparse; batches are those of the same numbers in arrays.

    Args:
        layout: how the arrays lie.
        arrays: arrays and sparse matrices, equally long.
        batch_size: rows of a batch.
        steps: steps of an epoch; None for a whole pass.
        orders: gives the order of rows for each pass; None to take them as they lie.
    """

    is_ahead = False

    def __init__(
        self,
        layout: Layout,
        arrays: list[Any],
        batch_size: int,
        steps: int | None,
        orders: Callable[[], Array] | None,
    ) -> None:
        self.layout = layout
        self.numbered = layout.numbered
        self.rows: int = arrays[0].shape[0]
        self.steps = steps
        self._arrays = arrays
        self._size = batch_size
        self._orders = orders
        self._order: Array | None = None
        self._next = 0

    @property
    def num_batches(self) -> int:
        """Steps of an epoch."""
        return self.steps or -(-self.rows // self._size)

    def sample(self, count: int) -> list[Array]:
        """Returns the first rows of each array."""
        return self._taken(np.arange(min(count, self.rows)))

    def _taken(self, rows: Array) -> list[Array]:
        return [
            a[rows] if isinstance(a, np.ndarray) else as_data(a[rows], "x") for a in self._arrays
        ]

    def whole(self) -> list[Any]:
        """All rows: arrays and sparse matrices."""
        return self._arrays

    def rows_in_use(self) -> None:
        """All of them."""

    def look(self) -> tuple[Layout, list[Any]]:
        """The layout of a batch, and arrays like its own."""
        return self.layout, self.sample(1)

    def begin_epoch(self) -> None:
        """Starts a new pass, unless the last epoch left rows of one."""
        if self._order is None or self._next >= self.rows:
            self._order = np.arange(self.rows) if self._orders is None else self._orders()
            self._next = 0

    def restart(self) -> None:
        """Lets the next epoch start with the first row."""
        self._order = None

    def position(self) -> dict[str, Any]:
        """The place in the data, as plain data."""
        return {"started": self._order is not None, "rows": self._next}

    def go_to(self, position: Mapping[str, Any]) -> None:
        """Goes to a place that :meth:`position` gave; the order of a begun pass is drawn again."""
        self._order = None
        if position["started"]:
            self._order = np.arange(self.rows) if self._orders is None else self._orders()
        self._next = position["rows"]

    def next_portion(self, done: int) -> Given | None:
        """Returns the next batch, None if the pass has no rows left."""
        if self._order is None or self._next >= self.rows:
            warn_out_of_data()
            return None
        rows = self._order[self._next : self._next + self._size]
        self._next += len(rows)
        return Given(self.layout, self._taken(rows), rows=rows)

    def end_epoch(self, done: int) -> None:
        """Is told that the epoch is over."""
