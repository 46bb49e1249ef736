"""IMDB: 50,000 reviews of movies, good or bad."""

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
    "imdb.npz",
    f"{STORE}imdb.npz",
    "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f",
)
WORDS = RemoteFile(
    "imdb_word_index.json", f"{STORE}imdb_word_index.json", "bfafd718b763782e994055a2d397834f"
)


def load_data(
    path: str | os.PathLike[str] = "imdb.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> Split:
    """Loads reviews as lists of the ranks of their words.

    Args:
        path: the file; see :func:`handmill.datasets.mnist.load_data` for where it is looked for.
        num_words: words of this number and above are replaced by ``oov_char``.
        skip_top: and those below this one.
        maxlen: reviews of so many words and more are left out.
        seed: decides the order of reviews.
        start_char: begins each review; None for nothing.
        oov_char: takes the place of words; None to leave them out.
        index_from: added to the rank of each word, so that small numbers are free.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: arrays of lists, and labels 0 (bad) and 1.

    Raises:
        OSError: if there is no file.
        ValueError: if no review is left, or the file holds something else.
    """
    names = ("x_train", "y_train", "x_test", "y_test")
    found = arrays_of(load_npz(located(FILE, path)), names, path)
    rng = np.random.RandomState(seed)
    parts = [shuffled(found[i], found[i + 1], rng) for i in (0, 2)]
    (train, train_labels), (test, test_labels) = (
        shorter(marked(texts, start_char, index_from), labels, maxlen) for texts, labels in parts
    )
    texts = limited(train + test, num_words, skip_top, oov_char)
    at = len(train)
    return (as_objects(texts[:at]), train_labels), (as_objects(texts[at:]), test_labels)


def get_word_index(path: str | os.PathLike[str] = "imdb_word_index.json") -> dict[str, int]:
    """Loads the ranks of words: word -> rank, from 1.

    ``load_data`` adds ``index_from`` to them.

    Args:
        path: the file; see :func:`handmill.datasets.mnist.load_data` for where it is looked for.
    """
    return load_word_index(WORDS, path)
