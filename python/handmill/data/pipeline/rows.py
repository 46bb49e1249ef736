"""Chains over arrays that amount to rows in an order, so that a program can gather them itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from handmill.arguments import whole_number
from handmill.data.pipeline.dataset import (
    INFINITE,
    Dataset,
    batch_spec,
    count_of,
    count_or_all,
    first_number,
    repetitions,
    seed_of,
)
from handmill.data.pipeline.elements import (
    ElementSpec,
    as_element,
    mapped,
    parts,
    rebuilt,
    rows_of,
)
from handmill.data.pipeline.orders import (
    Again,
    First,
    Mixed,
    Order,
    Part,
    Plain,
    cut,
    repeat_pass,
)
from handmill.data.pipeline.stages import made_by, with_free_rows
from handmill.data.prefetch import made_ahead
from handmill.ir.op import Array

# Rows of small data sets that are repeated are joined to pieces of at least so many.
_LEAST_ROWS = 1 << 16


class RowDataset(Dataset):
    """Rows of arrays in an order.

    Args:
        nested: what an element is nested like.
        arrays: the arrays, equally long.
        order: which rows come when.
        above: the data set that it comes from.
    """

    def __init__(
        self, nested: Any, arrays: list[Array], order: Order, above: Dataset | None = None
    ) -> None:
        super().__init__(above)
        self.nested = nested
        self.arrays = arrays
        self.order = order

    @classmethod
    def of(cls, tensors: Any) -> RowDataset:
        """Returns all rows as they lie; see :meth:`Dataset.from_tensor_slices`."""
        element = mapped(_as_rows, as_element(tensors))
        count = rows_of(element, "from_tensor_slices")
        return cls(element, parts(element), Plain(0, count))

    def _with(self, order: Order) -> RowDataset:
        return RowDataset(self.nested, self.arrays, order, self)

    def cardinality(self) -> int:
        return self.order.count

    def _spec(self) -> Any:
        return rebuilt(self.nested, [_row_spec(array) for array in self.arrays])

    def _elements(self, pass_: int) -> Iterator[Any]:
        return self._open(pass_, 0)

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        single = self.arrays[0] if not isinstance(self.nested, dict | tuple) else None
        for run in cut(self.order.runs(pass_), start, -1):
            for row in run.tolist():
                if single is not None:
                    yield single[row]
                else:
                    yield rebuilt(self.nested, [array[row] for array in self.arrays])

    def shuffle(
        self,
        buffer_size: int,
        seed: int | None = None,
        reshuffle_each_iteration: bool | None = None,
    ) -> Dataset:
        if self.order.count == INFINITE:
            return super().shuffle(buffer_size, seed, reshuffle_each_iteration)
        size = count_of("buffer_size", buffer_size)
        reshuffles = reshuffle_each_iteration is not False
        return self._with(Mixed(self.order, size, seed_of(seed, "shuffle"), reshuffles))

    def take(self, count: int) -> Dataset:
        count = count_or_all("take", count)
        return self._with(Part(self.order, 0, None if count < 0 else count))

    def skip(self, count: int) -> Dataset:
        count = count_or_all("skip", count)
        order = Part(self.order, 0, 0) if count < 0 else Part(self.order, count, None)
        return self._with(order)

    def repeat(self, count: int | None = None) -> Dataset:
        return self._with(Again(self.order, repetitions(count)))

    def enumerate(self, start: int = 0) -> Dataset:
        if not isinstance(self.order, Plain):
            return super().enumerate(start)
        count, first = self.order.count, self.order.first
        start = first_number(start)
        numbers = np.arange(start, start + count)
        arrays = [numbers, *(array[first : first + count] for array in self.arrays)]
        return RowDataset((None, self.nested), arrays, Plain(0, count), self)

    def cache(self, filename: str = "") -> Dataset:
        if filename or self.order.count == INFINITE:
            return super().cache(filename)
        return self._with(First(self.order))

    def batch(
        self,
        batch_size: int,
        drop_remainder: bool = False,
        num_parallel_calls: int | None = None,
        deterministic: bool | None = None,
    ) -> Dataset:
        size = count_of("batch_size", batch_size)
        return RowBatches(self, _Joined(self.order, size, bool(drop_remainder)))


class Piece(NamedTuple):
    """Batches of one size, the last of which may be smaller.

    Attributes:
        order: the rows.
        size: rows of a batch.
    """

    order: Array
    size: int


class _Joined:
    """Batches of the rows of an order."""

    def __init__(self, order: Order, size: int, drop: bool) -> None:
        self._order = order
        self.size = size
        self.is_exact = drop or order.count == INFINITE or order.count % size == 0
        self._drop = drop
        self.is_fixed, self.repeats = order.is_fixed, order.repeats
        rows = order.count
        self.count = rows if rows < 0 else rows // size if drop else -(-rows // size)

    def pieces(self, pass_: int) -> Iterator[Piece]:
        waiting: list[Array] = []
        rows = 0
        for run in self._order.runs(pass_):
            waiting.append(run)
            rows += len(run)
            if rows >= max(_LEAST_ROWS, self.size):
                joined = np.concatenate(waiting) if len(waiting) > 1 else run
                whole = rows // self.size * self.size
                yield Piece(joined[:whole], self.size)
                waiting, rows = [joined[whole:]], rows - whole
        if self._drop:
            rows = rows // self.size * self.size
        if rows:
            yield Piece(np.concatenate(waiting)[:rows], self.size)


class _PartOfBatches:
    """Batches from one to another."""

    def __init__(self, above: Any, start: int, stop: int | None) -> None:
        self._above = above
        self._start = start
        self.size, self.is_exact, self.is_fixed = above.size, above.is_exact, above.is_fixed
        self.repeats = above.repeats
        count = above.count
        if count == INFINITE:
            self.count = INFINITE if stop is None else max(stop - start, 0)
        else:
            self.count = max((count if stop is None else min(stop, count)) - start, 0)

    def pieces(self, pass_: int) -> Iterator[Piece]:
        return cut_pieces(self._above.pieces(pass_), self._start, self.count)


class _BatchesAgain:
    """Batches several times over."""

    def __init__(self, above: Any, count: int | None) -> None:
        self._above = above
        self._times = count
        self.size, self.is_exact, self.is_fixed = above.size, above.is_exact, above.is_fixed
        self.repeats = above.repeats or count != 1
        self.count = Again(above, count).count

    def pieces(self, pass_: int) -> Iterator[Piece]:
        number = 0
        while self.count and (self._times is None or number < self._times):
            yield from self._above.pieces(repeat_pass(pass_, number))
            number += 1


class _FirstBatches:
    """Batches as they were in the first pass."""

    is_fixed = True

    def __init__(self, above: Any) -> None:
        self._above = above
        self.size, self.is_exact, self.count = above.size, above.is_exact, above.count
        self.repeats = above.repeats

    def pieces(self, pass_: int) -> Iterator[Piece]:
        return self._above.pieces(0)  # type: ignore[no-any-return]


def cut_pieces(pieces: Iterator[Piece], start: int, count: int) -> Iterator[Piece]:
    """Yields pieces from a batch on, ``count`` batches of them or all."""
    for order, size in pieces:
        batches = -(-len(order) // size)
        if start >= batches:
            start -= batches
            continue
        stop = batches if count < 0 else min(batches, start + count)
        if count >= 0:
            count -= stop - start
        if stop > start:
            yield Piece(order[start * size : stop * size], size)
        start = 0
        if count == 0:
            return


class RowBatches(Dataset):
    """Batches of rows of arrays, which the training loop lets its program gather.

    Args:
        rows: the arrays.
        batches: which rows come in which batch.
    """

    def __init__(self, rows: RowDataset, batches: Any) -> None:
        super().__init__(rows)
        self._rows = rows
        self._batches = batches

    @property
    def nested(self) -> Any:
        """What an element is nested like."""
        return self._rows.nested

    @property
    def arrays(self) -> list[Array]:
        """The arrays, equally long."""
        return self._rows.arrays

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""
        return int(self._batches.size)

    @property
    def repeats(self) -> bool:
        """Whether a pass may have a row more than once."""
        return bool(self._batches.repeats)

    def pieces(self, pass_: int, start: int) -> Iterator[Piece]:
        """Yields what comes from a batch of a pass on."""
        return cut_pieces(self._batches.pieces(pass_), start, -1)

    def cardinality(self) -> int:
        return int(self._batches.count)

    def _spec(self) -> Any:
        size = self._batches.size if self._batches.is_exact else None
        return batch_spec(self._rows.element_spec, size)

    def _elements(self, pass_: int) -> Iterator[Any]:
        return self._open(pass_, 0)

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        return map(self.element_of, self.rows(pass_, start))

    def rows(self, pass_: int, start: int) -> Iterator[Array]:
        """Yields the numbers of the rows of each batch of a pass, from a batch on."""
        for order, size in self.pieces(pass_, start):
            for first in range(0, len(order), size):
                yield order[first : first + size]

    def with_rows(self, function: Callable[[Any], Any]) -> RowBatches:
        """Returns batches of the same rows of what ``function`` makes of all rows at once."""
        made = mapped(_as_rows, as_element(function(rebuilt(self.nested, self.arrays))))
        found = RowBatches(RowDataset(made, parts(made), self._rows.order, self), self._batches)
        found.set_state(self.next_pass())
        return found

    def element_of(self, rows: Array) -> Any:
        """Returns the batch of some rows."""
        return rebuilt(self.nested, [_taken(array, rows) for array in self.arrays])

    def map_rows(
        self, map_func: Callable[..., Any], num_parallel_calls: int | None = None
    ) -> Dataset:
        if not callable(map_func):
            raise TypeError(f"map_rows: expected a function, got {type(map_func).__name__}")
        if _repeats(self._batches):
            raise ValueError(
                "map_rows: a pass would hold rows several times, and make the same of them: write "
                "repeat() after map_rows()"
            )
        parallel = 1 if num_parallel_calls is None else num_parallel_calls
        threads = whole_number("map_rows: `num_parallel_calls`", parallel, 1)
        return MappedRows(self, map_func, threads)

    def take(self, count: int) -> Dataset:
        count = count_or_all("take", count)
        stop = None if count < 0 else count
        return RowBatches(self._rows, _PartOfBatches(self._batches, 0, stop))

    def skip(self, count: int) -> Dataset:
        count = count_or_all("skip", count)
        start, stop = (0, 0) if count < 0 else (count, None)
        return RowBatches(self._rows, _PartOfBatches(self._batches, start, stop))

    def repeat(self, count: int | None = None) -> Dataset:
        return RowBatches(self._rows, _BatchesAgain(self._batches, repetitions(count)))

    def cache(self, filename: str = "") -> Dataset:
        if filename or self.cardinality() == INFINITE:
            return super().cache(filename)
        return RowBatches(self._rows, _FirstBatches(self._batches))

    def prefetch(self, buffer_size: int = -1) -> Dataset:
        # A program gathers rows without waiting; a thread would only make the copies twice.
        super().prefetch(buffer_size)
        return RowBatches(self._rows, self._batches)

    def unbatch(self) -> Dataset:
        return RowDataset(self.nested, self.arrays, _Unbatched(self._batches), self)


class MappedRows(Dataset):
    """What a function makes of batches of rows, told the pass and which rows they are.

    Args:
        batches: the batches.
        function: ``(pass, rows, *element) -> element``.
        threads: that call it.
    """

    def __init__(self, batches: RowBatches, function: Callable[..., Any], threads: int) -> None:
        # Passes of its own: who else goes through the arrays does not disturb what alternates.
        super().__init__()
        self._batches = batches
        self._function = function
        self._threads = threads

    def cardinality(self) -> int:
        return self._batches.cardinality()

    def _spec(self) -> Any:
        exact = self._batches._batches.is_exact
        found = super()._spec()
        return found if exact else with_free_rows(found)

    def _elements(self, pass_: int) -> Iterator[Any]:
        return self._open(pass_, 0)

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        function, batches = self._function, self._batches

        def call(rows: Array) -> Any:
            return made_by(function, batches.element_of(rows), pass_, rows, verb="map_rows")

        if self._threads == 1:
            return map(call, batches.rows(pass_, start))
        return made_ahead(batches.rows(pass_, start), call, self._threads, self._threads + 1)


def _repeats(stage: Any) -> bool:
    """Whether an order, or batches of it, has rows several times."""
    while stage is not None:
        if isinstance(stage, Again | _BatchesAgain):
            return True
        above = (getattr(stage, name, None) for name in ("_above", "_order", "_batches"))
        stage = next((found for found in above if found is not None), None)
    return False


def _taken(array: Array, rows: Array) -> Array:
    """Some rows; NumPy's index takes four times as long as its take where rows are arrays."""
    return array[rows] if array.ndim == 1 else array.take(rows, axis=0)


class _Unbatched:
    """The rows of batches."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self.is_fixed, self.repeats = batches.is_fixed, batches.repeats
        self.count = batches.count
        if self.count > 0:
            self.count = sum(len(piece.order) for piece in batches.pieces(0))

    def runs(self, pass_: int) -> Iterator[Array]:
        for piece in self._batches.pieces(pass_):
            yield piece.order


def joined_rows(nested: Any, datasets: list[Dataset]) -> Dataset | None:
    """Returns the rows of several data sets beside each other, None unless they lie so."""
    found: list[tuple[RowDataset, Plain]] = []
    for dataset in datasets:
        if not (isinstance(dataset, RowDataset) and isinstance(dataset.order, Plain)):
            return None
        found.append((dataset, dataset.order))
    count = min(order.count for _, order in found)
    columns = [
        [array[order.first : order.first + count] for array in dataset.arrays]
        for dataset, order in found
    ]
    joined = rebuilt(
        nested, [rebuilt(part.nested, c) for (part, _), c in zip(found, columns, strict=True)]
    )
    return RowDataset(joined, parts(joined), Plain(0, count))


def _as_rows(leaf: Any) -> Any:
    return leaf if np.ndim(leaf) else np.asarray(leaf)


def _row_spec(array: Array) -> ElementSpec:
    kind = "str" if array.dtype.kind in "USO" else array.dtype.name
    return ElementSpec(tuple(array.shape[1:]), kind)
