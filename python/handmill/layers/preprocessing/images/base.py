"""What layers for images have in common: one draw changes all that belongs together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from handmill import config, ops, random
from handmill.errors import ShapeError
from handmill.layers.layer import Layer
from handmill.layers.preprocessing.images.arguments import (
    checked_range,
    factor_range,
    sorted_range,
)
from handmill.layers.preprocessing.images.boxes import checked_boxes
from handmill.layers.preprocessing.images.draws import Draws, draws_of


class Extent(NamedTuple):
    """The sizes of one image or a batch."""

    shape: tuple[Any, ...]
    batch: Any
    height: Any
    width: Any
    channels: Any

    @property
    def single(self) -> bool:
        """Whether it is one image, without a batch."""
        return len(self.shape) == 3


def column(x: Any, rank: int = 4) -> Any:
    """One number for each image, in a shape that broadcasts with the images."""
    return ops.reshape(x, (-1,) + (1,) * (rank - 1))


class BaseImagePreprocessingLayer(Layer):
    """Draws a transformation and applies it to images, labels, boxes and segmentation masks.

    A layer takes one image, a batch, or a dictionary with the keys "images", "labels",
    "bounding_boxes" (a dictionary of "boxes" and "labels") and "segmentation_masks"; a dictionary
    comes back as a new one. Subclasses define :meth:`get_random_transformation`,
    :meth:`transform_images` and its like.

    Args:
        data_format: "channels_last" or "channels_first"; default
            ``config.image_data_format()``.
        bounding_box_format: how four numbers describe a box; see
            :func:`handmill.layers.preprocessing.images.boxes.convert_format`.
        **kwargs: ``name`` and the like.
    """

    _FACTOR_BOUNDS: tuple[float, float] = (-1, 1)
    _MOVES_PIXELS = True
    """Whether boxes and masks move with the images."""

    def __init__(
        self, data_format: str | None = None, bounding_box_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.bounding_box_format = bounding_box_format

    def _set_seed(self, seed: Any) -> None:
        self.seed = seed
        self.generator = random.SeedGenerator(seed)

    def _set_factor(self, factor: Any) -> None:
        self.factor: Any = factor_range("factor", factor, self._FACTOR_BOUNDS)

    def _draws(self, seed: Any) -> Draws:
        return draws_of(self.generator) if seed is None else Draws.of(seed)

    @property
    def row_generator(self) -> random.SeedGenerator | None:
        """What draws for rows whose numbers are known, if anything."""
        return vars(self).get("generator")

    def _extent(self, data: Any) -> Extent:
        """The sizes of the images of what a call was given.

        Raises:
            ShapeError: if these are no images.
        """
        images = data["images"] if isinstance(data, Mapping) else data
        shape = tuple(images.shape if hasattr(images, "shape") else np.shape(images))
        if len(shape) not in (3, 4):
            raise ShapeError(
                f"{type(self).__name__}: Expected the input image to be rank 3 or 4 (one image, "
                f"or a batch). Received: images.shape={shape}"
            )
        batch = 1 if len(shape) == 3 else shape[0]
        if self.data_format == "channels_first":
            return Extent(shape, batch, shape[-2], shape[-1], shape[-3])
        return Extent(shape, batch, shape[-3], shape[-2], shape[-1])

    @property
    def _axes(self) -> tuple[int, int, int]:
        """Of height, width and channels, counted from the end."""
        return (-2, -1, -3) if self.data_format == "channels_first" else (-3, -2, -1)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws what is done to these images.

        Args:
            data: what the layer is called with.
            training: where false, nothing is drawn.
            seed: an integer for the same numbers each time; default: the layer's generator.

        Returns:
            What the ``transform`` methods take, or None.
        """
        return None

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        """Applies a transformation to a batch of images."""
        raise NotImplementedError(f"{type(self).__name__} defines no transform_images")

    def transform_labels(self, labels: Any, transformation: Any, training: bool = True) -> Any:
        """Applies a transformation to labels, which most leave as they are."""
        return labels

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Applies a transformation to boxes, which those of colours leave as they are.

        Raises:
            NotImplementedError: where pixels move and the layer cannot move boxes.
        """
        if self._MOVES_PIXELS:
            raise NotImplementedError(
                f"{type(self).__name__} does not transform bounding boxes. Leave the key "
                "'bounding_boxes' out, or use a layer that does, such as RandomFlip, "
                "RandomTranslation or Resizing."
            )
        return bounding_boxes

    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Applies a transformation to masks of classes; those of colours leave them alone."""
        return segmentation_masks

    def transform_single_image(self, image: Any, transformation: Any, training: bool = True) -> Any:
        """Applies a transformation to one image."""
        return self._single(self.transform_images, image, transformation, training)

    def transform_single_label(self, label: Any, transformation: Any, training: bool = True) -> Any:
        """Applies a transformation to the label of one image."""
        return self._single(self.transform_labels, label, transformation, training)

    def transform_single_bounding_box(
        self, bounding_box: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Applies a transformation to the boxes of one image."""
        batch = {key: ops.expand_dims(value, 0) for key, value in bounding_box.items()}
        found = self.transform_bounding_boxes(batch, transformation, training=training)
        return {key: ops.squeeze(value, 0) for key, value in found.items()}

    def transform_single_segmentation_mask(
        self, segmentation_mask: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Applies a transformation to the mask of one image."""
        transform = self.transform_segmentation_masks
        return self._single(transform, segmentation_mask, transformation, training)

    def _single(self, transform: Any, value: Any, transformation: Any, training: bool) -> Any:
        found = transform(ops.expand_dims(value, 0), transformation, training=training)
        return ops.squeeze(found, 0)

    def call(self, data: Any, training: bool = True) -> Any:
        """Draws, and applies it to all that is there."""
        extent = self._extent(data)
        single = extent.single
        if single and not all(isinstance(size, int) for size in extent.shape):
            # The first axis of an array usually counts a batch; here it is part of an image.
            raise ShapeError(
                f"{type(self).__name__}: one image needs fixed sizes. Received: images.shape="
                f"{extent.shape}"
            )
        transformation = self.get_random_transformation(data, training=training)
        if not isinstance(data, Mapping):
            whole: Any = self.transform_single_image if single else self.transform_images
            return whole(data, transformation, training=training)
        apply: dict[str, Any] = {
            "images": self.transform_single_image if single else self.transform_images,
            "labels": self.transform_single_label if single else self.transform_labels,
            "bounding_boxes": self.transform_single_bounding_box
            if single
            else self.transform_bounding_boxes,
            "segmentation_masks": self.transform_single_segmentation_mask
            if single
            else self.transform_segmentation_masks,
        }
        found = dict(data)
        for key, transform in apply.items():
            if key not in data:
                continue
            value = data[key]
            if key == "bounding_boxes":
                value = checked_boxes(type(self).__name__, value, self.bounding_box_format)
            found[key] = transform(value, transformation, training=training)
        return found

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = {**super().get_config(), "data_format": self.data_format}
        if self.bounding_box_format is not None:
            config["bounding_box_format"] = self.bounding_box_format
        return config

    def _of_batch(self, change: Any, images: Any, *arguments: Any) -> Any:
        """Changes a batch of images, or one as a batch of one."""
        if not self._extent(images).single:
            return change(images, *arguments)
        return ops.squeeze(change(ops.expand_dims(images, 0), *arguments), 0)

    def _value_range(self, images: Any, source: Any, target: Any) -> Any:
        """Pixels between two values as pixels between two others."""
        if tuple(source) == tuple(target):
            return images
        (low, high), (new_low, new_high) = source, target
        images = ops.divide(ops.subtract(images, float(low)), float(high - low))
        return ops.add(ops.multiply(images, float(new_high - new_low)), float(new_low))


class ColorLayer(BaseImagePreprocessingLayer):
    """Changes colours: labels, boxes and masks stay as they are."""

    _MOVES_PIXELS = False

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        """Applies a transformation to a batch of images."""
        images = ops.cast(images, self.compute_dtype)
        return self._colored(images, transformation) if training else images

    def _colored(self, images: Any, transformation: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no _colored")

    def _number(self, x: Any) -> Any:
        """What was drawn for each image, in the dtype of the images."""
        return column(ops.cast(x, self.compute_dtype))


class FactorLayer(ColorLayer):
    """Changes colours by a factor that is drawn for each image."""

    _SORTS_RANGE = True
    """Whether the range of values is kept with the lower one first, as Keras keeps it."""

    def __init__(
        self,
        factor: Any,
        value_range: Any = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self._set_factor(factor)
        check = sorted_range if self._SORTS_RANGE else checked_range
        self.value_range = check(value_range)
        self._set_seed(seed)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "factor": self.factor,
            "value_range": self.value_range,
            "seed": self.seed,
        }


class GeometricLayer(BaseImagePreprocessingLayer):
    """Moves pixels: masks of classes move with them, to the nearest place."""

    interpolation: str

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        """Applies a transformation to a batch of images."""
        images = ops.cast(images, self.compute_dtype)
        if not training or transformation is None:
            return images
        return self._of_batch(self._moved, images, transformation, self.interpolation)

    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Applies a transformation to masks of classes; no classes are mixed."""
        if not training or transformation is None:
            return segmentation_masks
        return self._of_batch(self._moved, segmentation_masks, transformation, "nearest")

    def _moved(self, images: Any, transformation: Any, interpolation: str) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no _moved")
