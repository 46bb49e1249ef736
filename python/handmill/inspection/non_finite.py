"""Where the first number that is not finite came from: operator, layer and row.

The steps of an epoch are repeated from the state in which it began, in the same order of rows, up
to the step whose loss was not finite. That step is looked at operator by operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import random
from handmill.inspection.values import Inspected, inspect
from handmill.ir.op import Array

_STRIDE = 64
"""Steps that are repeated at a time, until the weights are not finite after them."""


class Snapshot:
    """What the steps to come depend on: weights, optimizer, seeds.

    Args:
        model: a built model, whose optimizer is built.
    """

    def __init__(self, model: Any) -> None:
        held = [*model.variables, *(model.optimizer.variables if model.optimizer else ())]
        self._content = [(v, v.state.copy()) for v in held]
        # The memory of a state never moves.
        self._pairs = [(content, v.state.view()) for v, content in self._content]
        self._random = random.state()

    def take_again(self) -> None:
        """Takes the state as it is now, in microseconds."""
        for content, now in self._pairs:
            np.copyto(content, now)
        self._random = random.state()

    def restore(self) -> None:
        """Writes it back."""
        for variable, content in self._content:
            variable.state.write(content)
        random.restore_state(self._random)


def trace_non_finite(model: Any, step: Any, data: Any, before: Snapshot, number: int) -> str | None:
    """Says which operator first gave what is not finite, and for which row.

    The model is left as it was.

    Args:
        model: the model.
        step: its training step, without a monitor.
        data: arrays (ArrayData) whose pass is over.
        before: the state at the beginning of the pass.
        number: of the first step with a loss that is not finite, from 1.

    Returns:
        None where values and gradients of that step are finite: its update is the cause.
    """
    after, position = Snapshot(model), data.feed.position
    metrics = [(v, v.state.copy()) for m in model.metrics for v in m.variables]
    try:
        before.restore()
        data.feed.position = 0
        _go_to_cause(model, step, data, number)
        return _look(model, data)
    finally:
        after.restore()
        data.feed.position = position
        for variable, content in metrics:
            variable.state.write(content)


def _go_to_cause(model: Any, step: Any, data: Any, number: int) -> None:
    """Goes before the first step that leaves weights not finite, at the latest before ``number``.

    That step may be earlier than the loss tells: a ReLU makes 0 of NaN.
    """
    done = 0
    for most in (_STRIDE, 1):
        while done < number - 1:
            state, place = Snapshot(model), data.feed.position
            goal = min(done + most, number - 1)
            now = done
            while now < goal:
                now += data.next_portion(now).run(step.function, goal - now, _never)
            if not all(_is_finite(v.state.view()) for v in model.variables):
                state.restore()
                data.feed.position = place
                break
            done = now
        else:
            return


def _never() -> bool:
    return False


def _look(model: Any, data: Any) -> str | None:
    """What the next batch would give; the place in the data stays."""
    portion, start = data.next_portion(0), data.feed.position
    rows = data.feed.take(start, portion.size)[1]
    arrays = portion.take()
    data.feed.position = start
    x, y, weight = portion.layout.join(arrays)
    return first_not_finite(inspect(model, x, y, weight).values_in_order(), rows)


def first_not_finite(entries: Sequence[Inspected], rows: Sequence[int]) -> str | None:
    """Names the first value, in the order of computation, that is not finite.

    Values come before gradients; these are computed from the loss back.

    Args:
        entries: what a step computed, in order.
        rows: the number in the data of each row of the batch.
    """
    for entry in entries:
        if not _is_finite(entry.value):
            return _named(entry, entry.value, rows, "")
    for entry in reversed(entries):
        if entry.gradient is not None and not _is_finite(entry.gradient):
            return _named(entry, entry.gradient, rows, "the gradient by ")
    return None


def _named(entry: Inspected, numbers: Array, rows: Sequence[int], what: str) -> str:
    flat = np.asarray(numbers, np.float64).ravel()
    bad = int(np.argmin(np.isfinite(flat)))
    kind = "NaN" if np.isnan(flat[bad]) else "infinite"
    layer, _, operator = entry.name.rpartition("/")
    of = "the loss" if layer == "loss" else f"layer {layer!r}"
    names = {
        "operator": f"operator {operator!r} of {of}",
        "layer": f"the output of layer {entry.name!r}",
        "input": f"input {entry.name!r}",
        "weight": f"weight {entry.name!r}",
        "loss": "the loss",
    }
    where = ""
    if entry.kind != "weight" and numbers.ndim and len(numbers) == len(rows):
        where = f" for row {int(rows[bad // max(flat.size // len(rows), 1)])} of the data"
    return f"{what}{names[entry.kind]} was the first to be {kind}{where}"


def _is_finite(numbers: Array) -> bool:
    return numbers.dtype.kind not in "fV" or bool(np.isfinite(numbers.astype(np.float64)).all())
