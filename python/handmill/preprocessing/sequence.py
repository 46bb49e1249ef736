"""Sequences of different lengths as one array."""

from __future__ import annotations

from handmill.data.sequences import pad_sequences
from handmill.lazy import plain_module

__all__ = ["pad_sequences"]

__getattr__ = plain_module(__name__)
