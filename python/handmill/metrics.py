"""Metrics: numbers accumulated over batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from handmill import losses, ops
from handmill.ir.graph import current_graph
from handmill.ir.op import Array
from handmill.ir.shapes import Batch, numpy_dtype
from handmill.ir.trace import mask_of
from handmill.lazy import plain_module
from handmill.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    fixed_size,
    kind_of_targets,
    kl_divergence,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    same_rank,
    sparse_categorical_crossentropy,
    weights_of,
)
from handmill.primitives.metrics import accumulate_mean, dense_match, sparse_match
from handmill.primitives.operands import count_along, shape_of, widened
from handmill.runtime.variable import Variable
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object
from handmill.utils.naming import auto_name, object_name, to_snake_case


class Metric:
    """Base class: state, ``update_state``, ``result``, ``reset_state``.

    ``update_state`` is written with functions of ``handmill.ops``; inside ``fit`` it becomes
    part of the training step.

    Args:
        dtype: must be ``"float32"`` or None.
        name: default: the class name in snake case.
    """

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        self.name = name or auto_name(type(self).__name__)
        self._dtype = "float32" if dtype is None else str(dtype)
        self._variables: list[Variable] = []
        self._zeros: list[Array] = []
        self._inner: list[Metric] = []

    def add_variable(
        self,
        shape: tuple[int, ...],
        initializer: Any = "zeros",
        dtype: str | None = None,
        aggregation: str = "sum",
        name: str | None = None,
    ) -> Variable:
        """Makes a variable that ``reset_state`` sets to zero."""
        from handmill import initializers

        made = initializers.get(initializer)
        name = name or "variable"
        variable = Variable(made, shape, dtype or self._dtype, trainable=False, name=name)
        variable.path = f"{self.name}/{name}"
        self._variables.append(variable)
        return variable

    def add_weight(
        self,
        shape: tuple[int, ...] = (),
        initializer: Any = "zeros",
        dtype: str | None = None,
        name: str | None = None,
    ) -> Variable:
        """Makes a variable; the older name of :meth:`add_variable`."""
        return self.add_variable(shape, initializer or "zeros", dtype, name=name)

    @property
    def variables(self) -> list[Variable]:
        """The state."""
        found = list(self._variables)
        for value in vars(self).values():
            if isinstance(value, Metric):
                found += value.variables
        return found

    @property
    def dtype(self) -> str:
        """The dtype of the result."""
        return self._dtype

    def update_state(self, *args: Any, **kwargs: Any) -> Any:
        """Takes a batch into account."""
        raise NotImplementedError(f"{type(self).__name__} must define update_state()")

    def result(self) -> Any:
        """Returns the current number."""
        raise NotImplementedError(f"{type(self).__name__} must define result()")

    def reset_state(self) -> None:
        """Starts again."""
        if len(self._zeros) != len(self._variables):
            inner = [v for v in vars(self).values() if isinstance(v, Metric)]
            self._inner = inner
            self._zeros = [np.zeros(v.shape, numpy_dtype(v.dtype)) for v in self._variables]
        for variable, zeros in zip(self._variables, self._zeros, strict=True):
            variable.state.write(zeros)
        for metric in self._inner:
            metric.reset_state()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Updates, then returns the result."""
        self.update_state(*args, **kwargs)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"name": self.name, "dtype": self._dtype}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a metric from its config."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class Mean(Metric):
    """The mean, weighted if weights are given. Sums are float64.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.

    Example:
        >>> m = Mean()
        >>> m.update_state([1.0, 3.0, 5.0, 7.0])
        >>> float(m.result())
        4.0
    """

    def __init__(self, name: str = "mean", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), dtype="float64", name="total")
        self.count = self.add_variable((), dtype="float64", name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Takes ``values`` into account.

        Args:
            values: any shape.
            sample_weight: weights, for samples or for each value.
        """
        values = ops.cast(ops.convert_to_tensor(values), "float32")
        if sample_weight is None:
            weights: Any = np.float32(1.0)
        else:
            weights = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
            values, weights = same_rank(values, weights)
            rank = len(shape_of(weights))
            if rank < len(shape_of(values)):
                values = ops.mean(values, axis=tuple(range(rank, len(shape_of(values)))))
        total, count = accumulate_mean(self.total.value, self.count.value, values, weights)
        self.total.assign(total)
        self.count.assign(count)

    def result(self) -> Any:
        """Returns the mean so far, 0 if nothing was seen."""
        if current_graph() is not None:
            return ops.cast(ops.divide_no_nan(self.total, self.count), "float32")
        count = self.count.read().item()
        return np.float32(self.total.read().item() / count if count else 0.0)


class Sum(Metric):
    """The sum, weighted if weights are given.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(self, name: str = "sum", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), dtype="float64", name="total")
        self._seen = self.add_variable((), dtype="float64", name="seen")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Takes ``values`` into account."""
        values = ops.cast(ops.convert_to_tensor(values), "float32")
        weights: Any = np.float32(1.0)
        if sample_weight is not None:
            weights = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
            values, weights = same_rank(values, weights)
            missing = len(shape_of(values)) - len(shape_of(weights))
            if missing > 0:
                weights = ops.reshape(weights, (*shape_of(weights), *(1,) * missing))
        total, seen = accumulate_mean(self.total.value, self._seen.value, values, weights)
        self.total.assign(total)
        self._seen.assign(seen)

    def result(self) -> Any:
        """Returns the sum so far."""
        if current_graph() is not None:
            return ops.cast(self.total, "float32")
        return np.float32(self.total.read())


class MeanMetricWrapper(Mean):
    """The mean of a function of targets and predictions.

    Args:
        fn: ``(y_true, y_pred, **kwargs) -> one number a sample``.
        name: default: the function's name.
        dtype: must be ``"float32"`` or None.
        **kwargs: further arguments of the function.
    """

    def __init__(
        self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name or object_name(fn), dtype=dtype)
        self._fn = fn
        self._fn_kwargs = kwargs
        self._direction = _direction_of(fn)

    def update_state(  # type: ignore[override]  # as in Keras: targets and predictions
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Takes a batch into account."""
        sample_weight = weights_of(sample_weight, mask_of(y_pred), is_mean=False)
        y_true, y_pred = (widened(ops.convert_to_tensor(y)) for y in (y_true, y_pred))
        if self._direction is None:  # a user's function; the others align ranks themselves
            y_true, y_pred = same_rank(y_true, y_pred)
        values = self._fn(y_true, y_pred, **self._fn_kwargs)
        super().update_state(values, sample_weight=sample_weight)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        if type(self) is MeanMetricWrapper:
            config["fn"] = serialize_keras_object(self._fn)
        return {**config, **self._fn_kwargs}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a metric from its config."""
        arguments = dict(config)
        if "fn" in arguments:
            arguments["fn"] = deserialize_keras_object(
                arguments["fn"], module_objects=_TABLE, kind="metric"
            )
        return cls(**arguments)


def _direction_of(fn: Callable[..., Any]) -> str | None:
    """``"up"`` where more is better, ``"down"`` where less is; None for functions of users."""
    if fn in losses.FUNCTIONS:
        return "down"
    accuracies = (
        accuracy, binary_accuracy, categorical_accuracy, sparse_categorical_accuracy,
        top_k_categorical_accuracy, sparse_top_k_categorical_accuracy,
    )  # fmt: skip
    return "up" if fn in accuracies else None


def accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where targets equal predictions, else 0."""
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.cast(ops.convert_to_tensor(y_true), ops.dtype(y_pred))
    return ops.cast(ops.equal(*same_rank(y_true, y_pred)), "float32")


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Any:
    """1 where ``y_pred > threshold`` is right, else 0."""
    y_true, y_pred = same_rank(ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred))
    guessed = ops.cast(ops.greater(y_pred, float(threshold)), "float32")
    return ops.cast(ops.equal(ops.cast(y_true, "float32"), guessed), "float32")


def categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where the largest entries of targets and predictions are at the same place, else 0."""
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    if len(shape_of(y_true)) != len(shape_of(y_pred)):
        y_true, y_pred = same_rank(y_true, y_pred)
    return dense_match(y_true, y_pred)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where the largest entry of the prediction is at the target's place, else 0."""
    return sparse_match(_labels(y_true, y_pred), ops.convert_to_tensor(y_pred))


def _labels(y_true: Any, y_pred: Any) -> Any:
    """Class numbers without a last axis of size 1."""
    y_true = ops.convert_to_tensor(y_true)
    shape = shape_of(y_true)
    if len(shape) == len(shape_of(y_pred)) and shape[-1] == 1:
        return ops.reshape(y_true, shape[:-1])
    return y_true


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Any:
    """1 where fewer than ``k`` entries of the prediction exceed the target's entry, else 0."""
    y_pred = ops.cast(ops.convert_to_tensor(y_pred), "float32")
    labels = ops.cast(_labels(y_true, y_pred), "int32")
    chosen = ops.one_hot(labels, fixed_size(y_pred, -1))
    return _in_top(chosen, y_pred, k)


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Any:
    """As the sparse form, for one-hot targets."""
    y_pred = ops.cast(ops.convert_to_tensor(y_pred), "float32")
    return sparse_top_k_categorical_accuracy(ops.argmax(y_true, axis=-1), y_pred, k)


def _in_top(chosen: Any, y_pred: Any, k: int) -> Any:
    own = ops.sum(ops.multiply(chosen, y_pred), axis=-1, keepdims=True)
    larger = ops.sum(ops.cast(ops.greater(y_pred, own), "float32"), axis=-1)
    return ops.cast(ops.less(larger, float(k)), "float32")


class Accuracy(MeanMetricWrapper):
    """How often predictions equal targets.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(self, name: str = "accuracy", dtype: Any = None) -> None:
        super().__init__(accuracy, name, dtype)


class BinaryAccuracy(MeanMetricWrapper):
    """How often predictions above a threshold are right.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
        threshold: predictions above it mean 1.
    """

    def __init__(
        self, name: str = "binary_accuracy", dtype: Any = None, threshold: float = 0.5
    ) -> None:
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)


class CategoricalAccuracy(MeanMetricWrapper):
    """How often the most likely class is right, for one-hot targets.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(self, name: str = "categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(categorical_accuracy, name, dtype)


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """How often the most likely class is right, for class numbers.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.

    Example:
        >>> m = SparseCategoricalAccuracy()
        >>> m.update_state([1, 0], [[0.1, 0.9], [0.2, 0.8]])
        >>> float(m.result())
        0.5
    """

    def __init__(self, name: str = "sparse_categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(sparse_categorical_accuracy, name, dtype)


class TopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the right class is among the ``k`` most likely, for one-hot targets.

    Args:
        k: how many.
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(
        self, k: int = 5, name: str = "top_k_categorical_accuracy", dtype: Any = None
    ) -> None:
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the right class is among the ``k`` most likely, for class numbers.

    Args:
        k: how many.
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(
        self, k: int = 5, name: str = "sparse_top_k_categorical_accuracy", dtype: Any = None
    ) -> None:
        super().__init__(sparse_top_k_categorical_accuracy, name, dtype, k=k)


class MeanSquaredError(MeanMetricWrapper):
    """Mean of ``(y_true - y_pred) ** 2``.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(self, name: str = "mean_squared_error", dtype: Any = None) -> None:
        super().__init__(mean_squared_error, name, dtype)


class RootMeanSquaredError(Mean):
    """Square root of the mean of ``(y_true - y_pred) ** 2`` over all elements.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
    """

    _direction = "down"

    def __init__(self, name: str = "root_mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(  # type: ignore[override]  # as in Keras: targets and predictions
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Takes a batch into account."""
        y_true, y_pred = (widened(ops.convert_to_tensor(y)) for y in (y_true, y_pred))
        y_true, y_pred = same_rank(y_true, y_pred)
        errors = ops.subtract(y_pred, ops.cast(y_true, ops.dtype(y_pred)))
        super().update_state(ops.square(errors), sample_weight=sample_weight)

    def result(self) -> Any:
        """Returns the square root of the mean so far."""
        return ops.sqrt(super().result())


class MeanAbsoluteError(MeanMetricWrapper):
    """Mean of ``|y_true - y_pred|``.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(self, name: str = "mean_absolute_error", dtype: Any = None) -> None:
        super().__init__(mean_absolute_error, name, dtype)


class MeanAbsolutePercentageError(MeanMetricWrapper):
    """Mean of ``100 * |(y_true - y_pred) / y_true|``.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(self, name: str = "mean_absolute_percentage_error", dtype: Any = None) -> None:
        super().__init__(mean_absolute_percentage_error, name, dtype)


class KLDivergence(MeanMetricWrapper):
    """Kullback-Leibler divergence.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
    """

    def __init__(self, name: str = "kl_divergence", dtype: Any = None) -> None:
        super().__init__(kl_divergence, name, dtype)


class BinaryCrossentropy(MeanMetricWrapper):
    """Cross-entropy of yes-or-no targets.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
        from_logits: whether predictions are logits.
        label_smoothing: how far targets are moved towards 0.5.
    """

    def __init__(
        self,
        name: str = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
    ) -> None:
        super().__init__(
            binary_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
        )


class CategoricalCrossentropy(MeanMetricWrapper):
    """Cross-entropy of one-hot targets.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
        from_logits: whether predictions are logits.
        label_smoothing: how far targets are moved towards the uniform distribution.
        axis: the axis of the classes.
    """

    def __init__(
        self,
        name: str = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
        axis: int = -1,
    ) -> None:
        super().__init__(
            categorical_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class SparseCategoricalCrossentropy(MeanMetricWrapper):
    """Cross-entropy of class numbers.

    Args:
        name: the metric's name.
        dtype: must be ``"float32"`` or None.
        from_logits: whether predictions are logits.
        ignore_class: not supported in the metric; must be None.
        axis: the axis of the classes.
    """

    def __init__(
        self,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: None = None,
        axis: int = -1,
    ) -> None:
        if ignore_class is not None:
            raise ValueError("`ignore_class` is not supported in the metric yet")
        super().__init__(
            sparse_categorical_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=None,
            axis=axis,
        )


_CLASSES: tuple[type[Metric], ...] = (
    Mean, Sum, MeanMetricWrapper, Accuracy, BinaryAccuracy, CategoricalAccuracy,
    SparseCategoricalAccuracy, TopKCategoricalAccuracy, SparseTopKCategoricalAccuracy,
    MeanSquaredError, RootMeanSquaredError, MeanAbsoluteError, MeanAbsolutePercentageError,
    KLDivergence, BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy,
)  # fmt: skip
_TABLE: dict[str, Any] = {
    **{cls.__name__: cls for cls in _CLASSES},
    **{to_snake_case(cls.__name__): cls for cls in _CLASSES},
    "mse": MeanSquaredError,
    "MSE": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "MAE": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "MAPE": MeanAbsolutePercentageError,
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
    if identifier is None:
        return None
    if isinstance(identifier, dict | str):
        return deserialize(identifier)
    if isinstance(identifier, type):
        return identifier()
    if callable(identifier):
        return identifier
    raise ValueError(f"Could not interpret metric identifier: {identifier!r}")


def serialize(metric: Any) -> Any:
    """Returns a metric as a config dictionary."""
    return serialize_keras_object(metric)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes a metric from its name or config dictionary."""
    return deserialize_keras_object(config, custom_objects, _TABLE, kind="metric")


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
    if isinstance(identifier, str):
        found.name = identifier
    return found


def batch_size_of(x: Any) -> Any:
    """The number of rows of ``x`` as a float32 value: the weight of a batch's loss."""
    shape = shape_of(x)
    size = shape[0] if shape else 1
    return count_along(x, (0,)) if isinstance(size, Batch) else np.float32(size)


__getattr__ = plain_module(__name__)
