"""ImageDataGenerator: Keras's description of how images are augmented and normalised."""

from __future__ import annotations

import math
import operator
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from handmill import config
from handmill.data.images import augmentation
from handmill.data.images.array_iterator import NumpyArrayIterator
from handmill.data.images.augmentation import Ranges, Transforms
from handmill.data.images.file_iterators import DataFrameIterator, DirectoryIterator
from handmill.data.images.files import checked_data_format
from handmill.data.images.warp_reference import FILL_MODES
from handmill.data.keyed_random import make_key
from handmill.errors import KerasDifferenceWarning, warn_caller

if TYPE_CHECKING:
    from handmill.ir.op import Array

COMPAT_MODES = (None, "keras3")
DEFAULT_CACHE_BYTES = 256 * 2**20

_told_of_axes = False


class ImageDataGenerator:
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
        interpolation_order: 0 (nearest sample) or 1 (bilinear).
        dtype: of the batches; float32 by default.
        compat: ``"keras3"`` gives Keras's draws and axes: numbers from NumPy's generators in
            Keras's order, ``height_shift_range`` moving columns and ``width_shift_range`` rows as
            Keras does since 2.9 (keras issue 17398), and its centre of rotation. The default is
            as documented, and draws from generators of handmill's own, unless
            ``config.set_strict_keras(True)`` was called.

    Raises:
        ValueError: for values that Keras refuses too, an interpolation order other than 0 and 1,
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

    def __init__(
        self,
        featurewise_center: bool = False,
        samplewise_center: bool = False,
        featurewise_std_normalization: bool = False,
        samplewise_std_normalization: bool = False,
        zca_whitening: bool = False,
        zca_epsilon: float = 1e-6,
        rotation_range: float = 0,
        width_shift_range: Any = 0.0,
        height_shift_range: Any = 0.0,
        brightness_range: Sequence[float] | None = None,
        shear_range: float = 0.0,
        zoom_range: float | Sequence[float] = 0.0,
        channel_shift_range: float = 0.0,
        fill_mode: str = "nearest",
        cval: float = 0.0,
        horizontal_flip: bool = False,
        vertical_flip: bool = False,
        rescale: float | None = None,
        preprocessing_function: Callable[[Array], Array] | None = None,
        data_format: str | None = None,
        validation_split: float = 0.0,
        interpolation_order: int = 1,
        dtype: str | None = None,
        compat: str | None = None,
    ) -> None:
        self.featurewise_center = featurewise_center
        self.samplewise_center = samplewise_center
        self.featurewise_std_normalization = featurewise_std_normalization
        self.samplewise_std_normalization = samplewise_std_normalization
        self.zca_whitening = zca_whitening
        self.zca_epsilon = zca_epsilon
        self.rotation_range = rotation_range
        self.width_shift_range = width_shift_range
        self.height_shift_range = height_shift_range
        self.brightness_range = _checked_brightness(brightness_range)
        self.shear_range = shear_range
        self.zoom_range = _checked_zoom(zoom_range)
        self.channel_shift_range = channel_shift_range
        self.fill_mode = _checked_name("fill_mode", fill_mode, FILL_MODES)
        self.cval = cval
        self.horizontal_flip = horizontal_flip
        self.vertical_flip = vertical_flip
        self.rescale = rescale
        self.preprocessing_function = preprocessing_function
        self.dtype = dtype or config.floatx()
        if interpolation_order not in (0, 1):
            raise ValueError(
                "interpolation_order: expected 0 (nearest sample) or 1 (bilinear), got "
                f"{interpolation_order!r}; splines of higher order are not supported"
            )
        self.interpolation_order = interpolation_order
        self.data_format = checked_data_format(data_format)
        first = self.data_format == "channels_first"
        self.channel_axis, self.row_axis, self.col_axis = (1, 2, 3) if first else (3, 1, 2)
        if validation_split and not 0 < validation_split < 1:
            raise ValueError(
                f"validation_split: expected a number between 0 and 1, got {validation_split!r}"
            )
        self.validation_split = self._validation_split = validation_split
        if compat is None and config.strict_keras():
            compat = "keras3"
        self.compat = _checked_name("compat", compat, COMPAT_MODES)
        self.mean: Any = None
        self.std: Any = None
        self.zca_whitening_matrix: Array | None = None
        self._reconcile()
        self._warn_of_axes()
        # For single draws without a seed: made when first needed, then counted.
        self._draw_key: int | None = None
        self._draws = 0
        self._lock = threading.Lock()

    def _reconcile(self) -> None:
        """Switches normalisations on and off that depend on each other, warning as Keras does."""
        rules = (
            ("zca_whitening", "featurewise_center", True),
            ("zca_whitening", "featurewise_std_normalization", False),
            ("featurewise_std_normalization", "featurewise_center", True),
            ("samplewise_std_normalization", "samplewise_center", True),
        )
        for cause, effect, value in rules:
            if getattr(self, cause) and bool(getattr(self, effect)) != value:
                setattr(self, effect, value)
                warnings.warn(
                    f"This ImageDataGenerator specifies `{cause}`, which overrides setting of "
                    f"`{effect}`.",
                    stacklevel=3,
                )

    def _warn_of_axes(self) -> None:
        """Tells once that shifts go other ways than Keras's, where that shows."""
        global _told_of_axes
        same = np.array_equal(self.height_shift_range, self.width_shift_range)
        if self.compat is not None or same or _told_of_axes:
            return
        _told_of_axes = True
        warn_caller(
            "height_shift_range moves rows and width_shift_range columns, as documented; Keras "
            "since 2.9 moves them the other way round. compat='keras3' does as Keras does.",
            KerasDifferenceWarning,
        )

    @property
    def augments(self) -> bool:
        """Whether batches differ at random from the images that they are made of."""
        return self._ranges().changes

    # --- Iterators ---

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

        Returns:
            An endless iterator of ``(x, labels)``, or ``x`` if ``class_mode`` is None.

        Raises:
            FileNotFoundError: if there is no such folder.
            ValueError: for unknown strings.

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
    ) -> DataFrameIterator:
        """Batches of images from files named in a table.

        Args:
            dataframe: a pandas DataFrame, or a mapping of column names to sequences.
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
        )

    # --- Single images ---

    def get_random_transform(
        self, img_shape: Sequence[int], seed: int | None = None
    ) -> dict[str, Any]:
        """Draws the parameters of one transformation.

        Args:
            img_shape: the shape of the image, of rank 3.
            seed: gives the numbers that Keras draws after ``np.random.seed(seed)``; by default the
                generator's own numbers follow from ``utils.set_random_seed``, or with
                ``compat="keras3"`` from NumPy's global generator.

        Returns:
            A dictionary with ``theta`` (degrees), ``tx`` (the shift drawn from
            ``height_shift_range``), ``ty`` (from ``width_shift_range``), ``shear`` (degrees),
            ``zx``, ``zy``, ``flip_horizontal``, ``flip_vertical``, ``channel_shift_intensity``
            and ``brightness``.

        Example:
            >>> from handmill.preprocessing.image import ImageDataGenerator
            >>> generator = ImageDataGenerator(rotation_range=20)
            >>> round(generator.get_random_transform((8, 8, 3), seed=1)["theta"], 3)
            -3.319
        """
        height, width = img_shape[self.row_axis - 1], img_shape[self.col_axis - 1]
        source = self._keras_source(seed)
        if source is not None:
            return augmentation.draw_keras(self._ranges(), source, height, width)
        return self._draw_next(1, height, width).one(0)

    def apply_transform(self, x: Array, transform_parameters: dict[str, Any]) -> Array:
        """Transforms one image.

        Args:
            x: an image of rank 3.
            transform_parameters: as :meth:`get_random_transform` returns them; keys may be absent.
                Without ``compat="keras3"``, ``tx`` moves rows and ``ty`` columns.

        Returns:
            A new float32 image of the same shape.
        """
        x = self._checked_image(x)
        draws = augmentation.stack([transform_parameters])
        y = self._augment(x[None], None, draws, np.empty((1, *x.shape), np.float32))
        result: Array = self._from_channels_last(y)[0]
        return result

    def random_transform(self, x: Array, seed: int | None = None) -> Array:
        """Draws parameters and transforms one image: :meth:`apply_transform` of a draw.

        Args:
            x: an image of rank 3.
            seed: see :meth:`get_random_transform`.

        Returns:
            A new float32 image of the same shape.
        """
        return self.apply_transform(x, self.get_random_transform(np.shape(x), seed))

    def standardize(self, x: Array) -> Array:
        """Normalises an image or a batch, in place where its dtype is a float.

        Sample-wise means and deviations are taken over all of ``x``, as in Keras.

        Args:
            x: an image, or a batch of images.

        Returns:
            The normalised images.
        """
        if self.preprocessing_function is not None:
            x = self.preprocessing_function(x)
        if x.dtype.kind != "f":
            x = x.astype(np.float32)
        return self._normalize(x, self.rescale, None)

    def fit(self, x: Any, augment: bool = False, rounds: int = 1, seed: int | None = None) -> None:
        """Computes means, deviations and the whitening matrix of the feature-wise normalisations.

        Args:
            x: images (N, H, W, C), a sample of the data. ``rescale`` is applied first.
            augment: whether to augment them.
            rounds: how many augmented copies of the data to use.
            seed: of the augmentation.

        Raises:
            ValueError: for another rank than 4, or no images.
        """
        x = np.array(x, self.dtype)
        if x.ndim != 4 or len(x) == 0:
            raise ValueError(f"fit: expected images of rank 4, got an array of shape {x.shape}")
        channels = x.shape[self.channel_axis]
        if channels not in (1, 3, 4):
            warnings.warn(
                f"fit: {self.data_format} images of shape {x.shape} have {channels} channels; "
                "1, 3 or 4 were expected",
                stacklevel=2,
            )
        if self.rescale:
            x *= self.rescale
        if augment:
            x = self._augmented_copies(x, rounds, seed)
        axes = (0, self.row_axis, self.col_axis)
        if self.featurewise_center:
            self.mean = np.mean(x, axis=axes, keepdims=True)[0]
            x -= self.mean
        if self.featurewise_std_normalization:
            self.std = np.std(x, axis=axes, keepdims=True)[0]
            x /= self.std + 1e-6
        if self.zca_whitening:
            flat = np.reshape(x, (len(x), -1))
            u, s, _ = np.linalg.svd(flat.T, full_matrices=False)
            self.zca_whitening_matrix = (u * (np.sqrt(len(x)) / (s + self.zca_epsilon))) @ u.T

    def _augmented_copies(self, x: Array, rounds: int, seed: int | None) -> Array:
        x = self._to_channels_last(x)
        n, height, width = x.shape[:3]
        source = self._keras_source(seed) if self.compat else None
        copies = np.empty((rounds * n, *x.shape[1:]), self.dtype)
        for r in range(rounds):
            if source is not None:
                draws = self._draw_from(source, n, height, width)
            elif seed is not None:
                draws = augmentation.draw(
                    self._ranges(), make_key(operator.index(seed), r), np.arange(n), height, width
                )
            else:
                draws = self._draw_next(n, height, width)
            copies[r * n : (r + 1) * n] = self._augment(
                x, None, draws, np.empty(x.shape, np.float32)
            )
        return self._from_channels_last(copies)

    # --- Batches, for the iterators ---

    def _ranges(self) -> Ranges:
        brightness = self.brightness_range
        return Ranges(
            rotation=self.rotation_range,
            height_shift=self.height_shift_range,
            width_shift=self.width_shift_range,
            shear=self.shear_range,
            zoom=(self.zoom_range[0], self.zoom_range[1]),
            horizontal_flip=self.horizontal_flip,
            vertical_flip=self.vertical_flip,
            channel_shift=self.channel_shift_range,
            brightness=None if brightness is None else (brightness[0], brightness[1]),
        )

    def _keras_source(self, seed: int | None) -> Any | None:
        """The generator that Keras would draw from, None for handmill's own numbers."""
        if seed is not None:
            return np.random.RandomState(seed)
        return np.random if self.compat else None

    def _draw(self, key: int, indices: Array, height: int, width: int) -> Transforms | None:
        """The draws of images addressed by key and index, None where nothing is random."""
        ranges = self._ranges()
        if not ranges.changes:
            return None
        return augmentation.draw(ranges, key, indices, height, width)

    def _draw_from(self, source: Any, batch: int, height: int, width: int) -> Transforms:
        ranges = self._ranges()
        drawn = [augmentation.draw_keras(ranges, source, height, width) for _ in range(batch)]
        return augmentation.stack(drawn)

    def _draw_next(self, batch: int, height: int, width: int) -> Transforms:
        """Draws that were asked for one by one, outside of an iterator."""
        with self._lock:
            if self._draw_key is None:
                from handmill.random import next_host_seed

                self._draw_key = make_key(next_host_seed())
            first = self._draws
            self._draws += batch
        indices = np.arange(first, first + batch)
        return augmentation.draw(self._ranges(), self._draw_key, indices, height, width)

    def _batch(
        self,
        source: Any,
        index: Array | None,
        draws: Transforms | None,
        out: Array,
        threads: int,
    ) -> Array:
        """Augments and normalises a batch: (B, ...) in this generator's data format and dtype.

        ``out`` (B, H, W, C), float32, is memory for the result; the result need not lie in it.
        """
        in_one_pass = self.preprocessing_function is None and (
            draws is None or (draws.channel_shift_intensity is None and draws.brightness is None)
        )
        scale = self.rescale if in_one_pass and self.rescale else 1.0
        y = self._from_channels_last(self._augment(source, index, draws, out, scale, threads))
        if self.preprocessing_function is not None:
            y = self._preprocess(y, self.preprocessing_function)
        y = self._normalize(y, None if in_one_pass else self.rescale, (1, 2, 3))
        return y.astype(self.dtype, copy=False)

    def _augment(
        self,
        source: Any,
        index: Array | None,
        draws: Transforms | None,
        y: Array,
        scale: float = 1.0,
        threads: int = 1,
    ) -> Array:
        """Moves pixels, into ``y``, and shifts colours; channels last, float32.

        ``source`` and ``index`` are those of the warp; None for ``draws`` only converts.
        """
        batch, height, width, _ = y.shape
        if draws is None:
            moved = np.zeros((batch, 6))
            moved[:, [0, 4]] = 1
            flips = np.zeros(batch, np.uint8)
        else:
            moved = augmentation.matrices(draws, height, width, keras_axes=bool(self.compat))
            flips = augmentation.flip_bits(draws)
        warp = augmentation.warp_function()
        warp(
            source, index, moved, flips, self.fill_mode, float(self.cval),
            self.interpolation_order, float(scale), 0.0, y, threads,
        )  # fmt: skip
        if draws is not None and draws.channel_shift_intensity is not None:
            y = augmentation.shift_channels(y, draws.channel_shift_intensity)
        if draws is not None and draws.brightness is not None:
            y = augmentation.shift_brightness(y, draws.brightness)
        return y

    def _preprocess(self, y: Array, function: Callable[[Array], Array]) -> Array:
        results = np.empty(y.shape, self.dtype)
        for b, image in enumerate(y):
            result = np.asarray(function(image))
            if result.shape != image.shape:
                raise ValueError(
                    f"preprocessing_function: expected an image of shape {image.shape} back, got "
                    f"{result.shape}"
                )
            results[b] = result
        return results

    def _normalize(self, x: Array, rescale: float | None, axes: tuple[int, ...] | None) -> Array:
        """The normalisations; ``axes`` are those of one sample, None meaning all."""
        if rescale:
            x *= rescale
        if self.samplewise_center:
            x -= np.mean(x, axis=axes, keepdims=True)
        if self.samplewise_std_normalization:
            x /= np.std(x, axis=axes, keepdims=True) + 1e-6
        if self.featurewise_center:
            if self.mean is None:
                _warn_not_fitted("featurewise_center")
            else:
                x -= self.mean
        if self.featurewise_std_normalization:
            if self.std is None:
                _warn_not_fitted("featurewise_std_normalization")
            else:
                x /= self.std + 1e-6
        if self.zca_whitening:
            if self.zca_whitening_matrix is None:
                _warn_not_fitted("zca_whitening")
            else:
                flat = x.reshape(-1, math.prod(x.shape[-3:]))
                x = (flat @ self.zca_whitening_matrix).reshape(x.shape)
        return x

    def _checked_image(self, x: Any) -> Array:
        x = np.asarray(x)
        if x.ndim != 3:
            raise ValueError(f"expected an image of rank 3, got an array of shape {x.shape}")
        result: Array = self._to_channels_last(x[None])[0]
        return result

    def _to_channels_last(self, x: Array) -> Array:
        """A batch as the warp takes it: packed, channels last, uint8 or float32."""
        if self.data_format == "channels_first":
            x = x.transpose(0, 2, 3, 1)
        if x.dtype.kind not in "biuf":
            raise ValueError(f"images must hold numbers, got dtype {x.dtype}")
        dtype = np.uint8 if x.dtype == np.uint8 else np.float32
        return np.require(x, dtype, ["C", "A"])

    def _from_channels_last(self, y: Array) -> Array:
        if self.data_format == "channels_first":
            return np.ascontiguousarray(y.transpose(0, 3, 1, 2))
        return y


def _warn_not_fitted(name: str) -> None:
    warnings.warn(
        f"This ImageDataGenerator specifies `{name}`, but it hasn't been fit on any training data. "
        "Fit it first by calling `.fit(numpy_data)`.",
        stacklevel=4,
    )


def _checked_name(argument: str, value: Any, known: Sequence[Any]) -> Any:
    if value not in known:
        names = ", ".join(repr(name) for name in known)
        raise ValueError(f"{argument}: expected one of {names}, got {value!r}")
    return value


def _checked_zoom(zoom_range: Any) -> list[float]:
    if isinstance(zoom_range, float | int):
        return [1 - zoom_range, 1 + zoom_range]
    if len(zoom_range) == 2 and all(isinstance(z, float | int) for z in zoom_range):
        return [zoom_range[0], zoom_range[1]]
    raise ValueError(f"zoom_range: expected a number or two of them, got {zoom_range!r}")


def _checked_brightness(brightness_range: Any) -> Any:
    if brightness_range is None:
        return None
    if not isinstance(brightness_range, tuple | list) or len(brightness_range) != 2:
        raise ValueError(
            f"brightness_range: expected a tuple or list of two numbers, got {brightness_range!r}"
        )
    return brightness_range
