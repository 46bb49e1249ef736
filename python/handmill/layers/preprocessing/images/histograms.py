"""Values spread over the whole range."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.arguments import whole_number
from handmill.layers.preprocessing.images.arguments import sorted_range
from handmill.layers.preprocessing.images.base import BaseImagePreprocessingLayer, ColorLayer


class AutoContrast(BaseImagePreprocessingLayer):
    """Stretches each channel of each image to the whole range of values, also when predicting.

    Args:
        value_range: the least and the largest value of a pixel.
        **kwargs: ``name``, ``data_format`` and the like.

    Raises:
        ValueError: if ``value_range`` is not two numbers.

    Example:
        >>> from handmill import layers, ops
        >>> layers.AutoContrast()(ops.reshape([10.0, 15.0, 20.0], (1, 1, 3, 1))).ravel()
        array([  0. , 127.5, 255. ], dtype=float32)
    """

    _MOVES_PIXELS = False

    def __init__(self, value_range: Any = (0, 255), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value_range = sorted_range(value_range)

    def transform_images(
        self, images: Any, transformation: Any = None, training: bool = True
    ) -> Any:
        """Stretches values. A channel of one value stays as it is."""
        original = ops.cast(images, self.compute_dtype)
        images = self._value_range(original, self.value_range, (0, 255))
        axes = self._axes[:2]
        low = ops.min(images, axis=axes, keepdims=True)
        spread = ops.subtract(ops.max(images, axis=axes, keepdims=True), low)
        flat = ops.less_equal(spread, 0.0)
        scale = ops.divide(255.0, ops.where(flat, 1.0, spread))
        found = ops.clip(ops.add(ops.multiply(images, scale), -low * scale), 0.0, 255.0)
        return ops.where(flat, original, self._value_range(found, (0, 255), self.value_range))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "value_range": self.value_range}


class Equalization(ColorLayer):
    """Spreads the values of each channel so that all are about equally frequent, while training.

    As in Keras, frequencies are counted over all images of a batch.

    Args:
        value_range: the least and the largest value of a pixel.
        bins: how many values are told apart.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if ``value_range`` is not two numbers, or ``bins`` is no positive integer.

    Example:
        >>> from handmill import layers, ops
        >>> layers.Equalization()(ops.reshape([10.0, 15.0, 20.0], (1, 1, 3, 1))).ravel()
        array([  0., 128., 255.], dtype=float32)
    """

    def __init__(
        self,
        value_range: Any = (0, 255),
        bins: int = 256,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.bins = whole_number("`bins`", bins, least=2)
        self.value_range = sorted_range(value_range)

    def _colored(self, images: Any, transformation: Any) -> Any:
        axis = self._axes[2]
        channels = self._extent(images).channels
        found = [self._equalized(x) for x in ops.split(images, channels, axis=axis)]
        return ops.cast(ops.concatenate(found, axis=axis), self.compute_dtype)

    def _equalized(self, channel: Any) -> Any:
        channel = self._value_range(ops.cast(channel, "float32"), self.value_range, (0, 255))
        last = float(self.bins - 1)
        # Keras counts and looks up by two formulas that may differ by a rounding.
        counted = ops.clip(ops.trunc(channel * last / 255.0), 0.0, last)
        found = ops.trunc(ops.clip(channel / 255.0 * last, 0.0, last))
        at = ops.cast(ops.reshape(counted, (-1,)), "int32")
        # Counts are whole numbers, exact in float32 up to 2^24 pixels.
        counts = ops.segment_sum(ops.ones_like(at, dtype="float32"), at, num_segments=self.bins)
        below = ops.cumsum(counts)
        first = ops.min(ops.where(ops.greater(counts, 0.0), below, float("inf")))
        total = ops.sum(counts) - first
        table = (below - first) * 255.0 / ops.where(ops.equal(total, 0.0), 1.0, total)
        table = ops.clip(ops.round(table), 0.0, 255.0)
        spread = ops.take(table, ops.cast(found, "int32"))
        one_value = ops.less_equal(ops.sum(ops.cast(ops.greater(counts, 0.0), "float32")), 1.0)
        equalized = ops.where(one_value, channel, spread)
        return self._value_range(equalized, (0, 255), self.value_range)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "bins": self.bins, "value_range": self.value_range}
