"""Dataset: a chain of verbs over elements, each pass in an order that its seed decides."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
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
    themselves cost. Functions given to a chain with ``prefetch``, or to ``map`` with
    ``num_parallel_calls``, run on other threads than the one that trains.

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
    def range(*args: int) -> Dataset:
        """The numbers of Python's ``range`` (int64)."""
        counts = [whole_number("range: a number", n) for n in args]
        if len(counts) == 3 and counts[2] == 0:
            raise ValueError("range: the step must not be 0")
        if not all(-(1 << 63) <= n < 1 << 63 for n in counts):
            raise ValueError(f"range: the numbers must fit into int64, got {args}")
        return Dataset.from_tensor_slices(np.arange(*counts, dtype=np.int64))

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
                arrays of NumPy and returns an element.
            num_parallel_calls: threads that call it, in which case elements are made ahead;
                ``AUTOTUNE`` for as many as there are cores. Default: the caller's own.
            deterministic: accepted for tf.data; the order never depends on the threads.

        Example:
            >>> from handmill.data import Dataset
            >>> [int(x) for x in Dataset.range(3).map(lambda x: x * x)]
            [0, 1, 4]
        """
        from handmill.data.pipeline.stages import Mapped

        return Mapped(self, map_func, num_parallel_calls)

    def filter(self, predicate: Callable[..., Any]) -> Dataset:
        """Keeps the elements for which ``predicate`` is true; called as the function of ``map``."""
        from handmill.data.pipeline.stages import Filtered

        return Filtered(self, predicate)

    def batch(self, batch_size: int, drop_remainder: bool = False) -> Dataset:
        """Joins elements to batches, with a new first axis.

        Args:
            batch_size: elements of a batch.
            drop_remainder: leaves out a last batch that would be smaller.

        Raises:
            ValueError: when a batch is reached whose elements differ in shape.

        Example:
            >>> from handmill.data import Dataset
            >>> [x.tolist() for x in Dataset.range(5).batch(2, drop_remainder=True)]
            [[0, 1], [2, 3]]
        """
        from handmill.data.pipeline.stages import Batched

        return Batched(self, count_of("batch_size", batch_size), bool(drop_remainder))

    def padded_batch(self, batch_size: int, drop_remainder: bool = False) -> Dataset:
        """Joins elements to batches, each array padded with zeros to the longest of its batch.

        Args:
            batch_size: elements of a batch.
            drop_remainder: leaves out a last batch that would be smaller.

        Example:
            >>> from handmill.data import Dataset
            >>> data = Dataset.from_generator(lambda: [[1], [2, 3]])
            >>> [x.tolist() for x in data.padded_batch(2)]
            [[[1, 0], [2, 3]]]
        """
        from handmill.data.pipeline.stages import Batched

        size = count_of("batch_size", batch_size)
        return Batched(self, size, bool(drop_remainder), pads=True)

    def unbatch(self) -> Dataset:
        """Takes batches apart: elements are the rows of each."""
        from handmill.data.pipeline.stages import Unbatched

        return Unbatched(self)

    def shuffle(
        self, buffer_size: int, seed: int | None = None, reshuffle_each_iteration: bool = True
    ) -> Dataset:
        """Hands elements out at random from a buffer that is kept full.

        Args:
            buffer_size: elements in the buffer; with as many as the data set has, every order is
                equally likely.
            seed: decides the orders; default: follows from ``utils.set_random_seed``.
            reshuffle_each_iteration: whether each pass has an order of its own.

        Example:
            >>> from handmill.data import Dataset
            >>> data = Dataset.range(4).shuffle(4, seed=1)
            >>> sorted(int(x) for x in data)
            [0, 1, 2, 3]
        """
        from handmill.data.pipeline.stages import Shuffled

        size = count_of("buffer_size", buffer_size)
        return Shuffled(self, size, seed_of(seed), bool(reshuffle_each_iteration))

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
        """Makes elements ahead, on a thread.

        Args:
            buffer_size: elements that may wait at a time; ``AUTOTUNE`` for two.
        """
        from handmill.data.pipeline.stages import Prefetched

        size = whole_number("prefetch: `buffer_size`", buffer_size)
        if size < AUTOTUNE:
            raise ValueError(f"prefetch: expected a number of elements, got {buffer_size!r}")
        return Prefetched(self, size)


_STATE = ("pass", "element")


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


def seed_of(seed: Any) -> int:
    """Returns a seed; a new one that follows from ``set_random_seed`` for None."""
    return random.next_host_seed() if seed is None else whole_number("shuffle: `seed`", seed)


def batch_spec(spec: Any, size: int | None) -> Any:
    """Returns the specs of batches of ``size`` elements with the specs ``spec``."""
    if isinstance(spec, ElementSpec):
        return ElementSpec((size, *spec.shape), spec.dtype)
    if isinstance(spec, dict):
        return {key: batch_spec(item, size) for key, item in spec.items()}
    return tuple(batch_spec(item, size) for item in spec)
