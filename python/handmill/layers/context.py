"""What calls of layers within one program, or one step that Python runs, share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class CallContext(threading.local):
    """What calls of layers share; each thread has its own.

    Attributes:
        training: the ``training`` argument of the enclosing call.
        observer: called with each layer and its outputs, if it is set.
        losses: the layer and the penalty that it added, one list for each program being traced.
        eager: whether layers called on arrays run their ``call`` in Python.
        scopes: the names of the layers whose ``call`` Python runs.
        calling: the innermost of these layers.
    """

    training: bool | None = None
    observer: Any = None
    eager: bool = False
    calling: Any = None

    def __init__(self) -> None:
        self.losses: list[list[tuple[Any, Any]]] = []
        self.scopes: list[str] = []

    @contextmanager
    def inside(self, layer: Any) -> Iterator[None]:
        """Says whose ``call`` runs in the ``with`` block."""
        before, self.calling = self.calling, layer
        try:
            yield
        finally:
            self.calling = before


CONTEXT = CallContext()
eager_scopes: list[int] = []
"""One entry for each open :func:`eager_calls`, of any thread: an empty list costs no look-up."""


@contextmanager
def collected_losses() -> Iterator[list[tuple[Any, Any]]]:
    """Collects the penalties that layers add in the ``with`` block, each with its layer."""
    found: list[tuple[Any, Any]] = []
    CONTEXT.losses.append(found)
    try:
        yield found
    finally:
        CONTEXT.losses.pop()


@contextmanager
def eager_calls() -> Iterator[None]:
    """Lets Python run the ``call`` of layers that this thread calls on arrays."""
    before, CONTEXT.eager = CONTEXT.eager, True
    eager_scopes.append(1)
    try:
        yield
    finally:
        eager_scopes.pop()
        CONTEXT.eager = before
