"""Where the images of a batch come from: an array, or files with a cache."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from handmill.data.images.files import COLOR_MODES, read_image

if TYPE_CHECKING:
    from handmill.ir.op import Array


class ImageSource(Protocol):
    """Images of one size, channels last."""

    size: tuple[int, int]
    channels: int

    def take(self, indices: Array) -> tuple[Any, Array | None]:
        """The images ``indices`` as the arguments ``source`` and ``index`` of the warp."""


class ArraySource:
    """The images of an array (N, H, W, C), uint8 or float32.

    Args:
        x: the array; it is not copied.
    """

    def __init__(self, x: Array) -> None:
        self.x = x
        self.size = (x.shape[1], x.shape[2])
        self.channels = x.shape[3]

    def take(self, indices: Array) -> tuple[Any, Array | None]:
        """The images ``indices``, not copied."""
        return self.x, np.ascontiguousarray(indices, np.int64)


class FileSource:
    """Image files, decoded and resized when first asked for and kept up to a number of bytes.

    Args:
        paths: the files.
        color_mode: ``"rgb"``, ``"rgba"`` or ``"grayscale"``.
        size: (height, width) to which images are resized.
        interpolation: how to resize, in Pillow's meaning.
        keep_aspect_ratio: crops the centre to the target's aspect ratio before resizing.
        cache_bytes: how many bytes of decoded images to keep.
    """

    def __init__(
        self,
        paths: list[str],
        color_mode: str,
        size: tuple[int, int],
        interpolation: str,
        keep_aspect_ratio: bool,
        cache_bytes: int,
    ) -> None:
        self.paths = paths
        self.size = size
        self.channels = COLOR_MODES[color_mode]
        self._decoding = (color_mode, size, interpolation, keep_aspect_ratio)
        self._room = cache_bytes
        self._kept: dict[int, Array] = {}
        self._lock = threading.Lock()

    def take(self, indices: Array) -> tuple[Any, Array | None]:
        """The images ``indices``, a list of arrays of one dtype."""
        images = [self._image(index) for index in indices.tolist()]
        if any(image.dtype != np.uint8 for image in images):
            images = [image.astype(np.float32, copy=False) for image in images]
        return images, None

    def _image(self, index: int) -> Array:
        image = self._kept.get(index)
        if image is not None:
            return image
        image = read_image(self.paths[index], *self._decoding)
        with self._lock:
            if image.nbytes <= self._room and index not in self._kept:
                self._room -= image.nbytes
                self._kept[index] = image
        return image
