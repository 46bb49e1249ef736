"""The base classes of losses, and what losses check and convert."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from handmill import config, dtype_policies, ops, tree
from handmill.errors import ShapeError, TrainingWarning, warn_caller
from handmill.ir.dims import SymbolicDim, as_none, is_fixed
from handmill.ir.shapes import FLOATS, size_of
from handmill.ir.trace import mask_of
from handmill.naming import auto_name, object_name
from handmill.primitives.operands import count_along, shape_of
from handmill.runtime.watch import Watched
from handmill.saving.objects import serialize_keras_object

REDUCTIONS = ("sum_over_batch_size", "sum", None, "none", "mean", "mean_with_sample_weight")


def check_returned(name: str, value: Any) -> None:
    """Refuses what is no number.

    Raises:
        TypeError: it names the loss that returned ``value``.
    """
    if not hasattr(value, "shape") and not isinstance(value, int | float | list | tuple):
        raise TypeError(
            f"the loss {name!r} returned {value!r}; it must return a number for each sample, or "
            "one for the batch (is a `return` missing?)"
        )


class Loss(Watched):
    """Base class: compares targets with predictions.

    Subclasses define ``call(y_true, y_pred)``, which returns one number a sample.

    Args:
        name: default: the class name in snake case.
        reduction: ``"sum_over_batch_size"``, ``"sum"``, ``"mean"``,
            ``"mean_with_sample_weight"`` or None.
        dtype: the floating dtype of targets, predictions and result, or a policy. Default: float32,
            also where predictions are float64 or bfloat16, as in Keras.

    Raises:
        ValueError: for an unknown reduction or dtype.
    """

    _unwatched = frozenset({"name"})

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
        found = None if dtype is None else dtype_policies.get(dtype).compute_dtype
        if found is not None and found not in FLOATS:
            raise ValueError(f"a loss needs a floating dtype. Received: dtype={dtype!r}")
        name = name or auto_name(type(self).__name__)
        self._start(name=name, reduction=reduction, _dtype=found)

    name: str
    reduction: str | None
    _dtype: str | None

    @property
    def dtype(self) -> str:
        """The dtype of the result."""
        return self._dtype or config.floatx()

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
        y_pred, y_true = self._operand(y_pred), self._operand(y_true)
        if {len(shape_of(y_true)), len(shape_of(y_pred))} == {1, 2}:
            y_true, y_pred = same_rank(y_true, y_pred)  # (n,) beside (n, 1) would make (n, n)
        return self.reduce(self.call(y_true, y_pred), sample_weight, mask)

    def of_nested(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the reduced loss of several outputs, which ``call`` is handed as they are nested.

        Args:
            y_true: nested targets.
            y_pred: nested predictions.
            sample_weight: a factor for each sample.
        """
        y_true = tree.map_structure(self._operand, y_true)
        y_pred = tree.map_structure(self._operand, y_pred)
        return self.reduce(self.call(y_true, y_pred), sample_weight)

    def _operand(self, y: Any) -> Any:
        y = ops.convert_to_tensor(y)
        return ops.cast(y, self.dtype) if ops.dtype(y) in FLOATS else y

    def reduce(self, values: Any, sample_weight: Any = None, mask: Any = None) -> Any:
        """Reduces one number a sample to a scalar.

        Args:
            values: what :meth:`call` gave.
            sample_weight: a factor for each sample.
            mask: which entries of the predictions count.
        """
        check_returned(self.name, values)
        return ops.cast(self._reduced(values, sample_weight, mask), self.dtype)

    def _reduced(self, values: Any, sample_weight: Any, mask: Any) -> Any:
        if (out_mask := mask_of(values)) is not None:
            mask = out_mask if mask is None else ops.logical_and(mask, out_mask)
        is_mean = self.reduction in ("mean", "sum_over_batch_size")
        weights = weights_of(sample_weight, mask, is_mean)
        if weights is not None:
            weights = ops.cast(weights, "float32")
            values, weights = same_rank(values, weights)
            try:
                values = ops.multiply(values, weights)
            except ShapeError:
                raise ShapeError(
                    f"sample weights of shape {_shown(shape_of(weights))} do not fit losses of "
                    f"shape {_shown(shape_of(values))}"
                    "\n  hint: each sample (or each step of a sequence) has one weight"
                ) from None
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
        own = {} if self._dtype is None else {"dtype": self._dtype}
        return {"name": self.name, "reduction": self.reduction, **own}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a loss from its config."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class FunctionArguments:
    """Arguments of a function, kept in ``_fn_kwargs``: attributes of what wraps the function."""

    def __getattr__(self, name: str) -> Any:
        arguments = self.__dict__.get("_fn_kwargs", {})
        if name in arguments:
            return arguments[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        arguments = self.__dict__.get("_fn_kwargs", {})
        if name in arguments:
            name, value = "_fn_kwargs", {**arguments, name: value}
        super().__setattr__(name, value)


class LossFunctionWrapper(FunctionArguments, Loss):
    """A loss made of a function ``(y_true, y_pred) -> one number a sample``.

    Args:
        fn: the function.
        reduction: see :class:`Loss`.
        name: default: the function's name.
        dtype: see :class:`Loss`.
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
        self._start(fn=fn, _fn_kwargs=kwargs)

    fn: Callable[..., Any]
    _fn_kwargs: dict[str, Any]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one number a sample."""
        from handmill.losses.registry import FUNCTIONS

        if self.fn not in FUNCTIONS and not tree.is_nested(y_pred):  # the first do so themselves
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
            from handmill.losses.registry import deserialize

            arguments["fn"] = deserialize(arguments["fn"])
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


def pair(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Returns targets and predictions of one floating dtype and one rank.

    Raises:
        ShapeError: if their shapes do not fit.
    """
    y_pred = as_float(y_pred)
    y_true = ops.cast(ops.convert_to_tensor(y_true), ops.dtype(y_pred))
    y_true, y_pred = same_rank(y_true, y_pred)
    _check_broadcast(y_true, y_pred)
    return y_true, y_pred


def fixed_size(x: Any, axis: int) -> int:
    """Returns the size of an axis.

    Raises:
        ShapeError: if there is no such axis, or a call decides its size.
    """
    shape = shape_of(x)
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(f"expected an array with an axis {axis}, got one of shape {shape}")
    size = shape[axis]
    if isinstance(size, SymbolicDim):
        raise ShapeError(
            f"the number of classes is not fixed: axis {axis} of {_shown(shape_of(x))}"
        )
    return size


def as_float(x: Any) -> Any:
    """Returns ``x`` as an operand of a floating dtype."""
    x = ops.convert_to_tensor(x)
    return x if ops.dtype(x).startswith(("float", "bf")) else ops.cast(x, "float32")


def _check_broadcast(y_true: Any, y_pred: Any) -> None:
    s1, s2 = shape_of(y_true), shape_of(y_pred)
    for a, b in zip(reversed(s1), reversed(s2), strict=False):
        if a != b and 1 not in (a, b) and is_fixed((a, b)):
            raise ShapeError(
                f"loss: targets of shape {_shown(s1)} do not fit predictions of shape {_shown(s2)}"
                "\n  hint: the last layer needs as many units as each target has values"
            )
    if len(s1) == len(s2) >= 2 and s1[-1] != s2[-1] and is_fixed((s1[-1], s2[-1])):
        warn_caller(
            f"targets of shape {_shown(s1)} do not have the shape {_shown(s2)} of the predictions: "
            "along the last axis each value is compared with the same one. The last layer usually "
            "needs as many units as each target has values.",
            TrainingWarning,
        )


def _shown(shape: Any) -> tuple[Any, ...]:
    return as_none(shape)


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
