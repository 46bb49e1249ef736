"""Losses by name: ``get``, ``serialize``, ``deserialize``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from handmill.losses.focal import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    binary_focal_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
)
from handmill.losses.hinges import (
    CategoricalHinge,
    Hinge,
    SquaredHinge,
    categorical_hinge,
    hinge,
    squared_hinge,
)
from handmill.losses.loss import Loss, LossFunctionWrapper
from handmill.losses.overlap import Dice, Tversky, dice, tversky
from handmill.losses.probabilistic import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    KLDivergence,
    Poisson,
    SparseCategoricalCrossentropy,
    binary_crossentropy,
    categorical_crossentropy,
    kl_divergence,
    poisson,
    sparse_categorical_crossentropy,
)
from handmill.losses.regression import (
    CosineSimilarity,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    cosine_similarity,
    huber,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
)
from handmill.losses.sequences import CTC, ctc
from handmill.losses.similarity import Circle, circle
from handmill.naming import known_names, object_name
from handmill.saving.objects import deserialize_keras_object, interpret, serialize_keras_object

CLASS_OF_FUNCTION: dict[Callable[..., Any], type[Loss]] = {
    mean_squared_error: MeanSquaredError,
    mean_absolute_error: MeanAbsoluteError,
    mean_absolute_percentage_error: MeanAbsolutePercentageError,
    mean_squared_logarithmic_error: MeanSquaredLogarithmicError,
    cosine_similarity: CosineSimilarity,
    log_cosh: LogCosh,
    huber: Huber,
    hinge: Hinge,
    squared_hinge: SquaredHinge,
    categorical_hinge: CategoricalHinge,
    kl_divergence: KLDivergence,
    poisson: Poisson,
    binary_crossentropy: BinaryCrossentropy,
    binary_focal_crossentropy: BinaryFocalCrossentropy,
    categorical_crossentropy: CategoricalCrossentropy,
    categorical_focal_crossentropy: CategoricalFocalCrossentropy,
    categorical_generalized_cross_entropy: CategoricalGeneralizedCrossEntropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
    dice: Dice,
    tversky: Tversky,
    circle: Circle,
    ctc: CTC,
}

FUNCTIONS: tuple[Callable[..., Any], ...] = tuple(CLASS_OF_FUNCTION)


TABLE: dict[str, Any] = {
    **{cls.__name__: cls for cls in CLASS_OF_FUNCTION.values()},
    **{f.__name__: f for f in CLASS_OF_FUNCTION},
    "mse": mean_squared_error,
    "MSE": mean_squared_error,
    "mae": mean_absolute_error,
    "MAE": mean_absolute_error,
    "mape": mean_absolute_percentage_error,
    "MAPE": mean_absolute_percentage_error,
    "bce": binary_crossentropy,
    "BCE": binary_crossentropy,
    "msle": mean_squared_logarithmic_error,
    "MSLE": mean_squared_logarithmic_error,
    "kld": kl_divergence,
    "KLD": kl_divergence,
}


def get(identifier: Any) -> Any:
    """Returns the loss that ``identifier`` means: a Loss or a function.

    Args:
        identifier: None, a name, a Loss, a function, or a config dictionary.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.

    Example:
        >>> get("mse").__name__
        'mean_squared_error'
    """
    return interpret(identifier, "loss", deserialize)


def serialize(loss: Any) -> Any:
    """Returns a loss as a config dictionary."""
    return serialize_keras_object(loss)


def deserialize(name: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes a loss from its name or config dictionary."""
    if isinstance(name, str) and name in ("crossentropy", "ce"):
        raise ValueError(
            f"{name!r} depends on the shapes of targets and predictions; it is a name for "
            f"compile() only. {known_names('loss', name, TABLE)}"
        )
    return deserialize_keras_object(name, custom_objects, module_objects=TABLE, kind="loss")


def resolve(identifier: Any, y_true_shape: tuple[Any, ...], y_pred_shape: tuple[Any, ...]) -> Any:
    """Returns a Loss for ``identifier``; ``"crossentropy"`` is settled by the shapes.

    Args:
        identifier: what :func:`get` takes, or ``"crossentropy"`` or ``"ce"``.
        y_true_shape: the shape of the targets.
        y_pred_shape: the shape of the predictions.
    """
    if isinstance(identifier, str) and identifier.lower() in ("crossentropy", "ce"):
        found = {
            "binary": binary_crossentropy,
            "sparse": sparse_categorical_crossentropy,
            "categorical": categorical_crossentropy,
        }[kind_of_targets(y_true_shape, y_pred_shape)]
    else:
        found = get(identifier)
    if isinstance(found, Loss):
        if "_dtype" not in vars(found):
            raise RuntimeError(
                f"the __init__() of the loss {type(found).__name__} did not call super().__init__()"
            )
        return found
    function: Any = found
    name = identifier if isinstance(identifier, str) else object_name(function)
    if function in (sparse_categorical_crossentropy, circle):  # whose classes know what counts
        return CLASS_OF_FUNCTION[function](name=name)
    return LossFunctionWrapper(function, name=name)


def kind_of_targets(y_true_shape: tuple[Any, ...], y_pred_shape: tuple[Any, ...]) -> str:
    """``"binary"``, ``"sparse"`` or ``"categorical"``, as Keras tells them apart by shapes."""
    if y_pred_shape[-1] == 1:
        return "binary"
    if len(y_true_shape) < len(y_pred_shape) or (y_true_shape[-1] == 1 and y_pred_shape[-1] != 1):
        return "sparse"
    return "categorical"
