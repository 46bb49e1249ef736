"""What a data source hands to the loop: batches that the program gathers, or one made before."""

from __future__ import annotations

from typing import Any, Protocol

from handmill.errors import warn_caller
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

    def run(self, function: Any, count: int) -> int:
        """Runs ``count`` steps, or what the deadline lets run; returns how many."""
        return function.run_fed(self._data.feed, self.size, count, DEADLINE)  # type: ignore[no-any-return]

    def take(self) -> list[Array]:
        """Returns the next batch as arrays."""
        feed = self._data.feed
        start = feed.position
        feed.position = start + self.size
        if self._data.shuffled:
            return feed.take(start, self.size)[0]
        return [a[start : start + self.size] for a in self._data.arrays]


class Given:
    """The next step of what makes batches: one batch, as it was made."""

    __slots__ = ("_arrays", "layout")
    steps = 1

    def __init__(self, layout: Layout, arrays: list[Array]) -> None:
        self.layout = layout
        self._arrays = arrays

    @property
    def sample(self) -> list[Array]:
        """The arrays of the batch."""
        return self._arrays

    def run(self, function: Any, count: int) -> int:
        """Runs the step."""
        function(*self._arrays)
        return 1

    def take(self) -> list[Array]:
        """Returns the batch as arrays."""
        return self._arrays


def warn_out_of_data() -> None:
    """Says that a generator ended early, in Keras's words."""
    warn_caller(
        "Your input ran out of data; interrupting training. Make sure that your dataset or "
        "generator can generate at least `steps_per_epoch * epochs` batches. You may need to use "
        "the `.repeat()` function when building your dataset.",
        UserWarning,
    )
