"""The rectifier with a slope below zero."""

from __future__ import annotations

from typing import Any

from handmill import activations
from handmill.errors import warn_caller
from handmill.layers.layer import Layer


class LeakyReLU(Layer):
    """Leaky rectified linear unit: ``x`` above zero, ``negative_slope * x`` below.

    Args:
        negative_slope: the slope below zero; Keras 2 called it ``alpha``.
        **kwargs: ``name`` and the like.
    """

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        if "alpha" in kwargs:
            negative_slope = kwargs.pop("alpha")
            warn_caller(
                "Argument `alpha` is deprecated. Use `negative_slope` instead.",
                DeprecationWarning,
            )
        super().__init__(**kwargs)
        if negative_slope is None or negative_slope < 0:
            raise ValueError(
                "The negative_slope value of a Leaky ReLU layer cannot be None or negative "
                f"value. Expected a float. Received: negative_slope={negative_slope}"
            )
        self.negative_slope = negative_slope
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return activations.leaky_relu(inputs, self.negative_slope)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "negative_slope": self.negative_slope}
