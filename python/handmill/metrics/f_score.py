"""F-scores: precision and recall in one number, for each class."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from handmill import config, ops
from handmill.ir.dims import as_none
from handmill.metrics.metric import Metric
from handmill.primitives.operands import shape_of
from handmill.runtime.planned import planned


class FBetaScore(Metric):
    """``(1 + beta^2) precision recall / (beta^2 precision + recall)``, for each class.

    Args:
        average: how the classes become one number: ``"macro"`` (the mean), ``"weighted"`` (weighted
            by how often each is the target), ``"micro"`` (all are counted together), or None: one
            number for each class.
        beta: how many times as much recall counts as precision.
        threshold: predictions above it are positive. Default: the largest of each sample is.
        name: the metric's name.
        dtype: kept for the config; the result is float32.

    Raises:
        ValueError: for an unknown ``average``, and a ``beta`` or ``threshold`` that is no float or
            out of range.

    Example:
        >>> m = FBetaScore(beta=2.0, threshold=0.5)
        >>> m.update_state([[1, 1, 1], [1, 0, 0], [1, 1, 0]],
        ...                [[0.2, 0.6, 0.7], [0.2, 0.6, 0.6], [0.6, 0.8, 0.0]])
        >>> m.result().round(4)
        array([0.3846, 0.9091, 0.8333], dtype=float32)
    """

    _direction = "up"

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str = "fbeta_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(
                "Invalid `average` argument value. Expected one of: {None, 'micro', 'macro', "
                f"'weighted'}}. Received: average={average}"
            )
        _check_float("beta", beta)
        if beta <= 0.0:
            raise ValueError(
                f"Invalid `beta` argument value. It should be > 0. Received: beta={beta}"
            )
        if threshold is not None:
            _check_float("threshold", threshold)
            if not 0.0 < threshold <= 1.0:
                raise ValueError(
                    "Invalid `threshold` argument value. It should verify 0 < threshold <= 1. "
                    f"Received: threshold={threshold}"
                )
        self.average = average
        self.beta = beta
        self.threshold = threshold
        self._classes: int | None = None

    def build_for(self, y_true_shape: tuple[Any, ...], y_pred_shape: tuple[Any, ...]) -> None:
        """Makes the counts of each class."""
        classes = fixed_columns(self, y_true_shape, y_pred_shape)
        if self._classes is None:
            shape = () if self.average == "micro" else (classes,)
            self.true_positives = self.add_variable(shape, dtype="float64", name="true_positives")
            self.false_positives = self.add_variable(shape, dtype="float64", name="false_positives")
            self.false_negatives = self.add_variable(shape, dtype="float64", name="false_negatives")
            self.intermediate_weights = self.add_variable(
                shape, dtype="float64", name="intermediate_weights"
            )
            self._classes = classes
        check_columns(self, self._classes, classes)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account."""
        y_true, y_pred = (ops.cast(ops.convert_to_tensor(y), "float32") for y in (y_true, y_pred))
        self.build_for(shape_of(y_true), shape_of(y_pred))
        if self.threshold is None:
            largest = ops.greater_equal(y_pred, ops.max(y_pred, axis=-1, keepdims=True))
            # A row of zeros has no largest entry.
            chosen = ops.logical_and(largest, ops.greater(ops.absolute(y_pred), 1e-9))
        else:
            chosen = ops.greater(y_pred, self.threshold)
        chosen = ops.cast(chosen, "float32")
        weights = None
        if sample_weight is not None:
            weights = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
            weights = ops.expand_dims(weights, 1)
        for variable, hits in (
            (self.true_positives, ops.multiply(chosen, y_true)),
            (self.false_positives, ops.multiply(chosen, ops.subtract(1.0, y_true))),
            (self.false_negatives, ops.multiply(ops.subtract(1.0, chosen), y_true)),
            (self.intermediate_weights, y_true),
        ):
            weighted = hits if weights is None else ops.multiply(hits, weights)
            total = ops.sum(weighted, axis=None if self.average == "micro" else 0)
            variable.assign(ops.add(variable, ops.cast(total, "float64")))

    def result(self) -> Any:
        """Returns the scores so far."""
        if self._classes is None:
            raise ValueError(f"metric {self.name!r} has no result before its first batch")
        return _scores_of(self.average, self.beta)(
            self.true_positives.value,
            self.false_positives.value,
            self.false_negatives.value,
            self.intermediate_weights.value,
            np.asarray(config.epsilon()),
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "average": self.average,
            "beta": self.beta,
            "threshold": self.threshold,
        }


@functools.cache
def _scores_of(average: str | None, beta: float) -> Callable[..., Any]:
    """Returns the function of the counts, and of what is added to divisors, that gives scores."""
    square = beta**2

    @planned
    def scores_of(tp: Any, fp: Any, fn: Any, targets: Any, least: Any) -> Any:
        precision = ops.divide(tp, ops.add(ops.add(tp, fp), least))
        recall = ops.divide(tp, ops.add(ops.add(tp, fn), least))
        below = ops.add(ops.add(ops.multiply(precision, square), recall), least)
        scores = ops.divide(ops.multiply(ops.multiply(precision, recall), 1.0 + square), below)
        if average == "weighted":
            shares = ops.divide(targets, ops.add(ops.sum(targets), least))
            scores = ops.sum(ops.multiply(scores, shares))
        elif average is not None:
            scores = ops.mean(scores)
        return ops.cast(scores, "float32")

    return scores_of


class F1Score(FBetaScore):
    """The harmonic mean of precision and recall, for each class.

    Args:
        average: how the classes become one number: ``"macro"`` (the mean), ``"weighted"`` (weighted
            by how often each is the target), ``"micro"`` (all are counted together), or None: one
            number for each class.
        threshold: predictions above it are positive. Default: the largest of each sample is.
        name: the metric's name.
        dtype: kept for the config; the result is float32.
    """

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str = "f1_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(average, 1.0, threshold, name, dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        del config["beta"]
        return config


def _check_float(name: str, value: Any) -> None:
    if not isinstance(value, float):
        raise ValueError(
            f"Invalid `{name}` argument value. It should be a Python float. "
            f"Received: {name}={value} of type '{type(value)}'"
        )


def fixed_columns(
    metric: Metric, y_true_shape: tuple[Any, ...], y_pred_shape: tuple[Any, ...]
) -> int:
    """Returns how many columns targets and predictions have.

    Raises:
        ValueError: unless both have two axes, of which the last is fixed.
    """
    kind = type(metric).__name__
    y_true_shape, y_pred_shape = as_none(y_true_shape), as_none(y_pred_shape)
    shapes = f"Received input shapes: y_pred.shape={y_pred_shape} and y_true.shape={y_true_shape}."
    if len(y_pred_shape) != 2 or len(y_true_shape) != 2:
        raise ValueError(f"{kind} expects 2D inputs with shape (batch_size, output_dim). {shapes}")
    if y_pred_shape[-1] is None or y_true_shape[-1] is None:
        raise ValueError(
            f"{kind} expects 2D inputs with shape (batch_size, output_dim), with output_dim fully "
            f"defined (not None). {shapes}"
        )
    if y_pred_shape[-1] != y_true_shape[-1]:
        raise ValueError(
            f"{kind} expects targets and predictions of one shape. {shapes}"
            "\n  hint: make class numbers one-hot rows (utils.to_categorical)"
        )
    return int(y_pred_shape[-1])


def check_columns(metric: Metric, known: int, found: int) -> None:
    """Refuses data of another width than those that a metric has counted."""
    if known != found:
        raise ValueError(
            f"metric {metric.name!r} counts {known} columns, but targets and predictions have "
            f"{found}; make a new one, or one for each output"
        )
