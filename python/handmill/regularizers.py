"""Penalties on weights and activities, added to the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from handmill import ops
from handmill.ir.trace import apply
from handmill.lazy import plain_module
from handmill.naming import to_snake_case
from handmill.primitives.operands import promote_float
from handmill.primitives.reduce import SUM_OF_SQUARES
from handmill.runtime.watch import Watched
from handmill.saving.objects import deserialize_keras_object, interpret, serialize_keras_object


class Regularizer(Watched):
    """Base class: a callable ``x -> scalar``."""

    def __call__(self, x: Any) -> Any:
        """Returns the penalty for ``x``."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(x)")

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_config()")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Regularizer:
        """Makes a regularizer from its config."""
        return cls(**config)


def _factor(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ValueError(
            f"Invalid value for argument {name}: expected a non-negative float. Received: {value!r}"
        )
    if math.isnan(value) or math.isinf(value) or value < 0:
        raise ValueError(
            f"Invalid value for argument {name}: expected a non-negative float. Received: {value!r}"
        )
    return float(value)


class L1L2(Regularizer):
    """``l1 * sum(|x|) + l2 * sum(x * x)``.

    Args:
        l1: factor of the absolute values.
        l2: factor of the squares.
    """

    def __init__(self, l1: float | None = 0.0, l2: float | None = 0.0) -> None:
        self.l1 = _factor(0.0 if l1 is None else l1, "l1")
        self.l2 = _factor(0.0 if l2 is None else l2, "l2")

    def __call__(self, x: Any) -> Any:
        penalty: Any = 0.0
        if self.l1:
            penalty = ops.multiply(ops.sum(ops.absolute(x)), self.l1)
        if self.l2:
            squares = ops.multiply(apply(SUM_OF_SQUARES, *promote_float(x)), self.l2)
            penalty = squares if isinstance(penalty, float) else ops.add(penalty, squares)
        return penalty

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"l1": self.l1, "l2": self.l2}


class L1(Regularizer):
    """``l1 * sum(|x|)``: drives small weights to zero.

    Args:
        l1: the factor.
    """

    def __init__(self, l1: float | None = 0.01) -> None:
        self.l1 = _factor(0.01 if l1 is None else l1, "l1")

    def __call__(self, x: Any) -> Any:
        return ops.multiply(ops.sum(ops.absolute(x)), self.l1)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"l1": float(np.float32(self.l1))}


class L2(Regularizer):
    """``l2 * sum(x * x)``: keeps weights small.

    Args:
        l2: the factor.
    """

    def __init__(self, l2: float | None = 0.01) -> None:
        self.l2 = _factor(0.01 if l2 is None else l2, "l2")

    def __call__(self, x: Any) -> Any:
        return ops.multiply(apply(SUM_OF_SQUARES, *promote_float(x)), self.l2)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"l2": self.l2}


class OrthogonalRegularizer(Regularizer):
    """Keeps the rows or columns of a matrix orthogonal to each other.

    ``factor`` times the mean of the absolute products of any two of them, each divided by its
    norm.

    Args:
        factor: the factor.
        mode: ``"rows"`` or ``"columns"``.

    Raises:
        ValueError: for another mode, or a factor that is no number from 0 on.

    Example:
        >>> import numpy as np
        >>> float(OrthogonalRegularizer(2.0)(np.array([[1.0, 0.0], [2.0, 0.0]], "float32")))
        2.0
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        self.factor = _factor(factor, "factor")
        if mode not in ("rows", "columns"):
            raise ValueError(
                "Invalid value for argument `mode`. Expected one of "
                f'{{"rows", "columns"}}. Received: mode={mode}'
            )
        self.mode = mode

    def __call__(self, inputs: Any) -> Any:
        if len(inputs.shape) != 2:
            raise ValueError(
                "Inputs to OrthogonalRegularizer must have rank 2. Received: inputs.shape="
                f"{inputs.shape}"
            )
        rows = ops.normalize(inputs if self.mode == "rows" else ops.transpose(inputs), axis=1)
        count = rows.shape[0]
        products = ops.matmul(rows, ops.transpose(rows))
        others = ops.multiply(products, ops.subtract(1.0, ops.eye(count, dtype=products.dtype)))
        pairs = count * (count - 1.0)
        return ops.multiply(ops.sum(ops.absolute(others)), ops.divide(self.factor, pairs))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"factor": float(np.float32(self.factor)), "mode": self.mode}


l1 = L1
l2 = L2
l1_l2 = L1L2
orthogonal_regularizer = OrthogonalRegularizer

_CLASSES: tuple[type[Regularizer], ...] = (L1, L2, L1L2, OrthogonalRegularizer)
_TABLE: dict[str, Any] = {
    **{cls.__name__: cls for cls in _CLASSES},
    **{to_snake_case(cls.__name__): cls for cls in _CLASSES},
    "l1_l2": L1L2,
}


def get(identifier: Any) -> Any:
    """Returns the regularizer that ``identifier`` means.

    Args:
        identifier: None, a name (``"l2"``), a regularizer or its class, a callable, or a config
            dictionary.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.

    Example:
        >>> get("l2").get_config()
        {'l2': 0.01}
    """
    return interpret(identifier, "regularizer", deserialize)


def serialize(regularizer: Any) -> Any:
    """Returns a regularizer as a config dictionary."""
    return serialize_keras_object(regularizer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes a regularizer from its config dictionary."""
    return deserialize_keras_object(
        config, custom_objects, module_objects=_TABLE, kind="regularizer"
    )


__getattr__ = plain_module(__name__)
