"""Texts cut into tokens: what TextVectorization does before it looks them up.

Everything works on UTF-8 bytes, as TensorFlow does: lowercase and punctuation are those of ASCII,
white space too. Cutting whole batches of bytes costs a small part of what strings cost.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.layers.preprocessing.strings import as_strings

_LOWER = bytes.maketrans(string.ascii_uppercase.encode(), string.ascii_lowercase.encode())
_PUNCTUATION = string.punctuation.encode()

STANDARDS = ("lower_and_strip_punctuation", "lower", "strip_punctuation")
SPLITS = ("whitespace", "character")


def standardized(texts: Array, how: Any, subject: str) -> Array:
    """Returns an array of texts as bytes, standardized.

    Args:
        texts: an array of ``str``.
        how: one of :data:`STANDARDS`, None, or a function of an array of strings.
        subject: what errors call the layer.

    Raises:
        ValueError: if the function changes the shape.
    """
    if callable(how):
        given = texts.astype(np.str_) if texts.size else np.zeros(texts.shape, "U1")
        found = as_strings(how(given), subject)
        if found.shape != texts.shape:
            raise ValueError(
                f"{subject}: its `standardize` must keep the shape of the texts, {texts.shape}, "
                f"but it returned an array of shape {found.shape}"
            )
        texts, how = found, None
    table = _LOWER if how in ("lower", "lower_and_strip_punctuation") else None
    dropped = _PUNCTUATION if how in ("strip_punctuation", "lower_and_strip_punctuation") else b""
    result = np.empty(texts.size, object)
    for i, text in enumerate(texts.reshape(-1).tolist()):
        content = text.encode("utf-8", "surrogateescape")
        result[i] = content if how is None else content.translate(table, dropped)
    shaped: Array = result.reshape(texts.shape)
    return shaped


def split(texts: Array, how: Any, subject: str, encoding: str) -> list[list[bytes]]:
    """Returns the tokens of each text of a flat array of bytes.

    Args:
        texts: what :func:`standardized` gave.
        how: one of :data:`SPLITS`, or a function of an array of strings that returns a list of
            tokens for each.
        subject: what errors call the layer.
        encoding: of bytes that the function returns.

    Raises:
        ValueError: if the function returns another number of lists.
    """
    flat = texts.tolist()
    if how == "whitespace":
        return [text.split() for text in flat]
    if how == "character":
        return [
            [c.encode("utf-8", "surrogateescape") for c in t.decode("utf-8", "surrogateescape")]
            for t in flat
        ]
    strings = np.asarray([t.decode("utf-8", "surrogateescape") for t in flat], np.str_)
    found = how(strings)
    rows = found.tolist() if isinstance(found, np.ndarray) else list(found)
    if len(rows) != len(flat) or any(isinstance(row, str | bytes) for row in rows):
        raise ValueError(
            f"{subject}: its `split` must return a list of tokens for each of the {len(flat)} "
            f"texts, but it returned {str(found)[:80]!r} of length {len(rows)}"
        )
    return [as_bytes(as_strings(list(row), subject, encoding)) for row in rows]


def as_bytes(strings: Array) -> list[bytes]:
    """Returns an array of ``str`` as a flat list of UTF-8 bytes."""
    return [s.encode("utf-8", "surrogateescape") for s in strings.reshape(-1).tolist()]


def with_ngrams(tokens: Sequence[bytes], widths: Sequence[int]) -> list[bytes]:
    """Returns all runs of ``widths`` tokens, those of the first width first."""
    found: list[bytes] = []
    for width in widths:
        if width == 1:
            found += tokens
        else:
            shifted = [tokens[i : len(tokens) - width + 1 + i] for i in range(width)]
            found += map(b" ".join, zip(*shifted, strict=True) if len(tokens) >= width else ())
    return found


def padded(rows: Array, ids: Array, count: int, length: int | None) -> Array:
    """Returns numbers as one array with a row each, filled up with 0 or cut off.

    Args:
        rows: the length of each row.
        ids: the numbers, flat.
        count: how many rows there are.
        length: of the rows; default: of the longest.
    """
    width = int(rows.max(initial=0)) if length is None else length
    found = np.zeros((count, width), np.int64)
    place = np.arange(len(ids)) - np.repeat(np.cumsum(rows) - rows, rows)
    kept = place < width
    found[np.repeat(np.arange(count), rows)[kept], place[kept]] = ids[kept]
    return found
