"""Losses, as functions and as classes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from handmill import config, ops
from handmill.errors import ShapeError
from handmill.ir.shapes import Batch, size_of
from handmill.ir.trace import mask_of
from handmill.lazy import plain_module
from handmill.primitives.operands import count_along, shape_of, widened
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object
from handmill.utils.naming import auto_name, known_names, object_name

REDUCTIONS = ("sum_over_batch_size", "sum", None, "none", "mean", "mean_with_sample_weight")


class Loss:
    """Base class: compares targets with predictions.

    Subclasses define ``call(y_true, y_pred)``, which returns one number a sample.

    Args:
        name: default: the class name in snake case.
        reduction: ``"sum_over_batch_size"``, ``"sum"``, ``"mean"``,
            ``"mean_with_sample_weight"`` or None.
        dtype: must be ``"float32"`` or None.

    Raises:
        ValueError: for an unknown reduction.
    """

    def __init__(
        self,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ) -> None:
        if reduction not in REDUCTIONS:
            raise ValueError(
                "Invalid value for argument `reduction`. Expected one of "
                f"{REDUCTIONS}. Received: reduction={reduction!r}"
            )
        self.name = name or auto_name(type(self).__name__)
        self.reduction = reduction

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one number a sample."""
        raise NotImplementedError(f"{type(self).__name__} must define call(y_true, y_pred)")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the reduced loss.

        Args:
            y_true: targets.
            y_pred: predictions.
            sample_weight: a factor for each sample.
        """
        mask = mask_of(y_pred)
        y_pred = widened(ops.convert_to_tensor(y_pred))
        y_true = widened(ops.convert_to_tensor(y_true))
        if {len(shape_of(y_true)), len(shape_of(y_pred))} == {1, 2}:
            y_true, y_pred = same_rank(y_true, y_pred)  # (n,) beside (n, 1) would make (n, n)
        return self.reduce(self.call(y_true, y_pred), sample_weight, mask)

    def reduce(self, values: Any, sample_weight: Any = None, mask: Any = None) -> Any:
        """Reduces one number a sample to a scalar.

        Args:
            values: what :meth:`call` gave.
            sample_weight: a factor for each sample.
            mask: which entries of the predictions count.
        """
        if (out_mask := mask_of(values)) is not None:
            mask = out_mask if mask is None else ops.logical_and(mask, out_mask)
        is_mean = self.reduction in ("mean", "sum_over_batch_size")
        weights = weights_of(sample_weight, mask, is_mean)
        if weights is not None:
            weights = ops.cast(weights, "float32")
            values, weights = same_rank(values, weights)
            values = ops.multiply(values, weights)
        shape = shape_of(values)
        if self.reduction in (None, "none") or shape == ():
            return values
        total = ops.sum(values)
        if self.reduction == "sum":
            return total
        if self.reduction == "mean_with_sample_weight" and weights is not None:
            return ops.divide_no_nan(total, ops.sum(weights))
        if weights is None and size_of(shape) != 0:
            return ops.mean(values)
        return ops.divide_no_nan(total, ops.cast(count_along(values, range(len(shape))), "float32"))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"name": self.name, "reduction": self.reduction}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a loss from its config."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class LossFunctionWrapper(Loss):
    """A loss made of a function ``(y_true, y_pred) -> one number a sample``.

    Args:
        fn: the function.
        reduction: see :class:`Loss`.
        name: default: the function's name.
        dtype: must be ``"float32"`` or None.
        **kwargs: further arguments of the function.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name or object_name(fn), reduction=reduction, dtype=dtype)
        self.fn = fn
        self._fn_kwargs = kwargs

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one number a sample."""
        if self.fn not in FUNCTIONS:  # which do so themselves
            y_true, y_pred = same_rank(y_true, y_pred)
        return self.fn(y_true, y_pred, **self._fn_kwargs)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        if type(self) is LossFunctionWrapper:
            config["fn"] = serialize_keras_object(self.fn)
        return {**config, **self._fn_kwargs}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a loss from its config."""
        arguments = dict(config)
        if "fn" in arguments:
            arguments["fn"] = deserialize_keras_object(
                arguments["fn"], module_objects=_TABLE, kind="loss"
            )
        return cls(**arguments)


def same_rank(x1: Any, x2: Any) -> tuple[Any, Any]:
    """Adds or removes a last axis of size 1, if ranks differ by one because of it."""
    s1, s2 = shape_of(x1), shape_of(x2)
    if len(s1) == len(s2) + 1 and s1[-1] == 1:
        if len(s2) == 1:
            return x1, ops.reshape(x2, (*s2, 1))
        return ops.reshape(x1, s1[:-1]), x2
    if len(s2) == len(s1) + 1 and s2[-1] == 1:
        if len(s1) == 1:
            return ops.reshape(x1, (*s1, 1)), x2
        return x1, ops.reshape(x2, s2[:-1])
    return x1, x2


def weights_of(sample_weight: Any, mask: Any, is_mean: bool) -> Any:
    """Merges a mask into sample weights.

    Args:
        sample_weight: float weights, or None.
        mask: the mask of the predictions, or None.
        is_mean: whether the weighted numbers are divided by the number of all entries, masked
            ones included: entries that count then weigh ``all / counting``.

    Returns:
        Weights, None if there are neither weights nor a mask.
    """
    if mask is None:
        return sample_weight
    mask = ops.convert_to_tensor(mask)
    weights = ops.cast(ops.cast(mask, "bool"), "float32")
    if is_mean:
        total = ops.cast(count_along(mask, range(len(shape_of(mask)))), "float32")
        weights = ops.multiply(weights, ops.divide_no_nan(total, ops.sum(weights)))
    if sample_weight is None:
        return weights
    weights, sample_weight = same_rank(weights, ops.cast(sample_weight, "float32"))
    return ops.multiply(sample_weight, weights)


def _pair(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    y_pred = _float(y_pred)
    y_true = ops.cast(ops.convert_to_tensor(y_true), ops.dtype(y_pred))
    y_true, y_pred = same_rank(y_true, y_pred)
    _check_broadcast(y_true, y_pred)
    return y_true, y_pred


def fixed_size(x: Any, axis: int) -> int:
    """Returns the size of an axis that is not the batch.

    Raises:
        ShapeError: if it is the batch.
    """
    size = shape_of(x)[axis]
    if isinstance(size, Batch):
        raise ShapeError("the axis of the classes is the batch axis")
    return size


def _float(x: Any) -> Any:
    x = ops.convert_to_tensor(x)
    return x if ops.dtype(x).startswith(("float", "bf")) else ops.cast(x, "float32")


def _check_broadcast(y_true: Any, y_pred: Any) -> None:
    s1, s2 = shape_of(y_true), shape_of(y_pred)
    for a, b in zip(reversed(s1), reversed(s2), strict=False):
        if a != b and 1 not in (a, b) and not isinstance(a, Batch) and not isinstance(b, Batch):
            raise ShapeError(
                f"loss: targets of shape {_shown(s1)} do not fit predictions of shape {_shown(s2)}"
                "\n  hint: the last layer needs as many units as each target has values"
            )


def _shown(shape: Any) -> tuple[Any, ...]:
    return tuple(None if isinstance(d, Batch) else d for d in shape)


def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of ``(y_true - y_pred) ** 2`` along the last axis.

    Example:
        >>> mean_squared_error([[0.0, 1.0]], [[1.0, 1.0]])
        array([0.5], dtype=float32)
    """
    y_true, y_pred = _pair(y_true, y_pred)
    return ops.mean(ops.square(ops.subtract(y_true, y_pred)), axis=-1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of ``|y_true - y_pred|`` along the last axis."""
    y_true, y_pred = _pair(y_true, y_pred)
    return ops.mean(ops.absolute(ops.subtract(y_true, y_pred)), axis=-1)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of ``100 * |(y_true - y_pred) / y_true|`` along the last axis."""
    y_true, y_pred = _pair(y_true, y_pred)
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
    y_true, y_pred = _pair(y_true, y_pred)
    size = ops.absolute(ops.subtract(y_pred, y_true))
    quadratic = ops.multiply(ops.square(size), 0.5)
    straight = ops.subtract(ops.multiply(size, float(delta)), 0.5 * delta * delta)
    return ops.mean(ops.where(ops.less_equal(size, float(delta)), quadratic, straight), axis=-1)


def kl_divergence(y_true: Any, y_pred: Any) -> Any:
    """Sum of ``y_true * log(y_true / y_pred)`` along the last axis, both clipped to [1e-7, 1]."""
    y_true, y_pred = _pair(y_true, y_pred)
    y_true = ops.clip(y_true, config.epsilon(), 1.0)
    y_pred = ops.clip(y_pred, config.epsilon(), 1.0)
    return ops.sum(ops.multiply(y_true, ops.log(ops.divide(y_true, y_pred))), axis=-1)


def binary_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """Cross-entropy of yes-or-no targets, averaged along ``axis``.

    Args:
        y_true: 0 or 1.
        y_pred: probabilities, or logits.
        from_logits: whether ``y_pred`` are logits.
        label_smoothing: how far targets are moved towards 0.5.
        axis: the axis of the mean.
    """
    y_pred = _float(y_pred)
    y_true = ops.cast(ops.convert_to_tensor(y_true), ops.dtype(y_pred))
    y_true, y_pred = same_rank(y_true, y_pred)
    _check_broadcast(y_true, y_pred)
    if label_smoothing:
        y_true = ops.add(ops.multiply(y_true, 1.0 - label_smoothing), 0.5 * label_smoothing)
    return ops.mean(ops.binary_crossentropy(y_true, y_pred, from_logits=from_logits), axis=axis)


def categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """Cross-entropy of targets given as probabilities (one-hot rows).

    Args:
        y_true: one row of probabilities a sample.
        y_pred: probabilities, or logits.
        from_logits: whether ``y_pred`` are logits.
        label_smoothing: how far targets are moved towards the uniform distribution.
        axis: the axis of the classes.
    """
    _check_axis(axis)
    y_pred = _float(y_pred)
    y_true = ops.cast(ops.convert_to_tensor(y_true), ops.dtype(y_pred))
    shape = shape_of(y_pred)
    if shape and shape[-1] == 1:
        warnings.warn(
            "In loss categorical_crossentropy, expected y_pred.shape to be (batch_size, "
            f"num_classes) with num_classes > 1. Received: y_pred.shape={_shown(shape)}. "
            "Consider using 'binary_crossentropy' if you only have 2 classes.",
            SyntaxWarning,
            stacklevel=2,
        )
    if label_smoothing:
        classes = fixed_size(y_true, -1)
        y_true = ops.add(ops.multiply(y_true, 1.0 - label_smoothing), label_smoothing / classes)
    return ops.categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)


def sparse_categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Any:
    """Cross-entropy of targets given as class numbers.

    Args:
        y_true: one class number a sample.
        y_pred: probabilities, or logits, of each class.
        from_logits: whether ``y_pred`` are logits.
        ignore_class: a class number whose samples do not count.
        axis: the axis of the classes.
    """
    return _sparse(y_true, y_pred, from_logits, ignore_class, axis)[0]


def _sparse(
    y_true: Any, y_pred: Any, from_logits: bool, ignore_class: int | None, axis: int
) -> tuple[Any, Any]:
    """Returns the loss of each sample, and which samples count (None: all)."""
    _check_axis(axis)
    y_pred, y_true = _float(y_pred), ops.convert_to_tensor(y_true)
    labels, scores = shape_of(y_true), shape_of(y_pred)
    if len(labels) == len(scores) and labels and labels[axis] == 1:
        position = axis % len(labels)
        y_true = ops.reshape(y_true, (*labels[:position], *labels[position + 1 :]))
        labels = shape_of(y_true)
    if len(labels) != len(scores) - 1:
        raise ValueError(
            "Arguments `target` and `output` must have the same shape up until the last "
            f"dimension: target.shape={_shown(labels)}, output.shape={_shown(scores)}"
            + _one_hot_hint(labels, scores)
        )
    if ignore_class is None:
        return ops.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=from_logits, axis=axis
        ), None
    counts = ops.not_equal(y_true, ops.cast(np.asarray(ignore_class), ops.dtype(y_true)))
    y_true = ops.where(counts, y_true, ops.zeros_like(y_true))
    loss = ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)
    return ops.where(counts, loss, ops.zeros_like(loss)), counts


def _one_hot_hint(labels: Any, scores: Any) -> str:
    if len(labels) == len(scores) and labels[-1] == scores[-1]:
        return (
            "\n  hint: for one-hot labels write loss='categorical_crossentropy', or give class "
            "numbers (class_mode='sparse')"
        )
    return ""


def _check_axis(axis: Any) -> None:
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise ValueError(f"`axis` must be of type `int`. Received: axis={axis} of {type(axis)}")


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


class KLDivergence(LossFunctionWrapper):
    """Kullback-Leibler divergence of the prediction from the target.

    Args:
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "kl_divergence",
        dtype: Any = None,
    ) -> None:
        super().__init__(kl_divergence, reduction, name, dtype)


class BinaryCrossentropy(LossFunctionWrapper):
    """Cross-entropy of yes-or-no targets.

    Args:
        from_logits: whether predictions are logits.
        label_smoothing: how far targets are moved towards 0.5.
        axis: the axis of the mean.
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            binary_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalCrossentropy(LossFunctionWrapper):
    """Cross-entropy of targets given as probabilities (one-hot rows).

    Args:
        from_logits: whether predictions are logits.
        label_smoothing: how far targets are moved towards the uniform distribution.
        axis: the axis of the classes.
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class SparseCategoricalCrossentropy(LossFunctionWrapper):
    """Cross-entropy of targets given as class numbers.

    Args:
        from_logits: whether predictions are logits.
        ignore_class: a class number whose samples do not count.
        reduction: see :class:`Loss`.
        axis: the axis of the classes.
        name: the loss's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            sparse_categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=ignore_class,
            axis=axis,
        )

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the reduced loss; ignored samples do not count in a mean."""
        if self._fn_kwargs["ignore_class"] is None:
            return super().__call__(y_true, y_pred, sample_weight)
        values, counts = _sparse(y_true, y_pred, **self._fn_kwargs)
        weights = ops.cast(counts, "float32")
        if self.reduction in ("mean", "sum_over_batch_size"):
            every = ops.cast(count_along(weights, range(len(shape_of(weights)))), "float32")
            weights = ops.multiply(weights, ops.divide_no_nan(every, ops.sum(weights)))
        if sample_weight is not None:
            weights = ops.multiply(*same_rank(weights, ops.cast(sample_weight, "float32")))
        return self.reduce(values, weights)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        if config["axis"] == -1:
            del config["axis"]
        return config


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
_TABLE: dict[str, Any] = {
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
    if identifier is None:
        return None
    if isinstance(identifier, dict | str):
        return deserialize(identifier)
    if isinstance(identifier, type):
        return identifier()
    if callable(identifier):
        return identifier
    raise ValueError(f"Could not interpret loss identifier: {identifier!r}")


def serialize(loss: Any) -> Any:
    """Returns a loss as a config dictionary."""
    return serialize_keras_object(loss)


def deserialize(name: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes a loss from its name or config dictionary."""
    if isinstance(name, str) and name in ("crossentropy", "ce"):
        raise ValueError(
            f"{name!r} depends on the shapes of targets and predictions; it is a name for "
            f"compile() only. {known_names('loss', name, _TABLE)}"
        )
    return deserialize_keras_object(name, custom_objects, _TABLE, kind="loss")


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


__getattr__ = plain_module(__name__)
