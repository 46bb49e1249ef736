"""The area under a curve of two ratios, over all thresholds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill import config, ops
from handmill.arguments import real_number, whole_number
from handmill.ir.dims import as_none
from handmill.metrics.confusion import are_even, update_counts
from handmill.metrics.metric import Metric
from handmill.primitives.operands import shape_of
from handmill.runtime.planned import planned

_CURVES = ("PR", "ROC", "PRGAIN")
_METHODS = ("interpolation", "majoring", "minoring")


class AUC(Metric):
    """The area under the ROC or precision-recall curve, from counts at many thresholds.

    Predictions are expected in [0, 1]. Only counts are kept, so that batches can be added up; the
    more thresholds, the nearer the area is to that of the curve of all predictions.

    Args:
        num_thresholds: how many thresholds divide [0, 1].
        curve: ``"ROC"``, ``"PR"`` (precision and recall) or ``"PRGAIN"`` (their gains).
        summation_method: ``"interpolation"``, ``"minoring"`` (the lower corner of each step)
            or ``"majoring"`` (the upper one).
        name: default: the class name in snake case.
        dtype: kept for the config; the result is float32.
        thresholds: thresholds in (0, 1) to take instead of ``num_thresholds``.
        multi_label: whether the result is the mean of the areas of the columns.
        num_labels: the number of columns with ``multi_label``. Default: that of the first batch.
        label_weights: weights of the columns: of the areas with ``multi_label``, else of the
            predictions.
        from_logits: whether predictions are logits.

    Raises:
        ValueError: for unknown names, fewer than two thresholds, and ``num_labels`` without
            ``multi_label``.

    Example:
        >>> m = AUC(num_thresholds=3)
        >>> m.update_state([0, 0, 1, 1], [0, 0.5, 0.3, 0.9])
        >>> float(m.result())
        0.75
    """

    _direction = "up"

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self._init_from_thresholds = thresholds is not None
        if thresholds is not None:
            inner = sorted(real_number("an entry of `thresholds`", t) for t in thresholds)
            self._even = are_even([0.0, *inner, 1.0])
        else:
            if whole_number("`num_thresholds`", num_thresholds) <= 1:
                raise ValueError(
                    "Argument `num_thresholds` must be an integer > 1. "
                    f"Received: num_thresholds={num_thresholds}"
                )
            inner = [i / (num_thresholds - 1) for i in range(1, num_thresholds - 1)]
            self._even = True
        # The ends lie a little outside, so that the curve starts and ends at its corners.
        self._thresholds = [-config.epsilon(), *inner, 1.0 + config.epsilon()]
        self.num_thresholds = len(self._thresholds)
        self.curve = _known("AUC curve", curve, _CURVES)
        self.summation_method = _known("AUC summation method", summation_method, _METHODS)
        self.multi_label = multi_label
        self.num_labels = num_labels
        self.label_weights = (
            None if label_weights is None else np.asarray(label_weights, np.float32)
        )
        self._from_logits = from_logits
        self._built = False
        if multi_label:
            if num_labels is not None:
                whole_number("`num_labels`", num_labels, least=1)
                self._build((num_labels,))
        elif num_labels:
            raise ValueError("`num_labels` is needed only when `multi_label` is True.")
        else:
            self._build(())

    @property
    def thresholds(self) -> list[float]:
        """The thresholds, with one below 0 and one above 1."""
        return list(self._thresholds)

    def _build(self, columns: tuple[int, ...]) -> None:
        shape = (self.num_thresholds, *columns)
        self.true_positives = self.add_variable(shape, dtype="float64", name="true_positives")
        self.false_positives = self.add_variable(shape, dtype="float64", name="false_positives")
        self.true_negatives = self.add_variable(shape, dtype="float64", name="true_negatives")
        self.false_negatives = self.add_variable(shape, dtype="float64", name="false_negatives")
        self._built = True

    def build_for(self, y_true_shape: tuple[Any, ...], y_pred_shape: tuple[Any, ...]) -> None:
        """Makes the counts of each column, with ``multi_label``."""
        if not self.multi_label:
            return
        shape = as_none(y_pred_shape)
        if len(shape) != 2 or shape[1] is None:
            raise ValueError(
                "`y_pred` must have rank 2 when `multi_label=True`, and a fixed number of columns. "
                f"Full shape received for `y_pred`: {shape}"
            )
        if not self._built:
            self._build((shape[1],))
        elif self.true_positives.shape[1] != shape[1]:
            raise ValueError(
                f"metric {self.name!r} counts {self.true_positives.shape[1]} labels, but `y_pred` "
                f"has the shape {shape}"
            )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account."""
        y_pred = ops.convert_to_tensor(y_pred)
        self.build_for((), shape_of(y_pred))
        update_counts(
            {
                "tp": self.true_positives,
                "fp": self.false_positives,
                "tn": self.true_negatives,
                "fn": self.false_negatives,
            },
            y_true,
            ops.sigmoid(y_pred) if self._from_logits else y_pred,
            self._thresholds,
            even=self._even,
            sample_weight=sample_weight,
            multi_label=self.multi_label,
            label_weights=None if self.multi_label else self.label_weights,
        )

    def result(self) -> Any:
        """Returns the area so far."""
        areas = _area_under(self.curve, self.summation_method)(
            self.true_positives.value,
            self.false_positives.value,
            self.true_negatives.value,
            self.false_negatives.value,
        )
        if not self.multi_label:
            return areas
        if self.label_weights is None:
            return ops.mean(areas)
        total = ops.sum(ops.multiply(areas, self.label_weights))
        return ops.divide_no_nan(total, ops.sum(self.label_weights))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        weights = self.label_weights
        config = {
            **super().get_config(),
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "multi_label": self.multi_label,
            "num_labels": self.num_labels,
            "label_weights": None if weights is None else weights.tolist(),
            "from_logits": self._from_logits,
        }
        if self._init_from_thresholds:
            config["thresholds"] = self._thresholds[1:-1]
        return config


def _known(what: str, given: str, known: tuple[str, ...]) -> str:
    """One of ``known``, which may be written in lower or upper case, or with a capital."""
    for name in known:
        if given in (name, name.lower(), name.capitalize()):
            return name
    raise ValueError(f'Invalid {what} value: "{given}". Expected values are {list(known)}')


@functools.cache
def _area_under(curve: str, method: str) -> Callable[..., Any]:
    """Returns the function of the four counts that gives areas, one for each column."""

    @planned
    def area(tp: Any, fp: Any, tn: Any, fn: Any) -> Any:
        if curve == "PR" and method == "interpolation":
            return ops.cast(ops.sum(_interpolated_precision(tp, fp, fn), axis=0), "float32")
        recall = ops.divide_no_nan(tp, ops.add(tp, fn))
        if curve == "ROC":
            x, y = ops.divide_no_nan(fp, ops.add(fp, tn)), recall
        elif curve == "PR":
            x, y = recall, ops.divide_no_nan(tp, ops.add(tp, fp))
        else:
            x, y = _gains(tp, fp, tn, fn)
        if method == "interpolation":
            height = ops.multiply(ops.add(y[:-1], y[1:]), 0.5)
        else:
            height = (ops.minimum if method == "minoring" else ops.maximum)(y[:-1], y[1:])
        steps = ops.multiply(ops.subtract(x[:-1], x[1:]), height)
        return ops.cast(ops.sum(steps, axis=0), "float32")

    return area


def _interpolated_precision(tp: Any, fp: Any, fn: Any) -> Any:
    """The area of each step under precision over recall.

    Between two thresholds true positives are taken as linear in all positives p:
    tp = slope p + intercept. Precision is then no straight line, and its integral over recall is
    slope (dtp + intercept log(p0 / p1)) / (tp1 + fn1).
    """
    p = ops.add(tp, fp)
    dtp, dp = ops.subtract(tp[:-1], tp[1:]), ops.subtract(p[:-1], p[1:])
    slope = ops.divide_no_nan(dtp, ops.maximum(dp, 0.0))
    intercept = ops.subtract(tp[1:], ops.multiply(slope, p[1:]))
    both = ops.logical_and(ops.greater(p[:-1], 0.0), ops.greater(p[1:], 0.0))
    ratio = ops.where(both, ops.divide_no_nan(p[:-1], p[1:]), 1.0)
    logs = ops.cast(ops.log(ops.cast(ratio, "float32")), "float64")
    areas = ops.multiply(slope, ops.add(dtp, ops.multiply(intercept, logs)))
    return ops.divide_no_nan(areas, ops.add(tp[1:], fn[1:]))


def _gains(tp: Any, fp: Any, tn: Any, fn: Any) -> tuple[Any, Any]:
    """Recall gain, at least 0, and precision gain; 0 and 1 where nothing is found."""
    scale = ops.divide_no_nan(ops.add(tp, fn), ops.add(tn, fp))
    none = ops.equal(tp, 0.0)
    recall, precision = (
        ops.subtract(1.0, ops.multiply(scale, ops.divide_no_nan(wrong, tp))) for wrong in (fn, fp)
    )
    return ops.maximum(ops.where(none, 0.0, recall), 0.0), ops.where(none, 1.0, precision)
