"""Losses by name: ``get``, ``serialize``, ``deserialize``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from handmill.losses.loss import Loss, LossFunctionWrapper
from handmill.losses.probabilistic import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    KLDivergence,
    SparseCategoricalCrossentropy,
    binary_crossentropy,
    categorical_crossentropy,
    kl_divergence,
    sparse_categorical_crossentropy,
)
from handmill.losses.regression import (
    Huber,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    huber,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
)
from handmill.naming import known_names, object_name
from handmill.saving.objects import deserialize_keras_object, interpret, serialize_keras_object

_CLASSES: tuple[type[Loss], ...] = (
    MeanSquaredError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    Huber,
    KLDivergence,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
)


FUNCTIONS: tuple[Callable[..., Any], ...] = (
    mean_squared_error,
    mean_absolute_error,
    mean_absolute_percentage_error,
    huber,
    kl_divergence,
    binary_crossentropy,
    categorical_crossentropy,
    sparse_categorical_crossentropy,
)


TABLE: dict[str, Any] = {
    **{cls.__name__: cls for cls in _CLASSES},
    **{f.__name__: f for f in FUNCTIONS},
    "mse": mean_squared_error,
    "MSE": mean_squared_error,
    "mae": mean_absolute_error,
    "MAE": mean_absolute_error,
    "mape": mean_absolute_percentage_error,
    "MAPE": mean_absolute_percentage_error,
    "bce": binary_crossentropy,
    "BCE": binary_crossentropy,
    "kld": kl_divergence,
    "KLD": kl_divergence,
}


CLASS_OF_FUNCTION: dict[Callable[..., Any], type[Loss]] = dict(
    zip(FUNCTIONS, _CLASSES, strict=True)
)


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
    return deserialize_keras_object(name, custom_objects, TABLE, kind="loss")


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
        return found
    name = identifier if isinstance(identifier, str) else object_name(found)
    if found is sparse_categorical_crossentropy:
        return SparseCategoricalCrossentropy(name=name)
    return LossFunctionWrapper(found, name=name)


def kind_of_targets(y_true_shape: tuple[Any, ...], y_pred_shape: tuple[Any, ...]) -> str:
    """``"binary"``, ``"sparse"`` or ``"categorical"``, as Keras tells them apart by shapes."""
    if y_pred_shape[-1] == 1:
        return "binary"
    if len(y_true_shape) < len(y_pred_shape) or (y_true_shape[-1] == 1 and y_pred_shape[-1] != 1):
        return "sparse"
    return "categorical"
