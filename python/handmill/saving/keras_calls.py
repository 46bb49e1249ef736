"""Calls as Keras writes them: with the default of `training` filled in.

A file of Keras says ``training=False`` for each call of Dropout and ``training=True`` for each of
a layer that varies images, whether somebody wrote that or not, and ``fit`` and ``predict`` of Keras
replace it. Taken at its word, it would hold such a layer in one mode for ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

_filled_in: ContextVar[bool] = ContextVar("filled_in", default=False)


@contextlib.contextmanager
def defaults_filled_in(yes: bool) -> Iterator[None]:
    """Within it, calls are read as those that Keras wrote, if ``yes``."""
    token = _filled_in.set(yes)
    try:
        yield
    finally:
        _filled_in.reset(token)


def as_written(arguments: Mapping[str, Any], default: bool) -> dict[str, Any]:
    """The arguments of a call that somebody wrote.

    Args:
        arguments: those of a file, by name.
        default: of the layer's ``training``.
    """
    found = dict(arguments)
    if _filled_in.get() and found.get("training") is default:
        del found["training"]
    return found
