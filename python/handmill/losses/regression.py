"""Losses between numbers."""

from __future__ import annotations

import math
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


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of ``(log(1 + y_true) - log(1 + y_pred)) ** 2`` along the last axis.

    Numbers below 1e-7 count as 1e-7.

    Example:
        >>> mean_squared_logarithmic_error([[0.0, 3.0]], [[0.0, 1.0]]).round(4)
        array([0.2402], dtype=float32)
    """
    y_true, y_pred = pair(y_true, y_pred)
    least = config.epsilon()
    first = ops.log(ops.add(ops.maximum(y_pred, least), 1.0))
    second = ops.log(ops.add(ops.maximum(y_true, least), 1.0))
    return ops.mean(ops.square(ops.subtract(first, second)), axis=-1)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """Minus the cosine of the angle between targets and predictions: -1 is the best.

    Args:
        y_true: targets.
        y_pred: predictions.
        axis: the axis of the vectors.

    Example:
        >>> cosine_similarity([[0.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]).round(4)
        array([-0., -1.], dtype=float32)
    """
    return ops.negative(cosine(y_true, y_pred, axis))


def cosine(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """The cosine of the angle between targets and predictions along ``axis``."""
    y_true, y_pred = pair(y_true, y_pred)
    y_true, y_pred = ops.normalize(y_true, axis=axis), ops.normalize(y_pred, axis=axis)
    return ops.sum(ops.multiply(y_true, y_pred), axis=axis)


def log_cosh(y_true: Any, y_pred: Any) -> Any:
    """Mean of ``log(cosh(y_pred - y_true))`` along the last axis.

    Half the squared error where it is small, the absolute error less log 2 where it is large.

    Example:
        >>> log_cosh([[0.0, 0.0]], [[0.0, 1000.0]]).round(2)
        array([499.65], dtype=float32)
    """
    y_true, y_pred = pair(y_true, y_pred)
    errors = ops.subtract(y_pred, y_true)
    values = ops.add(errors, ops.softplus(ops.multiply(errors, -2.0)))
    return ops.mean(ops.subtract(values, math.log(2.0)), axis=-1)


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
        dtype: see :class:`Loss`.
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
        dtype: see :class:`Loss`.
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
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "mean_absolute_percentage_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(mean_absolute_percentage_error, reduction, name, dtype)


class MeanSquaredLogarithmicError(LossFunctionWrapper):
    """Mean of ``(log(1 + y_true) - log(1 + y_pred)) ** 2``.

    Args:
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "mean_squared_logarithmic_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(mean_squared_logarithmic_error, reduction, name, dtype)


class CosineSimilarity(LossFunctionWrapper):
    """Minus the cosine of the angle between targets and predictions.

    Args:
        axis: the axis of the vectors.
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "cosine_similarity",
        dtype: Any = None,
    ) -> None:
        super().__init__(cosine_similarity, reduction, name, dtype, axis=axis)


class LogCosh(LossFunctionWrapper):
    """Mean of ``log(cosh(y_pred - y_true))``.

    Args:
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "log_cosh",
        dtype: Any = None,
    ) -> None:
        super().__init__(log_cosh, reduction, name, dtype)


class Huber(LossFunctionWrapper):
    """Half the squared error, linear beyond ``delta``.

    Args:
        delta: the error from which on the loss grows linearly.
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "huber_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(huber, reduction, name, dtype, delta=delta)
