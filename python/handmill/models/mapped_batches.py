"""Batches whose inputs part of a model computes before the program of the rest is given them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from handmill.data.batches import pack_x_y_sample_weight, unpack_x_y_sample_weight
from handmill.data.pipeline.dataset import Dataset

Part = Callable[[Any], Any]
"""Makes of the inputs of a model what the rest of it is given."""


class BatchError(ValueError):
    """A batch whose strings are none; who counts the batches says which it is."""


def of_batch(part: Part, batch: Any) -> Any:
    """Returns a batch ``x``, ``(x, y)`` or ``(x, y, sample_weight)`` with what ``part`` makes of x.

    Raises:
        BatchError: where ``part`` refuses it.
    """
    x, y, weight = unpack_x_y_sample_weight(batch)
    try:
        found = part(x)
    except ValueError as error:
        raise BatchError(*error.args) from error
    # In a Dataset a list is an array.
    return pack_x_y_sample_weight(tuple(found) if isinstance(found, list) else found, y, weight)


def mapped_batches(source: Any, part: Part) -> Any:
    """Returns a source that can do what ``source`` can, of batches with what ``part`` makes of x.

    They are made when they are asked for, in each pass.
    """
    if isinstance(source, Dataset):  # which tells its place and its end
        found = source.map(lambda *batch: of_batch(part, batch if len(batch) > 1 else batch[0]))
        found.set_state(source.next_pass())
        return found
    sized = hasattr(source, "__len__")
    if hasattr(source, "__next__"):
        return (_SizedIterator if sized else _Iterator)(source, part)
    if hasattr(source, "__getitem__"):
        return (_SizedIndexed if sized else _Indexed)(source, part)
    return (_SizedIterable if sized else _Iterable)(source, part)


class _Batches:
    """A source whose batches become numbers as they are asked for."""

    def __init__(self, source: Any, part: Part) -> None:
        self.source = source
        self.part = part
        self.kind_for_users = type(source).__name__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what a class of these has, it defines itself
            raise AttributeError(name)
        return getattr(self.source, name)


class _Indexed(_Batches):
    def __getitem__(self, index: int) -> Any:
        return of_batch(self.part, self.source[index])


class _Iterable(_Batches):
    def __iter__(self) -> Iterator[Any]:
        return (of_batch(self.part, batch) for batch in self.source)


class _Iterator(_Batches):
    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return of_batch(self.part, next(self.source))


class _Sized(_Batches):
    def __len__(self) -> int:
        return len(self.source)


class _SizedIndexed(_Indexed, _Sized):
    pass


class _SizedIterable(_Iterable, _Sized):
    pass


class _SizedIterator(_Iterator, _Sized):
    pass
