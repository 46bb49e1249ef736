"""Values spread over the whole range."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops
from handmill.arguments import pair_of, real_number, whole_number
from handmill.errors import ShapeError
from handmill.layers.preprocessing.images.arguments import checked_range, sorted_range
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


class ContrastLimitedAdaptiveHistogramEqualization(BaseImagePreprocessingLayer):
    """Spreads the values of each part of an image on its own, also when predicting.

    The image is divided into tiles. The frequencies of the 256 values in a tile are limited, what
    is beyond is spread over all values, and their sums say what a value becomes; between the
    middles of tiles the results are interpolated.

    Args:
        value_range: the least and the largest value of a pixel.
        clip_limit: how many times the mean frequency counts at most; 0 for no limit.
        tile_grid_size: how many tiles there are down and across.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if ``value_range`` is not two numbers, ``clip_limit`` no number, or
            ``tile_grid_size`` not two positive integers.
        ShapeError: when called, if the images have no fixed sizes.

    Example:
        >>> from handmill import layers, ops
        >>> layer = layers.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(1, 1))
        >>> layer(ops.reshape([10.0, 15.0, 20.0, 20.0], (1, 2, 2, 1))).ravel().round(1)
        array([13.5, 22.3, 31.1, 31.1], dtype=float32)

    References:
        - [Zuiderveld, 1994](https://doi.org/10.1016/B978-0-12-336156-1.50061-6)
    """

    _MOVES_PIXELS = False

    def __init__(
        self,
        value_range: Any = (0, 255),
        clip_limit: float = 4.0,
        tile_grid_size: Any = (8, 8),
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.value_range = checked_range(value_range)
        self.clip_limit = real_number("`clip_limit`", clip_limit)
        self.tile_grid_size = pair_of("`tile_grid_size`", tile_grid_size, _tiles, "integers")

    def transform_images(
        self, images: Any, transformation: Any = None, training: bool = True
    ) -> Any:
        """Spreads values; the dtype stays."""
        images = ops.convert_to_tensor(images)
        pixels = self._value_range(ops.cast(images, "float32"), self.value_range, (0, 255))
        found = self._value_range(self._of_batch(self._spread, pixels), (0, 255), self.value_range)
        return ops.cast(found, images.dtype)

    def _spread(self, images: Any) -> Any:
        first = self.data_format == "channels_first"
        images = ops.transpose(images, (0, 2, 3, 1)) if first else images
        batch, *sizes = images.shape
        if not all(isinstance(size, int) for size in sizes):
            raise ShapeError(
                f"{type(self).__name__} needs images of a fixed height, width and number of "
                f"channels. Received: images.shape={tuple(images.shape)}"
            )
        height, width, channels = sizes
        down, across = self.tile_grid_size
        high, wide = -(-height // down), -(-width // across)
        values = ops.cast(ops.clip(images, 0.0, 255.0), "int32")
        # Beyond the last row and column the image goes on reflected.
        rows, columns = (
            np.pad(np.arange(size), (0, tiles * tile - size), "symmetric")
            for size, tiles, tile in ((height, down, high), (width, across, wide))
        )
        tiled = ops.take(ops.take(values, rows, axis=1), columns, axis=2)
        step = down * across * channels * 256
        start = ops.reshape(ops.arange(batch, dtype="int32") * step, (-1, 1, 1, 1))

        def table(row: Any, column: Any) -> Any:
            """Where the tables of tiles start, for each pixel and channel of an image."""
            tile = (row[:, None] * across + column)[:, :, None]
            return ((tile * channels + np.arange(channels)) * 256).astype(np.int32)

        own = table(np.arange(rows.size) // high, np.arange(columns.size) // wide)
        at = ops.reshape(tiled + own + start, (-1,))
        counts = ops.segment_sum(ops.ones_like(at, dtype="float32"), at, num_segments=batch * step)
        tables = ops.reshape(self._tables(ops.reshape(counts, (-1, 256)), high * wide), (-1,))
        (above, below, low), (left, right, near) = (
            _between(size, tiles, tile)
            for size, tiles, tile in ((height, down, high), (width, across, wide))
        )
        low, near = low[:, None, None], near[:, None]
        values = values + start

        def seen(row: Any) -> Any:
            """What pixels become by the tables of one row of tiles."""
            one, other = (ops.take(tables, values + table(row, x)) for x in (left, right))
            return one * (1.0 - near) + other * near

        found = seen(above) * (1.0 - low) + seen(below) * low
        return ops.transpose(found, (0, 3, 1, 2)) if first else found

    def _tables(self, counts: Any, pixels: int) -> Any:
        """What each value becomes, ``(tiles, 256)``, from how often there is each."""
        if self.clip_limit > 0:
            limited = ops.minimum(counts, self.clip_limit * pixels / 256.0)
            counts = limited + ops.sum(counts - limited, axis=-1, keepdims=True) / 256.0
        below = ops.cumsum(counts, axis=-1)
        first = below[:, :1]
        rest = float(pixels) - first
        found = (below - first) * 255.0 / ops.where(ops.equal(rest, 0.0), 1.0, rest)
        return ops.clip(found, 0.0, 255.0)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "value_range": self.value_range,
            "clip_limit": self.clip_limit,
            "tile_grid_size": self.tile_grid_size,
        }


def _tiles(name: str, value: Any) -> int:
    return whole_number(name, value, least=1)


def _between(size: int, tiles: int, tile: int) -> tuple[Any, Any, Any]:
    """For each line of pixels the tiles whose middles it lies between, and how near the second."""
    places = (np.arange(size, dtype=np.float32) - np.float32(tile / 2.0)) / np.float32(tile)
    places = places + np.float32(1.0)
    before = np.floor(places)
    one, other = (np.clip(before - back, 0, tiles - 1).astype(np.int32) for back in (1, 0))
    return one, other, places - before
