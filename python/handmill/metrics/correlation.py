"""Metrics of how far targets and predictions go together."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from handmill import config, ops
from handmill.errors import warn_caller
from handmill.ir.graph import current_graph
from handmill.losses.loss import pair, same_rank
from handmill.metrics.f_score import check_columns, fixed_columns
from handmill.metrics.metric import Metric
from handmill.metrics.reduction import MeanMetricWrapper
from handmill.primitives.operands import shape_of
from handmill.runtime.planned import planned


def pearson_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """Pearson's correlation of targets and predictions along ``axis``.

    Args:
        y_true: targets.
        y_pred: predictions.
        axis: the axis of what is compared.

    Example:
        >>> pearson_correlation([[0.0, 1.0, 0.5]], [[0.1, 0.9, 1.0]]).round(4)
        array([0.8109], dtype=float32)
    """
    scaled = []
    for values in pair(y_true, y_pred):
        centred = ops.subtract(values, ops.mean(values, axis=axis, keepdims=True))
        scaled.append(ops.divide(centred, ops.std(centred, axis=axis, keepdims=True)))
    return ops.mean(ops.multiply(*scaled), axis=axis)


def concordance_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """The concordance correlation of targets and predictions along ``axis``.

    As Pearson's, but 1 only where they are equal, not merely on a line.

    Args:
        y_true: targets.
        y_pred: predictions.
        axis: the axis of what is compared.
    """
    y_true, y_pred = pair(y_true, y_pred)
    true_mean, mean = (ops.mean(y, axis=axis, keepdims=True) for y in (y_true, y_pred))
    true_variance, variance = (
        ops.var(ops.subtract(y, m), axis=axis, keepdims=True)
        for y, m in ((y_true, true_mean), (y_pred, mean))
    )
    covariance = ops.multiply(ops.subtract(y_true, mean), ops.subtract(y_pred, mean))
    norm = ops.add(ops.add(true_variance, variance), ops.square(ops.subtract(true_mean, mean)))
    shares = ops.divide(ops.multiply(covariance, 2.0), ops.add(norm, config.epsilon()))
    return ops.mean(shares, axis=axis)


class PearsonCorrelation(MeanMetricWrapper):
    """Pearson's correlation of targets and predictions, the mean over samples.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
        axis: the axis of what is compared.
    """

    def __init__(
        self, name: str = "pearson_correlation", dtype: Any = None, axis: int = -1
    ) -> None:
        super().__init__(pearson_correlation, name, dtype, axis=axis)


class ConcordanceCorrelation(MeanMetricWrapper):
    """The concordance correlation of targets and predictions, the mean over samples.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
        axis: the axis of what is compared.
    """

    def __init__(
        self, name: str = "concordance_correlation", dtype: Any = None, axis: int = -1
    ) -> None:
        super().__init__(concordance_correlation, name, dtype, axis=axis)


class R2Score(Metric):
    """The coefficient of determination: 1 is perfect, 0 no better than the mean of the targets.

    Args:
        class_aggregation: how columns become one number: ``"uniform_average"``,
            ``"variance_weighted_average"`` (weighted by the variance of the targets), or None: one
            number for each column.
        num_regressors: how many independent variables an adjusted score has; 0: not adjusted.
        name: the metric's name.
        dtype: kept for the config; the result is float32.

    Raises:
        ValueError: for an unknown ``class_aggregation`` and a negative ``num_regressors``.

    Example:
        >>> m = R2Score()
        >>> m.update_state([[1], [4], [3]], [[2], [4], [4]])
        >>> round(float(m.result()), 4)
        0.5714
    """

    _direction = "up"

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str = "r2_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        known = (None, "uniform_average", "variance_weighted_average")
        if class_aggregation not in known:
            raise ValueError(
                f"Invalid value for argument `class_aggregation`. Expected one of {known}. "
                f"Received: class_aggregation={class_aggregation}"
            )
        if num_regressors < 0:
            raise ValueError(
                "Invalid value for argument `num_regressors`. Expected a value >= 0. "
                f"Received: num_regressors={num_regressors}"
            )
        self.class_aggregation = class_aggregation
        self.num_regressors = num_regressors
        self.num_samples = self.add_variable((), dtype="float64", name="num_samples")
        self._columns: int | None = None

    def build_for(self, y_true_shape: tuple[Any, ...], y_pred_shape: tuple[Any, ...]) -> None:
        """Makes the sums of each column."""
        columns = fixed_columns(self, y_true_shape, y_pred_shape)
        if self._columns is None:
            shape = (columns,)
            self.squared_sum = self.add_variable(shape, dtype="float64", name="squared_sum")
            self.sum = self.add_variable(shape, dtype="float64", name="sum")
            self.total_mse = self.add_variable(shape, dtype="float64", name="residual")
            self.count = self.add_variable(shape, dtype="float64", name="count")
            self._columns = columns
        check_columns(self, self._columns, columns)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account."""
        y_true, y_pred = (ops.cast(ops.convert_to_tensor(y), "float64") for y in (y_true, y_pred))
        y_true, y_pred = same_rank(y_true, y_pred)
        self.build_for(shape_of(y_true), shape_of(y_pred))
        weights = 1.0 if sample_weight is None else ops.convert_to_tensor(sample_weight)
        weights = ops.cast(weights, "float64")
        if len(shape_of(weights)) == 1:
            weights = ops.expand_dims(weights, 1)
        weights = ops.broadcast_to(weights, shape_of(y_true))
        weighted = ops.multiply(y_true, weights)
        errors = ops.square(ops.subtract(y_true, y_pred))
        for variable, values in (
            (self.sum, weighted),
            (self.squared_sum, ops.multiply(y_true, weighted)),
            (self.total_mse, ops.multiply(errors, weights)),
            (self.count, weights),
        ):
            variable.assign(ops.add(variable, ops.sum(values, axis=0)))
        elements = ops.sum(ops.ones_like(y_true))
        self.num_samples.assign(ops.add(self.num_samples, elements))

    def result(self) -> Any:
        """Returns the score so far."""
        if self._columns is None:
            raise ValueError(f"metric {self.name!r} has no result before its first batch")
        scores = _score_of(self.class_aggregation)(
            self.squared_sum.value, self.sum.value, self.total_mse.value, self.count.value
        )
        if self.num_regressors:
            scores = self._adjusted(scores)
        return ops.cast(scores, "float32")

    def _adjusted(self, scores: Any) -> Any:
        free = ops.subtract(self.num_samples, float(self.num_regressors + 1))
        if current_graph() is None and float(free) <= 0.0:
            what = (
                "Division by zero in Adjusted R2 score."
                if float(free) == 0.0
                else "More independent predictors than datapoints in adjusted R2 score."
            )
            warn_caller(f"{what} Falling back to standard R2 score.")
        rest = ops.multiply(ops.subtract(1.0, scores), ops.subtract(self.num_samples, 1.0))
        enough = ops.greater(free, 0.0)
        adjusted = ops.subtract(1.0, ops.divide(rest, ops.where(enough, free, 1.0)))
        return ops.where(enough, adjusted, scores)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "class_aggregation": self.class_aggregation,
            "num_regressors": self.num_regressors,
        }


@functools.cache
def _score_of(aggregation: str | None) -> Callable[..., Any]:
    """Returns the function of the sums of all columns that gives the score, in float64."""

    @planned
    def score_of(squares: Any, total: Any, errors: Any, count: Any) -> Any:
        spread = ops.subtract(squares, ops.multiply(total, ops.divide(total, count)))
        scores = ops.subtract(1.0, ops.divide(errors, spread))
        scores = ops.where(ops.isinf(scores), 0.0, scores)
        if aggregation == "uniform_average":
            return ops.mean(scores)
        if aggregation == "variance_weighted_average":
            return ops.divide(ops.sum(ops.multiply(spread, scores)), ops.sum(spread))
        return scores

    return score_of
