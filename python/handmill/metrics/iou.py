"""Intersection over union of predicted and true areas, from a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import config, ops
from handmill.arguments import whole_number
from handmill.errors import ShapeError, warn_caller
from handmill.ir.dims import as_none, same_shape
from handmill.metrics.confusion import total_of_segments
from handmill.metrics.metric import Metric
from handmill.primitives.operands import shape_of
from handmill.runtime.planned import planned


class IoU(Metric):
    """The intersection of predicted and true area over their union: the mean of some classes.

    Class numbers out of range are left out.

    Args:
        num_classes: how many classes there are.
        target_class_ids: the classes whose mean is taken, as far as they have appeared.
        name: default: the class name in snake case.
        dtype: the dtype of the counts. Default: ``"int"``, which cuts weights to whole numbers.
        ignore_class: a class number whose samples do not count.
        sparse_y_true: whether targets are class numbers; else one-hot rows.
        sparse_y_pred: whether predictions are class numbers; else a number for each class.
        axis: the axis of the classes, where there is one.

    Raises:
        ValueError: for ``target_class_ids`` out of range.

    Example:
        >>> m = IoU(num_classes=2, target_class_ids=[0])
        >>> m.update_state([0, 0, 1, 1], [0, 1, 0, 1])
        >>> round(float(m.result()), 4)
        0.3333
    """

    _direction = "up"

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(name=name, dtype="int32" if dtype in (None, "int") else dtype)
        num_classes = whole_number("`num_classes`", num_classes, least=1)
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        self.sparse_y_true = sparse_y_true
        self.sparse_y_pred = sparse_y_pred
        self.axis = axis
        self._whole = "int" in self.dtype
        self.total_cm = self.add_variable(
            (num_classes, num_classes),
            dtype="int64" if self._whole else "float64",
            name="total_confusion_matrix",
        )
        # After the matrix, which is refused where memory does not hold it: they may be all classes.
        if isinstance(target_class_ids, str) or not len(target_class_ids):
            raise ValueError(
                "`target_class_ids` must be a list of one class number or more. Received: "
                f"{target_class_ids!r}"
            )
        for number in target_class_ids:
            whole_number("an entry of `target_class_ids`", number)
        if min(target_class_ids) < 0 or max(target_class_ids) >= num_classes:
            wrong = min(target_class_ids) if min(target_class_ids) < 0 else max(target_class_ids)
            raise ValueError(
                f"Target class id {wrong} is out of range, which is [0, {num_classes})."
            )
        self.target_class_ids = list(target_class_ids)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account."""
        y_true = self._class_numbers(y_true, self.sparse_y_true)
        y_pred = self._class_numbers(y_pred, self.sparse_y_pred)
        if not same_shape(shape_of(y_true), shape_of(y_pred)):
            raise ShapeError(
                f"targets and predictions of {as_none(shape_of(y_true))[0]} and "
                f"{as_none(shape_of(y_pred))[0]} elements do not fit"
            )
        weights = None
        if sample_weight is not None:
            weights = ops.convert_to_tensor(sample_weight)
            if self._whole and ops.dtype(weights).startswith(("float", "bf")):
                warn_caller(
                    "You are passing weight as `float`, but dtype is `int`. This may result in an "
                    "incorrect weight due to type casting Consider using integer weights.",
                )
                weights = ops.trunc(weights)
            weights = ops.cast(weights, "float32")
            if len(shape_of(weights)) > 1:
                weights = ops.reshape(weights, (-1,))
            weights = ops.broadcast_to(weights, shape_of(y_true))
        counts = ops.logical_and(self._is_class(y_true), self._is_class(y_pred))
        if self.ignore_class is not None:
            counts = ops.logical_and(counts, ops.not_equal(y_true, self.ignore_class))
        cells = ops.add(ops.multiply(y_true, self.num_classes), y_pred)
        found = total_of_segments(ops.where(counts, cells, -1), weights, self.num_classes**2)
        found = ops.reshape(found, (self.num_classes, self.num_classes))
        self.total_cm.assign(ops.add(self.total_cm, ops.cast(found, self.total_cm.dtype)))

    def _class_numbers(self, y: Any, sparse: bool) -> Any:
        y = ops.convert_to_tensor(y)
        y = y if sparse else ops.argmax(y, axis=self.axis)
        return ops.reshape(ops.cast(y, "int32"), (-1,))

    def _is_class(self, numbers: Any) -> Any:
        return ops.logical_and(
            ops.greater_equal(numbers, 0), ops.less(numbers, int(self.num_classes))
        )

    def result(self) -> Any:
        """Returns the mean so far, 0 if none of the classes has appeared."""
        classes = np.asarray(self.target_class_ids, np.int32)
        return _mean_share(self.total_cm.value, classes, np.asarray(config.epsilon(), np.float32))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "target_class_ids": self.target_class_ids,
            "ignore_class": self.ignore_class,
            "sparse_y_true": self.sparse_y_true,
            "sparse_y_pred": self.sparse_y_pred,
            "axis": self.axis,
        }


@planned
def _mean_share(matrix: Any, classes: Any, least: Any) -> Any:
    """The mean over ``classes`` of hits over all that is or is called the class.

    ``least`` is added to what is divided by.
    """
    matrix = ops.cast(matrix, "float64")
    hits = ops.diag(matrix)
    union = ops.subtract(ops.add(ops.sum(matrix, axis=0), ops.sum(matrix, axis=1)), hits)
    hits, union = (ops.cast(ops.take(v, classes), "float32") for v in (hits, union))
    seen = ops.cast(ops.greater(union, 1e-9), "float32")
    shares = ops.multiply(ops.divide(hits, ops.add(union, least)), seen)
    return ops.divide(ops.sum(shares), ops.add(ops.sum(seen), least))


class BinaryIoU(IoU):
    """Intersection over union of yes-or-no predictions.

    Args:
        target_class_ids: the classes whose mean is taken: 0, 1 or both.
        threshold: predictions of at least this are 1.
        name: default: the class name in snake case.
        dtype: the dtype of the counts. Default: ``"int"``, which cuts weights to whole numbers.
    """

    def __init__(
        self,
        target_class_ids: Sequence[int] = (0, 1),
        threshold: float = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account."""
        y_pred = ops.cast(ops.convert_to_tensor(y_pred), "float32")
        guessed = ops.greater_equal(y_pred, float(self.threshold))
        super().update_state(y_true, guessed, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **Metric.get_config(self),
            "target_class_ids": self.target_class_ids,
            "threshold": self.threshold,
        }


class MeanIoU(IoU):
    """The mean over all classes that have appeared of intersection over union.

    Args:
        num_classes: how many classes there are.
        name: default: the class name in snake case.
        dtype: the dtype of the counts. Default: ``"int"``, which cuts weights to whole numbers.
        ignore_class: a class number whose samples do not count.
        sparse_y_true: whether targets are class numbers; else one-hot rows.
        sparse_y_pred: whether predictions are class numbers; else a number for each class.
        axis: the axis of the classes, where there is one.
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(
            num_classes,
            range(whole_number("`num_classes`", num_classes, least=1)),
            name,
            dtype,
            ignore_class,
            sparse_y_true,
            sparse_y_pred,
            axis,
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        del config["target_class_ids"]
        return config


class OneHotIoU(IoU):
    """Intersection over union for one-hot targets: the mean of some classes.

    Args:
        num_classes: how many classes there are.
        target_class_ids: the classes whose mean is taken, as far as they have appeared.
        name: default: the class name in snake case.
        dtype: the dtype of the counts. Default: ``"int"``, which cuts weights to whole numbers.
        ignore_class: a class number whose samples do not count.
        sparse_y_pred: whether predictions are class numbers; else a number for each class.
        axis: the axis of the classes.
    """

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(
            num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        del config["sparse_y_true"]
        return config


class OneHotMeanIoU(MeanIoU):
    """The mean over all classes of intersection over union, for one-hot targets.

    Args:
        num_classes: how many classes there are.
        name: default: the class name in snake case.
        dtype: the dtype of the counts. Default: ``"int"``, which cuts weights to whole numbers.
        ignore_class: a class number whose samples do not count.
        sparse_y_pred: whether predictions are class numbers; else a number for each class.
        axis: the axis of the classes.
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        del config["sparse_y_true"]
        return config
