"""Activation functions as layers: ReLU, LeakyReLU, ELU, Softmax."""

from __future__ import annotations

import warnings
from typing import Any

from handmill import activations
from handmill.layers.layer import Layer


class ReLU(Layer):
    """Rectified linear unit.

    Args:
        max_value: the largest value returned; None for no limit.
        negative_slope: the slope below the threshold.
        threshold: values below it are damped or set to zero.
        **kwargs: ``name`` and the like.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import ReLU
        >>> ReLU(max_value=1)(np.array([-1.0, 0.5, 2.0], "float32"))
        array([0. , 0.5, 1. ], dtype=float32)
    """

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if max_value is not None and max_value < 0.0:
            raise ValueError(
                "max_value of a ReLU layer cannot be a negative value. "
                f"Received: max_value={max_value}"
            )
        for name, value in (("negative_slope", negative_slope), ("threshold", threshold)):
            if value is None or value < 0.0:
                raise ValueError(
                    f"{name} of a ReLU layer cannot be a negative value. Received: {name}={value}"
                )
        self.max_value = max_value
        self.negative_slope = negative_slope
        self.threshold = threshold
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "max_value": self.max_value,
            "negative_slope": self.negative_slope,
            "threshold": self.threshold,
        }


class LeakyReLU(Layer):
    """Leaky rectified linear unit: ``x`` above zero, ``negative_slope * x`` below.

    Args:
        negative_slope: the slope below zero; Keras 2 called it ``alpha``.
        **kwargs: ``name`` and the like.
    """

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        if "alpha" in kwargs:
            negative_slope = kwargs.pop("alpha")
            warnings.warn(
                "Argument `alpha` is deprecated. Use `negative_slope` instead.",
                DeprecationWarning,
                stacklevel=2,
            )
        super().__init__(**kwargs)
        if negative_slope is None or negative_slope < 0:
            raise ValueError(
                "The negative_slope value of a Leaky ReLU layer cannot be None or negative "
                f"value. Expected a float. Received: negative_slope={negative_slope}"
            )
        self.negative_slope = negative_slope
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return activations.leaky_relu(inputs, self.negative_slope)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "negative_slope": self.negative_slope}


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

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return activations.elu(inputs, self.alpha)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "alpha": self.alpha}


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
