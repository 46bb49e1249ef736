"""Bytes of the weights of a model, as they are and zipped."""

from __future__ import annotations

import zlib
from typing import Any

_FAST = 1 << 25  # above so many bytes the fastest level is asked for


def raw_bytes(model: Any) -> int:
    """Bytes of all weights."""
    return sum(w.numpy().nbytes for w in model.weights)


def zipped_bytes(model: Any) -> int:
    """Bytes of all weights after Deflate, which is what zip files do."""
    level = 1 if raw_bytes(model) > _FAST else 6
    packer = zlib.compressobj(level)
    total = sum(len(packer.compress(w.numpy().tobytes())) for w in model.weights)
    return total + len(packer.flush())
