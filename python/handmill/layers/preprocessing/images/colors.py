"""Hue, saturation, gray, and all of it together."""

from __future__ import annotations

from typing import Any

from handmill import config, ops
from handmill.layers.preprocessing.images.arguments import (
    checked_range,
    is_number,
)
from handmill.layers.preprocessing.images.base import ColorLayer, FactorLayer, column
from handmill.layers.preprocessing.images.light import RandomBrightness, RandomContrast


class RandomHue(FactorLayer):
    """Turns the hue of images by random angles while training.

    Args:
        factor: from 0 to 1: 0.5 turns by up to a quarter of the circle of hues either way, two
            numbers from one to the other.
        value_range: the least and the largest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if the factor is outside [0, 1], or ``value_range`` is not two numbers.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomHue(0.5)(ops.full((1, 1, 1, 3), 51.0)).ravel()
        array([51., 51., 51.], dtype=float32)
    """

    _FACTOR_BOUNDS = (0, 1)
    _SORTS_RANGE = False

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws parts of a full turn."""
        batch = self._extent(data).batch
        if not training:
            return None
        draws = self._draws(seed)
        sign = ops.where(ops.greater(draws.uniform((batch,)), 0.5), -0.5, 0.5)
        return {"factor": ops.multiply(draws.uniform((batch,), *self.factor), sign)}

    def _colored(self, images: Any, transformation: Any) -> Any:
        images = self._value_range(images, self.value_range, (0, 1))
        axis = self._axes[2]
        hsv = ops.image.rgb_to_hsv(images, data_format=self.data_format)
        hue, saturation, value = ops.split(hsv, 3, axis=axis)
        hue = ops.add(hue, self._number(transformation["factor"]))
        hue = ops.where(ops.greater(hue, 1.0), ops.subtract(hue, 1.0), hue)
        hue = ops.where(ops.less(hue, 0.0), ops.add(hue, 1.0), hue)
        turned = ops.concatenate([hue, saturation, value], axis=axis)
        images = ops.clip(ops.image.hsv_to_rgb(turned, data_format=self.data_format), 0.0, 1.0)
        return self._value_range(images, (0, 1), self.value_range)


class RandomSaturation(FactorLayer):
    """Makes the colours of images stronger or weaker while training.

    Args:
        factor: from 0 to 1: 0.5 leaves an image as it is, 0 makes it gray, 1 as colourful as can
            be; two numbers for a draw between them. A single number f stands for ``(-f, f)``.
        value_range: the least and the largest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if the factor is outside [-1, 1], or ``value_range`` is not two numbers.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomSaturation((0.0, 0.0))(ops.reshape([9.0, 5.0, 1.0], (1, 1, 1, 3))).ravel()
        array([9., 9., 9.], dtype=float32)
    """

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws what saturations are multiplied with."""
        batch = self._extent(data).batch
        if not training:
            return None
        drawn = self._draws(seed).uniform((batch,), *self.factor)
        rest = ops.add(ops.subtract(1.0, drawn), config.epsilon())
        return {"factor": ops.divide(drawn, rest)}

    def _colored(self, images: Any, transformation: Any) -> Any:
        axis = self._axes[2]
        hsv = ops.image.rgb_to_hsv(images, data_format=self.data_format)
        hue, saturation, value = ops.split(hsv, 3, axis=axis)
        saturation = ops.multiply(saturation, self._number(transformation["factor"]))
        saturation = ops.clip(saturation, *self.value_range)
        changed = ops.concatenate([hue, saturation, value], axis=axis)
        return ops.image.hsv_to_rgb(changed, data_format=self.data_format)


class RandomColorDegeneration(FactorLayer):
    """Blends images with their gray version while training.

    Args:
        factor: the share of the gray version, from 0 to 1; two numbers for a draw between them. A
            single number f stands for ``(-f, f)``; below 0 colours become stronger.
        value_range: the least and the largest value of a pixel; what is beyond is cut off.
        data_format: "channels_last" or "channels_first".
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if the factor is outside [-1, 1], or ``value_range`` is not two numbers.

    Example:
        >>> from handmill import layers, ops
        >>> x = ops.reshape([100.0, 0.0, 0.0], (1, 1, 1, 3))
        >>> layers.RandomColorDegeneration((1.0, 1.0))(x).ravel().round(2)
        array([29.89, 29.89, 29.89], dtype=float32)
    """

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws shares."""
        batch = self._extent(data).batch
        if not training:
            return None
        return {"factor": self._draws(seed).uniform((batch, 1, 1, 1), *self.factor)}

    def _colored(self, images: Any, transformation: Any) -> Any:
        gray = ops.image.rgb_to_grayscale(images, data_format=self.data_format)
        share = self._number(transformation["factor"])
        images = ops.add(images, ops.multiply(share, ops.subtract(gray, images)))
        return ops.clip(images, *self.value_range)


class RandomGrayscale(ColorLayer):
    """Turns some images gray while training; they keep their channels.

    Args:
        factor: the probability, from 0 to 1.
        data_format: "channels_last" or "channels_first".
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if the factor is outside [0, 1].

    Example:
        >>> from handmill import layers, ops
        >>> x = ops.reshape([100.0, 0.0, 0.0], (1, 1, 1, 3))
        >>> layers.RandomGrayscale(1.0)(x).ravel().round(2)
        array([29.89, 29.89, 29.89], dtype=float32)
    """

    def __init__(
        self,
        factor: float = 0.5,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        if not is_number(factor) or not 0 <= factor <= 1:
            raise ValueError(f"`factor` should be between 0 and 1. Received: factor={factor}")
        self.factor: Any = factor
        self._set_seed(seed)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws which images turn gray."""
        batch = self._extent(data).batch
        if not training:
            return None
        return column(ops.less(self._draws(seed).uniform((batch,)), float(self.factor)))

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        """Turns images gray; they keep their dtype."""
        if not training:
            return images
        if transformation is None:
            transformation = self.get_random_transformation(images)
        gray = ops.image.rgb_to_grayscale(images, data_format=self.data_format)
        return ops.where(transformation, gray, images)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "factor": self.factor, "seed": self.seed}


class RandomColorJitter(ColorLayer):
    """Changes brightness, contrast, saturation and hue, in this order, while training.

    Args:
        value_range: the least and the largest value of a pixel.
        brightness_factor: of :class:`RandomBrightness`; None leaves it out.
        contrast_factor: of :class:`RandomContrast`.
        saturation_factor: of :class:`RandomSaturation`.
        hue_factor: of :class:`RandomHue`.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if one of the layers refuses its factor.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomColorJitter(brightness_factor=0.2)(ops.ones((2, 4, 4, 3))).shape
        (2, 4, 4, 3)
    """

    def __init__(
        self,
        value_range: Any = (0, 255),
        brightness_factor: Any = None,
        contrast_factor: Any = None,
        saturation_factor: Any = None,
        hue_factor: Any = None,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.value_range = checked_range(value_range)
        self.brightness_factor = brightness_factor
        self.contrast_factor = contrast_factor
        self.saturation_factor = saturation_factor
        self.hue_factor = hue_factor
        self._set_seed(seed)
        given: dict[str, Any] = {
            "value_range": value_range,
            "seed": seed,
            "data_format": self.data_format,
            "dtype": self.dtype_policy,
        }
        self.random_brightness = self.random_contrast = None
        self.random_saturation = self.random_hue = None
        if brightness_factor is not None:
            self.random_brightness = RandomBrightness(brightness_factor, **given)
        if contrast_factor is not None:
            self.random_contrast = RandomContrast(contrast_factor, **given)
        if saturation_factor is not None:
            self.random_saturation = RandomSaturation(saturation_factor, **given)
        if hue_factor is not None:
            self.random_hue = RandomHue(hue_factor, **given)

    def build(self, input_shape: Any) -> None:
        """Builds the layers."""
        for layer in self._steps_of():
            layer.build(input_shape)

    def _steps_of(self) -> list[Any]:
        found = (
            self.random_brightness,
            self.random_contrast,
            self.random_saturation,
            self.random_hue,
        )
        return [layer for layer in found if layer is not None]

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws what each layer does, in their order."""
        if not training:
            return None
        draws = self._draws(seed)
        return [
            layer.get_random_transformation(data, seed=draws.split()) for layer in self._steps_of()
        ]

    def _colored(self, images: Any, transformation: Any) -> Any:
        if transformation is None:
            transformation = self.get_random_transformation(images)
        for layer, drawn in zip(self._steps_of(), transformation, strict=True):
            images = layer.transform_images(images, drawn)
        return images

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "value_range": self.value_range,
            "brightness_factor": self.brightness_factor,
            "contrast_factor": self.contrast_factor,
            "saturation_factor": self.saturation_factor,
            "hue_factor": self.hue_factor,
            "seed": self.seed,
        }
