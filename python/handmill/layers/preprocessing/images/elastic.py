"""Images on a sheet that is pulled here and there."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops, random
from handmill.layers.preprocessing.images.arguments import (
    FILL_MODES,
    INTERPOLATIONS,
    check_choice,
    checked_range,
    factor_range,
)
from handmill.layers.preprocessing.images.base import GeometricLayer, column
from handmill.ops.image.displacement import displaced, grid
from handmill.ops.image.layout import images_of


class RandomElasticTransform(GeometricLayer):
    """Moves each pixel by a random distance, about as far as its neighbours, while training.

    Distances are normal numbers under a Gaussian blur. With a drawn strength ``s``, both have the
    standard deviation ``0.05 s`` times the shorter side of the image, and the result counts
    ``0.1 s`` times the longer side.

    Args:
        factor: the largest probability with which an image changes, or the least and the largest.
        scale: the largest strength, from 0 to 1, or the least and the largest; one is drawn for
            all images of a batch.
        interpolation: "nearest" or "bilinear".
        fill_mode: how images go on beyond their borders: "reflect", "wrap", "constant",
            "nearest" or "mirror".
        fill_value: what is there for "constant".
        value_range: the least and the largest value of a pixel; what is beyond is cut off.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if ``factor`` or ``scale`` is outside [0, 1].
        NotImplementedError: for another mode or interpolation.
        ShapeError: when called, if the images have no fixed height and width.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomElasticTransform(seed=1)(ops.ones((2, 8, 8, 3))).min().round(3)
        np.float32(1.0)

    References:
        - [Simard et al., 2003](https://doi.org/10.1109/ICDAR.2003.1227801)
    """

    _FACTOR_BOUNDS = (0, 1)

    def __init__(
        self,
        factor: Any = 1.0,
        scale: Any = 1.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        value_range: Any = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self._set_factor(factor)
        self.scale = factor_range("scale", scale, (0, 1))
        check_choice("interpolation", interpolation, INTERPOLATIONS)
        check_choice("fill_mode", fill_mode, (*FILL_MODES, "mirror"))
        self.interpolation = interpolation
        self.fill_mode = fill_mode
        self.fill_value = fill_value
        self.value_range = checked_range(value_range)
        self._set_seed(seed)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws which images change, how strongly, and the seed of the distances."""
        if not training or self.scale[1] == 0 or self.factor[1] == 0:
            return None
        draws = self._draws(seed)
        apply = draws.chance(self._extent(data).batch, self.factor)
        strength = draws.uniform((), *self.scale)
        # Images and masks move alike: by distances from one state, not from the generator.
        state = draws.next()
        if isinstance(state, random.SeedGenerator):
            state = state.next()
        return {"apply_transform": apply, "distortion_factor": strength, "seed": state}

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        """Applies a transformation to a batch of images."""
        found = super().transform_images(images, transformation, training=training)
        if not training or transformation is None:
            return found
        return ops.clip(found, *sorted(self.value_range))

    def _moved(self, images: Any, transformation: Any, interpolation: str) -> Any:
        found = images_of(images, self.data_format)
        rows, columns = grid("RandomElasticTransform", found)
        _, height, width = rows.shape
        strength = ops.cast(transformation["distortion_factor"], "float32")
        sigma = ops.maximum(strength * (0.05 * min(height, width)), 1e-6)
        # One seed would give both directions the same numbers: they are drawn together.
        shape = (2, images.shape[0], height, width)
        drawn = random.normal(shape, dtype="float32", seed=transformation["seed"]) * sigma
        drawn = ops.matmul(_blur(height, sigma), ops.matmul(drawn, _blur(width, sigma)))
        drawn = drawn * (strength * (0.1 * max(height, width)))
        moved = displaced(
            found,
            rows + drawn[1],
            columns + drawn[0],
            interpolation,
            self.fill_mode,
            self.fill_value,
        )
        return ops.where(column(transformation["apply_transform"]), moved, images)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "factor": self.factor,
            "scale": self.scale,
            "interpolation": self.interpolation,
            "fill_mode": self.fill_mode,
            "fill_value": self.fill_value,
            "value_range": self.value_range,
            "seed": self.seed,
        }


def _blur(size: int, sigma: Any) -> Any:
    """The matrix of a Gaussian window that reaches three deviations; there are zeros around."""
    apart = np.abs(np.arange(size)[:, None] - np.arange(size)).astype(np.float32)
    whole = np.abs(np.arange(-size, size + 1)).astype(np.float32)
    reach = ops.floor(ops.floor(sigma * 6.0) / 2.0)
    weights, window = (
        ops.where(ops.less_equal(x, reach), ops.exp(ops.square(x / sigma) * -0.5), 0.0)
        for x in (apart, whole)
    )
    return weights / ops.sum(window)
