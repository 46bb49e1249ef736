"""Any activation function as a layer."""

from __future__ import annotations

from typing import Any

from handmill import activations
from handmill.layers.layer import Layer


class Activation(Layer):
    """Applies an activation function.

    Args:
        activation: a name or function.
        **kwargs: ``name`` and the like.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import Activation
        >>> Activation("relu")(np.array([-1.0, 2.0], "float32"))
        array([0., 2.], dtype=float32)
    """

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.activation = activations.get(activation)
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return inputs if self.activation is None else self.activation(inputs)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "activation": activations.serialize(self.activation)}
