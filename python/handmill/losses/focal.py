"""Cross-entropies that look less at what is already right, or at what may be labelled wrongly."""

from __future__ import annotations

from typing import Any

from handmill import config, ops
from handmill.losses.loss import LossFunctionWrapper, as_float, fixed_size
from handmill.losses.probabilistic import binary_pair, categorical_pair
from handmill.primitives.operands import shape_of


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """Cross-entropy of yes-or-no targets, times ``(1 - p) ** gamma``, averaged along ``axis``.

    ``p`` is the probability that the prediction gives to the target.

    Args:
        y_true: 0 or 1.
        y_pred: probabilities, or logits.
        apply_class_balancing: whether targets of 1 weigh ``alpha``, those of 0 ``1 - alpha``.
        alpha: see there.
        gamma: 0 is the plain cross-entropy.
        from_logits: whether ``y_pred`` are logits.
        label_smoothing: how far targets are moved towards 0.5.
        axis: the axis of the mean.

    Example:
        >>> binary_focal_crossentropy([[0.0, 1.0]], [[0.5, 0.5]], gamma=0.0).round(4)
        array([0.6931], dtype=float32)
    """
    y_true, y_pred = binary_pair(y_true, y_pred, label_smoothing)
    if from_logits:
        y_pred = ops.sigmoid(y_pred)
    entropy = ops.binary_crossentropy(y_true, y_pred)
    rest = ops.subtract(1.0, y_true)
    hit = ops.add(ops.multiply(y_true, y_pred), ops.multiply(rest, ops.subtract(1.0, y_pred)))
    values = ops.multiply(ops.power(ops.subtract(1.0, hit), gamma), entropy)
    if apply_class_balancing:
        weights = ops.add(ops.multiply(y_true, alpha), ops.multiply(rest, 1.0 - alpha))
        values = ops.multiply(weights, values)
    return ops.mean(values, axis=axis)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: Any = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """Cross-entropy of one-hot targets, each class times ``alpha * (1 - p) ** gamma``.

    ``p`` is the probability that the prediction gives to the class.

    Args:
        y_true: one row of probabilities a sample.
        y_pred: probabilities, or logits.
        alpha: a factor, or one for each class.
        gamma: 0 leaves the plain cross-entropy, times ``alpha``.
        from_logits: whether ``y_pred`` are logits.
        label_smoothing: how far targets are moved towards the uniform distribution.
        axis: the axis of the classes.
    """
    y_true, y_pred = categorical_pair(
        "categorical_focal_crossentropy", y_true, y_pred, label_smoothing, axis
    )
    if from_logits:
        y_pred = ops.softmax(y_pred, axis=axis)
    shares = ops.divide(y_pred, ops.sum(y_pred, axis=axis, keepdims=True))
    shares = ops.clip(shares, config.epsilon(), 1.0 - config.epsilon())
    entropy = ops.multiply(ops.negative(y_true), ops.log(shares))
    weights = ops.multiply(ops.power(ops.subtract(1.0, shares), gamma), alpha)
    return ops.sum(ops.multiply(weights, entropy), axis=axis)


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float) -> Any:
    """``(1 - p ** q) / q`` of the probability ``p`` of the right class.

    Near the cross-entropy for a small ``q``; near the absolute error, which forgives wrong labels,
    for one near 1.

    Args:
        y_true: one class number a sample.
        y_pred: probabilities of each class.
        q: between 0 and 1.

    Example:
        >>> categorical_generalized_cross_entropy([1], [[0.75, 0.25]], q=0.5)
        array([1.], dtype=float32)
    """
    y_pred, y_true = as_float(y_pred), ops.convert_to_tensor(y_true)
    labels = shape_of(y_true)
    if labels and len(labels) == len(shape_of(y_pred)) and labels[-1] == 1:
        y_true = ops.reshape(y_true, labels[:-1])
    chosen = ops.one_hot(ops.cast(y_true, "int32"), fixed_size(y_pred, -1))
    chosen = ops.cast(chosen, ops.dtype(y_pred))
    hit = ops.sum(ops.multiply(y_pred, chosen), axis=-1)
    return ops.divide(ops.subtract(1.0, ops.power(hit, q)), q)


class BinaryFocalCrossentropy(LossFunctionWrapper):
    """Cross-entropy of yes-or-no targets that looks less at what is already right.

    Args:
        apply_class_balancing: whether targets of 1 weigh ``alpha``, those of 0 ``1 - alpha``.
        alpha: see there.
        gamma: the exponent of ``1 - p``.
        from_logits: whether predictions are logits.
        label_smoothing: how far targets are moved towards 0.5.
        axis: the axis of the mean.
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            binary_focal_crossentropy,
            reduction,
            name,
            dtype,
            apply_class_balancing=apply_class_balancing,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalFocalCrossentropy(LossFunctionWrapper):
    """Cross-entropy of one-hot targets that looks less at what is already right.

    Args:
        alpha: a factor, or one for each class.
        gamma: the exponent of ``1 - p``.
        from_logits: whether predictions are logits.
        label_smoothing: how far targets are moved towards the uniform distribution.
        axis: the axis of the classes.
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            categorical_focal_crossentropy,
            reduction,
            name,
            dtype,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalGeneralizedCrossEntropy(LossFunctionWrapper):
    """``(1 - p ** q) / q`` of the probability of the right class, for class numbers.

    Args:
        q: between 0 and 1; the larger, the less wrong labels do.
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.

    Raises:
        ValueError: for another ``q``.
    """

    def __init__(
        self,
        q: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_generalized_cross_entropy",
        dtype: Any = None,
    ) -> None:
        if not 0 < q < 1:
            raise ValueError(f"q must be in the interval (0, 1). Received: q={q}")
        super().__init__(categorical_generalized_cross_entropy, reduction, name, dtype, q=q)
