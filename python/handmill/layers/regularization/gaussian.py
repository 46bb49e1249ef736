"""Normally distributed noise: added, or multiplied."""

from __future__ import annotations

import math
from typing import Any

from handmill import ops, random
from handmill.layers.arguments import checked_fraction
from handmill.layers.layer import Layer
from handmill.random import SeedGenerator


class GaussianNoise(Layer):
    """Adds normally distributed noise while training.

    Args:
        stddev: the standard deviation of the noise, from 0 to 1.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if ``stddev`` is outside [0, 1].
    """

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stddev = checked_fraction("stddev", stddev)
        self.seed = seed
        self.supports_masking = True
        if stddev > 0:
            self.seed_generator = SeedGenerator(seed)
        self._build_at_init()

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes the output."""
        if not training or self.stddev == 0:
            return inputs
        noise = random.normal(
            tuple(inputs.shape), 0.0, self.stddev, self.compute_dtype, self.seed_generator
        )
        return ops.add(inputs, noise)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "stddev": self.stddev, "seed": self.seed}


class GaussianDropout(Layer):
    """Multiplies with normally distributed noise of mean 1 while training.

    Its standard deviation is ``sqrt(rate / (1 - rate))``, that of what Dropout multiplies with.

    Args:
        rate: from 0 to below 1.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if ``rate`` is outside [0, 1].
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = checked_fraction("rate", rate)
        self.seed = seed
        self.supports_masking = True
        if rate > 0:
            self.seed_generator = SeedGenerator(seed)
        self._build_at_init()

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes the output."""
        if not training or self.rate == 0:
            return inputs
        if self.rate == 1:
            raise ValueError(
                f"{self.describe()}: with rate=1 the noise has no finite standard deviation; "
                "choose a rate below 1"
            )
        stddev = math.sqrt(self.rate / (1.0 - self.rate))
        shape = tuple(inputs.shape)
        noise = random.normal(shape, 1.0, stddev, self.compute_dtype, self.seed_generator)
        return ops.multiply(inputs, noise)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
