"""Data sets: real ones that ship with handmill, and readers of files the user has."""

from __future__ import annotations

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(__name__, {"digits": ".digits", "mnist": ".mnist"})
