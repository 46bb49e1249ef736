"""Normalization to length 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill import ops
from handmill.errors import ShapeError
from handmill.layers.layer import Layer
from handmill.layers.normalization.axes import axis_argument


class UnitNormalization(Layer):
    """Divides by the Euclidean norm along axes.

    Args:
        axis: the axis or axes of each vector.
        **kwargs: ``name`` and the like.

    Raises:
        TypeError: if ``axis`` is neither an integer nor a list of them.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import UnitNormalization
        >>> UnitNormalization()(np.array([[3.0, 4.0]], "float32"))
        array([[0.6, 0.8]], dtype=float32)
    """

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis_argument(axis)
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        axes = tuple(self.axis) if isinstance(self.axis, list) else (self.axis,)
        rank = len(inputs.shape)
        if any(not -rank <= axis < rank for axis in axes):
            raise ShapeError(
                f"{self.describe()}: Axis {self.axis} is out of bounds for an input of rank {rank}."
            )
        return ops.normalize(inputs, axis=axes, order=2, epsilon=1e-12)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "axis": self.axis}
