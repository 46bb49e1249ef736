"""ImageDataGenerator: Keras's description of how images are augmented and normalised."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from handmill.data.images.array_iterator import NumpyArrayIterator
from handmill.data.images.augmenter import ImageAugmenter
from handmill.data.images.file_iterators import DataFrameIterator, DirectoryIterator

DEFAULT_CACHE_BYTES = 256 * 2**20


class ImageDataGenerator(ImageAugmenter):
    """Makes batches of images, augmented at random and normalised, while a model trains.

    The order of work is Keras's: rotation, shift, shear and zoom in one affine map; channel
    shift; flips; brightness; then ``preprocessing_function``, ``rescale``, and the sample-wise and
    feature-wise normalisations. The map, the flips and the rescaling are one pass over the pixels.

    Args:
        featurewise_center: subtracts the mean of the data seen by :meth:`fit`, per channel.
        samplewise_center: subtracts from each image its own mean.
        featurewise_std_normalization: divides by the standard deviation seen by :meth:`fit`.
        samplewise_std_normalization: divides each image by its own standard deviation.
        zca_whitening: applies the ZCA matrix computed by :meth:`fit`.
        zca_epsilon: added to the singular values of the whitening.
        rotation_range: largest angle, in degrees, of a random rotation.
        width_shift_range: largest shift along the columns. A float below 1 is a fraction of the
            width, other floats are pixels; an integer n means whole pixels of -(n - 1) .. n - 1; a
            list is what the shift is picked from, with a random sign.
        height_shift_range: the same along the rows.
        brightness_range: (low, high) of a random factor on the brightness.
        shear_range: largest angle, in degrees, of a random shear.
        zoom_range: (low, high) of two random factors, for columns and rows; one number z means
            (1 - z, 1 + z). Factors above 1 show more of the surroundings.
        channel_shift_range: largest number added at random to all values of an image.
        fill_mode: what lies outside of the image: ``"nearest"``, ``"constant"``, ``"reflect"`` or
            ``"wrap"``, in scipy's meaning.
        cval: the value outside for ``"constant"``.
        horizontal_flip: mirrors half of the images left to right.
        vertical_flip: mirrors half of the images top to bottom.
        rescale: a factor on all values.
        preprocessing_function: called with each image (rank 3, float32) after augmentation; returns
            one of the same shape. Batches are then made on one thread, in order.
        data_format: ``"channels_last"`` (the default) or ``"channels_first"``.
        validation_split: the fraction of the data that ``subset="validation"`` means.
        interpolation_order: 0 (nearest sample), 1 (bilinear), or the order of a spline from 2 to 5,
            which scipy computes.
        dtype: of the batches; float32 by default.
        compat: ``"keras3"`` gives Keras's draws and axes: numbers from NumPy's generators in
            Keras's order, ``height_shift_range`` moving columns and ``width_shift_range`` rows as
            Keras does since 2.9 (keras issue 17398), and its centre of rotation. The default is
            as documented, and draws from generators of handmill's own, unless
            ``config.set_strict_keras(True)`` was called.

    Raises:
        ValueError: for values that Keras refuses too, an interpolation order above 5,
            and unknown strings.

    Example:
        >>> import numpy as np
        >>> from handmill.preprocessing.image import ImageDataGenerator
        >>> images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
        >>> generator = ImageDataGenerator(rotation_range=20, rescale=1 / 255)
        >>> x, y = next(generator.flow(images, np.arange(10), batch_size=4, seed=0))
        >>> x.shape, x.dtype, y.shape
        ((4, 8, 8, 3), dtype('float32'), (4,))
    """

    def flow(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        shuffle: bool = True,
        sample_weight: Any = None,
        seed: int | None = None,
        save_to_dir: str | os.PathLike[str] | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        ignore_class_split: bool = False,
        subset: str | None = None,
    ) -> NumpyArrayIterator:
        """Batches of images from memory.

        Args:
            x: images (N, H, W, C), or (images, list of other inputs). uint8 stays uint8 until it is
                augmented; other dtypes become float32 first.
            y: labels, passed on as they are.
            batch_size: images in a batch.
            shuffle: whether each pass has an order of its own.
            sample_weight: one number per image.
            seed: of orders and augmentation; default: follows from ``utils.set_random_seed``.
            save_to_dir: a folder to which each augmented image is written.
            save_prefix: begins the names of those files.
            save_format: suffix and format of those files.
            ignore_class_split: allows the two subsets to have different classes.
            subset: ``"training"`` or ``"validation"``; the first rows are for validation.

        Returns:
            An endless iterator of ``x``, ``(x, y)`` or ``(x, y, sample_weight)``.

        Raises:
            ValueError: for another rank than 4, lengths that differ, or an unknown subset.

        Example:
            >>> import numpy as np
            >>> from handmill.preprocessing.image import ImageDataGenerator
            >>> batches = ImageDataGenerator().flow(np.zeros((5, 4, 4, 1)), batch_size=2)
            >>> len(batches), next(batches).shape
            (3, (2, 4, 4, 1))
        """
        return NumpyArrayIterator(
            x,
            y,
            self,
            batch_size=batch_size,
            shuffle=shuffle,
            sample_weight=sample_weight,
            seed=seed,
            data_format=self.data_format,
            save_to_dir=save_to_dir,
            save_prefix=save_prefix,
            save_format=save_format,
            subset=subset,
            ignore_class_split=ignore_class_split,
            dtype=self.dtype,
        )

    def flow_from_directory(
        self,
        directory: str | os.PathLike[str],
        target_size: tuple[int, int] = (256, 256),
        color_mode: str = "rgb",
        classes: Sequence[str] | None = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        save_to_dir: str | os.PathLike[str] | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        follow_links: bool = False,
        subset: str | None = None,
        interpolation: str = "nearest",
        keep_aspect_ratio: bool = False,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        skip_corrupt: bool = False,
    ) -> DirectoryIterator:
        """Batches of images from a folder that holds one folder for each class.

        Args:
            directory: the folder. Files ending in png, jpg, jpeg, bmp, ppm, tif or tiff count.
            target_size: (height, width) to which images are resized, in Pillow's meaning.
            color_mode: ``"rgb"``, ``"rgba"`` or ``"grayscale"``.
            classes: names of the folders to use; default: all, sorted by name.
            class_mode: what the labels are: ``"categorical"`` (one-hot), ``"sparse"`` or
                ``"binary"`` (numbers), ``"input"`` (the images themselves), or None for no labels.
            batch_size: images in a batch.
            shuffle: whether each pass has an order of its own.
            seed: of orders and augmentation; default: follows from ``utils.set_random_seed``.
            save_to_dir: a folder to which each augmented image is written.
            save_prefix: begins the names of those files.
            save_format: suffix and format of those files.
            follow_links: whether to enter folders that are symbolic links.
            subset: ``"training"`` or ``"validation"``; the first files of each class are for
                validation.
            interpolation: how to resize; see :func:`load_img`.
            keep_aspect_ratio: crops the centre to the target's aspect ratio before resizing.
            cache_bytes: decoded and resized images are kept in memory up to this many bytes, so
                that later passes need not decode them again; 0 keeps none.
            skip_corrupt: leaves out files that cannot be read instead of raising: a batch is
                shorter then, a warning counts them, and ``corrupt_files`` of the iterator names
                each with the reason.

        Returns:
            An endless iterator of ``(x, labels)``, or ``x`` if ``class_mode`` is None.

        Raises:
            FileNotFoundError: if there is no such folder.
            ValueError: for unknown strings.
            OSError: when an image is reached that cannot be read, or a whole batch of them with
                ``skip_corrupt``; the message names the file.

        Example:
            >>> import tempfile, numpy as np
            >>> from pathlib import Path
            >>> from handmill.preprocessing.image import ImageDataGenerator, save_img
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     for name in ("cat", "dog"):
            ...         Path(folder, name).mkdir()
            ...         save_img(Path(folder, name, "1.png"), np.zeros((8, 8, 3)))
            ...     batches = ImageDataGenerator().flow_from_directory(folder, target_size=(4, 4))
            ...     x, y = next(batches)
            Found 2 images belonging to 2 classes.
            >>> x.shape, y.shape, batches.class_indices
            ((2, 4, 4, 3), (2, 2), {'cat': 0, 'dog': 1})
        """
        return DirectoryIterator(
            directory,
            self,
            target_size=target_size,
            color_mode=color_mode,
            classes=classes,
            class_mode=class_mode,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            data_format=self.data_format,
            save_to_dir=save_to_dir,
            save_prefix=save_prefix,
            save_format=save_format,
            follow_links=follow_links,
            subset=subset,
            interpolation=interpolation,
            keep_aspect_ratio=keep_aspect_ratio,
            dtype=self.dtype,
            cache_bytes=cache_bytes,
            skip_corrupt=skip_corrupt,
        )

    def flow_from_dataframe(
        self,
        dataframe: Any,
        directory: str | os.PathLike[str] | None = None,
        x_col: str = "filename",
        y_col: str | list[str] = "class",
        weight_col: str | None = None,
        target_size: tuple[int, int] = (256, 256),
        color_mode: str = "rgb",
        classes: Sequence[str] | None = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        save_to_dir: str | os.PathLike[str] | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        subset: str | None = None,
        interpolation: str = "nearest",
        validate_filenames: bool = True,
        keep_aspect_ratio: bool = False,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        skip_corrupt: bool = False,
    ) -> DataFrameIterator:
        """Batches of images from files named in a table.

        Args:
            dataframe: a DataFrame of pandas or polars, or a mapping of column names to sequences.
            directory: to which the file names are relative.
            x_col: the column of file names.
            y_col: the column of labels; a list of columns for ``class_mode="multi_output"``.
            weight_col: the column of sample weights.
            target_size: see :meth:`flow_from_directory`, as for the arguments not listed here.
            color_mode: see there.
            classes: the labels to use; rows with others are left out. Default: all, sorted.
            class_mode: those of :meth:`flow_from_directory`, ``"raw"`` (the column's values) and
                ``"multi_output"`` (a list of the columns' values).
            batch_size: see there.
            shuffle: see there.
            seed: see there.
            save_to_dir: see there.
            save_prefix: see there.
            save_format: see there.
            subset: ``"training"`` or ``"validation"``; the first rows are for validation.
            interpolation: see there.
            validate_filenames: leaves out, with a warning, rows whose file does not exist.
            keep_aspect_ratio: see there.
            cache_bytes: see there.
            skip_corrupt: see there.

        Returns:
            An endless iterator like that of :meth:`flow_from_directory`.

        Raises:
            KeyError: if a column is missing.
            TypeError: if labels are of the wrong type for the class mode.

        Example:
            >>> import tempfile, numpy as np
            >>> from pathlib import Path
            >>> from handmill.preprocessing.image import ImageDataGenerator, save_img
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     save_img(Path(folder, "a.png"), np.zeros((8, 8, 3)))
            ...     table = {"filename": ["a.png"], "class": ["cat"]}
            ...     batches = ImageDataGenerator().flow_from_dataframe(table, folder)
            Found 1 validated image filenames belonging to 1 classes.
        """
        return DataFrameIterator(
            dataframe,
            directory,
            self,
            x_col=x_col,
            y_col=y_col,
            weight_col=weight_col,
            target_size=target_size,
            color_mode=color_mode,
            classes=classes,
            class_mode=class_mode,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            data_format=self.data_format,
            save_to_dir=save_to_dir,
            save_prefix=save_prefix,
            save_format=save_format,
            subset=subset,
            interpolation=interpolation,
            keep_aspect_ratio=keep_aspect_ratio,
            dtype=self.dtype,
            validate_filenames=validate_filenames,
            cache_bytes=cache_bytes,
            skip_corrupt=skip_corrupt,
        )

    # --- Single images ---
