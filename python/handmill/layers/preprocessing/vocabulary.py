"""Tokens and their numbers."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handmill import ops
from handmill.ir.op import Array
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object

_FEW = 64
"""Up to so many sorted numbers are compared one by one, more are searched by halves."""


class Vocabulary:
    """Tokens, numbered from ``start``; never changed.

    Args:
        tokens: strings or whole numbers, all different.
        start: the number of the first.
        others: the numbers of tokens that are none of the vocabulary, such as the mask's.
    """

    def __init__(
        self, tokens: Sequence[Any], start: int, others: Mapping[Any, int] | None = None
    ) -> None:
        self.tokens = list(tokens)
        self.start = start
        self._others = others or {}

    def __len__(self) -> int:
        return len(self.tokens)

    @functools.cached_property
    def numbers(self) -> dict[Any, int]:
        """The number of each token, those of others too."""
        return {t: self.start + i for i, t in enumerate(self.tokens)} | dict(self._others)

    @functools.cached_property
    def numbers_of_bytes(self) -> dict[bytes, int]:
        """The number of each string, in UTF-8."""
        return {t.encode("utf-8", "surrogateescape"): n for t, n in self.numbers.items()}

    @functools.cached_property
    def sorted(self) -> tuple[Array, Array]:
        """Tokens that are whole numbers in rising order, and the number of each."""
        keys = np.asarray(self.tokens, np.int64)
        order = np.argsort(keys)
        return keys[order], order + self.start


def find(x: Any, vocabulary: Vocabulary | None, missing: int) -> Any:
    """Returns the number of each token in ``x``, in operators.

    Args:
        x: whole numbers (int64).
        vocabulary: what they are looked for in.
        missing: the number of those that are not there.
    """
    if vocabulary is None or len(vocabulary) == 0:
        return ops.full_like(x, missing)
    keys, numbers = vocabulary.sorted
    if len(keys) <= _FEW:
        equal = ops.equal(ops.expand_dims(x, -1), keys)
        return ops.sum(ops.where(equal, numbers - missing, np.int64(0)), axis=-1) + missing
    place = ops.minimum(count_below(x, keys), np.int32(len(keys) - 1))
    found = ops.equal(ops.take(keys, place), x)
    return ops.where(found, ops.take(numbers, place), np.int64(missing))


def count_below(x: Any, edges: Array, inclusive: bool = False) -> Any:
    """Returns how many of the sorted ``edges`` lie below each element, in operators (int32).

    Args:
        x: numbers of the dtype of ``edges``; NaN lies above all.
        edges: in rising order.
        inclusive: whether an edge that equals the element counts too.
    """

    def below(edge: Any, x: Any) -> Any:
        return ops.logical_not(ops.less(x, edge)) if inclusive else ops.less(edge, x)

    if len(edges) <= _FEW:
        return ops.sum(ops.cast(below(edges, ops.expand_dims(x, -1)), "int32"), axis=-1)
    count = ops.cast(ops.zeros_like(x), "int32")
    step = 1 << (len(edges).bit_length() - 1)
    while step:
        candidate = count + np.int32(step)
        edge = ops.take(edges, ops.minimum(candidate - np.int32(1), np.int32(len(edges) - 1)))
        fits = ops.logical_and(below(edge, x), ops.less_equal(candidate, np.int32(len(edges))))
        count = ops.where(fits, candidate, count)
        step >>= 1
    return count


_IN_A_LIST = 256


def tokens_as_data(tokens: Sequence[Any]) -> Any:
    """Returns tokens as plain data; many of them as arrays, which files store as tensors."""
    if len(tokens) <= _IN_A_LIST:
        return list(tokens)
    if not isinstance(tokens[0], str):
        return {"numbers": serialize_keras_object(np.asarray(tokens, np.int64))}
    words = [t.encode("utf-8", "surrogatepass") for t in tokens]
    return {
        "text": serialize_keras_object(np.frombuffer(b"".join(words), np.uint8)),
        "lengths": serialize_keras_object(np.fromiter(map(len, words), np.int64, len(words))),
    }


def tokens_of_data(data: Any) -> list[Any]:
    """Returns what :func:`tokens_as_data` was given.

    Raises:
        ValueError: for data that describe no tokens.
    """
    if isinstance(data, list):
        return list(data)
    if "numbers" in data:
        found: list[Any] = np.asarray(deserialize_keras_object(data["numbers"])).tolist()
        return found
    text = np.asarray(deserialize_keras_object(data["text"]), np.uint8).tobytes()
    lengths = np.asarray(deserialize_keras_object(data["lengths"]), np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or int(lengths.sum()) != len(text):
        raise ValueError("the vocabulary of a layer is damaged: its text and lengths do not fit")
    ends = np.cumsum(lengths).tolist()
    starts = [0, *ends[:-1]]
    return [text[a:b].decode("utf-8", "surrogatepass") for a, b in zip(starts, ends, strict=True)]
