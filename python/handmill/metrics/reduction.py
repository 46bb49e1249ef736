"""Metrics that accumulate: means and sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from handmill import ops
from handmill.ir.dims import SymbolicDim
from handmill.ir.graph import current_graph
from handmill.ir.trace import mask_of
from handmill.losses.loss import FunctionArguments, same_rank, weights_of
from handmill.metrics.metric import Metric
from handmill.naming import object_name
from handmill.primitives.metrics import accumulate_mean
from handmill.primitives.operands import count_along, shape_of, widened
from handmill.saving.objects import serialize_keras_object


class Mean(Metric):
    """The mean, weighted if weights are given. Sums are float64.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.

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
        if current_graph() is not None or self._dtype != "float32":
            return ops.cast(ops.divide_no_nan(self.total, self.count), self._dtype)
        count = self.count.state.item()
        return np.float32(self.total.state.item() / count if count else 0.0)


_MEAN_RESULT = Mean.result


def plain_means(metrics: Sequence[Any]) -> dict[str, float] | None:
    """The results of means outside of a program, by their names; None if there are others.

    What they give by :meth:`Mean.result`, in a microsecond. None too where two have one name.
    """
    found = {}
    for metric in metrics:
        if (
            getattr(metric.result, "__func__", None) is not _MEAN_RESULT
            or metric.dtype != "float32"
        ):
            return None
        count = metric.count.state.item()
        mean = metric.total.state.item() / count if count else 0.0
        found[metric.name] = float(np.float32(mean))
    return found if len(found) == len(metrics) else None


class Sum(Metric):
    """The sum, weighted if weights are given.

    Args:
        name: the metric's name.
        dtype: the dtype of the result. Default: ``"float32"``.
    """

    def __init__(self, name: str = "sum", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), dtype="float64", name="total")

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
        total, _ = accumulate_mean(self.total.value, np.zeros(()), values, weights)
        self.total.assign(total)

    def result(self) -> Any:
        """Returns the sum so far."""
        if current_graph() is not None or self._dtype != "float32":
            return ops.cast(self.total, self._dtype)
        return np.float32(self.total.state.item())


class MeanMetricWrapper(FunctionArguments, Mean):
    """The mean of a function of targets and predictions.

    Args:
        fn: ``(y_true, y_pred, **kwargs) -> one number a sample``.
        name: default: the function's name.
        dtype: the dtype of the result. Default: ``"float32"``.
        **kwargs: further arguments of the function.
    """

    def __init__(
        self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        from handmill.metrics.registry import direction_of

        if not callable(fn):
            raise TypeError(
                "MeanMetricWrapper: `fn` must be a function of targets and predictions. Received: "
                f"fn={fn!r}"
            )
        super().__init__(name=name or object_name(fn), dtype=dtype)
        self._start(_fn=fn, _fn_kwargs=kwargs, _direction=direction_of(fn))

    _fn: Callable[..., Any]
    _fn_kwargs: dict[str, Any]
    _direction: Any

    def update_state(  # type: ignore[override]  # as in Keras: targets and predictions
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Takes a batch into account."""
        sample_weight = weights_of(sample_weight, mask_of(y_pred), is_mean=False)
        y_true, y_pred = (widened(ops.convert_to_tensor(y)) for y in (y_true, y_pred))
        if self._direction is None:  # a user's function; the others align ranks themselves
            y_true, y_pred = same_rank(y_true, y_pred)
        values = self._fn(y_true, y_pred, **self._fn_kwargs)
        if not hasattr(values, "shape") and not isinstance(values, int | float):
            raise TypeError(
                f"the metric {self.name!r} returned {values!r}; its function must return a number "
                "for each sample, or one for the batch (is a `return` missing?)"
            )
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
            from handmill.metrics.registry import deserialize

            arguments["fn"] = deserialize(arguments["fn"])
        return cls(**arguments)


def batch_size_of(x: Any) -> Any:
    """The number of rows of ``x`` as a float32 value: the weight of a batch's loss."""
    shape = shape_of(x)
    size = shape[0] if shape else 1
    return count_along(x, (0,)) if isinstance(size, SymbolicDim) else np.float32(size)
