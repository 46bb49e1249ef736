"""Metrics between numbers."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.losses.loss import same_rank
from handmill.losses.regression import (
    cosine,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
)
from handmill.metrics.reduction import Mean, MeanMetricWrapper
from handmill.primitives.operands import widened


class MeanSquaredError(MeanMetricWrapper):
    """Mean of ``(y_true - y_pred) ** 2``.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    def __init__(self, name: str = "mean_squared_error", dtype: Any = None) -> None:
        super().__init__(mean_squared_error, name, dtype)


class RootMeanSquaredError(Mean):
    """Square root of the mean of ``(y_true - y_pred) ** 2`` over all elements.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    _direction = "down"

    def __init__(self, name: str = "root_mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(  # type: ignore[override]  # as in Keras: targets and predictions
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Takes a batch into account."""
        y_true, y_pred = (widened(ops.convert_to_tensor(y)) for y in (y_true, y_pred))
        y_true, y_pred = same_rank(y_true, y_pred)
        errors = ops.subtract(y_pred, ops.cast(y_true, ops.dtype(y_pred)))
        super().update_state(ops.square(errors), sample_weight=sample_weight)

    def result(self) -> Any:
        """Returns the square root of the mean so far."""
        return ops.sqrt(super().result())


class MeanAbsoluteError(MeanMetricWrapper):
    """Mean of ``|y_true - y_pred|``.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    def __init__(self, name: str = "mean_absolute_error", dtype: Any = None) -> None:
        super().__init__(mean_absolute_error, name, dtype)


class MeanAbsolutePercentageError(MeanMetricWrapper):
    """Mean of ``100 * |(y_true - y_pred) / y_true|``.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    def __init__(self, name: str = "mean_absolute_percentage_error", dtype: Any = None) -> None:
        super().__init__(mean_absolute_percentage_error, name, dtype)


class MeanSquaredLogarithmicError(MeanMetricWrapper):
    """Mean of ``(log(1 + y_true) - log(1 + y_pred)) ** 2``.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    def __init__(self, name: str = "mean_squared_logarithmic_error", dtype: Any = None) -> None:
        super().__init__(mean_squared_logarithmic_error, name, dtype)


class LogCoshError(MeanMetricWrapper):
    """Mean of ``log(cosh(y_pred - y_true))``.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    def __init__(self, name: str = "logcosh", dtype: Any = None) -> None:
        super().__init__(log_cosh, name, dtype)


class CosineSimilarity(MeanMetricWrapper):
    """The cosine of the angle between targets and predictions: 1 is the best.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
        axis: the axis of the vectors.
    """

    def __init__(self, name: str = "cosine_similarity", dtype: Any = None, axis: int = -1) -> None:
        super().__init__(cosine, name, dtype, axis=axis)
