"""What calls of layers within one program share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class CallContext(threading.local):
    """What calls of layers within one program share.

    Attributes:
        training: the ``training`` argument of the enclosing call.
        observer: called with each layer and its outputs, if it is set.
        losses: penalties that layers added, one list for each program being traced.
    """

    training: bool | None = None
    observer: Any = None

    def __init__(self) -> None:
        self.losses: list[list[Any]] = []


CONTEXT = CallContext()


@contextmanager
def collected_losses() -> Iterator[list[Any]]:
    """Yields the list to which layers that are called inside add their penalties."""
    found: list[Any] = []
    CONTEXT.losses.append(found)
    try:
        yield found
    finally:
        CONTEXT.losses.pop()
