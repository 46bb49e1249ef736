"""How images are augmented and normalised, whatever they come from."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from handmill import config
from handmill.data.images import augmentation, splines
from handmill.data.images.augmentation import Ranges, Transforms
from handmill.data.images.warp_reference import FILL_MODES
from handmill.data.keyed_random import make_key
from handmill.data.locks import Lock
from handmill.errors import KerasDifferenceWarning, warn_caller

if TYPE_CHECKING:
    from handmill.ir.op import Array

COMPAT_MODES = (None, "keras3")

_told_of_axes = False


class ImageAugmenter:
    """Augments and normalises images: ImageDataGenerator without the sources of images."""

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
        if interpolation_order not in range(6):
            raise ValueError(
                "interpolation_order: expected 0 (nearest sample), 1 (bilinear), or the order of "
                f"a spline up to 5, got {interpolation_order!r}"
            )
        if interpolation_order > 1:
            splines.require_scipy()
        self.interpolation_order = interpolation_order
        self.data_format = config.standardize_data_format(data_format)
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
        self._lock = Lock()
        self._told_unfitted: set[str] = set()

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
                warn_caller(
                    f"This ImageDataGenerator specifies `{cause}`, which overrides setting of "
                    f"`{effect}`.",
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
            warn_caller(
                f"fit: {self.data_format} images of shape {x.shape} have {channels} channels; "
                "1, 3 or 4 were expected",
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
        by_spline = self.interpolation_order > 1
        warp = splines.warp_batch if by_spline else augmentation.warp_function()
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
                self._warn_not_fitted("featurewise_center")
            else:
                x -= self.mean
        if self.featurewise_std_normalization:
            if self.std is None:
                self._warn_not_fitted("featurewise_std_normalization")
            else:
                x /= self.std + 1e-6
        if self.zca_whitening:
            if self.zca_whitening_matrix is None:
                self._warn_not_fitted("zca_whitening")
            else:
                flat = x.reshape(-1, math.prod(x.shape[-3:]))
                x = (flat @ self.zca_whitening_matrix).reshape(x.shape)
        return x

    def _warn_not_fitted(self, name: str) -> None:
        with self._lock:
            is_known = name in self._told_unfitted
            self._told_unfitted.add(name)
        if not is_known:
            warn_caller(
                f"This ImageDataGenerator specifies `{name}`, but it hasn't been fit on any "
                "training data. Fit it first by calling `.fit(numpy_data)`.",
            )

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
