"""Noise against overfitting."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.layers.layer import Layer
from handmill.primitives.random import dropout
from handmill.random import SeedGenerator


class Dropout(Layer):
    """Sets inputs to zero at random while training, and scales the others up.

    The mask depends on the seed, the number of draws and the position of the element only, not
    on threads.

    Args:
        rate: the fraction set to zero, from 0 to 1.
        noise_shape: not supported; must be None.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if ``rate`` is outside [0, 1].
    """

    def __init__(
        self, rate: float, noise_shape: None = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise ValueError(
                "Invalid value received for argument `rate`. Expected a float value between 0 "
                f"and 1. Received: rate={rate}"
            )
        if noise_shape is not None:
            raise ValueError("`noise_shape` is not supported yet")
        self.rate = rate
        self.seed = seed
        self.noise_shape = noise_shape
        self.supports_masking = True
        if rate > 0:
            self.seed_generator = SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes the output."""
        if not training or self.rate == 0:
            return inputs
        if self.rate == 1:
            return ops.multiply(inputs, 0.0)
        return dropout(inputs, self.seed_generator.next(), self.rate)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "rate": self.rate,
            "seed": self.seed,
            "noise_shape": self.noise_shape,
        }
