"""Losses between probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import config, ops
from handmill.arguments import real_number
from handmill.errors import warn_caller
from handmill.ir.dims import same
from handmill.ir.shapes import FLOATS
from handmill.ir.trace import mask_of
from handmill.losses.loss import (
    LossFunctionWrapper,
    _shown,
    as_float,
    fixed_size,
    pair,
)
from handmill.primitives.operands import shape_of

IGNORED = -100
"""The class number of what weighs nothing, as other libraries write it."""


def kl_divergence(y_true: Any, y_pred: Any) -> Any:
    """Sum of ``y_true * log(y_true / y_pred)`` along the last axis, both clipped to [1e-7, 1]."""
    y_true, y_pred = pair(y_true, y_pred)
    y_true = ops.clip(y_true, config.epsilon(), 1.0)
    y_pred = ops.clip(y_pred, config.epsilon(), 1.0)
    return ops.sum(ops.multiply(y_true, ops.log(ops.divide(y_true, y_pred))), axis=-1)


def poisson(y_true: Any, y_pred: Any) -> Any:
    """Mean of ``y_pred - y_true * log(y_pred + 1e-7)`` along the last axis.

    Args:
        y_true: counts.
        y_pred: expected counts, not negative.

    Example:
        >>> poisson([[1.0, 0.0]], [[1.0, 2.0]])
        array([1.5], dtype=float32)
    """
    y_true, y_pred = pair(y_true, y_pred)
    logs = ops.log(ops.add(y_pred, config.epsilon()))
    return ops.mean(ops.subtract(y_pred, ops.multiply(y_true, logs)), axis=-1)


def binary_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """Cross-entropy of yes-or-no targets, averaged along ``axis``.

    Args:
        y_true: 0 or 1.
        y_pred: probabilities, or logits.
        from_logits: whether ``y_pred`` are logits.
        label_smoothing: how far targets are moved towards 0.5.
        axis: the axis of the mean.
    """
    y_true, y_pred = binary_pair(y_true, y_pred, label_smoothing)
    return ops.mean(ops.binary_crossentropy(y_true, y_pred, from_logits=from_logits), axis=axis)


def categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """Cross-entropy of targets given as probabilities (one-hot rows).

    Args:
        y_true: one row of probabilities a sample.
        y_pred: probabilities, or logits.
        from_logits: whether ``y_pred`` are logits.
        label_smoothing: how far targets are moved towards the uniform distribution.
        axis: the axis of the classes.
    """
    y_true, y_pred = categorical_pair(
        "categorical_crossentropy", y_true, y_pred, label_smoothing, axis
    )
    return ops.categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)


def binary_pair(y_true: Any, y_pred: Any, label_smoothing: float) -> tuple[Any, Any]:
    """Returns yes-or-no targets, smoothed, and predictions of one dtype and rank."""
    y_true, y_pred = pair(y_true, y_pred)
    if label_smoothing:
        y_true = ops.add(ops.multiply(y_true, 1.0 - label_smoothing), 0.5 * label_smoothing)
    return y_true, y_pred


def categorical_pair(
    name: str, y_true: Any, y_pred: Any, label_smoothing: float, axis: int
) -> tuple[Any, Any]:
    """Returns rows of probabilities, smoothed, and predictions of one dtype.

    Args:
        name: of the loss, for warnings.
        y_true: one row of probabilities a sample.
        y_pred: predictions.
        label_smoothing: how far targets are moved towards the uniform distribution.
        axis: the axis of the classes, checked here.
    """
    _check_axis(axis)
    y_pred = as_float(y_pred)
    y_true = ops.cast(ops.convert_to_tensor(y_true), ops.dtype(y_pred))
    shape = shape_of(y_pred)
    if shape and shape[-1] == 1:
        warn_caller(
            f"In loss {name}, expected y_pred.shape to be (batch_size, "
            f"num_classes) with num_classes > 1. Received: y_pred.shape={_shown(shape)}. "
            "Consider using 'binary_crossentropy' if you only have 2 classes.",
            SyntaxWarning,
        )
    if label_smoothing:
        classes = fixed_size(y_true, -1)
        y_true = ops.add(ops.multiply(y_true, 1.0 - label_smoothing), label_smoothing / classes)
    return y_true, y_pred


def sparse_categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
    label_smoothing: float = 0.0,
) -> Any:
    """Cross-entropy of targets given as class numbers.

    Args:
        y_true: one class number a sample.
        y_pred: probabilities, or logits, of each class.
        from_logits: whether ``y_pred`` are logits.
        ignore_class: a class number whose samples do not count.
        axis: the axis of the classes.
        label_smoothing: how far targets are moved towards the uniform distribution, as in
            :func:`categorical_crossentropy`. Keras has it for one-hot rows only.

    Raises:
        ValueError: for a ``label_smoothing`` outside of 0 to 1.
    """
    smoothing = _checked_smoothing(label_smoothing)
    return sparse_values(y_true, y_pred, from_logits, ignore_class, axis, smoothing)[0]


def _checked_smoothing(given: Any) -> float:
    smoothing = real_number("`label_smoothing`", given)
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(
            f"`label_smoothing` must be from 0 to 1. Received: label_smoothing={given}"
        )
    return smoothing


def sparse_values(
    y_true: Any,
    y_pred: Any,
    from_logits: bool,
    ignore_class: int | None,
    axis: int,
    label_smoothing: float = 0.0,
) -> tuple[Any, Any]:
    """Returns the loss of each sample, and which samples count (None: all)."""
    _check_axis(axis)
    y_pred, y_true = as_float(y_pred), ops.convert_to_tensor(y_true)
    labels, scores = shape_of(y_true), shape_of(y_pred)
    if len(labels) == len(scores) and labels and labels[axis] == 1:
        position = axis % len(labels)
        y_true = ops.reshape(y_true, (*labels[:position], *labels[position + 1 :]))
        labels = shape_of(y_true)
    if len(labels) != len(scores) - 1:
        raise ValueError(
            "Arguments `target` and `output` must have the same shape up until the last "
            f"dimension: target.shape={_shown(labels)}, output.shape={_shown(scores)}"
            + _one_hot_hint(labels, scores)
        )
    counts = None
    if ignore_class is not None:
        counts = ops.not_equal(y_true, ops.cast(np.asarray(ignore_class), ops.dtype(y_true)))
        y_true = ops.where(counts, y_true, ops.zeros_like(y_true))
    loss = ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)
    if label_smoothing:  # the loss is linear in its targets
        uniform = ops.full_like(y_pred, 1.0 / scores[axis])
        rest = ops.categorical_crossentropy(uniform, y_pred, from_logits=from_logits, axis=axis)
        loss = ops.add(
            ops.multiply(loss, 1.0 - label_smoothing), ops.multiply(rest, label_smoothing)
        )
    if counts is not None:
        loss = ops.where(counts, loss, ops.zeros_like(loss))
    return loss, counts


def without_ignored(y_true: Any, sample_weight: Any, mask: Any) -> Any:
    """Class numbers, of which -100 is replaced by 0 where it weighs nothing.

    So other libraries mark the tokens that do not count. Where -100 has a weight it stays, and is
    refused as what it is: no class.

    Args:
        y_true: class numbers.
        sample_weight: a factor for each, or for each row; or None.
        mask: which of them count, or None.
    """
    y_true = ops.convert_to_tensor(y_true)
    if ops.dtype(y_true) not in ("int8", "int32", "int64", *FLOATS):
        return y_true
    for weights in (sample_weight, mask):
        if weights is None:
            continue
        weights = ops.convert_to_tensor(weights)
        own, shape = shape_of(y_true), shape_of(weights)
        if len(shape) == len(own) + 1 and shape[-1] == 1:
            shape = shape[:-1]
        shape = (*shape, *[1] * (len(own) - len(shape)))
        if len(shape) != len(own) or any(
            n != 1 and not same(n, wanted) for n, wanted in zip(shape, own, strict=True)
        ):
            continue  # what does not fit is refused where losses are weighed
        if len(shape) != len(shape_of(weights)):
            weights = ops.reshape(weights, shape)
        nothing = ops.equal(ops.cast(weights, "float32"), 0.0)
        ignored = ops.logical_and(nothing, ops.equal(y_true, IGNORED))
        y_true = ops.where(ignored, 0, y_true)
    return y_true


def _one_hot_hint(labels: Any, scores: Any) -> str:
    if labels and len(labels) == len(scores) and labels[-1] == scores[-1]:
        return (
            "\n  hint: for one-hot labels write loss='categorical_crossentropy', or give class "
            "numbers (class_mode='sparse')"
        )
    if len(scores) > len(labels) + 1:
        return (
            "\n  hint: the output has more axes than one row of classes for each label; is a "
            "Flatten() missing before the last layers?"
        )
    return ""


def _check_axis(axis: Any) -> None:
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise ValueError(f"`axis` must be of type `int`. Received: axis={axis} of {type(axis)}")


class KLDivergence(LossFunctionWrapper):
    """Kullback-Leibler divergence of the prediction from the target.

    Args:
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "kl_divergence",
        dtype: Any = None,
    ) -> None:
        super().__init__(kl_divergence, reduction, name, dtype)


class Poisson(LossFunctionWrapper):
    """Mean of ``y_pred - y_true * log(y_pred)``: minus the log-likelihood of counts.

    Args:
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "poisson",
        dtype: Any = None,
    ) -> None:
        super().__init__(poisson, reduction, name, dtype)


class BinaryCrossentropy(LossFunctionWrapper):
    """Cross-entropy of yes-or-no targets.

    Args:
        from_logits: whether predictions are logits.
        label_smoothing: how far targets are moved towards 0.5.
        axis: the axis of the mean.
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            binary_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalCrossentropy(LossFunctionWrapper):
    """Cross-entropy of targets given as probabilities (one-hot rows).

    Args:
        from_logits: whether predictions are logits.
        label_smoothing: how far targets are moved towards the uniform distribution.
        axis: the axis of the classes.
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class SparseCategoricalCrossentropy(LossFunctionWrapper):
    """Cross-entropy of targets given as class numbers.

    Args:
        from_logits: whether predictions are logits.
        ignore_class: a class number whose samples do not count.
        reduction: see :class:`Loss`.
        axis: the axis of the classes.
        name: the loss's name.
        dtype: see :class:`Loss`.
        label_smoothing: from 0 to 1, how far targets are moved towards the uniform distribution,
            as in :class:`CategoricalCrossentropy`. Keras has it for one-hot rows only.

    A target of -100 may stand where its weight is 0 or its mask is False; elsewhere it is refused,
    as every other number that is no class.

    Raises:
        ValueError: for a ``label_smoothing`` outside of 0 to 1.

    Example:
        >>> from handmill.losses import SparseCategoricalCrossentropy
        >>> loss = SparseCategoricalCrossentropy(label_smoothing=0.2)
        >>> round(float(loss([0], [[0.75, 0.25]])), 4)
        0.3975
    """

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            sparse_categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=ignore_class,
            axis=axis,
            label_smoothing=_checked_smoothing(label_smoothing),
        )

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the reduced loss; ignored samples do not count in a mean."""
        mask = mask_of(y_pred)
        y_true = without_ignored(y_true, sample_weight, mask)
        if self._fn_kwargs["ignore_class"] is None:
            return super().__call__(y_true, y_pred, sample_weight)
        y_true, y_pred = self._operand(y_true), self._operand(y_pred)
        values, counts = sparse_values(y_true, y_pred, **self._fn_kwargs)
        mask = counts if mask is None else ops.logical_and(mask, counts)
        return self.reduce(values, sample_weight, mask)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        if config["axis"] == -1:
            del config["axis"]
        if not config["label_smoothing"]:
            del config["label_smoothing"]  # Keras's class has no such argument
        return config
