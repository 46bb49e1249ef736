"""Metrics by name: ``get``, ``serialize``, ``deserialize``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from handmill import losses
from handmill.losses.registry import FUNCTIONS, kind_of_targets
from handmill.losses.regression import cosine
from handmill.metrics.accuracies import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
    accuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from handmill.metrics.auc import AUC
from handmill.metrics.correlation import (
    ConcordanceCorrelation,
    PearsonCorrelation,
    R2Score,
    concordance_correlation,
    pearson_correlation,
)
from handmill.metrics.decisions import (
    FalseNegatives,
    FalsePositives,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from handmill.metrics.f_score import F1Score, FBetaScore
from handmill.metrics.hinges import CategoricalHinge, Hinge, SquaredHinge
from handmill.metrics.iou import BinaryIoU, IoU, MeanIoU, OneHotIoU, OneHotMeanIoU
from handmill.metrics.metric import Metric
from handmill.metrics.probabilistic import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    KLDivergence,
    Poisson,
    SparseCategoricalCrossentropy,
)
from handmill.metrics.reduction import Mean, MeanMetricWrapper, Sum
from handmill.metrics.regression import (
    CosineSimilarity,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    RootMeanSquaredError,
)
from handmill.naming import object_name, to_snake_case
from handmill.saving.objects import deserialize_keras_object, interpret, serialize_keras_object

_CLASSES: tuple[type[Metric], ...] = (
    Mean, Sum, MeanMetricWrapper, Accuracy, BinaryAccuracy, CategoricalAccuracy,
    SparseCategoricalAccuracy, TopKCategoricalAccuracy, SparseTopKCategoricalAccuracy,
    MeanSquaredError, RootMeanSquaredError, MeanAbsoluteError, MeanAbsolutePercentageError,
    MeanSquaredLogarithmicError, LogCoshError, CosineSimilarity,
    KLDivergence, Poisson, BinaryCrossentropy, CategoricalCrossentropy,
    SparseCategoricalCrossentropy, Hinge, SquaredHinge, CategoricalHinge,
    TruePositives, FalsePositives, TrueNegatives, FalseNegatives, Precision, Recall, AUC,
    SensitivityAtSpecificity, SpecificityAtSensitivity, PrecisionAtRecall, RecallAtPrecision,
    F1Score, FBetaScore, IoU, BinaryIoU, MeanIoU, OneHotIoU, OneHotMeanIoU,
    R2Score, PearsonCorrelation, ConcordanceCorrelation,
)  # fmt: skip


TABLE: dict[str, Any] = {
    **{cls.__name__: cls for cls in _CLASSES},
    **{to_snake_case(cls.__name__): cls for cls in _CLASSES},
    "mse": MeanSquaredError,
    "MSE": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "MAE": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "MAPE": MeanAbsolutePercentageError,
    "msle": MeanSquaredLogarithmicError,
    "MSLE": MeanSquaredLogarithmicError,
    "rmse": RootMeanSquaredError,
    "bce": BinaryCrossentropy,
    "kld": KLDivergence,
    "huber": losses.huber,
}


def get(identifier: Any) -> Any:
    """Returns the metric that ``identifier`` means: a Metric or a function.

    Args:
        identifier: None, a name, a Metric, a function, or a config dictionary.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    return interpret(identifier, "metric", deserialize)


def serialize(metric: Any) -> Any:
    """Returns a metric as a config dictionary."""
    return serialize_keras_object(metric)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes a metric from its name or config dictionary."""
    return deserialize_keras_object(config, custom_objects, module_objects=TABLE, kind="metric")


def resolve(identifier: Any, y_true_shape: tuple[Any, ...], y_pred_shape: tuple[Any, ...]) -> Any:
    """Returns a Metric for ``identifier``; ``"accuracy"`` is settled by the shapes.

    Args:
        identifier: what :func:`get` takes, or ``"accuracy"`` or ``"acc"``.
        y_true_shape: the shape of the targets.
        y_pred_shape: the shape of the predictions.
    """
    if isinstance(identifier, str) and identifier.lower() in ("accuracy", "acc"):
        kinds: dict[str, Callable[..., Metric]] = {
            "binary": BinaryAccuracy,
            "sparse": SparseCategoricalAccuracy,
            "categorical": CategoricalAccuracy,
        }
        return kinds[kind_of_targets(y_true_shape, y_pred_shape)](name=identifier)
    found = get(identifier)
    if not isinstance(found, Metric):
        name = identifier if isinstance(identifier, str) else object_name(found)
        return MeanMetricWrapper(found, name=name)
    if "_variables" not in vars(found):
        raise RuntimeError(
            f"the __init__() of the metric {type(found).__name__} did not call super().__init__()"
        )
    if isinstance(identifier, str):
        found.name = identifier
    return found


def direction_of(fn: Callable[..., Any]) -> str | None:
    """``"up"`` where more is better, ``"down"`` where less is; None for functions of users."""
    if fn in FUNCTIONS:
        return "down"
    of_more = (
        accuracy, binary_accuracy, categorical_accuracy, sparse_categorical_accuracy,
        top_k_categorical_accuracy, sparse_top_k_categorical_accuracy, cosine, pearson_correlation,
        concordance_correlation,
    )  # fmt: skip
    return "up" if fn in of_more else None
