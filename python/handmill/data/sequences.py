"""Sequences of different lengths as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.ir.op import Array


def pad_sequences(
    sequences: Sequence[Any],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> Array:
    """Returns sequences as rows of one length.

    Args:
        sequences: lists or arrays.
        maxlen: the length of the rows; default: that of the longest sequence.
        dtype: of the result; ``object`` for strings.
        padding: ``"pre"`` or ``"post"``: where a shorter sequence is filled up.
        truncating: ``"pre"`` or ``"post"``: where a longer sequence loses entries.
        value: what it is filled up with.

    Raises:
        ValueError: for what is no sequence, entries of different shapes, an unknown word.

    Example:
        >>> pad_sequences([[1], [2, 3], [4, 5, 6]], maxlen=2)
        array([[0, 1],
               [2, 3],
               [5, 6]], dtype=int32)
    """
    if not hasattr(sequences, "__len__"):
        raise ValueError("`sequences` must be iterable.")
    for name, word in (("Truncating", truncating), ("Padding", padding)):
        if word not in ("pre", "post"):
            raise ValueError(f'{name} type "{word}" not understood: expected "pre" or "post"')
    for sequence in sequences:
        if not hasattr(sequence, "__len__"):
            raise ValueError(
                f"`sequences` must be a list of iterables. Found non-iterable: {sequence!s}"
            )
    is_text = np.issubdtype(dtype, np.str_) or np.issubdtype(dtype, np.bytes_)
    if isinstance(value, str) and dtype is not object and not is_text:
        raise ValueError(
            f"`dtype` {dtype} is not compatible with `value`'s type: {type(value)}\n"
            "You should set `dtype=object` for variable length strings."
        )
    if maxlen is None:
        maxlen = max(map(len, sequences), default=0)
    first = next((s for s in sequences if len(s)), ())
    entry = np.asarray(first).shape[1:]
    found = np.full((len(sequences), maxlen, *entry), value, dtype=dtype)
    for i, sequence in enumerate(sequences):
        if not len(sequence) or not maxlen:
            continue
        kept = np.asarray(
            sequence[-maxlen:] if truncating == "pre" else sequence[:maxlen], dtype=dtype
        )
        if kept.shape[1:] != entry:
            raise ValueError(
                f"Shape of sample {kept.shape[1:]} of sequence at position {i} is different from "
                f"expected shape {entry}"
            )
        if padding == "post":
            found[i, : len(kept)] = kept
        else:
            found[i, maxlen - len(kept) :] = kept
    return found
