"""Metrics that count hits."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.arguments import real_number, whole_number
from handmill.losses.loss import fixed_size, same_rank
from handmill.metrics.reduction import MeanMetricWrapper
from handmill.primitives.metrics import dense_match, sparse_match
from handmill.primitives.operands import shape_of


def accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where targets equal predictions, else 0."""
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.cast(ops.convert_to_tensor(y_true), ops.dtype(y_pred))
    return ops.cast(ops.equal(*same_rank(y_true, y_pred)), "float32")


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Any:
    """1 where ``y_pred > threshold`` is right, else 0."""
    y_true, y_pred = same_rank(ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred))
    guessed = ops.cast(ops.greater(y_pred, float(threshold)), "float32")
    return ops.cast(ops.equal(ops.cast(y_true, "float32"), guessed), "float32")


def categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where the largest entries of targets and predictions are at the same place, else 0."""
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    if len(shape_of(y_true)) != len(shape_of(y_pred)):
        y_true, y_pred = same_rank(y_true, y_pred)
    return dense_match(y_true, y_pred)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where the largest entry of the prediction is at the target's place, else 0."""
    y_pred = ops.convert_to_tensor(y_pred)
    labels = _labels(y_true, y_pred)
    own, wanted = shape_of(labels), shape_of(y_pred)[:-1]
    if len(own) == len(wanted) and any(
        (a == 1) != (b == 1) for a, b in zip(own, wanted, strict=True)
    ):
        # A label for each sample, say, and predictions for each of its steps.
        guessed = ops.argmax(y_pred, axis=-1)
        return ops.cast(ops.equal(ops.cast(labels, ops.dtype(guessed)), guessed), "float32")
    return sparse_match(labels, y_pred)


def _labels(y_true: Any, y_pred: Any) -> Any:
    """Class numbers without a last axis of size 1."""
    y_true = ops.convert_to_tensor(y_true)
    shape = shape_of(y_true)
    if shape and len(shape) == len(shape_of(y_pred)) and shape[-1] == 1:
        return ops.reshape(y_true, shape[:-1])
    return y_true


def sparse_top_k_categorical_accuracy(
    y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False
) -> Any:
    """1 where fewer than ``k`` entries of the prediction exceed the target's entry, else 0.

    Args:
        y_true: class numbers.
        y_pred: a number for each class; with ``from_sorted_ids`` class numbers, the most likely
            first.
        k: how many.
        from_sorted_ids: see there.
    """
    if from_sorted_ids:
        y_pred = ops.convert_to_tensor(y_pred)
        labels = ops.cast(_labels(y_true, y_pred), ops.dtype(y_pred))
        hits = ops.equal(ops.expand_dims(labels, -1), y_pred[..., :k])
        return ops.cast(ops.any(hits, axis=-1), "float32")
    y_pred = ops.cast(ops.convert_to_tensor(y_pred), "float32")
    labels = ops.cast(_labels(y_true, y_pred), "int32")
    chosen = ops.one_hot(labels, fixed_size(y_pred, -1))
    return _in_top(chosen, y_pred, k)


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Any:
    """As the sparse form, for one-hot targets."""
    y_pred = ops.cast(ops.convert_to_tensor(y_pred), "float32")
    return sparse_top_k_categorical_accuracy(ops.argmax(y_true, axis=-1), y_pred, k)


def _in_top(chosen: Any, y_pred: Any, k: int) -> Any:
    own = ops.sum(ops.multiply(chosen, y_pred), axis=-1, keepdims=True)
    larger = ops.sum(ops.cast(ops.greater(y_pred, own), "float32"), axis=-1)
    return ops.cast(ops.less(larger, float(k)), "float32")


class Accuracy(MeanMetricWrapper):
    """How often predictions equal targets.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    def __init__(self, name: str = "accuracy", dtype: Any = None) -> None:
        super().__init__(accuracy, name, dtype)


class BinaryAccuracy(MeanMetricWrapper):
    """How often predictions above a threshold are right.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
        threshold: predictions above it mean 1.
    """

    def __init__(
        self, name: str = "binary_accuracy", dtype: Any = None, threshold: float = 0.5
    ) -> None:
        real_number("`threshold`", threshold)
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)


class CategoricalAccuracy(MeanMetricWrapper):
    """How often the most likely class is right, for one-hot targets.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    def __init__(self, name: str = "categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(categorical_accuracy, name, dtype)


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """How often the most likely class is right, for class numbers.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.

    Example:
        >>> m = SparseCategoricalAccuracy()
        >>> m.update_state([1, 0], [[0.1, 0.9], [0.2, 0.8]])
        >>> float(m.result())
        0.5
    """

    def __init__(self, name: str = "sparse_categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(sparse_categorical_accuracy, name, dtype)


class TopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the right class is among the ``k`` most likely, for one-hot targets.

    Args:
        k: how many.
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    def __init__(
        self, k: int = 5, name: str = "top_k_categorical_accuracy", dtype: Any = None
    ) -> None:
        whole_number("`k`", k, least=0)
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the right class is among the ``k`` most likely, for class numbers.

    Args:
        k: how many.
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
        from_sorted_ids: whether predictions are class numbers, the most likely first.
    """

    def __init__(
        self,
        k: int = 5,
        name: str = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ) -> None:
        whole_number("`k`", k, least=0)
        super().__init__(
            sparse_top_k_categorical_accuracy, name, dtype, k=k, from_sorted_ids=from_sorted_ids
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        if not self.from_sorted_ids:
            del config["from_sorted_ids"]
        return config
