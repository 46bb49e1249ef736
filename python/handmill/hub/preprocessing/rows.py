"""Rows of tokens of different lengths, and what packs them."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.ir.op import Array


def rows_of(inputs: Any, subject: str) -> tuple[list[list[Any]], bool]:
    """Returns rows of tokens as lists, and whether there was one row only, not in a batch.

    Args:
        inputs: tokens (T,), or rows of them: an array, or a list of lists or arrays.
        subject: what errors call the taker.

    Raises:
        ValueError: for what is nested more deeply, or is no list.
    """
    if isinstance(inputs, np.ndarray):
        inputs = list(inputs) if inputs.ndim > 1 else inputs.tolist()
    if not isinstance(inputs, list | tuple):
        raise ValueError(f"{subject} takes tokens or rows of them. Received: {inputs!r:.80}")
    nested = [isinstance(row, list | tuple | np.ndarray) for row in inputs]
    if not any(nested):
        return [[_item(token) for token in inputs]], True
    if not all(nested):
        raise ValueError(f"{subject}: rows and single tokens are mixed: {inputs!r:.80}")
    rows = [np.asarray(row).tolist() for row in inputs]
    if any(isinstance(token, list) for row in rows for token in row[:1]):
        raise ValueError(f"{subject} takes tokens of rank 1 or 2, not more: {inputs!r:.80}")
    return rows, False


def _item(token: Any) -> Any:
    return token.item() if isinstance(token, np.generic) else token


def values_of(value: Any) -> list[Any]:
    """Returns a token, several, or None as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def padded_rows(rows: list[list[Any]], length: int, pad: Any, left: bool = False) -> Array:
    """Returns rows as one array (B, length), filled up with `pad`; int32, or objects for texts."""
    is_text = isinstance(pad, str) or any(isinstance(t, str) for row in rows for t in row[:1])
    found = np.full((len(rows), length), pad, object if is_text else np.int32)
    for i, row in enumerate(rows):
        if left:
            found[i, length - len(row) :] = row
        else:
            found[i, : len(row)] = row
    return found


def mask_of_rows(rows: list[list[Any]], length: int, left: bool = False) -> Array:
    """Returns which places of :func:`padded_rows` hold tokens: bool (B, length)."""
    lengths = np.array([len(row) for row in rows], np.int64).reshape(-1, 1)
    place = np.arange(length)
    return np.asarray(place >= length - lengths if left else place < lengths)
