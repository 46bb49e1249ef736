"""What calls of layers within one program, or one step that Python runs, share."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from handmill.ir.graph import current_graph


class NumberedRows:
    """The rows of a step whose numbers in the data are known.

    Args:
        numbers: of the rows (int64).
        generators: those whose draws follow from the numbers.

    Attributes:
        graph: the program that is traced; None where Python runs the step.
    """

    def __init__(self, numbers: Any, generators: Iterable[Any]) -> None:
        self.numbers = numbers
        self.graph = current_graph()
        self._views = {id(generator): 0 for generator in generators}

    def next_view(self, generator: Any) -> int | None:
        """How often this was asked for a generator; None if its draws follow from its calls.

        That is where its layer is called in a body, which may run several times in a step, or is
        no part of the model.
        """
        view = self._views.get(id(generator))
        if view is None or current_graph() is not self.graph:
            return None
        self._views[id(generator)] = view + 1
        return view


class CallContext(threading.local):
    """What calls of layers share; each thread has its own.

    Attributes:
        training: the ``training`` argument of the enclosing call.
        observer: called with each layer and its outputs, if it is set; what it returns are the
            outputs.
        losses: the layer and the penalty that it added, one list for each program being traced.
        eager: whether layers called on arrays run their ``call`` in Python.
        scopes: the names of the layers whose ``call`` Python runs.
        calling: the innermost of these layers.
        rows: the rows of the step, where their numbers are known.
    """

    training: bool | None = None
    observer: Any = None
    eager: bool = False
    calling: Any = None
    rows: NumberedRows | None = None

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
def numbered_rows(numbers: Any, generators: Iterable[Any]) -> Iterator[None]:
    """Says in the ``with`` block which rows of the data a step is given."""
    before, CONTEXT.rows = CONTEXT.rows, NumberedRows(numbers, generators)
    try:
        yield
    finally:
        CONTEXT.rows = before


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
