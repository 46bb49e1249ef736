"""Dropout for self-normalizing networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill import ops, random
from handmill.layers.arguments import checked_fraction
from handmill.layers.layer import Layer
from handmill.layers.regularization.dropout import noise_shape_argument, shape_of_noise
from handmill.random import SeedGenerator

# What selu gives for very negative inputs (Klambauer et al., "Self-normalizing neural networks").
_LOWEST = -1.6732632423543772848170429916717 * 1.0507009873554804934193349852946


class AlphaDropout(Layer):
    """Sets inputs to the lowest value of ``selu`` at random while training.

    The result is scaled and shifted so that inputs of mean 0 and variance 1 keep both.

    Args:
        rate: the fraction that is replaced, from 0 to below 1.
        noise_shape: as that of :class:`Dropout`.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if ``rate`` is outside [0, 1].
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rate = checked_fraction("rate", rate)
        self.seed = seed
        self.noise_shape = noise_shape_argument(noise_shape)
        self.supports_masking = True
        if rate > 0:
            self.seed_generator = SeedGenerator(seed)
        self._build_at_init()

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes the output."""
        rate = self.rate
        if not training or rate == 0:
            return inputs
        if rate == 1:
            raise ValueError(
                f"{self.describe()}: with rate=1 nothing is left that could be scaled to variance "
                "1; choose a rate below 1"
            )
        shape = shape_of_noise(inputs, self.noise_shape)
        kept = ops.greater_equal(random.uniform(shape, seed=self.seed_generator), rate)
        kept = ops.cast(kept, inputs.dtype)
        factor = ((1 - rate) * (1 + rate * _LOWEST**2)) ** -0.5
        shift = -factor * _LOWEST * rate
        x = ops.add(ops.multiply(inputs, kept), ops.multiply(ops.subtract(1.0, kept), _LOWEST))
        return ops.add(ops.multiply(x, factor), shift)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "rate": self.rate,
            "seed": self.seed,
            "noise_shape": self.noise_shape,
        }
