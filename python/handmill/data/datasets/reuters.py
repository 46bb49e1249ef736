"""Reuters: 11,228 newswires of 46 topics."""

from __future__ import annotations

import os

import numpy as np

from handmill.data.datasets.location import STORE, RemoteFile, located
from handmill.data.datasets.sequences import (
    arrays_of,
    as_objects,
    limited,
    load_word_index,
    marked,
    shorter,
    shuffled,
)
from handmill.data.datasets.tables import Split
from handmill.data.pickles import load_npz

FILE = RemoteFile(
    "reuters.npz",
    f"{STORE}reuters.npz",
    "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916",
)
WORDS = RemoteFile(
    "reuters_word_index.json",
    f"{STORE}reuters_word_index.json",
    "4d44cc38712099c9e383dc6e5f11a921",
)
LABELS = """
    cocoa grain veg-oil earn acq wheat copper housing money-supply coffee sugar trade reserves
    ship cotton carcass crude nat-gas cpi money-fx interest gnp meal-feed alum oilseed gold tin
    strategic-metal livestock retail ipi iron-steel rubber heat jobs lei bop zinc orange
    pet-chem dlr gas silver wpi hog lead
"""


def load_data(
    path: str | os.PathLike[str] = "reuters.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    test_split: float = 0.2,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> Split:
    """Loads newswires as lists of the ranks of their words.

    Args:
        path: the file; see :func:`handmill.datasets.mnist.load_data` for where it is looked for.
        num_words: see :func:`handmill.datasets.imdb.load_data`, as for the others not listed here.
        skip_top: see there.
        maxlen: see there.
        test_split: the fraction of newswires, the last ones, for testing.
        seed: see there.
        start_char: see there.
        oov_char: see there.
        index_from: see there.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: arrays of lists, and the numbers of topics.

    Raises:
        OSError: if there is no file.
        ValueError: if no newswire is left, or the file holds something else.
    """
    texts, labels = arrays_of(load_npz(located(FILE, path)), ("x", "y"), path)
    texts, labels = shuffled(texts, labels, np.random.RandomState(seed))
    lists, labels = shorter(marked(texts, start_char, index_from), labels, maxlen)
    lists = limited(lists, num_words, skip_top, oov_char)
    at = int(len(lists) * (1 - test_split))
    return (as_objects(lists[:at]), labels[:at]), (as_objects(lists[at:]), labels[at:])


def get_word_index(path: str | os.PathLike[str] = "reuters_word_index.json") -> dict[str, int]:
    """Loads the ranks of words; see :func:`handmill.datasets.imdb.get_word_index`.

    Args:
        path: the file.
    """
    return load_word_index(WORDS, path)


def get_label_names() -> tuple[str, ...]:
    """Returns the names of the topics; their places are the labels.

    Example:
        >>> from handmill.datasets import reuters
        >>> len(reuters.get_label_names()), reuters.get_label_names()[3]
        (46, 'earn')
    """
    return tuple(LABELS.split())
