"""Dataset: a chain of verbs over elements, each pass in an order that its seed decides."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from handmill import random
from handmill.arguments import whole_number
from handmill.data.pipeline.elements import ElementSpec, spec_of

AUTOTUNE = -1
"""Lets ``map`` and ``prefetch`` choose how many."""
INFINITE = -1
"""``Dataset.cardinality()`` of an endless data set."""
UNKNOWN = -2
"""``Dataset.cardinality()`` where only a pass can tell."""


class _Passes:
    """How many passes have begun over a data set, and over all that are derived from it."""

    def __init__(self) -> None:
        self.done = 0


class Dataset:
    """Elements that come one after the other, made by a chain of verbs as in ``tf.data``.

    A verb gives a new data set and leaves this one as it is; nothing is computed before elements
    are asked for. An element is an array, or a tuple or dict of them, which may be nested; an
    element ``(x, y)`` or ``(x, y, sample_weight)``, once batched, is what ``fit``, ``evaluate`` and
    ``predict`` take.

    Each iteration is a pass, and passes are numbered, together with those of the data sets that
    this one comes from: number and seed decide every order, so a program that runs again gets the
    same elements. Chains of ``from_tensor_slices``, ``shuffle``,
    ``take``, ``skip``, ``repeat``, ``batch`` and ``prefetch`` alone cost training what the arrays
    themselves cost. Functions given to ``map`` with ``num_parallel_calls`` run on other
    threads than the one that trains; where ``prefetch`` or ``AUTOTUNE`` stand, so do those that
    take longer than handing over what they made.

    Example:
        >>> import numpy as np
        >>> from handmill.data import Dataset
        >>> data = Dataset.from_tensor_slices((np.arange(5), np.arange(5) % 2))
        >>> data = data.map(lambda x, y: (10 * x, y)).batch(2)
        >>> [x.tolist() for x, y in data]
        [[0, 10], [20, 30], [40]]
        >>> len(data), data.element_spec[0]
        (3, ElementSpec(shape=(None,), dtype='int64'))
    """

    class_names: list[str] | None
    """The names of the classes, of data sets made of folders; None without labels."""
    file_paths: list[str]
    """The files, of data sets made of them."""

    corrupt_files: dict[str, str]
    """Files left out so far and why, of data sets made with ``skip_corrupt``."""

    def __init__(self, above: Dataset | None = None) -> None:
        # What is derived counts its passes with what it comes from, so `data.take(1)` written twice
        # shows other elements of a shuffled data set, as in tf.data.
        self._passes: _Passes = _Passes() if above is None else above._passes
        self._start = 0
        self._cursor: Callable[[], tuple[int, int]] | None = None

    # What a stage of a chain defines.

    def _elements(self, pass_: int) -> Iterator[Any]:
        """Yields the elements of a pass."""
        raise NotImplementedError(f"{type(self).__name__} must define _elements")

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        """Yields the elements of a pass from one of them on; stages that can jump override it."""
        found = self._elements(pass_)
        return islice(found, start, None) if start else found

    def cardinality(self) -> int:
        """Returns the number of elements; ``INFINITE`` (-1) or ``UNKNOWN`` (-2) without one."""
        return UNKNOWN

    @property
    def element_spec(self) -> Any:
        """Shapes and dtypes of an element, nested as it is.

        Where functions or generators decide, the first element of a pass is made to see it.
        """
        return self._spec()

    def _spec(self) -> Any:
        first = next(self._open(self._passes.done, 0), None)
        if first is None:
            raise ValueError(f"{type(self).__name__} has no elements, so no element_spec")
        return spec_of(first)

    # Passes.

    def __iter__(self) -> DatasetIterator:
        iterator = DatasetIterator(self, self._passes.done, self._start)
        self._begin(iterator._position)
        return iterator

    def _begin(self, cursor: Callable[[], tuple[int, int]]) -> tuple[int, int]:
        """Counts a pass; returns its number and the element that it starts with."""
        found = self._passes.done, self._start
        self._cursor = cursor
        self._passes.done += 1
        self._start = 0
        return found

    def get_state(self) -> dict[str, int]:
        """Returns where the newest pass stands: numbers that JSON can hold.

        See :meth:`set_state`.
        """
        pass_, done = (self._passes.done, self._start) if self._cursor is None else self._cursor()
        return {"pass": pass_, "element": done}

    def __getstate__(self) -> dict[str, Any]:
        # A copy stands where this one stands now; passes that have begun stay with this one.
        at = None if self._cursor is None else partial(tuple, self._cursor())
        return {**vars(self), "_cursor": at}

    def next_pass(self) -> dict[str, int]:
        """Returns where the next pass begins; see :meth:`set_state`."""
        return {"pass": self._passes.done, "element": self._start}

    def set_state(self, state: dict[str, int]) -> None:
        """Lets the next pass go on where another data set, made by the same chain, stood.

        Args:
            state: what :meth:`get_state` returned, in this process or another.

        Raises:
            ValueError: if it is no such state.

        Example:
            >>> import numpy as np
            >>> from handmill.data import Dataset
            >>> make = lambda: Dataset.from_tensor_slices(np.arange(4)).shuffle(4, seed=7)
            >>> data, again = make(), make()
            >>> whole = [int(x) for x in data]
            >>> again.set_state({"pass": 0, "element": 2})
            >>> [int(x) for x in again] == whole[2:]
            True
        """
        found = [state.get(name) if isinstance(state, dict) else None for name in _STATE]
        if not all(type(n) is int and n >= 0 for n in found):
            raise ValueError(
                "set_state: expected what get_state() returned, a dict of two counts "
                f"{_STATE}, got {state!r}"
            )
        self._passes.done, self._start = (int(n or 0) for n in found)
        self._cursor = None

    @property
    def num_batches(self) -> int | None:
        """The number of elements, None where it is not known or there is no end."""
        count = self.cardinality()
        return None if count < 0 else count

    def __len__(self) -> int:
        count = self.cardinality()
        if count == INFINITE:
            raise TypeError("the data set is endless: it has no len()")
        if count == UNKNOWN:
            raise TypeError("the data set's length is not known before it has been iterated over")
        return count

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        count = {INFINITE: "endless", UNKNOWN: "unknown"}
        size = self.cardinality()
        return f"<{type(self).__name__} cardinality={count.get(size, size)}>"

    def as_numpy_iterator(self) -> Iterator[Any]:
        """Yields the elements of a pass: they are arrays of NumPy already."""
        return iter(self)

    # Where elements come from.

    @staticmethod
    def from_tensor_slices(tensors: Any) -> Dataset:
        """Elements are the rows of arrays.

        Args:
            tensors: an array, or nested tuples and dicts of arrays of equally many rows. They are
                not copied.

        Raises:
            ValueError: if they differ in their numbers of rows.

        Example:
            >>> from handmill.data import Dataset
            >>> [int(x) for x in Dataset.from_tensor_slices([3, 4])]
            [3, 4]
        """
        from handmill.data.pipeline.rows import RowDataset

        return RowDataset.of(tensors)

    @staticmethod
    def from_tensors(tensors: Any) -> Dataset:
        """One element: ``tensors`` as they are."""
        from handmill.data.pipeline.stages import Single

        return Single(tensors)

    @staticmethod
    def from_generator(
        generator: Callable[..., Iterable[Any]],
        output_signature: Any = None,
        args: tuple[Any, ...] = (),
    ) -> Dataset:
        """Elements are what a generator yields; it is started anew for each pass.

        Args:
            generator: a function that returns an iterable.
            output_signature: what has ``shape`` and ``dtype`` (such as ``ElementSpec``), nested as
                elements are: arrays are brought to that dtype, and shapes are checked. Default:
                elements are taken as they come.
            args: arguments of the generator.

        Raises:
            TypeError: for a generator that has started already; pass the function.

        Example:
            >>> from handmill.data import Dataset
            >>> [int(x) for x in Dataset.from_generator(lambda: iter([1, 2]))]
            [1, 2]
        """
        from handmill.data.pipeline.stages import Generated

        return Generated(generator, output_signature, args)

    @staticmethod
    def range(*args: int, output_type: Any = "int64") -> Dataset:
        """The numbers of Python's ``range``, of the dtype ``output_type``."""
        counts = [whole_number("range: a number", n) for n in args]
        if len(counts) == 3 and counts[2] == 0:
            raise ValueError("range: the step must not be 0")
        if not all(-(1 << 63) <= n < 1 << 63 for n in counts):
            raise ValueError(f"range: the numbers must fit into int64, got {args}")
        return Dataset.from_tensor_slices(np.arange(*counts, dtype=output_type))

    @staticmethod
    def zip(*datasets: Any) -> Dataset:
        """Tuples of one element of each data set; the shortest ends it.

        Args:
            *datasets: data sets, or one tuple or dict of them (which may be nested).

        Example:
            >>> from handmill.data import Dataset
            >>> both = Dataset.zip(Dataset.range(3), Dataset.range(10, 12))
            >>> [(int(a), int(b)) for a, b in both]
            [(0, 10), (1, 11)]
        """
        from handmill.data.pipeline.stages import zipped

        if not datasets:
            raise ValueError("zip: expected data sets, got none")
        return zipped(datasets[0] if len(datasets) == 1 else datasets)

    @staticmethod
    def sample_from_datasets(
        datasets: Sequence[Dataset],
        weights: Sequence[float] | None = None,
        seed: int | None = None,
        stop_on_empty_dataset: bool = False,
        rerandomize_each_iteration: bool = True,
    ) -> Dataset:
        """Takes each element from a data set that is drawn at random.

        Rows of rare classes come as often as others where each class is a data set that repeats.

        Args:
            datasets: the data sets.
            weights: how likely each is; default: all alike.
            seed: decides what is drawn; default: follows from ``utils.set_random_seed``.
            stop_on_empty_dataset: whether the first data set that ends is the end; otherwise the
                others go on.
            rerandomize_each_iteration: whether each pass draws anew.

        Raises:
            ValueError: if the weights do not fit.

        Example:
            >>> from handmill.data import Dataset
            >>> rare, others = Dataset.range(2).repeat(), Dataset.range(10, 90)
            >>> both = Dataset.sample_from_datasets(
            ...     [rare, others], [0.5, 0.5], seed=1, stop_on_empty_dataset=True
            ... )
            >>> 50 < sum(int(x) < 10 for x in both) < 110
            True
        """
        from handmill.data.pipeline.mixtures import Sampled

        again = True if rerandomize_each_iteration is None else bool(rerandomize_each_iteration)
        key = seed_of(seed, "sample_from_datasets")
        return Sampled(datasets, weights, key, bool(stop_on_empty_dataset), again)

    @staticmethod
    def choose_from_datasets(
        datasets: Sequence[Dataset], choice_dataset: Dataset, stop_on_empty_dataset: bool = True
    ) -> Dataset:
        """Takes each element from the data set whose number ``choice_dataset`` gives.

        Args:
            datasets: the data sets.
            choice_dataset: whole numbers.
            stop_on_empty_dataset: whether a choice of a data set that has ended is the end;
                otherwise it is passed over.

        Example:
            >>> from handmill.data import Dataset
            >>> choice = Dataset.from_tensor_slices([0, 1, 1])
            >>> both = Dataset.choose_from_datasets([Dataset.range(3), Dataset.range(5, 9)], choice)
            >>> [int(x) for x in both]
            [0, 5, 6]
        """
        from handmill.data.pipeline.mixtures import Chosen

        return Chosen(datasets, choice_dataset, bool(stop_on_empty_dataset))

    # Verbs.

    def map(
        self,
        map_func: Callable[..., Any],
        num_parallel_calls: int | None = None,
        deterministic: bool = True,
    ) -> Dataset:
        """Makes of each element what a function returns.

        Args:
            map_func: called with the element; a tuple is handed over as several arguments. It gets
                arrays of NumPy and returns an element; a list that it returns is a tuple.
            num_parallel_calls: threads that call it, in which case elements are made ahead;
                ``AUTOTUNE`` for as many as there are cores, where that pays. Default: the
                caller's own.
            deterministic: accepted for tf.data; the order never depends on the threads.

        Example:
            >>> from handmill.data import Dataset
            >>> [int(x) for x in Dataset.range(3).map(lambda x: x * x)]
            [0, 1, 4]
        """
        from handmill.data.pipeline.stages import Mapped

        return Mapped(self, map_func, num_parallel_calls)

    def map_rows(
        self, map_func: Callable[..., Any], num_parallel_calls: int | None = None
    ) -> Dataset:
        """Makes of each batch of rows what a function returns that is told which rows they are.

        For random changes that depend on seed, pass and row alone, whoever makes the batch and
        when: ``data.CropAndFlip`` is such a function. Passes of the result are counted by
        themselves, from 0: with ``fit`` the pass is the epoch.

        Args:
            map_func: called with the number of the pass, the numbers of the rows in the arrays
                (int64), and the batch, a tuple as several arguments; it returns an element.
            num_parallel_calls: as in :meth:`map`, but without ``AUTOTUNE``.

        Raises:
            ValueError: unless this is batches of rows of arrays: ``from_tensor_slices``,
                ``shuffle``, ``take``, ``skip``, ``batch``. ``repeat`` comes after ``map_rows``.

        Example:
            >>> from handmill.data import Dataset
            >>> data = Dataset.from_tensor_slices([5, 6, 7]).batch(2)
            >>> data = data.map_rows(lambda epoch, rows, x: x + 10 * rows + 100 * epoch)
            >>> [[x.tolist() for x in data] for _ in range(2)]
            [[[5, 16], [27]], [[105, 116], [127]]]
        """
        raise ValueError(
            "map_rows: needs batches whose rows are known: from_tensor_slices(), then shuffle(), "
            f"take(), skip(), and batch(). Received: {self!r}"
        )

    def filter(self, predicate: Callable[..., Any]) -> Dataset:
        """Keeps the elements for which ``predicate`` is true; called as the function of ``map``."""
        from handmill.data.pipeline.stages import Filtered

        return Filtered(self, predicate)

    def batch(
        self,
        batch_size: int,
        drop_remainder: bool = False,
        num_parallel_calls: int | None = None,
        deterministic: bool | None = None,
    ) -> Dataset:
        """Joins elements to batches, with a new first axis.

        Args:
            batch_size: elements of a batch.
            drop_remainder: leaves out a last batch that would be smaller.
            num_parallel_calls: accepted for tf.data; ``prefetch`` makes batches ahead.
            deterministic: accepted for tf.data; the order never depends on threads.

        Raises:
            ValueError: when a batch is reached whose elements differ in shape.

        Example:
            >>> from handmill.data import Dataset
            >>> [x.tolist() for x in Dataset.range(5).batch(2, drop_remainder=True)]
            [[0, 1], [2, 3]]
        """
        from handmill.data.pipeline.stages import Batched

        return Batched(self, count_of("batch_size", batch_size), bool(drop_remainder))

    def padded_batch(
        self,
        batch_size: int,
        padded_shapes: Any = None,
        padding_values: Any = None,
        drop_remainder: bool = False,
    ) -> Dataset:
        """Joins elements to batches, each array padded at the ends of its axes.

        Args:
            batch_size: elements of a batch.
            padded_shapes: the shape of each array, nested as elements are, with None for the
                longest of the batch; default: None everywhere.
            padding_values: what is put there, nested as elements are, or one value for all;
                default: 0, and empty texts.
            drop_remainder: leaves out a last batch that would be smaller.

        Raises:
            ValueError: when a batch is reached with an array that is larger than its shape.

        Example:
            >>> from handmill.data import Dataset
            >>> data = Dataset.from_generator(lambda: [[1], [2, 3]])
            >>> [x.tolist() for x in data.padded_batch(2)]
            [[[1, 0], [2, 3]]]
            >>> [x.tolist() for x in data.padded_batch(2, padded_shapes=(3,), padding_values=-1)]
            [[[1, -1, -1], [2, 3, -1]]]
        """
        from handmill.data.pipeline.stages import Padded

        size = count_of("batch_size", batch_size)
        return Padded(self, size, bool(drop_remainder), padded_shapes, padding_values)

    def unbatch(self) -> Dataset:
        """Takes batches apart: elements are the rows of each."""
        from handmill.data.pipeline.stages import Unbatched

        return Unbatched(self)

    def rebatch(self, batch_size: int, drop_remainder: bool = False) -> Dataset:
        """Makes batches of another size; see :meth:`unbatch` and :meth:`batch`."""
        return self.unbatch().batch(batch_size, drop_remainder)

    def window(
        self, size: int, shift: int | None = None, stride: int = 1, drop_remainder: bool = False
    ) -> Dataset:
        """Gives windows over the elements, each a data set; tuples and dicts hold one a part.

        Args:
            size: elements of a window.
            shift: how many elements the next window begins later; default: ``size``.
            stride: how many elements the next one of a window lies further.
            drop_remainder: leaves out last windows that would be smaller.

        Example:
            >>> from handmill.data import Dataset
            >>> windows = Dataset.range(5).window(3, shift=1, drop_remainder=True)
            >>> [w.tolist() for w in windows.flat_map(lambda w: w.batch(3))]
            [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
        """
        from handmill.data.pipeline.nested import Windows

        size = count_of("size", size)
        shift = size if shift is None else count_of("shift", shift)
        return Windows(self, size, shift, count_of("stride", stride), bool(drop_remainder))

    def flat_map(self, map_func: Callable[..., Dataset]) -> Dataset:
        """Makes a data set of each element, and gives their elements one after the other.

        Args:
            map_func: called as the function of :meth:`map`; it returns a ``Dataset``. Shuffles
                that it makes want a ``seed``, or each pass has other orders.

        Example:
            >>> from handmill.data import Dataset
            >>> [int(x) for x in Dataset.range(1, 4).flat_map(Dataset.range)]
            [0, 0, 1, 0, 1, 2]
        """
        from handmill.data.pipeline.nested import Interleaved

        return Interleaved("flat_map", self, map_func, 1, 1)

    def interleave(
        self,
        map_func: Callable[..., Dataset],
        cycle_length: int | None = None,
        block_length: int = 1,
        num_parallel_calls: int | None = None,
        deterministic: bool | None = None,
    ) -> Dataset:
        """Makes a data set of each element, and gives their elements in turns.

        Args:
            map_func: as in :meth:`flat_map`.
            cycle_length: data sets that are open at a time; default: 10 (tf.data takes the number
                of cores, so its order depends on the machine).
            block_length: elements that one gives before it is the next one's turn.
            num_parallel_calls: accepted for tf.data; ``prefetch`` makes elements ahead.
            deterministic: accepted for tf.data; the order never depends on threads.

        Example:
            >>> from handmill.data import Dataset
            >>> data = Dataset.range(3).interleave(lambda i: Dataset.from_tensors(i).repeat(2), 2)
            >>> [int(x) for x in data]
            [0, 1, 0, 1, 2, 2]
        """
        from handmill.data.pipeline.nested import Interleaved

        cycle = _CYCLE if cycle_length in (None, AUTOTUNE) else cycle_length
        cycle = count_of("cycle_length", cycle)
        return Interleaved(
            "interleave", self, map_func, cycle, count_of("block_length", block_length)
        )

    def shard(self, num_shards: int, index: int) -> Dataset:
        """Every ``num_shards``-th element, from number ``index`` on: the part of one of several.

        Raises:
            ValueError: if ``index`` is not one of ``0 .. num_shards - 1``.

        Example:
            >>> from handmill.data import Dataset
            >>> [int(x) for x in Dataset.range(7).shard(3, 1)]
            [1, 4]
        """
        from handmill.data.pipeline.stages import Shard

        return Shard(self, count_of("num_shards", num_shards), operator.index(index))

    def take_while(self, predicate: Callable[..., Any]) -> Dataset:
        """The elements before the first one for which ``predicate`` is false."""
        from handmill.data.pipeline.stages import TakenWhile

        return TakenWhile(self, predicate)

    def scan(self, initial_state: Any, scan_func: Callable[[Any, Any], Any]) -> Dataset:
        """Makes of each element what a function makes of it and of what came before.

        Args:
            initial_state: the state before the first element.
            scan_func: called with the state and the element; returns the new state and the new
                element.

        Example:
            >>> from handmill.data import Dataset
            >>> [int(x) for x in Dataset.range(4).scan(0, lambda sum, x: (sum + x, sum + x))]
            [0, 1, 3, 6]
        """
        from handmill.data.pipeline.stages import Scanned

        return Scanned(self, initial_state, scan_func)

    def reduce(self, initial_state: Any, reduce_func: Callable[[Any, Any], Any]) -> Any:
        """Goes through the elements and returns what a function makes of all of them.

        Args:
            initial_state: the state before the first element.
            reduce_func: called with the state and the element; returns the new state.

        Example:
            >>> from handmill.data import Dataset
            >>> int(Dataset.range(5).reduce(0, lambda sum, x: sum + x))
            10
        """
        state = initial_state
        for element in self:
            state = reduce_func(state, element)
        return state

    def get_single_element(self) -> Any:
        """Returns the only element.

        Raises:
            ValueError: if there is none, or more than one.
        """
        found = list(islice(iter(self), 2))
        if len(found) != 1:
            count = "more than one" if found else "none"
            raise ValueError(f"get_single_element: expected one element, there is {count}")
        return found[0]

    def apply(self, transformation_func: Callable[[Dataset], Dataset]) -> Dataset:
        """Returns what a function makes of this data set, for chains of verbs."""
        found = transformation_func(self)
        if not isinstance(found, Dataset):
            raise TypeError(f"apply: the function must return a Dataset, got {found!r}")
        return found

    def shuffle(
        self,
        buffer_size: int,
        seed: int | None = None,
        reshuffle_each_iteration: bool | None = None,
    ) -> Dataset:
        """Hands elements out at random from a buffer that is kept full.

        Args:
            buffer_size: elements in the buffer; with as many as the data set has, every order is
                equally likely.
            seed: decides the orders; default: follows from ``utils.set_random_seed``.
            reshuffle_each_iteration: whether each pass has an order of its own; it has by default.

        Example:
            >>> from handmill.data import Dataset
            >>> data = Dataset.range(4).shuffle(4, seed=1)
            >>> sorted(int(x) for x in data)
            [0, 1, 2, 3]
        """
        from handmill.data.pipeline.stages import Shuffled

        size = count_of("buffer_size", buffer_size)
        return Shuffled(self, size, seed_of(seed, "shuffle"), reshuffle_each_iteration is not False)

    def repeat(self, count: int | None = None) -> Dataset:
        """Goes through the elements ``count`` times; for ever by default, and with -1.

        A data set above that shuffles gives each repetition an order of its own.
        """
        from handmill.data.pipeline.stages import Repeated

        return Repeated(self, repetitions(count))

    def take(self, count: int) -> Dataset:
        """The first ``count`` elements; all of them with -1."""
        from handmill.data.pipeline.stages import Taken

        return Taken(self, count_or_all("take", count))

    def skip(self, count: int) -> Dataset:
        """All but the first ``count`` elements; none of them with -1."""
        from handmill.data.pipeline.stages import Skipped

        return Skipped(self, count_or_all("skip", count))

    def concatenate(self, dataset: Dataset) -> Dataset:
        """The elements of this data set, then those of another."""
        from handmill.data.pipeline.stages import Concatenated

        return Concatenated(self, dataset)

    def enumerate(self, start: int = 0) -> Dataset:
        """Tuples of a number, counted from ``start``, and the element."""
        from handmill.data.pipeline.stages import Enumerated

        return Enumerated(self, first_number(start))

    def cache(self, filename: str = "") -> Dataset:
        """Keeps the elements of the first pass that reaches its end, for those after it.

        Args:
            filename: must be empty: elements are kept in memory.
        """
        from handmill.data.pipeline.stages import Cached

        if filename:
            raise ValueError(
                f"cache: elements are kept in memory only, got filename={filename!r}; leave it out"
            )
        return Cached(self)

    def prefetch(self, buffer_size: int = AUTOTUNE) -> Dataset:
        """Makes elements ahead, on a thread, where they take longer than handing them over.

        Args:
            buffer_size: elements that may wait at a time; ``AUTOTUNE`` for two.
        """
        from handmill.data.pipeline.stages import Prefetched

        size = whole_number("prefetch: `buffer_size`", buffer_size)
        if size < AUTOTUNE:
            raise ValueError(f"prefetch: expected a number of elements, got {buffer_size!r}")
        return Prefetched(self, size)


_STATE = ("pass", "element")
_CYCLE = 10  # data sets that `interleave` has open where nobody says how many


class DatasetIterator:
    """A pass over a data set: an iterator that knows where it stands."""

    def __init__(self, dataset: Dataset, pass_: int, start: int) -> None:
        self._pass = pass_
        self._done = start
        self._elements: Any = dataset._open(pass_, start)

    def __iter__(self) -> DatasetIterator:
        return self

    def __next__(self) -> Any:
        element = next(self._elements)
        self._done += 1
        return element

    def get_next(self) -> Any:
        """Returns the next element, as ``next(iterator)`` does."""
        return next(self)

    def close(self) -> None:
        """Ends the pass."""
        close = getattr(self._elements, "close", None)
        if close is not None:
            close()
        self._elements = iter(())

    def _position(self) -> tuple[int, int]:
        return self._pass, self._done


def count_of(name: str, value: Any) -> int:
    """Returns a positive count.

    Raises:
        ValueError: if it is none.
    """
    try:
        count = operator.index(value)
    except TypeError:
        count = 0
    if isinstance(value, bool) or count < 1:
        raise ValueError(f"`{name}` must be a positive integer, got {name}={value!r}")
    return count


def first_number(value: Any) -> int:
    """Returns what ``enumerate`` starts with.

    Raises:
        ValueError: if it is no number of int64.
    """
    number = whole_number("enumerate: `start`", value)
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"enumerate: the numbers must fit into int64, got {value!r}")
    return number


def count_or_all(verb: str, value: Any) -> int:
    """Returns a count, -1 for all.

    Raises:
        ValueError: if it is less.
    """
    count = whole_number(f"{verb}: `count`", value)
    if count < -1:
        raise ValueError(f"{verb}: expected a count, or -1 for all, got {value!r}")
    return count


def repetitions(count: int | None) -> int | None:
    """Returns how often to repeat, None for ever."""
    number = -1 if count is None else whole_number("repeat: `count`", count)
    if number < -1:
        raise ValueError(f"repeat: expected a count, or -1 for ever, got {count!r}")
    return None if number < 0 else number


def seed_of(seed: Any, caller: str) -> int:
    """Returns a seed; a new one that follows from ``set_random_seed`` for None."""
    return random.next_host_seed() if seed is None else whole_number(f"{caller}: `seed`", seed)


def batch_spec(spec: Any, size: int | None) -> Any:
    """Returns the specs of batches of ``size`` elements with the specs ``spec``."""
    if isinstance(spec, ElementSpec):
        return ElementSpec((size, *spec.shape), spec.dtype)
    if isinstance(spec, dict):
        return {key: batch_spec(item, size) for key, item in spec.items()}
    return tuple(batch_spec(item, size) for item in spec)
