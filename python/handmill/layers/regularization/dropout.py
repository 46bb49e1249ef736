"""Noise against overfitting: values that are left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import random
from handmill.errors import ShapeError
from handmill.layers.arguments import checked_fraction
from handmill.layers.layer import Layer
from handmill.random import SeedGenerator


def noise_shape_argument(noise_shape: Any) -> tuple[int | None, ...] | None:
    """Returns an argument ``noise_shape`` as a tuple of sizes and None."""
    if noise_shape is None:
        return None
    if isinstance(noise_shape, str) or not isinstance(noise_shape, Sequence | np.ndarray):
        raise ValueError(
            "Invalid value received for argument `noise_shape`. Expected a tuple or list of "
            f"integers and None. Received: noise_shape={noise_shape!r}"
        )
    for index, size in enumerate(noise_shape):
        whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
        if size is not None and (not whole or size <= 0):
            wanted = "dimensions to be positive integers" if whole else "elements to be integers"
            raise ValueError(
                f"Invalid value received for argument `noise_shape`. Expected all {wanted} or "
                f"None. Received: {size!r} at index {index}"
            )
    return tuple(None if size is None else int(size) for size in noise_shape)


def shape_of_noise(inputs: Any, noise_shape: tuple[int | None, ...] | None) -> tuple[Any, ...]:
    """The shape of the random numbers: that of the inputs where ``noise_shape`` leaves it open.

    Raises:
        ShapeError: if it does not broadcast to that of the inputs.
    """
    shape = tuple(inputs.shape)
    if noise_shape is None:
        return shape
    fits = len(noise_shape) == len(shape) and all(
        size in (None, 1) or not isinstance(own, int) or size == own
        for size, own in zip(noise_shape, shape, strict=True)
    )
    if not fits:
        raise ShapeError(
            "`noise_shape` needs an entry for each axis of the inputs: None, 1 or its size. "
            f"Received: noise_shape={noise_shape} for inputs of rank {len(shape)} with sizes "
            f"{tuple(own if isinstance(own, int) else None for own in shape)}"
        )
    if shape and not isinstance(shape[0], int) and noise_shape[0] not in (None, 1):
        raise ShapeError(
            f"`noise_shape` fixes the batch size to {noise_shape[0]}, but there are batches of "
            f"other sizes: write None for it. Received: noise_shape={noise_shape}"
        )
    return tuple(
        own if size is None else size for size, own in zip(noise_shape, shape, strict=True)
    )


class Dropout(Layer):
    """Sets inputs to zero at random while training, and scales the others up.

    The mask depends on the seed, the number of draws and the position of the element only, not
    on threads.

    Args:
        rate: the fraction set to zero, from 0 to 1.
        noise_shape: the shape of the mask: 1 for axes along which whole slices are kept or left
            out together, None for those of the inputs. Default: a decision for each element.
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
        if not training or self.rate == 0:
            return inputs
        shape = self._noise_shape(inputs)
        return random.dropout(inputs, self.rate, shape, self.seed_generator)

    def _noise_shape(self, inputs: Any) -> tuple[Any, ...] | None:
        """The shape of the mask; None for that of the inputs."""
        return None if self.noise_shape is None else shape_of_noise(inputs, self.noise_shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "rate": self.rate,
            "seed": self.seed,
            "noise_shape": self.noise_shape,
        }
