"""Blurred and sharpened images."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops
from handmill.arguments import whole_number
from handmill.layers.preprocessing.images.arguments import (
    checked_range,
    factor_range,
)
from handmill.layers.preprocessing.images.base import ColorLayer, FactorLayer, column


class RandomGaussianBlur(ColorLayer):
    """Blurs some images while training; there are zeros around them.

    Args:
        factor: the largest probability with which an image is blurred, or the least and the
            largest.
        kernel_size: how wide and how high the window is: an odd integer, or two.
        sigma: the largest standard deviation, from 0 to 1, or the least and the largest; one for
            the width and one for the height is drawn for all images of a batch.
        value_range: the least and the largest value of a pixel; what is beyond is cut off.
        data_format: "channels_last" or "channels_first".
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: for a factor or deviation outside [0, 1], or an even size.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomGaussianBlur()(ops.ones((2, 4, 4, 3))).shape
        (2, 4, 4, 3)
    """

    _FACTOR_BOUNDS = (0, 1)

    def __init__(
        self,
        factor: Any = 1.0,
        kernel_size: Any = 3,
        sigma: Any = 1.0,
        value_range: Any = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self._set_factor(factor)
        self.kernel_size = _odd_sizes(kernel_size)
        self.sigma = factor_range("sigma", sigma, (0, 1))
        self.value_range = checked_range(value_range)
        self._set_seed(seed)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws which images are blurred, and two deviations."""
        if not training:
            return None
        draws = self._draws(seed)
        apply = draws.chance(self._extent(data).batch, self.factor)
        deviations = ops.add(draws.uniform((2,), *self.sigma), 1e-6)
        return {"should_apply_blur": apply, "blur_factor": deviations}

    def _colored(self, images: Any, transformation: Any) -> Any:
        if transformation is None:
            return images
        channels = self._extent(images).channels
        wide, high = ops.split(ops.cast(transformation["blur_factor"], "float32"), 2)
        across, down = (
            _gaussian(size, sigma)
            for size, sigma in zip(self.kernel_size, (wide, high), strict=True)
        )
        window = ops.reshape(down, (-1, 1, 1, 1)) * ops.reshape(across, (1, -1, 1, 1))
        blurred = _filtered(images, window, channels, self.data_format)
        apply = column(transformation["should_apply_blur"])
        return ops.clip(ops.where(apply, blurred, images), *sorted(self.value_range))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "factor": self.factor,
            "kernel_size": self.kernel_size,
            "sigma": self.sigma,
            "value_range": self.value_range,
            "seed": self.seed,
        }


def _odd_sizes(value: Any) -> tuple[int, int]:
    sizes = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(sizes) == 2:
        found = [whole_number("`kernel_size`", size, least=1) for size in sizes]
        if all(size % 2 for size in found):
            return found[0], found[1]
    raise ValueError(
        "`kernel_size` must be an odd number, or a list of two odd numbers. Received: "
        f"kernel_size={value}"
    )


def _gaussian(size: int, sigma: Any) -> Any:
    """The weights of a window, which sum to 1."""
    places = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    found = ops.exp(ops.multiply(ops.square(ops.divide(places, sigma)), -0.5))
    return ops.divide(found, ops.sum(found))


def _filtered(images: Any, window: Any, channels: int, data_format: str) -> Any:
    """Images under one window, the same for each channel; there are zeros around them.

    Args:
        images: a batch.
        window: of shape ``(height, width, 1, 1)``.
        channels: how many there are.
        data_format: where they lie.
    """
    kernel = ops.cast(ops.tile(window, (1, 1, channels, 1)), str(images.dtype))
    return ops.nn.depthwise_conv(images, kernel, padding="same", data_format=data_format)


class RandomSharpness(FactorLayer):
    """Sharpens or smooths images by random amounts while training.

    Args:
        factor: from 0 to 1: 0.5 leaves an image as it is, below it is smoothed, above sharpened; a
            number for up to that, two for from one to the other.
        value_range: the least and the largest value of a pixel; what is beyond is cut off.
        data_format: "channels_last" or "channels_first".
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if the factor is outside [0, 1], or ``value_range`` is not two numbers.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomSharpness((0.5, 0.5))(ops.ones((1, 3, 3, 1)))[0, 0].ravel()
        array([1., 1., 1.], dtype=float32)
    """

    _FACTOR_BOUNDS = (0, 1)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws amounts."""
        batch = self._extent(data).batch
        if not training:
            return None
        return {"factor": self._draws(seed).uniform((batch,), *self.factor)}

    def _colored(self, images: Any, transformation: Any) -> Any:
        window = np.full((3, 3, 1, 1), 1.0 / 13.0, np.float32)
        window[1, 1] = 5.0 / 13.0
        smooth = _filtered(images, window, self._extent(images).channels, self.data_format)
        share = ops.subtract(1.0, ops.multiply(self._number(transformation["factor"]), 2.0))
        images = ops.add(images, ops.multiply(share, ops.subtract(smooth, images)))
        return ops.clip(images, *self.value_range)
