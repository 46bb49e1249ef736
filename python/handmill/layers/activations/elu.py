"""The exponential linear unit."""

from __future__ import annotations

from typing import Any

from handmill import activations
from handmill.layers.layer import Layer


class ELU(Layer):
    """Exponential linear unit: ``x`` above zero, ``alpha * (exp(x) - 1)`` below.

    Args:
        alpha: minus the limit for very negative inputs.
        **kwargs: ``name`` and the like.
    """

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return activations.elu(inputs, self.alpha)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "alpha": self.alpha}
