"""Metrics of margins."""

from __future__ import annotations

from typing import Any

from handmill.losses.hinges import categorical_hinge, hinge, squared_hinge
from handmill.metrics.reduction import MeanMetricWrapper


class Hinge(MeanMetricWrapper):
    """Mean of ``max(1 - y_true * y_pred, 0)``, for targets of -1 and 1, or 0 and 1.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    def __init__(self, name: str = "hinge", dtype: Any = None) -> None:
        super().__init__(hinge, name, dtype)


class SquaredHinge(MeanMetricWrapper):
    """Mean of ``max(1 - y_true * y_pred, 0) ** 2``, for targets of -1 and 1, or 0 and 1.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    def __init__(self, name: str = "squared_hinge", dtype: Any = None) -> None:
        super().__init__(squared_hinge, name, dtype)


class CategoricalHinge(MeanMetricWrapper):
    """How much the right class falls short of a margin of 1, for one-hot targets.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    def __init__(self, name: str = "categorical_hinge", dtype: Any = None) -> None:
        super().__init__(categorical_hinge, name, dtype)
