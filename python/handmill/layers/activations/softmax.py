"""Probabilities along an axis, as a layer."""

from __future__ import annotations

from typing import Any

from handmill import activations
from handmill.layers.layer import Layer


class Softmax(Layer):
    """Softmax along an axis.

    Args:
        axis: the axis whose values become positive and add up to 1.
        **kwargs: ``name`` and the like.
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return activations.softmax(inputs, self.axis)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "axis": self.axis}
