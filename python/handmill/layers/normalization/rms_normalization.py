"""Normalization by the root mean square."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill import ops
from handmill.layers.layer import Layer
from handmill.layers.normalization.axes import axis_argument, sizes_along


class RMSNormalization(Layer):
    """Divides by the root of the mean square along axes, then scales.

    Args:
        axis: the axis or axes, usually the features.
        epsilon: added to the mean square.
        **kwargs: ``name`` and the like.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import RMSNormalization
        >>> RMSNormalization(epsilon=0.0)(np.array([[1.0, 7.0]], "float32"))
        array([[0.2, 1.4]], dtype=float32)
    """

    def __init__(
        self, axis: int | Sequence[int] = -1, epsilon: float = 1e-6, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.axis: Any = axis_argument(axis)
        self.epsilon = epsilon

    def build(self, input_shape: Any) -> None:
        """Makes the factors."""
        axes = sorted(self.axis) if isinstance(self.axis, list) else [self.axis]
        shape = sizes_along(self, axes, input_shape)
        self.axis = axes
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones")

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return ops.rms_normalization(inputs, self.scale, self.axis, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "axis": self.axis, "epsilon": self.epsilon}
