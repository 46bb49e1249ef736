"""What a data source hands to the loop: batches that the program gathers, or one made before."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

from handmill.errors import RowError, ShapeError, warn_caller
from handmill.ir.op import Array
from handmill.models.layout import Layout
from handmill.runtime.feed import Feed

DEADLINE = 0.05
"""Seconds after which a run of steps returns to Python: for signals, the bar and callbacks."""


class RowSource(Protocol):
    """Arrays from which batches are gathered.

    Attributes:
        layout: how they lie.
        arrays: one for each input of the step.
        feed: takes rows of them.
        shuffled: whether the feed has an order.
    """

    layout: Layout
    arrays: list[Array]
    feed: Feed

    @property
    def shuffled(self) -> bool:
        """Whether the feed has an order."""


class Rows:
    """The next steps of arrays in memory: batches that the program gathers by itself.

    Attributes:
        layout: how the arrays lie.
        steps: how many steps of one batch size there are.
    """

    __slots__ = ("_data", "layout", "size", "steps")

    def __init__(self, data: RowSource, size: int, steps: int) -> None:
        self.layout = data.layout
        self.steps = steps
        self.size = size
        self._data = data

    @property
    def sample(self) -> list[Array]:
        """Arrays from which these batches come."""
        return self._data.arrays

    @property
    def is_all(self) -> bool:
        """Whether there are no rows beyond the first of these batches."""
        return self.size >= len(self._data.arrays[0])

    def like(self) -> list[Any]:
        """What is asked of the arrays of a batch before there are any: shapes and dtypes."""
        return self._data.feed.batch(self.size)

    def run(self, function: Any, count: int, is_stopped: Callable[[], bool]) -> int:
        """Runs ``count`` steps, or what the deadline lets run; returns how many.

        Args:
            function: the program of a step.
            count: steps at most.
            is_stopped: whether no other step should follow; asked where users' code runs between
                two of them.
        """
        return function.run_fed(self._data.feed, self.size, count, DEADLINE)  # type: ignore[no-any-return]

    def take(self) -> list[Array]:
        """Returns the next batch as arrays."""
        feed = self._data.feed
        start = feed.position
        if feed.files:
            feed.check_files()
        feed.position = start + self.size
        if self._data.shuffled:
            return feed.take(start, self.size)[0]
        return [a[start : start + self.size] for a in self._data.arrays]

    def begin(self) -> Rows:
        """Goes past the next batch, of which :meth:`part` then takes rows."""
        feed = self._data.feed
        if feed.files:
            feed.check_files()
        feed.position += self.size
        return self

    @property
    def rows(self) -> int:
        """The rows of a batch."""
        return self.size

    def part(self, first: int, last: int) -> list[Array]:
        """Returns the rows ``[first, last)`` of the batch that was begun."""
        start = self._data.feed.position - self.size
        if self._data.shuffled:
            return self._data.feed.take(start + first, last - first)[0]
        return [a[start + first : start + last] for a in self._data.arrays]

    def explained(self, error: Exception) -> Exception:
        """Lets an error of the batch that was taken name the row in the data."""
        if isinstance(error, RowError):
            feed = self._data.feed
            rows = feed.take(feed.position - self.size, self.size)[1]
            return RowError(error.problem, int(rows[error.row]))
        return error


class Given:
    """The next step of what makes batches: one batch, as it was made.

    Args:
        layout: how its arrays lie.
        arrays: the batch.
        number: of the batch in its pass, where the data are not all there to be looked at.
        rows: the numbers of its rows in the data, where they are known.
        hint: what to do if it is a single sample.
    """

    __slots__ = ("_arrays", "_hint", "_number", "_rows", "layout")
    steps = 1
    is_all = False

    def __init__(
        self,
        layout: Layout,
        arrays: list[Array],
        number: int | None = None,
        rows: Array | None = None,
        hint: str = "",
    ) -> None:
        self.layout = layout
        self._arrays = arrays
        self._number = number
        self._rows = rows
        self._hint = hint

    @property
    def sample(self) -> list[Array]:
        """The arrays of the batch."""
        return self._arrays

    def like(self) -> list[Any]:
        """Shapes and dtypes of the arrays of the batch."""
        return self._arrays

    def run(self, function: Any, count: int, is_stopped: Callable[[], bool]) -> int:
        """Runs the step; the arguments are those of :meth:`Rows.run`."""
        try:
            function(*self._arrays)
        except ValueError as error:
            raise self.explained(error)  # noqa: B904  (the same error, with the place)
        return 1

    def take(self) -> list[Array]:
        """Returns the batch as arrays."""
        return self._arrays

    def begin(self) -> Given:
        """Begins the batch, of which :meth:`part` then takes rows."""
        return self

    @property
    def rows(self) -> int:
        """The rows of the batch."""
        return len(self._arrays[0])

    def part(self, first: int, last: int) -> list[Array]:
        """Returns the rows ``[first, last)`` of the batch."""
        return [a[first:last] for a in self._arrays]

    def explained(self, error: Exception) -> Exception:
        """Lets an error of this batch name it, or the row in the data."""
        if isinstance(error, RowError) and self._rows is not None:
            return RowError(error.problem, int(self._rows[error.row]))
        if isinstance(error, RowError) or (self._number and type(error) in _OURS):
            name_batch(error, self._number)
        elif isinstance(error, ShapeError) and self._arrays[0].ndim == 1 and self._hint:
            error.args = (f"{error}\n  hint: {self._hint}",)
        return error


class Drawn(Given):
    """Batches of what makes one when it is asked: the first, and those that follow it.

    Each is drawn when the step before it has run: who makes it sees the model as it is then.

    Args:
        layout: how the arrays of the first lie.
        arrays: the first batch.
        number: of it in its pass.
        hint: what to do if it is a single sample.
        draw: gives the arrays of the next batch, None if there is none of this layout.
    """

    __slots__ = ("_draw",)
    steps = sys.maxsize

    def __init__(
        self,
        layout: Layout,
        arrays: list[Array],
        number: int,
        hint: str,
        draw: Callable[[Layout], list[Array] | None],
    ) -> None:
        super().__init__(layout, arrays, number, hint=hint)
        self._draw = draw

    def run(self, function: Any, count: int, is_stopped: Callable[[], bool]) -> int:
        """Runs ``count`` steps, as many as there are batches, or what the deadline lets run."""
        draw, layout = self._draw, self.layout
        end = perf_counter() + DEADLINE
        done = 0
        while True:
            try:
                function(*self._arrays)
            except ValueError as error:
                raise self.explained(error)  # noqa: B904  (the same error, with the place)
            done += 1
            if done >= count or is_stopped() or perf_counter() >= end:
                return done
            arrays = draw(layout)
            if arrays is None:
                return done
            self._arrays = arrays
            self._number = (self._number or 0) + 1


_OURS = (ValueError, ShapeError)
"""Kinds of errors whose texts may be made longer."""


def name_batch(error: Exception, number: int | None) -> None:
    """Lets the text of ``error`` begin with the number of the batch in its pass, if it has one."""
    if number is not None and error.args and isinstance(error.args[0], str):
        error.args = (f"in batch {number} (from 0): {error.args[0]}", *error.args[1:])


def warn_out_of_data() -> None:
    """Says that a generator ended early, in Keras's words."""
    warn_caller(
        "Your input ran out of data; interrupting training. Make sure that your dataset or "
        "generator can generate at least `steps_per_epoch * epochs` batches. You may need to use "
        "the `.repeat()` function when building your dataset.",
        UserWarning,
    )
