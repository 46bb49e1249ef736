"""What a model is trained for, read from its loss: classes or numbers, and a score for each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import losses, tree
from handmill.ir.op import Array
from handmill.losses.registry import resolve

_REGRESSIONS = (
    losses.mean_squared_error,
    losses.mean_absolute_error,
    losses.huber,
    losses.log_cosh,
)


@dataclass(frozen=True)
class Task:
    """What the predictions of a model mean.

    Attributes:
        kind: ``"classes"`` (one of several), ``"binary"``, ``"numbers"``, or ``"other"``, where
            only losses can be compared.
        classes: how many classes there are; 0 for numbers.
        threshold: of binary predictions.
        loss: the loss, whose ``call`` gives a number for each row.
    """

    kind: str
    classes: int
    threshold: float
    loss: Any

    @property
    def has_classes(self) -> bool:
        """Whether each row has a class."""
        return self.kind in ("classes", "binary")

    def labels(self, y: Array) -> Any:
        """The class number of each row, or the numbers as rows of float64."""
        if self.kind == "classes":
            return y.argmax(-1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1).astype("i8")
        if self.kind == "binary":
            return (y.reshape(-1) > 0.5).astype("i8")
        return y.reshape(len(y), -1).astype(np.float64)

    def predicted(self, predictions: Array) -> Any:
        """What predictions say, in the form of :meth:`labels`."""
        if self.kind == "classes":
            return predictions.argmax(-1)
        if self.kind == "binary":
            return (predictions.reshape(-1) > self.threshold).astype("i8")
        return predictions.reshape(len(predictions), -1).astype(np.float64)

    def errors(self, y: Array, predictions: Array) -> Array:
        """The error of each row: 0 or 1 for classes, the mean square for numbers."""
        labels, predicted = self.labels(y), self.predicted(predictions)
        if self.has_classes:
            wrong: Array = (labels != predicted).astype(np.float64)
            return wrong
        squares: Array = np.square(labels - predicted).mean(-1)
        return squares

    def row_losses(self, y: Array, predictions: Array) -> Array:
        """The loss of each row, float64, without penalties of weights."""
        y_true, y_pred = self.loss._operand(y), self.loss._operand(predictions)
        if {y_true.ndim, y_pred.ndim} == {1, 2} and y_pred.size == y_true.size:
            y_true, y_pred = y_true.reshape(len(y), -1), y_pred.reshape(len(y), -1)
        values = np.asarray(self.loss.call(y_true, y_pred), np.float64)
        means: Array = values.reshape(len(y), -1).mean(-1)
        return means


def task_of(loss: Any, y: Array, predictions: Array) -> Task:
    """Reads the task of a model of one output and one loss.

    Args:
        loss: as ``compile`` was given it.
        y: targets of some rows.
        predictions: what the model gives for them.
    """
    loss = tree.flatten(loss)[0]
    loss = resolve(loss, y.shape, predictions.shape)
    function = getattr(loss, "fn", None)
    logits = bool(getattr(loss, "_fn_kwargs", {}).get("from_logits", False))
    threshold = 0.0 if logits else 0.5
    plain = predictions.ndim == 2
    width = predictions.shape[-1]
    if function is losses.sparse_categorical_crossentropy and plain and y.size == len(y):
        return Task("classes", width, threshold, loss)
    if function is losses.categorical_crossentropy and plain and y.shape == predictions.shape:
        return Task("classes", width, threshold, loss)
    if function is losses.binary_crossentropy and predictions.size == len(predictions) == y.size:
        return Task("binary", 2, threshold, loss)
    if function in _REGRESSIONS and y.size == predictions.size:
        return Task("numbers", 0, threshold, loss)
    return Task("other", 0, threshold, loss)
