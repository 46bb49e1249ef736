"""Metrics of decisions: hits and misses above thresholds, and their ratios."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from handmill import ops
from handmill.metrics.confusion import NEVER, are_even, thresholds_of, update_counts
from handmill.metrics.metric import Metric
from handmill.runtime.planned import planned


class _Count(Metric):
    """The number of one kind of decision.

    Args:
        thresholds: a number in [0, 1], or several, which give a number each. Default: 0.5.
        name: default: the class name in snake case.
        dtype: kept for the config; the result is float32.
    """

    _kind: ClassVar[str]

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.thresholds = thresholds_of(thresholds)
        self._even = are_even(self.thresholds)
        shape = (len(self.thresholds),)
        self.accumulator = self.add_variable(shape, dtype="float64", name="accumulator")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account."""
        update_counts(
            {self._kind: self.accumulator},
            y_true,
            y_pred,
            self.thresholds,
            even=self._even,
            sample_weight=sample_weight,
        )

    def result(self) -> Any:
        """Returns the number so far, one for each threshold if there are several."""
        return _for_each_threshold(ops.cast(self.accumulator, "float32"), self.thresholds)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "thresholds": self.init_thresholds}


def _for_each_threshold(values: Any, thresholds: list[float]) -> Any:
    return values[0] if len(thresholds) == 1 else values


class TruePositives(_Count):
    """How many positive predictions are right.

    Args:
        thresholds: a number in [0, 1], or several, which give a number each. Default: 0.5.
        name: default: the class name in snake case.
        dtype: kept for the config; the result is float32.

    Example:
        >>> m = TruePositives()
        >>> m.update_state([0, 1, 1, 1], [1.0, 0.0, 1.0, 1.0])
        >>> float(m.result())
        2.0
    """

    _kind = "tp"


class FalsePositives(_Count):
    """How many positive predictions are wrong.

    Args:
        thresholds: a number in [0, 1], or several, which give a number each. Default: 0.5.
        name: default: the class name in snake case.
        dtype: kept for the config; the result is float32.
    """

    _kind = "fp"


class TrueNegatives(_Count):
    """How many negative predictions are right.

    Args:
        thresholds: a number in [0, 1], or several, which give a number each. Default: 0.5.
        name: default: the class name in snake case.
        dtype: kept for the config; the result is float32.
    """

    _kind = "tn"


class FalseNegatives(_Count):
    """How many negative predictions are wrong.

    Args:
        thresholds: a number in [0, 1], or several, which give a number each. Default: 0.5.
        name: default: the class name in snake case.
        dtype: kept for the config; the result is float32.
    """

    _kind = "fn"


class _Share(Metric):
    """True positives, divided by them and what is wrong of one kind."""

    _direction = "up"
    _wrong: ClassVar[tuple[str, str]]

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.top_k = top_k
        self.class_id = class_id
        self.thresholds = thresholds_of(thresholds, 0.5 if top_k is None else NEVER)
        self._even = are_even(self.thresholds)
        shape = (len(self.thresholds),)
        self.true_positives = self.add_variable(shape, dtype="float64", name="true_positives")
        wrong = self.add_variable(shape, dtype="float64", name=self._wrong[1])
        setattr(self, self._wrong[1], wrong)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account."""
        update_counts(
            {"tp": self.true_positives, self._wrong[0]: getattr(self, self._wrong[1])},
            y_true,
            y_pred,
            self.thresholds,
            even=self._even,
            sample_weight=sample_weight,
            top_k=self.top_k,
            class_id=self.class_id,
        )

    def result(self) -> Any:
        """Returns the share so far, one for each threshold if there are several."""
        share = _share_of(self.true_positives.value, getattr(self, self._wrong[1]).value)
        return _for_each_threshold(share, self.thresholds)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "thresholds": self.init_thresholds,
            "top_k": self.top_k,
            "class_id": self.class_id,
        }


@planned
def _share_of(part: Any, rest: Any) -> Any:
    """Returns ``part / (part + rest)`` in float32, 0 where both are 0."""
    return ops.cast(ops.divide_no_nan(part, ops.add(part, rest)), "float32")


class Precision(_Share):
    """The share of positive predictions that is right.

    Args:
        thresholds: a number in [0, 1], or several, which give a number each. Default: 0.5.
        top_k: if given, the ``k`` largest predictions of each sample are positive, as far as
            they are above the thresholds.
        class_id: if given, only this class is looked at.
        name: default: the class name in snake case.
        dtype: kept for the config; the result is float32.

    Example:
        >>> m = Precision()
        >>> m.update_state([0, 1, 1, 1], [1.0, 0.0, 1.0, 1.0])
        >>> round(float(m.result()), 4)
        0.6667
    """

    _wrong = ("fp", "false_positives")


class Recall(_Share):
    """The share of positive targets that predictions find.

    Args:
        thresholds: a number in [0, 1], or several, which give a number each. Default: 0.5.
        top_k: if given, the ``k`` largest predictions of each sample are positive, as far as
            they are above the thresholds.
        class_id: if given, only this class is looked at.
        name: default: the class name in snake case.
        dtype: kept for the config; the result is float32.
    """

    _wrong = ("fn", "false_negatives")


class _BestUnder(Metric):
    """The largest of one ratio at the thresholds where another one is large enough.

    Args:
        value: how large.
        num_thresholds: how many thresholds divide [0, 1]; one is 0.5.
        class_id: if given, only this class is looked at.
        name: default: the class name in snake case.
        dtype: kept for the config; the result is float32.
    """

    _direction = "up"
    _asked: ClassVar[str]
    _constrained: ClassVar[tuple[str, str]]
    _dependent: ClassVar[tuple[str, str]]

    def __init__(
        self,
        value: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        if not 0 <= value <= 1:
            raise ValueError(
                f"Argument `{self._asked}` must be in the range [0, 1]. "
                f"Received: {self._asked}={value}"
            )
        super().__init__(name=name, dtype=dtype)
        if num_thresholds <= 0:
            raise ValueError(
                "Argument `num_thresholds` must be an integer > 0. "
                f"Received: num_thresholds={num_thresholds}"
            )
        setattr(self, self._asked, value)
        self.value = value
        self.num_thresholds = num_thresholds
        self.class_id = class_id
        last = num_thresholds - 1
        self.thresholds = [i / last for i in range(num_thresholds)] if last else [0.5]
        shape = (num_thresholds,)
        self.true_positives = self.add_variable(shape, dtype="float64", name="true_positives")
        self.false_positives = self.add_variable(shape, dtype="float64", name="false_positives")
        self.true_negatives = self.add_variable(shape, dtype="float64", name="true_negatives")
        self.false_negatives = self.add_variable(shape, dtype="float64", name="false_negatives")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account."""
        update_counts(
            {
                "tp": self.true_positives,
                "fp": self.false_positives,
                "tn": self.true_negatives,
                "fn": self.false_negatives,
            },
            y_true,
            y_pred,
            self.thresholds,
            even=self.num_thresholds > 1,
            sample_weight=sample_weight,
            class_id=self.class_id,
        )

    def result(self) -> Any:
        """Returns the best so far, 0 where no threshold is good enough."""
        part, rest, best_part, best_rest = (
            getattr(self, name).value for name in (*self._constrained, *self._dependent)
        )
        least = np.asarray(self.value, np.float32)
        return _best_where(part, rest, best_part, best_rest, least)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "class_id": self.class_id,
            "num_thresholds": self.num_thresholds,
            self._asked: self.value,
        }


@planned
def _best_where(part: Any, rest: Any, best_part: Any, best_rest: Any, least: Any) -> Any:
    """The largest share of the second kind where that of the first is at least ``least``."""
    feasible = ops.greater_equal(_share_of(part, rest), least)
    return ops.max(ops.where(feasible, _share_of(best_part, best_rest), 0.0))


_SENSITIVITY = ("true_positives", "false_negatives")
_SPECIFICITY = ("true_negatives", "false_positives")
_PRECISION = ("true_positives", "false_positives")


class SensitivityAtSpecificity(_BestUnder):
    """The best sensitivity at thresholds where the specificity is at least ``specificity``.

    Args:
        specificity: in [0, 1]: the share of negative targets that must be found.
        num_thresholds: how many thresholds divide [0, 1].
        class_id: if given, only this class is looked at.
        name: default: the class name in snake case.
        dtype: kept for the config; the result is float32.

    Example:
        >>> m = SensitivityAtSpecificity(0.5)
        >>> m.update_state([0, 0, 0, 1, 1], [0, 0.3, 0.8, 0.3, 0.8])
        >>> float(m.result())
        0.5
    """

    _asked = "specificity"
    _constrained, _dependent = _SPECIFICITY, _SENSITIVITY

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(specificity, num_thresholds, class_id, name, dtype)


class SpecificityAtSensitivity(_BestUnder):
    """The best specificity at thresholds where the sensitivity is at least ``sensitivity``.

    Args:
        sensitivity: in [0, 1]: the share of positive targets that must be found.
        num_thresholds: how many thresholds divide [0, 1].
        class_id: if given, only this class is looked at.
        name: default: the class name in snake case.
        dtype: kept for the config; the result is float32.
    """

    _asked = "sensitivity"
    _constrained, _dependent = _SENSITIVITY, _SPECIFICITY

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)


class PrecisionAtRecall(_BestUnder):
    """The best precision at thresholds where the recall is at least ``recall``.

    Args:
        recall: in [0, 1].
        num_thresholds: how many thresholds divide [0, 1].
        class_id: if given, only this class is looked at.
        name: default: the class name in snake case.
        dtype: kept for the config; the result is float32.
    """

    _asked = "recall"
    _constrained, _dependent = _SENSITIVITY, _PRECISION

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(recall, num_thresholds, class_id, name, dtype)


class RecallAtPrecision(_BestUnder):
    """The best recall at thresholds where the precision is at least ``precision``.

    Args:
        precision: in [0, 1].
        num_thresholds: how many thresholds divide [0, 1].
        class_id: if given, only this class is looked at.
        name: default: the class name in snake case.
        dtype: kept for the config; the result is float32.
    """

    _asked = "precision"
    _constrained, _dependent = _PRECISION, _SENSITIVITY

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(precision, num_thresholds, class_id, name, dtype)
