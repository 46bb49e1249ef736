"""Elements that are data sets: windows, and what functions make of elements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from handmill.data.keyed_random import make_key
from handmill.data.pipeline.dataset import INFINITE, UNKNOWN, Dataset
from handmill.data.pipeline.elements import parts, rebuilt, spec_of
from handmill.data.pipeline.stages import Derived, called


class _Kept(Dataset):
    """Elements that are in memory."""

    def __init__(self, elements: list[Any]) -> None:
        super().__init__()
        self._kept = elements

    def cardinality(self) -> int:
        return len(self._kept)

    def _spec(self) -> Any:
        return spec_of(self._kept[0])

    def _elements(self, pass_: int) -> Iterator[Any]:
        return iter(self._kept)


class Windows(Derived):
    """Data sets of elements that lie in a row."""

    def __init__(self, above: Dataset, size: int, shift: int, stride: int, drop: bool) -> None:
        super().__init__(above)
        self._shift = shift
        self._stride = stride
        self._span = (size - 1) * stride + 1
        self._drop = drop

    def cardinality(self) -> int:
        count = self._above.cardinality()
        if count < 0:
            return count
        starts = max(count - self._span + 1, 0) if self._drop else count
        return -(-starts // self._shift)

    def _spec(self) -> Any:
        return self._above.element_spec

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        above = self._above._open(pass_, start * self._shift)
        held = list(islice(above, self._span))
        while held and not (self._drop and len(held) < self._span):
            elements = held[:: self._stride]
            columns = zip(*(parts(element) for element in elements), strict=True)
            yield rebuilt(elements[0], [_Kept(list(column)) for column in columns])
            for _ in islice(above, max(self._shift - len(held), 0)):
                pass  # elements between windows
            held = held[self._shift :]
            held += islice(above, self._span - len(held))


class Interleaved(Derived):
    """The elements of the data sets that a function makes, in turns.

    Args:
        verb: the name of the verb, for messages.
        above: the elements that the function is called with.
        function: returns a data set.
        cycle: how many of them are open at a time.
        block: elements that one gives in its turn.
    """

    def __init__(
        self, verb: str, above: Dataset, function: Callable[..., Any], cycle: int, block: int
    ) -> None:
        super().__init__(above)
        if not callable(function):
            raise TypeError(f"{verb}: expected a function, got {type(function).__name__}")
        self._verb = verb
        self._function = function
        self._cycle = cycle
        self._block = block

    def cardinality(self) -> int:
        return INFINITE if self._above.cardinality() == INFINITE else UNKNOWN

    def _spec(self) -> Any:
        return super(Derived, self)._spec()

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        return islice(self._in_turns(pass_), start, None)

    def _opened(self, pass_: int) -> Iterator[Iterator[Any]]:
        for number, element in enumerate(self._above._open(pass_, 0)):
            made = called(self._function, element)
            if not isinstance(made, Dataset):
                raise TypeError(
                    f"{self._verb}: the function must return a Dataset, got {type(made).__name__}; "
                    "map() takes functions that return elements"
                )
            yield made._open(make_key(pass_, number, 4), 0)

    def _in_turns(self, pass_: int) -> Iterator[Any]:
        waiting = self._opened(pass_)
        slots = [next(waiting, None)] + [None] * (self._cycle - 1)
        turn = 0
        while slots[turn] is not None or any(slot is not None for slot in slots):
            if (slot := slots[turn]) is not None:
                given = 0
                for element in islice(slot, self._block):
                    given += 1
                    yield element
                if given < self._block:
                    slots[turn] = None
            turn = (turn + 1) % self._cycle
            if slots[turn] is None:
                slots[turn] = next(waiting, None)
