"""What is diagnosed: a copy of the model, its data as arrays, how it was trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import tree
from handmill.ir.op import Array
from handmill.models.layout import as_data
from handmill.strategy.task import Task, task_of

FEWEST_VALIDATION_ROWS = 50
_PREDICTED_AT_ONCE = 1024


@dataclass(frozen=True)
class Rows:
    """Rows of data.

    Attributes:
        x: inputs, nested arrays.
        y: targets, one array.
    """

    x: Any
    y: Array

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Any) -> Rows:
        """Some of the rows, by their numbers."""
        return Rows(
            tree.map_structure(lambda a: np.ascontiguousarray(a[rows]), self.x), self.y[rows]
        )

    def spread(self, count: int) -> Rows:
        """At most so many rows, at equal distances."""
        if len(self) <= count:
            return self
        return self.take(np.linspace(0, len(self) - 1, count).astype(np.int64))


@dataclass(frozen=True)
class Case:
    """What is diagnosed.

    Attributes:
        model: a copy of the model, or the model itself where it cannot be copied; only read.
        train: training rows.
        validation: validation rows, None without.
        task: what the model is for.
        epochs: of its training; 0 if it was not trained.
        batch_size: of its training.
    """

    model: Any
    train: Rows
    validation: Rows | None
    task: Task
    epochs: int
    batch_size: int

    def predictions(self, rows: Rows) -> Array:
        """What the model gives for rows, in inference mode."""
        return predict(self.model, rows)


def predict(model: Any, rows: Rows) -> Array:
    """What ``model`` gives for rows, in inference mode."""
    return np.asarray(model.predict(rows.x, batch_size=_PREDICTED_AT_ONCE, verbose=0))


def rows_of(name: str, x: Any, y: Any) -> Rows:
    """Checks data and returns them as arrays.

    Args:
        name: of the argument, for errors.
        x: inputs.
        y: targets.

    Raises:
        TypeError: for what is no array or nested arrays.
        ValueError: for no rows, or lengths that differ.
    """
    if y is None:
        raise ValueError(f"{name}: expected inputs and targets, received no targets")
    inputs = tree.map_structure(lambda a: _array(name, a), x)
    targets = _array(name, y)
    for array in tree.flatten(inputs):
        if not array.ndim or len(array) != len(targets):
            raise ValueError(
                f"{name}: inputs and targets must have equally many rows. Received: x of shape "
                f"{array.shape}, y of shape {targets.shape}"
            )
    if not len(targets):
        raise ValueError(f"{name}: expected at least one row, received none")
    return Rows(inputs, targets)


def _array(name: str, given: Any) -> Array:
    if isinstance(given, Iterator) or not (
        hasattr(given, "__array__") or hasattr(given, "__len__")
    ):
        raise TypeError(
            f"{name}: expected arrays, received {type(given).__name__}; all rows are needed at "
            "once. For a Dataset or generator, join a few thousand rows into arrays"
        )
    return np.asarray(as_data(given, name))


def not_finite(rows: Rows, name: str) -> str | None:
    """Says where the first number is that is not finite; None if there is none."""
    for label, array in [*(("x", a) for a in tree.flatten(rows.x)), ("y", rows.y)]:
        if array.dtype.kind != "f" or np.isfinite(array).all():
            continue
        flat = array.reshape(len(array), -1)
        row = int(np.argmin(np.isfinite(flat).all(1)))
        column = int(np.argmin(np.isfinite(flat[row])))
        kind = "NaN" if np.isnan(flat[row, column]) else "infinite"
        where = f"row {row}, column {column}" if array.ndim > 1 else f"row {row}"
        return f"{name} {label} is {kind} at {where}"
    return None


def case_of(
    given: Any, copy: Any, train: Rows, validation: Rows | None, epochs: Any, batch_size: Any
) -> Case:
    """Looks at how a model was trained, and what for.

    Args:
        given: the model, for its history.
        copy: its copy, or the model itself.
        train: training rows.
        validation: validation rows.
        epochs: of the training, None to read it from the history or the optimizer.
        batch_size: of the training, None to read it from the history.
    """
    some = train.take(np.arange(min(len(train), 2)))
    outputs = copy.predict(some.x, verbose=0)
    if tree.is_nested(outputs) or len(tree.flatten(given.objective.loss)) != 1:
        raise ValueError(
            f"expected a model of one output and one loss; {given.name!r} has "
            f"{len(tree.flatten(outputs))} outputs and {len(tree.flatten(given.objective.loss))} "
            "losses. Diagnose a model of one of its outputs: Model(inputs, output)"
        )
    task = task_of(given.objective.loss, some.y, outputs)
    history = given.history
    steps = None if history is None else history.params.get("steps")
    if batch_size is None:
        batch_size = _batch_size(len(train), steps)
    if epochs is None:
        per_epoch = -(-len(train) // batch_size)
        made = 0 if given.optimizer is None else int(np.asarray(given.optimizer.iterations))
        shown = 0 if history is None else len(history.epoch)
        epochs = shown or -(-made // per_epoch)
    return Case(copy, train, validation, task, int(epochs), int(batch_size))


def _batch_size(rows: int, steps: Any) -> int:
    """The batch size of an epoch of so many steps: 32 or another power of two, if one fits."""
    if not isinstance(steps, int) or steps < 1:
        return min(32, rows)
    for size in (32, 64, 128, 256, 512, 1024, 16, 8, 4, 2, 1):
        if -(-rows // size) == steps:
            return size
    return -(-rows // steps)
