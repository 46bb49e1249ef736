"""What ``fit`` looks at before it trains: validation data, and numbers that guards would refuse.

A step refuses a batch with a label out of range before it writes anything, but the steps before
have trained by then. Where all rows are there from the start, they are looked at from the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from handmill.errors import RowError
from handmill.ir.interpret import interpret
from handmill.ir.op import Array

_ELEMENTS = 1 << 20
"""Elements that are looked at a time: of large arrays, a part is converted and not the whole."""


def look(model: Any, data: Any, step: Any, portion: Any, validation: Any = None) -> None:
    """Raises what is wrong with data for ``fit`` as far as that can be seen before training.

    Args:
        model: the model.
        data: what it is trained on.
        step: the first step.
        portion: what comes first of the data.
        validation: what it is measured on between epochs, if anything.

    Raises:
        RowError: for a label or index out of range; the message names the row in the data.
        ValueError: for validation data that do not fit the model.
    """
    if step.function is None:  # Python runs each step
        return
    if validation is None and portion.is_all:  # the step itself looks before it writes
        return
    fitted = step.function.fitted(portion.like())
    look_at_rows(fitted.signature.trace, data)
    if validation is None:
        return
    with in_validation():
        found = validation.look()
        if found is None:
            return
        layout, arrays = found
        measuring = model._step_of("test")(layout)
        if measuring.function is not None:
            fitted = measuring.function.fitted(arrays)
            look_at_rows(fitted.signature.trace, validation)


@contextmanager
def in_validation() -> Iterator[None]:
    """Lets errors of the block say that they are about the validation data."""
    try:
        yield
    except ValueError as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (f"in the validation data: {error.args[0]}", *error.args[1:])
        raise


def look_at_rows(trace: Any, data: Any) -> None:
    """Raises a RowError for the first row that a guard of the program would refuse."""
    arrays = data.whole()
    guards = trace.guards
    if arrays is None or guards is None:
        return
    graph, places = guards
    chosen = [arrays[place] for place in places]
    if not all(isinstance(array, np.ndarray) for array in chosen):
        return  # sparse matrices
    try:
        _run(graph, chosen)
    except RowError:
        rows = data.rows_in_use()
        if rows is None:
            raise
        try:
            _run(graph, [array[rows] for array in chosen])
        except RowError as error:
            raise RowError(error.problem, int(rows[error.row])) from None


def _run(graph: Any, arrays: Sequence[Array]) -> None:
    rows = len(arrays[0])
    width = max(array.size for array in arrays) // max(rows, 1)
    size = max(_ELEMENTS // max(width, 1), 1)
    for start in range(0, rows, size):
        part = [array[start : start + size] for array in arrays] if rows > size else arrays
        try:
            if all(node.op.guard and node.inputs[0] in graph.inputs for node in graph.nodes):
                for node in graph.nodes:  # the usual case; the interpreter takes 40 us to begin
                    node.op.reference(part[graph.inputs.index(node.inputs[0])], **node.attrs)
            else:
                interpret(graph, part)
        except RowError as error:
            raise RowError(error.problem, start + error.row) from None
