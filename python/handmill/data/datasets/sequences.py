"""Texts as lists of the ranks of their words: what IMDB and Reuters have in common."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.data.datasets.location import RemoteFile, located
from handmill.files import read_regular
from handmill.ir.op import Array


def shuffled(texts: Array, labels: Array, rng: Any) -> tuple[Array, Array]:
    """Returns texts and labels in an order that ``rng`` makes."""
    order = np.arange(len(texts))
    rng.shuffle(order)
    return texts[order], labels[order]


def marked(texts: Any, start_char: int | None, index_from: int) -> list[list[int]]:
    """Returns texts that begin with a mark, their words numbered from a number on."""
    begin = [] if start_char is None else [start_char]
    return [begin + [word + index_from for word in text] for text in texts]


def shorter(
    texts: list[list[int]], labels: Array, maxlen: int | None
) -> tuple[list[list[int]], Array]:
    """Returns the texts of fewer than ``maxlen`` words.

    Raises:
        ValueError: if there are none.
    """
    if not maxlen:
        return texts, labels
    kept = [i for i, text in enumerate(texts) if len(text) < maxlen]
    if not kept:
        raise ValueError(
            f"After filtering for sequences shorter than maxlen={maxlen}, no sequence was kept. "
            "Increase maxlen."
        )
    return [texts[i] for i in kept], labels[kept]


def limited(
    texts: list[list[int]], num_words: int | None, skip_top: int, oov_char: int | None
) -> list[list[int]]:
    """Returns texts whose rare and most frequent words are replaced, or left out for None."""
    top = num_words or max(max(text) for text in texts)
    if oov_char is None:
        return [[w for w in text if skip_top <= w < top] for text in texts]
    return [[w if skip_top <= w < top else oov_char for w in text] for text in texts]


def as_objects(texts: Sequence[list[int]]) -> Array:
    """Returns an array of lists."""
    result = np.empty(len(texts), object)
    result[:] = texts
    return result


def load_word_index(file: RemoteFile, path: str | os.PathLike[str]) -> dict[str, int]:
    """Returns the ranks of words.

    Raises:
        ValueError: for a file that holds something else.
    """
    try:
        found = json.loads(read_regular(located(file, path)))
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"cannot read {path}: it holds no words with their ranks")
    return found


def arrays_of(found: dict[str, Array], names: Sequence[str], path: Any) -> list[Array]:
    """Returns the arrays with these names.

    Raises:
        ValueError: if there are others.
    """
    if not set(names) <= set(found):
        raise ValueError(f"{path}: expected arrays {', '.join(names)}, found {sorted(found)}")
    return [found[name] for name in names]
