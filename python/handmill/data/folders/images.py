"""Folders of images as data sets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import config
from handmill.data.buffers import BatchBuffers
from handmill.data.folders.index import FileArguments, checked_format, make_datasets
from handmill.data.images.files import COLOR_MODES, read_image
from handmill.data.images.resizing import INTERPOLATIONS, resized
from handmill.data.reader import FileReader
from handmill.ir.op import Array

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
_BATCHES_KEPT = 4  # whose memory is used again


def image_dataset_from_directory(
    directory: str | os.PathLike[str],
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    color_mode: str = "rgb",
    batch_size: int | None = 32,
    image_size: Any = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    interpolation: str = "bilinear",
    follow_links: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    format: str = "tf",
    verbose: bool = True,
    cache_bytes: int = 0,
    skip_corrupt: bool = False,
) -> Any:
    """Makes a data set of the images in a folder, which holds one folder for each class.

    The list of files is shuffled once by ``numpy.random.RandomState(seed)``, as in Keras, so a
    split has Keras's files; each pass then has an order of its own. Images are read and resized on
    threads.

    Args:
        directory: the folder. Files ending in bmp, gif, jpeg, jpg or png count, a first frame of
            each.
        labels: ``"inferred"`` from the sub-folders; None for none; or a class number for each
            file, in the order of their sorted paths.
        label_mode: ``"int"`` (int32), ``"categorical"`` (one-hot, float32), ``"binary"`` (float32
            of shape (batch, 1)), or None for no labels.
        class_names: sub-folders to use, in the order of their numbers; default: all, sorted.
        color_mode: ``"grayscale"``, ``"rgb"`` or ``"rgba"``.
        batch_size: images of a batch; None for single images.
        image_size: (height, width), or one number for both.
        shuffle: whether files come in another order than that of their names.
        seed: of the order of files, and of each pass; default: follows from
            ``utils.set_random_seed``.
        validation_split: the fraction of the files, the last ones, that is for validation.
        subset: ``"training"``, ``"validation"``, or ``"both"`` for a list of two data sets.
        interpolation: ``"bilinear"``, ``"nearest"``, ``"bicubic"``, ``"area"``, ``"lanczos3"``,
            ``"lanczos5"``, ``"gaussian"`` or ``"mitchellcubic"``; without smoothing, as in Keras.
        follow_links: whether to enter folders that are symbolic links.
        crop_to_aspect_ratio: crops the centre to the aspect ratio of ``image_size`` first.
        pad_to_aspect_ratio: pads with zeros to that aspect ratio first.
        data_format: ``"channels_last"`` (the default) or ``"channels_first"``.
        format: ``"tf"`` or ``"grain"``; both mean handmill's own ``Dataset``.
        verbose: whether to print how many files were found.
        cache_bytes: images are kept in memory, in their final size, up to this many bytes, so that
            later passes need not read them again.
        skip_corrupt: leaves out files that cannot be read instead of raising: a batch is shorter
            then, a warning counts them, and ``corrupt_files`` names each with the reason.

    Returns:
        A ``Dataset`` of float32 images with values in 0 to 255, or of pairs of images and labels,
        with the attributes ``class_names``, ``file_paths`` and ``corrupt_files``.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: for unknown strings, a folder without images, and arguments that contradict
            each other.
        OSError: when an image is reached that cannot be read, or a whole batch of them with
            ``skip_corrupt``; the message names the file.

    Example:
        >>> import tempfile, numpy as np
        >>> from pathlib import Path
        >>> from handmill.utils import image_dataset_from_directory, save_img
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("cat", "dog"):
        ...         Path(folder, name).mkdir()
        ...         save_img(Path(folder, name, "1.png"), np.zeros((8, 8, 3)))
        ...     data = image_dataset_from_directory(folder, image_size=(4, 4))
        ...     for x, y in data:
        ...         print(x.shape, sorted(y.tolist()), data.class_names)
        Found 2 files belonging to 2 classes.
        (2, 4, 4, 3) [0, 1] ['cat', 'dog']
    """
    checked_format(format)
    if color_mode not in COLOR_MODES:
        raise ValueError(
            f"`color_mode` must be one of {', '.join(COLOR_MODES)}. Received: "
            f"color_mode={color_mode!r}"
        )
    size = _checked_size(image_size)
    if str(interpolation).lower() not in INTERPOLATIONS:
        raise ValueError(
            f"Argument `interpolation` should be one of {INTERPOLATIONS}. Received: "
            f"interpolation={interpolation!r}"
        )
    how = interpolation.lower()
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError(
            "Only one of `pad_to_aspect_ratio`, `crop_to_aspect_ratio` can be set to `True`."
        )
    first = config.standardize_data_format(data_format) == "channels_first"
    fit = "crop" if crop_to_aspect_ratio else "pad" if pad_to_aspect_ratio else "stretch"
    images = _Images(color_mode, size, how, fit, first)
    given = FileArguments(
        directory,
        labels,
        label_mode,
        class_names,
        batch_size,
        shuffle,
        seed,
        validation_split,
        subset,
        follow_links,
        verbose,
    )
    reader = FileReader(images.load, cache_bytes, skip_corrupt)
    return make_datasets(given, SUFFIXES, "images", reader, images.join)


class _Images:
    """Loads images in their final size, and joins them to batches."""

    def __init__(
        self, color_mode: str, size: tuple[int, int], how: str, fit: str, channels_first: bool
    ) -> None:
        self._color_mode = color_mode
        self._channels = COLOR_MODES[color_mode]
        self._size = size
        self._how = how
        self._fit = fit
        self._first = channels_first
        self._buffers = BatchBuffers(keep=_BATCHES_KEPT)

    def load(self, path: str) -> Array:
        image = read_image(path, self._color_mode, None, "nearest", False, self._size)
        if image.shape[:2] != self._size:
            image = resized(image, self._size, self._how, self._fit)
        if image.shape[2] != self._channels:
            raise OSError(f"cannot read image {path!r}: it has {image.shape[2]} channels")
        return image

    def join(self, images: list[Array]) -> Array:
        count, channels, size = len(images), self._channels, self._size
        shape = (count, channels, *size) if self._first else (count, *size, channels)
        x = self._buffers.empty(shape)
        for row, image in zip(x, images, strict=True):
            row[...] = image.transpose(2, 0, 1) if self._first else image
        return x


def _checked_size(image_size: Any) -> tuple[int, int]:
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if (
        not isinstance(size, list | tuple)
        or len(size) != 2
        or not all(isinstance(n, int | np.integer) and n > 0 for n in size)
    ):
        raise ValueError(
            "Invalid `image_size` value. Expected a tuple of 2 positive integers. Received: "
            f"image_size={image_size!r}"
        )
    return int(size[0]), int(size[1])
