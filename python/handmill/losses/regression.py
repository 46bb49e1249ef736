"""Losses between numbers."""

from __future__ import annotations

from typing import Any

from handmill import config, ops
from handmill.losses.loss import LossFunctionWrapper, pair


def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of ``(y_true - y_pred) ** 2`` along the last axis.

    Example:
        >>> mean_squared_error([[0.0, 1.0]], [[1.0, 1.0]])
        array([0.5], dtype=float32)
    """
    y_true, y_pred = pair(y_true, y_pred)
    return ops.mean(ops.square(ops.subtract(y_true, y_pred)), axis=-1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of ``|y_true - y_pred|`` along the last axis."""
    y_true, y_pred = pair(y_true, y_pred)
    return ops.mean(ops.absolute(ops.subtract(y_true, y_pred)), axis=-1)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of ``100 * |(y_true - y_pred) / y_true|`` along the last axis."""
    y_true, y_pred = pair(y_true, y_pred)
    divisor = ops.maximum(ops.absolute(y_true), config.epsilon())
    errors = ops.absolute(ops.divide(ops.subtract(y_true, y_pred), divisor))
    return ops.multiply(ops.mean(errors, axis=-1), 100.0)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Any:
    """Mean along the last axis of half the squared error, linear beyond ``delta``.

    Args:
        y_true: targets.
        y_pred: predictions.
        delta: the error from which on the loss grows linearly.
    """
    y_true, y_pred = pair(y_true, y_pred)
    size = ops.absolute(ops.subtract(y_pred, y_true))
    quadratic = ops.multiply(ops.square(size), 0.5)
    straight = ops.subtract(ops.multiply(size, float(delta)), 0.5 * delta * delta)
    return ops.mean(ops.where(ops.less_equal(size, float(delta)), quadratic, straight), axis=-1)


class MeanSquaredError(LossFunctionWrapper):
    """Mean of ``(y_true - y_pred) ** 2``.

    Args:
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "mean_squared_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(mean_squared_error, reduction, name, dtype)


class MeanAbsoluteError(LossFunctionWrapper):
    """Mean of ``|y_true - y_pred|``.

    Args:
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "mean_absolute_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(mean_absolute_error, reduction, name, dtype)


class MeanAbsolutePercentageError(LossFunctionWrapper):
    """Mean of ``100 * |(y_true - y_pred) / y_true|``.

    Args:
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "mean_absolute_percentage_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(mean_absolute_percentage_error, reduction, name, dtype)


class Huber(LossFunctionWrapper):
    """Half the squared error, linear beyond ``delta``.

    Args:
        delta: the error from which on the loss grows linearly.
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "huber_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(huber, reduction, name, dtype, delta=delta)
