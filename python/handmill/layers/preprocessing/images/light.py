"""Brightness and contrast, inversion, solarization, coarser values."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.layers.preprocessing.images.arguments import (
    checked_range,
    each_within,
    sorted_range,
)
from handmill.layers.preprocessing.images.base import ColorLayer, FactorLayer, column


class RandomBrightness(ColorLayer):
    """Adds a random number to all pixels of an image while training.

    Args:
        factor: a part of the range of values, from -1 to 1: 0.2 adds up to a fifth either way,
            ``(-0.2, 0.1)`` from minus a fifth to plus a tenth.
        value_range: the least and the largest value of a pixel; what is beyond is cut off.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name``, ``data_format`` and the like.

    Raises:
        ValueError: if the factor is outside [-1, 1], or ``value_range`` is not two numbers.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomBrightness((0.1, 0.1), value_range=(0, 1))(ops.zeros((1, 1, 2, 1))).ravel()
        array([0.1, 0.1], dtype=float32)
    """

    def __init__(
        self, factor: Any, value_range: Any = (0, 255), seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._set_factor(factor)
        self.value_range = sorted_range(value_range)
        self._set_seed(seed)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws what is added."""
        extent = self._extent(data)
        shape = (1, 1, 1) if extent.single else (extent.batch, 1, 1, 1)
        if not training:
            return {"rgb_delta": ops.zeros(shape)}
        low, high = self.value_range
        delta = self._draws(seed).uniform(shape, *self.factor)
        return {"rgb_delta": ops.multiply(delta, float(high - low))}

    def _colored(self, images: Any, transformation: Any) -> Any:
        delta = ops.cast(transformation["rgb_delta"], self.compute_dtype)
        return ops.clip(ops.add(images, delta), *self.value_range)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "factor": self.factor,
            "value_range": self.value_range,
            "seed": self.seed,
        }


class RandomContrast(ColorLayer):
    """Pulls pixels away from the mean of their channel, or towards it, while training.

    Args:
        factor: from 0 to 1: distances are multiplied by ``1 - factor`` to ``1 + factor``, of two
            numbers by ``1 - factor[0]`` to ``1 + factor[1]``.
        value_range: the least and the largest value of a pixel; what is beyond is cut off.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name``, ``data_format`` and the like.

    Raises:
        ValueError: if the factor is outside [0, 1], or ``value_range`` is not two numbers.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomContrast(0.5)(ops.full((1, 2, 2, 1), 7.0)).ravel()
        array([7., 7., 7., 7.], dtype=float32)
    """

    _FACTOR_BOUNDS = (0, 1)

    def __init__(
        self, factor: Any, value_range: Any = (0, 255), seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._set_factor(factor)
        self.value_range = checked_range(value_range)
        self._set_seed(seed)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws factors."""
        extent = self._extent(data)
        shape = (1, 1, 1) if extent.single else (extent.batch, 1, 1, 1)
        if not training:
            return {"contrast_factor": ops.zeros(shape)}
        low, high = self.factor
        return {"contrast_factor": self._draws(seed).uniform(shape, 1.0 - low, 1.0 + high)}

    def _colored(self, images: Any, transformation: Any) -> Any:
        factor = ops.cast(transformation["contrast_factor"], self.compute_dtype)
        mean = ops.mean(images, axis=self._axes[:2], keepdims=True)
        changed = ops.add(ops.multiply(ops.subtract(images, mean), factor), mean)
        return ops.clip(changed, *sorted(self.value_range))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "factor": self.factor,
            "value_range": self.value_range,
            "seed": self.seed,
        }


class RandomInvert(FactorLayer):
    """Turns light into dark and back, in some images, while training.

    Args:
        factor: the largest probability with which an image is inverted, or the least and the
            largest.
        value_range: the least and the largest value of a pixel: x becomes the largest minus x.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if the factor is outside [0, 1], or ``value_range`` is not two numbers.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomInvert((1.0, 1.0))(ops.full((1, 1, 2, 1), 55.0)).ravel()
        array([200., 200.], dtype=float32)
    """

    _FACTOR_BOUNDS = (0, 1)
    _SORTS_RANGE = False

    def __init__(
        self,
        factor: Any = 1.0,
        value_range: Any = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(factor, value_range, data_format, seed, **kwargs)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws which images are inverted."""
        if not training:
            return None
        batch = self._extent(data).batch
        return {"apply_inversion": self._draws(seed).chance(batch, self.factor)}

    def _colored(self, images: Any, transformation: Any) -> Any:
        apply = column(transformation["apply_inversion"])
        return ops.where(apply, ops.subtract(float(self.value_range[1]), images), images)


class RandomPosterization(FactorLayer):
    """Keeps only the upper bits of each value while training.

    Args:
        factor: how many bits are kept, from 1 to 8: an integer n for 1 to n - 1, two integers for
            the first to the second minus 1, two equal ones (or 1) for exactly that many.
        value_range: the least and the largest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if the factor is outside [1, 8], or ``value_range`` is not two numbers.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomPosterization((2, 2))(ops.full((1, 1, 1, 1), 150.0)).item()
        128.0
    """

    _FACTOR_BOUNDS = (1, 8)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws how many bits are dropped."""
        batch = self._extent(data).batch
        if not training:
            return None
        low, high = (int(end) for end in self.factor)
        drawn = self._draws(seed).integers((batch,), low, max(high, low + 1))
        return {"shift_factor": ops.subtract(8, drawn)}

    def _colored(self, images: Any, transformation: Any) -> Any:
        images = self._value_range(images, self.value_range, (0, 255))
        step = ops.exp2(self._number(transformation["shift_factor"]))
        whole = ops.clip(ops.trunc(images), 0.0, 255.0)
        kept = ops.multiply(ops.floor(ops.divide(whole, step)), step)
        return self._value_range(kept, (0, 255), self.value_range)


class Solarization(ColorLayer):
    """Inverts all pixels above a random threshold while training.

    Args:
        addition_factor: what is added before: a part of the range of values, from 0 to 1; a number
            for up to that, two for from one to the other.
        threshold_factor: the threshold, as a part of the range of values; likewise.
        value_range: the least and the largest value of a pixel.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name``, ``data_format`` and the like.

    Raises:
        ValueError: if a factor is outside [0, 1], or ``value_range`` is not two numbers.

    Example:
        >>> from handmill import layers, ops
        >>> layers.Solarization()(ops.full((1, 1, 1, 1), 55.0)).item()
        200.0
    """

    def __init__(
        self,
        addition_factor: Any = 0.0,
        threshold_factor: Any = 0.0,
        value_range: Any = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.addition_factor = each_within("addition_factor", addition_factor, 0.0, 1.0, least=0)
        self.threshold_factor = each_within("threshold_factor", threshold_factor, 0.0, 1.0, least=0)
        self.value_range = sorted_range(value_range)
        self._set_seed(seed)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws what is added, and thresholds, for values from 0 to 255."""
        if not training:
            return None
        extent = self._extent(data)
        shape = (1, 1, 1) if extent.single else (extent.batch, 1, 1, 1)
        draws = self._draws(seed)
        # The lower end is not multiplied by 255: so Keras draws.
        return {
            name: draws.uniform(shape, factor[0], factor[1] * 255)
            for name, factor in (
                ("additions", self.addition_factor),
                ("thresholds", self.threshold_factor),
            )
        }

    def _colored(self, images: Any, transformation: Any) -> Any:
        if transformation is None:
            return images
        added, threshold = (
            ops.cast(transformation[name], self.compute_dtype)
            for name in ("additions", "thresholds")
        )
        images = self._value_range(images, self.value_range, (0, 255))
        images = ops.clip(ops.add(images, added), 0.0, 255.0)
        images = ops.where(ops.less(images, threshold), images, ops.subtract(255.0, images))
        return self._value_range(images, (0, 255), self.value_range)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "value_range": self.value_range,
            "addition_factor": self.addition_factor,
            "threshold_factor": self.threshold_factor,
            "seed": self.seed,
        }
