"""Batches of images from memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from handmill import config
from handmill.data.images.augmenter import ImageAugmenter
from handmill.data.images.iterator import BatchMaker, Iterator, make_now, saver
from handmill.data.images.sources import ArraySource
from handmill.errors import warn_caller

if TYPE_CHECKING:
    from handmill.ir.op import Array


class NumpyArrayIterator(Iterator):
    """Batches of images from memory; made by :meth:`ImageDataGenerator.flow`, which see.

    Args:
        x: images of rank 4, or (images, list of other inputs).
        y: labels, or None.
        image_data_generator: how to augment and normalise.
        batch_size: images in a batch.
        shuffle: whether each pass has an order of its own.
        sample_weight: one number per image, or None.
        seed: of orders and augmentation.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        save_to_dir: a folder to which each augmented image is written.
        save_prefix: begins the names of those files.
        save_format: suffix and format of those files.
        subset: ``"training"``, ``"validation"`` or None.
        ignore_class_split: allows the two subsets to have different classes.
        dtype: of the images in a batch.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        image_data_generator: ImageAugmenter,
        batch_size: int = 32,
        shuffle: bool = False,
        sample_weight: Any = None,
        seed: int | None = None,
        data_format: str | None = None,
        save_to_dir: str | os.PathLike[str] | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        subset: str | None = None,
        ignore_class_split: bool = False,
        dtype: str | None = None,
    ) -> None:
        data_format = config.standardize_data_format(data_format)
        self.dtype = dtype or config.floatx()
        images, others = _split_inputs(x)
        labels = None if y is None else np.asarray(y)
        weights = None if sample_weight is None else np.asarray(sample_weight)
        columns = [("y", labels), ("sample_weight", weights)]
        columns += [(f"x[{i}]", other) for i, other in enumerate(others, start=1)]
        for name, column in columns:
            if column is not None and len(column) != len(images):
                raise ValueError(
                    f"`x` (images tensor) and `{name}` should have the same length. "
                    f"Found: x.shape = {images.shape}, {name}.shape = {column.shape}"
                )
        if subset is not None:
            split = int(len(images) * image_data_generator._validation_split)
            part = _subset_slice(subset, split)
            if labels is not None and not ignore_class_split:
                _require_same_classes(labels[:split], labels[split:])
            images, others = images[part], [o[part] for o in others]
            labels = None if labels is None else labels[part]
            weights = None if weights is None else weights[part]
        if images.ndim != 4:
            raise ValueError(
                "Input data in `NumpyArrayIterator` should have rank 4. You passed an array with "
                f"shape {images.shape}"
            )
        channels = images.shape[3 if data_format == "channels_last" else 1]
        if channels not in (1, 3, 4):
            warn_caller(
                f"{data_format} images of shape {images.shape} have {channels} channels; 1, 3 or 4 "
                "were expected",
            )
        self.x = image_data_generator._to_channels_last(images)
        self.x_misc = others
        self.y = labels
        self.sample_weight = weights
        self.image_data_generator = image_data_generator
        self.data_format = data_format
        self.save_to_dir = save_to_dir
        self.save_prefix = save_prefix
        self.save_format = save_format
        super().__init__(len(images), batch_size, shuffle, seed)
        self._maker = BatchMaker(
            self._plan,
            image_data_generator,
            ArraySource(self.x),
            _array_finisher(others, labels, weights),
            seed,
            saver(save_to_dir, save_prefix, save_format, data_format),
        )

    @property
    def augments(self) -> bool:  # type: ignore[override]
        """Whether batches differ at random from the data."""
        return self.image_data_generator.augments

    def _get_batches_of_transformed_samples(self, index_array: Array) -> Any:
        return make_now(self, index_array)


def _split_inputs(x: Any) -> tuple[Array, list[Array]]:
    others: list[Array] = []
    if isinstance(x, list | tuple) and len(x) == 2 and np.ndim(x[0]) == 4:
        rest = x[1] if isinstance(x[1], list) else [x[1]]
        x, others = x[0], [np.asarray(o) for o in rest]
    try:
        images = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"images must all have one shape: {error}") from error
    if images.dtype.kind not in "biuf":
        raise ValueError(f"images must be an array of numbers, got dtype {images.dtype}")
    return images, others


def _subset_slice(subset: str, split: int) -> slice:
    if subset == "validation":
        return slice(0, split)
    if subset == "training":
        return slice(split, None)
    raise ValueError(f'Invalid subset name: {subset}; expected "training" or "validation".')


def _require_same_classes(validation: Array, training: Array) -> None:
    if not np.array_equal(np.unique(validation), np.unique(training)):
        raise ValueError(
            "Training and validation subsets have different number of classes after the split. If "
            "your numpy arrays are sorted by the label, you might want to shuffle them."
        )


def _array_finisher(
    others: list[Array], labels: Array | None, weights: Array | None
) -> Callable[[Array, Array], Any]:
    return partial(_finished, others, labels, weights)


def _finished(
    others: list[Array], labels: Array | None, weights: Array | None, x: Array, indices: Array
) -> Any:
    inputs = [x, *(other[indices] for other in others)] if others else x
    if labels is None:
        return inputs
    if weights is None:
        return inputs, labels[indices]
    return inputs, labels[indices], weights[indices]
