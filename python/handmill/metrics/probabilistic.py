"""Metrics between probabilities."""

from __future__ import annotations

from typing import Any

from handmill.losses.probabilistic import (
    binary_crossentropy,
    categorical_crossentropy,
    kl_divergence,
    sparse_categorical_crossentropy,
)
from handmill.metrics.reduction import MeanMetricWrapper


class KLDivergence(MeanMetricWrapper):
    """Kullback-Leibler divergence.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(self, name: str = "kl_divergence", dtype: Any = None) -> None:
        super().__init__(kl_divergence, name, dtype)


class BinaryCrossentropy(MeanMetricWrapper):
    """Cross-entropy of yes-or-no targets.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
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
        dtype: must be ``"float32"`` or None.
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
        dtype: must be ``"float32"`` or None.
        from_logits: whether predictions are logits.
        ignore_class: not supported in the metric; must be None.
        axis: the axis of the classes.
    """

    def __init__(
        self,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: None = None,
        axis: int = -1,
    ) -> None:
        if ignore_class is not None:
            raise ValueError("`ignore_class` is not supported in the metric yet")
        super().__init__(
            sparse_categorical_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=None,
            axis=axis,
        )
