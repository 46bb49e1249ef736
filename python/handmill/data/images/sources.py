"""Where the images of a batch come from: an array, or files with a cache."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from handmill.data.images.files import COLOR_MODES, read_image
from handmill.data.reader import FileReader, reading_threads

if TYPE_CHECKING:
    from handmill.ir.op import Array


class ImageSource(Protocol):
    """Images of one size, channels last."""

    size: tuple[int, int]
    channels: int

    def take(self, indices: Array) -> tuple[Any, Array | None, Array]:
        """Images as the warp's ``source`` and ``index``, and which of ``indices`` they are."""

    def threads(self, most: int) -> int:
        """How many threads should take images at a time, ``most`` at most."""

    def report(self) -> None:
        """Warns, in the thread of the consumer, of images left out."""


class ArraySource:
    """The images of an array (N, H, W, C), uint8 or float32.

    Args:
        x: the array; it is not copied.
    """

    def __init__(self, x: Array) -> None:
        self.x = x
        self.size = (x.shape[1], x.shape[2])
        self.channels = x.shape[3]

    def take(self, indices: Array) -> tuple[Any, Array | None, Array]:
        """The images ``indices``, not copied."""
        return self.x, np.ascontiguousarray(indices, np.int64), indices

    def threads(self, most: int) -> int:
        """``most``: nothing has to be read."""
        return most

    def report(self) -> None:
        """Nothing: all images are there."""


class FileSource:
    """Image files, decoded and resized when first asked for.

    Args:
        paths: the files.
        color_mode: ``"rgb"``, ``"rgba"`` or ``"grayscale"``.
        size: (height, width) to which images are resized.
        interpolation: how to resize, in Pillow's meaning.
        keep_aspect_ratio: crops the centre to the target's aspect ratio before resizing.
        cache_bytes: how many bytes of decoded images to keep.
        skip_corrupt: whether files that cannot be read are left out.
    """

    def __init__(
        self,
        paths: list[str],
        color_mode: str,
        size: tuple[int, int],
        interpolation: str,
        keep_aspect_ratio: bool,
        cache_bytes: int,
        skip_corrupt: bool,
    ) -> None:
        self.paths = paths
        self.size = size
        self.channels = COLOR_MODES[color_mode]
        self.reader = FileReader(
            partial(
                read_image,
                color_mode=color_mode,
                target_size=size,
                interpolation=interpolation,
                keep_aspect_ratio=keep_aspect_ratio,
            ),
            cache_bytes,
            skip_corrupt,
        )

    def take(self, indices: Array) -> tuple[Any, Array | None, Array]:
        """Those of the images ``indices`` that can be read, a list of arrays of one dtype."""
        paths = [self.paths[index] for index in indices.tolist()]
        images, positions = self.reader.read_all(paths)
        if any(image.dtype != np.uint8 for image in images):
            images = [image.astype(np.float32, copy=False) for image in images]
        return images, None, indices[positions]

    def threads(self, most: int) -> int:
        """How many threads should take images at a time."""
        return reading_threads(self.paths, most)

    def report(self) -> None:
        """Warns of images left out."""
        self.reader.report()
