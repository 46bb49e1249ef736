"""Conditions that weights are made to satisfy after each update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handmill import config, ops
from handmill.lazy import plain_module
from handmill.naming import to_snake_case
from handmill.runtime.watch import Watched
from handmill.saving.objects import deserialize_keras_object, interpret, serialize_keras_object


class Constraint(Watched):
    """Base class: a callable ``w -> w``; by itself it changes nothing."""

    def __call__(self, w: Any) -> Any:
        """Returns the nearest allowed value."""
        return w

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Constraint:
        """Makes a constraint from its config."""
        return cls(**config)


def _norm(w: Any, axis: Any) -> Any:
    return ops.sqrt(ops.sum(ops.square(w), axis=axis, keepdims=True))


class MaxNorm(Constraint):
    """Norms along ``axis`` of at most ``max_value``.

    Args:
        max_value: the largest norm.
        axis: axis or axes along which norms are taken; 0 for the inputs of each dense unit.
    """

    def __init__(self, max_value: float = 2, axis: Any = 0) -> None:
        self.max_value = max_value
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        norms = _norm(w, self.axis)
        wanted = ops.clip(norms, 0.0, float(self.max_value))
        return ops.multiply(w, ops.divide(wanted, ops.add(norms, config.epsilon())))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"max_value": self.max_value, "axis": self.axis}


class NonNeg(Constraint):
    """No negative weights."""

    def __call__(self, w: Any) -> Any:
        return ops.maximum(w, 0.0)


class UnitNorm(Constraint):
    """Norms along ``axis`` of 1.

    Args:
        axis: axis or axes along which norms are taken.
    """

    def __init__(self, axis: Any = 0) -> None:
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        return ops.divide(w, ops.add(_norm(w, self.axis), config.epsilon()))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"axis": self.axis}


class MinMaxNorm(Constraint):
    """Norms along ``axis`` between two limits.

    Args:
        min_value: the smallest norm.
        max_value: the largest norm.
        rate: how much of the correction is made at each step.
        axis: axis or axes along which norms are taken.
    """

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0
    ) -> None:
        self.min_value = min_value
        self.max_value = max_value
        self.rate = rate
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        norms = _norm(w, self.axis)
        clipped = ops.clip(norms, float(self.min_value), float(self.max_value))
        wanted = ops.add(ops.multiply(clipped, self.rate), ops.multiply(norms, 1.0 - self.rate))
        return ops.multiply(w, ops.divide(wanted, ops.add(norms, config.epsilon())))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "min_value": self.min_value,
            "max_value": self.max_value,
            "rate": self.rate,
            "axis": self.axis,
        }


_CLASSES: tuple[type[Constraint], ...] = (MaxNorm, NonNeg, UnitNorm, MinMaxNorm)
_TABLE: dict[str, Any] = {
    **{cls.__name__: cls for cls in _CLASSES},
    **{to_snake_case(cls.__name__): cls for cls in _CLASSES},
}

max_norm = MaxNorm
non_neg = NonNeg
unit_norm = UnitNorm
min_max_norm = MinMaxNorm


def get(identifier: Any) -> Any:
    """Returns the constraint that ``identifier`` means.

    Args:
        identifier: None, a name, a constraint or its class, a callable, or a config dictionary.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    return interpret(identifier, "constraint", deserialize)


def serialize(constraint: Any) -> Any:
    """Returns a constraint as a config dictionary."""
    return serialize_keras_object(constraint)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes a constraint from its config dictionary."""
    return deserialize_keras_object(
        config, custom_objects, module_objects=_TABLE, kind="constraint"
    )


__getattr__ = plain_module(__name__)
