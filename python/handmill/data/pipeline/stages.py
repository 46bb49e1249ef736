"""What the verbs of a Dataset make: one class each, which takes elements from the one above."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count as counted
from itertools import islice
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.data.pipeline.dataset import (
    AUTOTUNE,
    INFINITE,
    UNKNOWN,
    Dataset,
    batch_spec,
)
from handmill.data.pipeline.elements import (
    ElementSpec,
    as_element,
    padded,
    padded_spec,
    parts,
    rebuilt,
    rows_of,
    spec_of,
    stacked,
)
from handmill.data.pipeline.orders import places, repeat_pass, rest_of_buffer, shuffle_key
from handmill.data.prefetch import made_ahead, made_ahead_if_slow

_AHEAD = 2  # elements made ahead where nobody says how many
_BLOCK = 4096  # draws made at a time


class Single(Dataset):
    """One element."""

    def __init__(self, element: Any) -> None:
        super().__init__()
        self._element = as_element(element)

    def cardinality(self) -> int:
        return 1

    def _spec(self) -> Any:
        return spec_of(self._element)

    def _elements(self, pass_: int) -> Iterator[Any]:
        yield self._element


class Generated(Dataset):
    """What a generator yields."""

    def __init__(
        self, generator: Callable[..., Iterable[Any]], signature: Any, args: tuple[Any, ...]
    ) -> None:
        super().__init__()
        if not callable(generator):
            raise TypeError(
                "from_generator: expected a function that returns an iterable, so that each pass "
                f"starts one anew; got {type(generator).__name__}. Pass `lambda: ...`."
            )
        self._generator = generator
        self._signature = None if signature is None else _as_specs(signature)
        self._args = tuple(args)

    def _spec(self) -> Any:
        return super()._spec() if self._signature is None else self._signature

    def _elements(self, pass_: int) -> Iterator[Any]:
        made = self._generator(*self._args)
        if not isinstance(made, Iterable):
            raise TypeError(
                "from_generator: expected a function that returns an iterable; it returned "
                f"{made!r:.80}"
            )
        for index, element in enumerate(made):
            found = as_element(element)
            yield found if self._signature is None else _conform(found, self._signature, index)


def _as_specs(signature: Any) -> Any:
    if isinstance(signature, ElementSpec):
        return signature
    if isinstance(signature, dict):
        return {key: _as_specs(item) for key, item in signature.items()}
    if isinstance(signature, tuple | list):
        return tuple(_as_specs(item) for item in signature)
    if not (hasattr(signature, "shape") and hasattr(signature, "dtype")):
        raise TypeError(
            "from_generator: `output_signature` holds what has `shape` and `dtype`, such as "
            f"handmill.data.ElementSpec((None, 3), 'float32'); got {signature!r}"
        )
    dtype = getattr(signature.dtype, "name", signature.dtype)
    shape = tuple(None if n is None else int(n) for n in signature.shape)
    return ElementSpec(shape, "str" if dtype == "string" else str(dtype))


def _conform(element: Any, spec: Any, index: int) -> Any:
    """Returns an element brought to what was declared.

    Raises:
        ValueError: if it is not nested, or not shaped, so.
    """
    if isinstance(spec, ElementSpec):
        array = element
        if spec.dtype != "str":
            array = np.asarray(element)
            if array.dtype.name != spec.dtype:
                array = array.astype(spec.dtype)
        shape = np.shape(array)
        fits = len(shape) == len(spec.shape) and all(
            wanted is None or wanted == n for wanted, n in zip(spec.shape, shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"from_generator: element {index} has an array of shape {shape}, "
                f"`output_signature` says {spec.shape}"
            )
        return array
    if isinstance(spec, dict) and isinstance(element, dict) and set(spec) == set(element):
        return {key: _conform(element[key], item, index) for key, item in spec.items()}
    if (
        isinstance(spec, tuple)
        and isinstance(element, tuple)
        and not isinstance(spec, ElementSpec)
        and len(spec) == len(element)
    ):
        return tuple(_conform(e, s, index) for e, s in zip(element, spec, strict=True))
    raise ValueError(
        f"from_generator: element {index} is {_shown(element)}, which is not nested as "
        f"`output_signature` says: {spec}"
    )


def _shown(element: Any) -> str:
    return repr(spec_of(element))


class Derived(Dataset):
    """A stage over one other."""

    def __init__(self, above: Dataset) -> None:
        super().__init__(above)
        self._above = above

    def cardinality(self) -> int:
        return self._above.cardinality()

    def _spec(self) -> Any:
        return self._above.element_spec

    def _elements(self, pass_: int) -> Iterator[Any]:
        return self._open(pass_, 0)


def called(function: Callable[..., Any], element: Any) -> Any:
    """Calls a function of a verb with an element, with the parts of a tuple as arguments."""
    return function(*element) if isinstance(element, tuple) else function(element)


def made_by(function: Callable[..., Any], element: Any, *before: Any, verb: str = "map") -> Any:
    """Returns the element that a function of a verb makes of another.

    Args:
        function: called with ``before`` and the element.
        element: the other.
        *before: what comes first among the arguments.
        verb: for errors.

    Raises:
        TypeError: if it returns None.
    """
    found = called(partial(function, *before) if before else function, element)
    if found is None:
        name = getattr(function, "__name__", type(function).__name__)
        raise TypeError(f"{verb}: {name}() returned None; it must return the new element")
    # As in tf.data: what functions return as a list are parts, as likely as not of other shapes.
    return as_element(tuple(found) if isinstance(found, list) else found)


class Mapped(Derived):
    """What a function makes of the elements."""

    def __init__(self, above: Dataset, function: Callable[..., Any], parallel: int | None) -> None:
        super().__init__(above)
        if not callable(function):
            raise TypeError(f"map: expected a function, got {type(function).__name__}")
        self._function = function
        threads = 1 if parallel is None else whole_number("map: `num_parallel_calls`", parallel)
        self._ahead = made_ahead
        if threads == AUTOTUNE:
            threads = os.cpu_count() or 1
            self._ahead = made_ahead_if_slow
        if threads < 1:
            raise ValueError(
                f"map: `num_parallel_calls` must be positive or AUTOTUNE (-1), got {parallel!r}"
            )
        self._threads = threads

    def _spec(self) -> Any:
        found = super(Derived, self)._spec()
        varies = any(None in spec.shape[:1] for spec in _specs(self._above.element_spec))
        # The rows of a batch vary where those of the batches above do.
        return with_free_rows(found) if varies else found

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        above = self._above._open(pass_, start)
        if self._threads == 1:
            return self._one_by_one(above)
        function = self._function

        def call(element: Any) -> Any:
            return made_by(function, element)

        return self._ahead(above, call, self._threads, self._threads + 1)

    def _one_by_one(self, above: Iterator[Any]) -> Iterator[Any]:
        function = self._function
        for element in above:
            yield made_by(function, element)


def _specs(spec: Any) -> list[ElementSpec]:
    if isinstance(spec, ElementSpec):
        return [spec]
    items = spec.values() if isinstance(spec, dict) else spec
    return [leaf for item in items for leaf in _specs(item)]


def with_free_rows(spec: Any) -> Any:
    """The specs of batches whose numbers of rows vary."""
    if isinstance(spec, ElementSpec):
        return ElementSpec((None, *spec.shape[1:]), spec.dtype) if spec.shape else spec
    if isinstance(spec, dict):
        return {key: with_free_rows(item) for key, item in spec.items()}
    return tuple(with_free_rows(item) for item in spec)


class Filtered(Derived):
    """The elements that a function says yes to."""

    def __init__(self, above: Dataset, predicate: Callable[..., Any]) -> None:
        super().__init__(above)
        if not callable(predicate):
            raise TypeError(f"filter: expected a function, got {type(predicate).__name__}")
        self._predicate = predicate

    def cardinality(self) -> int:
        return INFINITE if self._above.cardinality() == INFINITE else UNKNOWN

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        return islice(self._kept(pass_), start, None)

    def _kept(self, pass_: int) -> Iterator[Any]:
        for element in self._above._open(pass_, 0):
            if _is_true("filter", self._predicate, element):
                yield element


def _is_true(verb: str, predicate: Callable[..., Any], element: Any) -> bool:
    answer = np.asarray(called(predicate, element))
    if answer.size != 1:
        raise ValueError(
            f"{verb}: the function must return one truth value, got an array of shape "
            f"{answer.shape}"
        )
    return bool(answer.item())


class TakenWhile(Derived):
    """The elements up to the first that a function says no to."""

    def __init__(self, above: Dataset, predicate: Callable[..., Any]) -> None:
        super().__init__(above)
        self._predicate = predicate

    def cardinality(self) -> int:
        return UNKNOWN

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        return islice(self._first(pass_), start, None)

    def _first(self, pass_: int) -> Iterator[Any]:
        for element in self._above._open(pass_, 0):
            if not _is_true("take_while", self._predicate, element):
                return
            yield element


class Scanned(Derived):
    """What a function makes of each element and a state."""

    def __init__(self, above: Dataset, state: Any, function: Callable[[Any, Any], Any]) -> None:
        super().__init__(above)
        self._state = state
        self._function = function

    def _spec(self) -> Any:
        return super(Derived, self)._spec()

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        return islice(self._made(pass_), start, None)

    def _made(self, pass_: int) -> Iterator[Any]:
        state = self._state
        for element in self._above._open(pass_, 0):
            found = self._function(state, element)
            if not (isinstance(found, tuple | list) and len(found) == 2):
                raise ValueError(
                    "scan: the function must return a pair, the new state and the new element; "
                    f"got {found!r}"
                )
            state, made = found
            yield as_element(made)


class Shard(Derived):
    """Every so many elements one."""

    def __init__(self, above: Dataset, shards: int, index: int) -> None:
        super().__init__(above)
        if not 0 <= index < shards:
            raise ValueError(f"shard: expected an index from 0 to {shards - 1}, got {index}")
        self._shards = shards
        self._index = index

    def cardinality(self) -> int:
        count = self._above.cardinality()
        return count if count < 0 else len(range(self._index, count, self._shards))

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        above = self._above._open(pass_, self._index + start * self._shards)
        return islice(above, 0, None, self._shards)


class Batched(Derived):
    """Batches of elements."""

    def __init__(self, above: Dataset, size: int, drop_remainder: bool) -> None:
        super().__init__(above)
        self._batch_size = size
        self._drop = drop_remainder

    def cardinality(self) -> int:
        count = self._above.cardinality()
        if count < 0:
            return count
        return count // self._batch_size if self._drop else -(-count // self._batch_size)

    def _spec(self) -> Any:
        exact = self._drop or self._above.cardinality() == INFINITE
        return batch_spec(self._spec_of_one(), self._batch_size if exact else None)

    def _spec_of_one(self) -> Any:
        """The specs of an element of a batch."""
        return self._above.element_spec

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        size = self._batch_size
        above = self._above._open(pass_, start * size)
        while elements := list(islice(above, size)):
            if len(elements) < size and self._drop:
                return
            yield stacked(self._ready(elements))

    def _ready(self, elements: list[Any]) -> list[Any]:
        return elements


class Padded(Batched):
    """Batches of elements that have been padded to one shape."""

    def __init__(
        self, above: Dataset, size: int, drop_remainder: bool, shapes: Any, values: Any
    ) -> None:
        super().__init__(above, size, drop_remainder)
        self._shapes = shapes
        self._values = values

    def _spec_of_one(self) -> Any:
        return padded_spec(self._above.element_spec, self._shapes)

    def _ready(self, elements: list[Any]) -> list[Any]:
        return padded(elements, self._shapes, self._values)


class Unbatched(Derived):
    """The rows of batches."""

    def cardinality(self) -> int:
        above = self._above
        count = above.cardinality()
        if count < 0:
            return count
        return count * above._batch_size if isinstance(above, Batched) and above._drop else UNKNOWN

    def _spec(self) -> Any:
        return _without_rows(self._above.element_spec)

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        return islice(self._rows(pass_), start, None)

    def _rows(self, pass_: int) -> Iterator[Any]:
        for batch in self._above._open(pass_, 0):
            leaves = parts(batch)
            for row in range(rows_of(batch, "unbatch")):
                yield rebuilt(batch, [leaf[row] for leaf in leaves])


def _without_rows(spec: Any) -> Any:
    if isinstance(spec, ElementSpec):
        if not spec.shape:
            raise ValueError(f"unbatch: expected arrays with a first axis, got {spec}")
        return ElementSpec(spec.shape[1:], spec.dtype)
    if isinstance(spec, dict):
        return {key: _without_rows(item) for key, item in spec.items()}
    return tuple(_without_rows(item) for item in spec)


class Shuffled(Derived):
    """Elements in an order that pass and seed decide."""

    def __init__(self, above: Dataset, size: int, seed: int, reshuffles: bool) -> None:
        super().__init__(above)
        self._size = size
        self._seed = seed
        self._reshuffles = reshuffles

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        return islice(self._mixed(pass_), start, None)

    def _mixed(self, pass_: int) -> Iterator[Any]:
        key = shuffle_key(self._seed, pass_, self._reshuffles)
        above = self._above._open(pass_, 0)
        buffer = list(islice(above, self._size))
        drawn: list[int] = []
        for number, element in enumerate(above):
            if number % _BLOCK == 0:
                drawn = places(key, number, _BLOCK, self._size)
            place = drawn[number % _BLOCK]
            yield buffer[place]
            buffer[place] = element
        for place in rest_of_buffer(key, len(buffer)).tolist():
            yield buffer[place]


class Repeated(Derived):
    """Elements several times over."""

    def __init__(self, above: Dataset, count: int | None) -> None:
        super().__init__(above)
        self._count = count

    def cardinality(self) -> int:
        count = self._above.cardinality()
        if self._count is None:
            return count if count == 0 else INFINITE
        return 0 if self._count == 0 else count * self._count if count >= 0 else count

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        size = self._above.cardinality()
        first, within = divmod(start, size) if size > 0 else (0, 0)
        found = self._from(pass_, first, within)
        return found if size > 0 else islice(found, start, None)

    def _from(self, pass_: int, first: int, within: int) -> Iterator[Any]:
        for number in counted(first) if self._count is None else range(first, self._count):
            empty = True
            for element in self._above._open(repeat_pass(pass_, number), within):
                empty = False
                yield element
            if empty and self._count is None:
                return
            within = 0


class Taken(Derived):
    """The first elements."""

    def __init__(self, above: Dataset, count: int) -> None:
        super().__init__(above)
        self._count = count

    def cardinality(self) -> int:
        count = self._above.cardinality()
        if self._count < 0 or count == UNKNOWN:
            return count
        return self._count if count == INFINITE else min(count, self._count)

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        if self._count < 0:
            return self._above._open(pass_, start)
        left = max(self._count - start, 0)
        return islice(self._above._open(pass_, start), left) if left else iter(())


class Skipped(Derived):
    """All but the first elements."""

    def __init__(self, above: Dataset, count: int) -> None:
        super().__init__(above)
        self._count = count

    def cardinality(self) -> int:
        count = self._above.cardinality()
        if self._count < 0:
            return 0
        return max(count - self._count, 0) if count >= 0 else count

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        if self._count < 0:
            return iter(())
        return self._above._open(pass_, start + self._count)


class Concatenated(Dataset):
    """The elements of two data sets, one after the other."""

    def __init__(self, first: Dataset, second: Dataset) -> None:
        super().__init__(first)
        if not isinstance(second, Dataset):
            raise TypeError(f"concatenate: expected a Dataset, got {type(second).__name__}")
        self._both = (first, second)

    def cardinality(self) -> int:
        counts = [part.cardinality() for part in self._both]
        if INFINITE in counts:
            return INFINITE
        return UNKNOWN if UNKNOWN in counts else sum(counts)

    def _spec(self) -> Any:
        return self._both[0].element_spec

    def _elements(self, pass_: int) -> Iterator[Any]:
        for part in self._both:
            yield from part._open(pass_, 0)


class Enumerated(Derived):
    """Elements with their numbers."""

    def __init__(self, above: Dataset, first: int) -> None:
        super().__init__(above)
        self._first = first

    def _spec(self) -> Any:
        return ElementSpec((), "int64"), self._above.element_spec

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        for number, element in enumerate(self._above._open(pass_, start), self._first + start):
            yield np.int64(number), element


class Cached(Derived):
    """The elements of the first whole pass."""

    def __init__(self, above: Dataset) -> None:
        super().__init__(above)
        self._kept: list[Any] | None = None

    def cardinality(self) -> int:
        count = self._above.cardinality()
        return count if self._kept is None or count >= 0 else len(self._kept)

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        return islice(self._from_memory(), start, None)

    def _from_memory(self) -> Iterator[Any]:
        if self._kept is not None:
            yield from self._kept
            return
        found = []
        # The pass that fills it is always the first one, so a resumed program finds the same.
        for element in self._above._open(0, 0):
            found.append(element)
            yield element
        self._kept = found


class Prefetched(Derived):
    """Elements made ahead."""

    def __init__(self, above: Dataset, size: int) -> None:
        super().__init__(above)
        self._ahead = _AHEAD if size == AUTOTUNE else size

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        above = self._above._open(pass_, start)
        return made_ahead_if_slow(above, _same, 1, self._ahead) if self._ahead else above


class _Row(Dataset):
    """Tuples or dicts of elements of several data sets."""

    def __init__(self, nested: Any) -> None:
        self._all: list[Dataset] = parts(nested)
        super().__init__(self._all[0])
        self._nested = nested

    def cardinality(self) -> int:
        counts = [part.cardinality() for part in self._all]
        finite = [n for n in counts if n != INFINITE]
        if not finite:
            return INFINITE
        return UNKNOWN if UNKNOWN in finite else min(finite)

    def _spec(self) -> Any:
        return rebuilt(self._nested, [part.element_spec for part in self._all])

    def _elements(self, pass_: int) -> Iterator[Any]:
        return self._open(pass_, 0)

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        iterators = [part._open(pass_, start) for part in self._all]
        for row in zip(*iterators, strict=False):
            yield rebuilt(self._nested, row)


def zipped(nested: Any) -> Dataset:
    """Returns a data set of tuples or dicts.

    Raises:
        TypeError: if something in ``nested`` is no data set.
    """
    from handmill.data.pipeline.rows import joined_rows

    if isinstance(nested, list):
        nested = tuple(nested)
    found = parts(nested)
    for part in found:
        if not isinstance(part, Dataset):
            raise TypeError(
                f"zip: expected Datasets, or a tuple or dict of them, got {type(part).__name__}"
            )
    return joined_rows(nested, found) or _Row(nested)


def _same(element: Any) -> Any:
    return element
