"""Shifted crops and flips of images in memory: what small images are trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from handmill import config
from handmill.arguments import whole_number
from handmill.data.keyed_random import make_key, words
from handmill.data.pipeline.dataset import seed_of
from handmill.errors import ShapeError
from handmill.ir.op import Array

_FLIPS = ("random", "alternating", None)
_MODES = ("reflect", "constant", "edge")
_SHIFTS, _MIRRORS, _FIRST_MIRRORS = 5, 6, 7  # kinds of draws, parts of their keys


def mirrored(images: Any, data_format: str | None = None) -> Array:
    """Returns images with left and right exchanged.

    Args:
        images: ``(batch, height, width, channels)``, or ``(batch, channels, height, width)`` with
            "channels_first".
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.

    Example:
        >>> import numpy as np
        >>> mirrored(np.arange(3).reshape(1, 1, 3, 1)).ravel().tolist()
        [2, 1, 0]
    """
    images, back = _channels_last(images, data_format)
    return back(images[:, :, ::-1])


def shifted(
    images: Any, down: int, right: int, mode: str = "reflect", data_format: str | None = None
) -> Array:
    """Returns images moved by some pixels; see :class:`CropAndFlip` for what comes in.

    Args:
        images: ``(batch, height, width, channels)``, or the channels after the batch.
        down: pixels; negative for up.
        right: pixels; negative for left.
        mode: what is in the padding, as ``numpy.pad`` names it.
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.

    Example:
        >>> import numpy as np
        >>> shifted(np.arange(3).reshape(1, 1, 3, 1), 0, 1, "edge").ravel().tolist()
        [0, 0, 1]
    """
    images, back = _channels_last(images, data_format)
    _, height, width, _ = images.shape
    around = [(max(down, 0), max(-down, 0)), (max(right, 0), max(-right, 0))]
    if mode == "reflect" and (abs(down) >= height or abs(right) >= width):
        raise ShapeError(
            f"images of {height} x {width} are too small to be moved by ({down}, {right}) pixels "
            "with their edges mirrored"
        )
    moved = np.pad(images, ((0, 0), *around, (0, 0)), mode=mode)  # type: ignore[call-overload]
    top, left = max(-down, 0), max(-right, 0)
    return back(moved[:, top : top + height, left : left + width])


def _contiguous(images: Array) -> Array:
    found: Array = np.ascontiguousarray(images)
    return found


def _with_channels_first(images: Array) -> Array:
    return _contiguous(np.moveaxis(images, -1, 1))


def _channels_last(given: Any, data_format: str | None) -> tuple[Array, Callable[[Array], Array]]:
    """Images with their channels at the end, and what makes of such what was given."""
    images: Array = np.asarray(given)
    first = config.standardize_data_format(data_format) == "channels_first"
    if images.ndim != 4:
        shape = "(batch, channels, height, width)" if first else "(batch, height, width, channels)"
        raise ShapeError(f"expected images of shape {shape}. Received: shape {images.shape}")
    if first:
        return np.moveaxis(images, 1, -1), _with_channels_first
    return images, _contiguous


class CropAndFlip:
    """Shifts each image by some pixels, and mirrors it or not; for ``Dataset.map_rows``.

    An image is padded and a window of its own size is cut out at random: Keras's ``RandomCrop``
    after padding. What happens to a row depends on the seed, the number of the pass and the row
    alone. Images keep their dtype; bytes stay bytes.

    With ``flip="alternating"`` each image is mirrored in every other pass, half of them from the
    first on: all passes of a pair show each image both ways, where random flips show a quarter of
    the images twice alike (Jordan, "94% on CIFAR-10 in 3.29 seconds", 2024).

    Args:
        padding: pixels on each side; the largest shift.
        flip: ``"random"``, ``"alternating"``, or None.
        mode: what is in the padding, as ``numpy.pad`` names it: ``"reflect"``, ``"constant"``
            (zeros) or ``"edge"``.
        seed: decides shifts and flips; default: follows from ``utils.set_random_seed``.
        data_format: where images have their channels, "channels_last" or "channels_first"; default:
            ``image_data_format()``.

    Raises:
        ValueError: for other arguments; when it is called with images that are smaller than
            ``padding`` needs.

    Example:
        >>> import numpy as np
        >>> from handmill.data import CropAndFlip, Dataset
        >>> images = np.arange(16, dtype="uint8").reshape(4, 2, 2, 1)
        >>> data = Dataset.from_tensor_slices((images, [0, 1, 0, 1])).batch(4)
        >>> data = data.map_rows(CropAndFlip(0, flip="alternating", seed=1))
        >>> (first, _), (second, _) = next(iter(data)), next(iter(data))
        >>> np.array_equal(first, second[:, :, ::-1])
        True
    """

    def __init__(
        self,
        padding: int,
        flip: str | None = "random",
        mode: str = "reflect",
        seed: int | None = None,
        data_format: str | None = None,
    ) -> None:
        self.padding = whole_number("CropAndFlip: `padding`", padding, 0)
        if flip not in _FLIPS:
            raise ValueError(f"CropAndFlip: `flip` must be one of {_FLIPS}. Received: {flip!r}")
        if mode not in _MODES:
            raise ValueError(f"CropAndFlip: `mode` must be one of {_MODES}. Received: {mode!r}")
        self.flip = flip
        self.mode = mode
        self.seed = seed_of(seed, "CropAndFlip")
        self.data_format = config.standardize_data_format(data_format)

    def __call__(self, epoch: int, rows: Array, images: Any, *others: Any) -> Any:
        """Returns the images, changed, and whatever else the batch holds.

        Args:
            epoch: the number of the pass.
            rows: the numbers of the images in the data.
            images: ``(batch, height, width, channels)``, or the channels after the batch.
            *others: labels, weights.

        Raises:
            ShapeError: for images of another rank, too small to be mirrored at their edges, or not
                as many as numbers of rows.
        """
        if isinstance(images, dict):
            raise ShapeError(
                "CropAndFlip changes the first part of a batch (images, labels). Received: a dict "
                f"with the keys {sorted(images)}; write map_rows(lambda epoch, rows, batch: "
                "{**batch, key: crop(epoch, rows, batch[key])})"
            )
        images, back = _channels_last(images, self.data_format)
        rows, epoch = np.asarray(rows), int(epoch)
        if rows.shape != images.shape[:1]:
            raise ShapeError(
                f"CropAndFlip: expected one number of a row for each of {len(images)} images. "
                f"Received: rows of shape {rows.shape}. It is a function for Dataset.map_rows, "
                "which says which rows a batch holds."
            )
        changed = back(self._flipped(epoch, rows, self._shifted(epoch, rows, images)))
        return (changed, *others) if others else changed

    def _shifted(self, epoch: int, rows: Array, images: Array) -> Array:
        pad = self.padding
        if not pad:
            return np.array(images)
        _, height, width, channels = images.shape
        if self.mode == "reflect" and pad >= min(height, width):
            raise ShapeError(
                f"CropAndFlip: a padding of {pad} pixels by reflection needs larger images. "
                f"Received: images of {height} x {width}"
            )
        around = ((0, 0), (pad, pad), (pad, pad), (0, 0))
        # NumPy pads what lies in Fortran's order in that order.
        padded = _contiguous(np.pad(images, around, mode=self.mode))  # type: ignore[call-overload]
        image, line, pixel, _ = padded.strides
        # All windows of all images: lines of a window are contiguous, so copies are quick.
        windows = np.lib.stride_tricks.as_strided(
            padded,
            (len(images), 2 * pad + 1, 2 * pad + 1, height, width * channels),
            (image, line, pixel, line, padded.itemsize),
            writeable=False,
        )
        drawn = words(make_key(self.seed, epoch, _SHIFTS), rows)
        count = np.uint64(2 * pad + 1)
        down, right = drawn // count % count, drawn % count
        chosen: Array = windows[np.arange(len(images)), down.astype(np.intp), right.astype(np.intp)]
        return np.reshape(chosen, images.shape)

    def _flipped(self, epoch: int, rows: Array, images: Array) -> Array:
        if self.flip is None:
            return images
        if self.flip == "alternating":
            first = words(make_key(self.seed, _FIRST_MIRRORS), rows) >> np.uint64(63)
            mirrored = first != np.uint64(epoch & 1)
        else:
            mirrored = words(make_key(self.seed, epoch, _MIRRORS), rows) >> np.uint64(63) == 1
        images[mirrored] = images[mirrored, :, ::-1]
        return images
