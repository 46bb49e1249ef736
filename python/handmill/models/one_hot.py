"""One-hot labels given to SparseCategoricalCrossentropy."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.errors import KerasDifferenceWarning, warn_caller
from handmill.ir.op import Array
from handmill.losses.loss import LossFunctionWrapper
from handmill.losses.probabilistic import CategoricalCrossentropy
from handmill.models.layout import as_data

_FIRST = 32  # rows; where one of them is not one-hot, one-hot rows are not meant


def may_be_one_hot(y: Any) -> bool:
    """Whether the shape and the first rows of targets are those of one-hot labels."""
    if getattr(y, "ndim", 0) < 2 or y.shape[-1] <= 1:
        return False
    rows = as_data(y[:_FIRST], "y").reshape(-1, y.shape[-1])
    return not _is_wrong(rows[:_FIRST]).any()


def _is_wrong(rows: Array) -> Array:
    """Which rows are not one-hot."""
    wrong: Array = ((rows != 0) & (rows != 1)).any(axis=-1) | ((rows != 0).sum(axis=-1) != 1)
    return wrong


class OneHotLabels:
    """Decides once for a model whether its labels are one-hot rows.

    Keras refuses one-hot labels with the sparse loss; every Keras 2 tutorial that combines
    ``class_mode="categorical"`` with it fails. Here the first batch decides: if targets have the
    shape of predictions and every row is one-hot, the categorical loss is meant.

    Attributes:
        pinned: whether it is decided that labels are one-hot.
    """

    def __init__(self) -> None:
        self.pinned = False
        self._candidate = False
        self._declared = False
        self._mixed = ""  # what is wrong if labels are meant to be one-hot
        self._ruled_out = False
        self._shape: tuple[int, ...] = ()

    def declare(self, source: Any) -> None:
        """Notes that an iterator says of itself that its labels are one-hot."""
        if getattr(source, "class_mode", None) == "categorical":
            self._declared = self._candidate = True

    def check(self, y: Any) -> Any:
        """Looks at the targets of a batch, or of a whole data set.

        Returns:
            The targets, as an array if they were one.

        Raises:
            ValueError: if labels were one-hot so far and a row is not; the message names it.
        """
        if self._declared or self._ruled_out or not hasattr(y, "ndim"):
            return y
        if y.ndim < 2 or y.shape[-1] <= 1 or not len(y):
            return y
        rows = as_data(y, "y").reshape(-1, y.shape[-1])
        wrong = _is_wrong(rows)
        if not wrong.any():
            self._candidate = True
            self._shape = y.shape
            return y
        index = int(np.argmax(wrong))
        if self.pinned or self._candidate or index >= _FIRST:
            self._mixed = (
                f"labels were one-hot rows so far, but row {index} is not: {rows[index]}. "
                "Use class numbers (class_mode='sparse'), or mend the row."
            )
        if self.pinned:
            raise ValueError(self._mixed)
        return y

    def settle(self, target_shape: Any, prediction_shape: Any, loss: Any) -> Any:
        """Returns the loss that is meant, given the shapes.

        Args:
            target_shape: the shape of the targets.
            prediction_shape: the shape of the predictions.
            loss: the sparse loss.

        Raises:
            ValueError: if the first labels were one-hot and one of the others is not.
        """
        fits = (
            len(target_shape) >= 2
            and tuple(target_shape) == tuple(prediction_shape)
            and target_shape[-1] != 1
        )
        if not fits:
            self._ruled_out = True  # numbers of classes that only look like one-hot rows
        if fits and self._mixed:
            raise ValueError(self._mixed)
        if not (self._candidate and fits):
            return loss
        self.pinned = True
        shown: tuple[Any, ...] = self._shape or ("batch", *target_shape[1:])
        warn_caller(
            "SparseCategoricalCrossentropy received one-hot labels of shape "
            f"({', '.join(map(str, shown))}); using CategoricalCrossentropy. Write "
            "loss='categorical_crossentropy' or class_mode='sparse'.",
            KerasDifferenceWarning,
        )
        arguments: dict[str, Any] = {}
        if isinstance(loss, LossFunctionWrapper):
            kept = {k: v for k, v in loss._fn_kwargs.items() if k in ("from_logits", "axis")}
            arguments = {**kept, "reduction": loss.reduction}
        return CategoricalCrossentropy(**arguments)
