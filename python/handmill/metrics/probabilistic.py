"""Metrics between probabilities."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.ir.trace import mask_of
from handmill.losses.loss import weights_of
from handmill.losses.probabilistic import (
    binary_crossentropy,
    categorical_crossentropy,
    kl_divergence,
    poisson,
    sparse_categorical_crossentropy,
    sparse_values,
    without_ignored,
)
from handmill.metrics.reduction import Mean, MeanMetricWrapper
from handmill.primitives.operands import widened


class KLDivergence(MeanMetricWrapper):
    """Kullback-Leibler divergence.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    def __init__(self, name: str = "kl_divergence", dtype: Any = None) -> None:
        super().__init__(kl_divergence, name, dtype)


class Poisson(MeanMetricWrapper):
    """Mean of ``y_pred - y_true * log(y_pred)``: minus the log-likelihood of counts.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    def __init__(self, name: str = "poisson", dtype: Any = None) -> None:
        super().__init__(poisson, name, dtype)


class BinaryCrossentropy(MeanMetricWrapper):
    """Cross-entropy of yes-or-no targets.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
        from_logits: whether predictions are logits.
        label_smoothing: how far targets are moved towards 0.5.
    """

    def __init__(
        self,
        name: str = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
    ) -> None:
        super().__init__(
            binary_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
        )


class CategoricalCrossentropy(MeanMetricWrapper):
    """Cross-entropy of one-hot targets.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
        from_logits: whether predictions are logits.
        label_smoothing: how far targets are moved towards the uniform distribution.
        axis: the axis of the classes.
    """

    def __init__(
        self,
        name: str = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
        axis: int = -1,
    ) -> None:
        super().__init__(
            categorical_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class SparseCategoricalCrossentropy(MeanMetricWrapper):
    """Cross-entropy of class numbers.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
        from_logits: whether predictions are logits.
        ignore_class: a class number whose samples have a loss of 0, and weigh nothing where
            weights are given (without weights they count in the mean, as in Keras).
        axis: the axis of the classes.

    A target of -100 may stand where its weight is 0 or its mask is False.
    """

    def __init__(
        self,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ) -> None:
        super().__init__(
            sparse_categorical_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=ignore_class,
            axis=axis,
        )

    def update_state(  # type: ignore[override]  # as in Keras: targets and predictions
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Takes a batch into account."""
        y_true = without_ignored(y_true, sample_weight, mask_of(y_pred))
        if self._fn_kwargs["ignore_class"] is None:
            super().update_state(y_true, y_pred, sample_weight)
            return
        sample_weight = weights_of(sample_weight, mask_of(y_pred), is_mean=False)
        y_true, y_pred = (widened(ops.convert_to_tensor(y)) for y in (y_true, y_pred))
        values, counts = sparse_values(y_true, y_pred, **self._fn_kwargs)
        if sample_weight is not None:
            sample_weight = weights_of(sample_weight, counts, is_mean=False)
        Mean.update_state(self, values, sample_weight)
