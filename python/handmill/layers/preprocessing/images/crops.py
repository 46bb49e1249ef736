"""Parts of images, and images of another size."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops
from handmill.errors import ShapeError
from handmill.layers.preprocessing.images.arguments import positive_size
from handmill.layers.preprocessing.images.base import BaseImagePreprocessingLayer, Extent
from handmill.layers.preprocessing.images.boxes import clip_to_image_size, convert_format


def _window(height: int, width: int, target: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest window with the proportions of ``target``: its start and its sizes."""
    high = max(min(height, int(float(width * target[0]) / target[1])), 1)
    wide = max(min(width, int(float(height * target[1]) / target[0])), 1)
    return int(float(height - high) / 2), int(float(width - wide) / 2), high, wide


class CropLayer(BaseImagePreprocessingLayer):
    """Makes images of one size out of parts of images.

    Args:
        height: of the result, in pixels.
        width: of the result, in pixels.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name`` and the like.
    """

    def __init__(self, height: int, width: int, data_format: str | None, **kwargs: Any) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.height = positive_size("height", height)
        self.width = positive_size("width", width)

    def _fixed(self, data: Any) -> Extent:
        extent = self._extent(data)
        if not (isinstance(extent.height, int) and isinstance(extent.width, int)):
            raise ShapeError(
                f"{type(self).__name__} needs images of a fixed height and width. Received: "
                f"images.shape={extent.shape}"
            )
        return extent

    def _central(self, images: Any) -> Any:
        """The largest window in the middle with the new proportions, in the new size."""
        return ops.image.resize(
            images,
            (self.height, self.width),
            data_format=self.data_format,
            crop_to_aspect_ratio=True,
        )

    def _cut(self, images: Any, top: Any, left: Any) -> Any:
        """The part of images that starts at a row and a column."""
        for axis, start, size in zip(
            self._axes[:2], (top, left), (self.height, self.width), strict=True
        ):
            if isinstance(start, int):
                index: list[Any] = [slice(None)] * len(images.shape)
                index[axis] = slice(start, start + size)
                images = images[tuple(index)]
            else:
                places = ops.add(np.arange(size, dtype=np.int32), ops.cast(start, "int32"))
                images = ops.take(images, places, axis=axis)
        return images

    def _moved_boxes(self, boxes: Any, top: Any, left: Any, scale: tuple[float, float]) -> Any:
        """Boxes (left, top, right, bottom) in what became of a part of an image."""
        start = ops.stack([ops.cast(x, "float32") for x in (left, top, left, top)])
        found = dict(boxes)
        found["boxes"] = (boxes["boxes"] - start) * np.array([scale[1], scale[0]] * 2, np.float32)
        return clip_to_image_size(found, self.height, self.width)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "height": self.height, "width": self.width}


class CenterCrop(CropLayer):
    """Cuts out the middle, also when predicting.

    An image that is smaller than the result is first cut to its proportions, then made larger.

    Args:
        height: of the result, in pixels.
        width: of the result, in pixels.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name``, ``bounding_box_format`` and the like.

    Raises:
        ValueError: if a size is no positive integer.

    Example:
        >>> from handmill import layers, ops
        >>> layers.CenterCrop(1, 2)(ops.reshape(ops.arange(12.0), (1, 3, 4, 1))).ravel()
        array([5., 6.], dtype=float32)
    """

    def __init__(
        self, height: int, width: int, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(height, width, data_format, **kwargs)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Notes the sizes; nothing is drawn."""
        return {"input_shape": self._extent(data).shape}

    def transform_images(
        self, images: Any, transformation: Any = None, training: bool = True
    ) -> Any:
        """Cuts out the middle."""
        images = ops.cast(images, self.compute_dtype)
        extent = self._fixed(images)
        if extent.height < self.height or extent.width < self.width:
            return self._central(images)
        down, right = extent.height - self.height, extent.width - self.width
        return self._cut(images, down // 2, right // 2)

    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any = None, training: bool = True
    ) -> Any:
        """Cuts out the middle of masks."""
        return self.transform_images(segmentation_masks, transformation, training=training)

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Cuts boxes off."""
        high, wide, _ = (transformation["input_shape"][axis] for axis in self._axes)
        found = convert_format(
            bounding_boxes, self.bounding_box_format, "xyxy", height=high, width=wide
        )
        if high >= self.height and wide >= self.width:
            top, left, scale = (high - self.height) // 2, (wide - self.width) // 2, (1.0, 1.0)
        else:
            top, left, rows, columns = _window(high, wide, (self.height, self.width))
            scale = (self.height / rows, self.width / columns)
        found = self._moved_boxes(found, top, left, scale)
        return convert_format(
            found, "xyxy", self.bounding_box_format, height=self.height, width=self.width
        )


class _Start(tuple[Any, Any]):
    """The row and the column where a part starts."""

    sizes: tuple[int, int]
    """The height and width of what it is a part of."""

    def __new__(cls, start: tuple[Any, Any], sizes: tuple[int, int]) -> _Start:
        found = super().__new__(cls, start)
        found.sizes = sizes
        return found


class RandomCrop(CropLayer):
    """Cuts a random part out of the images of a batch, the same of all, while training.

    When predicting, and where an image is not larger than the result both ways, the part is the
    one in the middle; when predicting it is the largest with the proportions of the result, made
    that large.

    Args:
        height: of the result, in pixels.
        width: of the result, in pixels.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        data_format: "channels_last" or "channels_first".
        name: default: ``random_crop``, numbered.
        **kwargs: ``dtype``, ``bounding_box_format`` and the like.

    Raises:
        ValueError: if a size is no positive integer.
        ShapeError: if the images have no fixed height and width.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomCrop(2, 2)(ops.ones((4, 8, 8, 3))).shape
        (4, 2, 2, 3)
    """

    def __init__(
        self,
        height: int,
        width: int,
        seed: int | None = None,
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(height, width, data_format, name=name, **kwargs)
        self._set_seed(seed)
        self.seed = self.generator.seed

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws the row and the column where the part starts."""
        extent = self._fixed(data)
        high, wide = extent.height, extent.width
        if training and high > self.height and wide > self.width:
            draws = self._draws(seed)
            down, right = high - self.height + 1, wide - self.width + 1
            start = draws.integers((), 0, down), draws.integers((), 0, right)
        else:
            start = _window(high, wide, (self.height, self.width))[:2]
        return _Start(start, (high, wide))

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        """Cuts out a part."""
        images = ops.cast(images, self.compute_dtype)
        if not training:
            return self._central(images)
        extent = self._fixed(images)
        top, left = transformation
        if isinstance(top, int) and isinstance(left, int):
            images = self._cut(images, top, left)
            size = (self.height, self.width)
            return ops.image.resize(images, size, data_format=self.data_format)
        if extent.height < self.height or extent.width < self.width:
            raise ShapeError(
                f"RandomCrop: no part of {self.height} by {self.width} pixels was drawn of images "
                f"of {extent.height} by {extent.width}. Draw for images of this size."
            )
        return self._cut(images, top, left)

    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Cuts the same part out of masks."""
        return self.transform_images(segmentation_masks, transformation, training=training)

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Moves boxes into the part, and cuts them off.

        Keras takes rows for columns here, and boxes stay as they were where images are resized.

        Raises:
            ValueError: if a format needs sizes that ``transformation`` does not tell.
        """
        top, left = transformation
        high, wide = getattr(transformation, "sizes", (None, None))
        found = convert_format(
            bounding_boxes, self.bounding_box_format, "xyxy", height=high, width=wide
        )
        rows, columns = self.height, self.width
        if isinstance(top, int) and isinstance(left, int):
            if high is None or wide is None:
                raise ValueError(
                    "RandomCrop: whether images were resized is not known. Pass what "
                    f"get_random_transformation() returned. Received: transformation="
                    f"{transformation}"
                )
            if training:
                rows, columns = min(rows, high - top), min(columns, wide - left)
            else:
                top, left, rows, columns = _window(high, wide, (self.height, self.width))
        scale = (self.height / rows, self.width / columns)
        found = self._moved_boxes(found, top, left, scale)
        return convert_format(
            found, "xyxy", self.bounding_box_format, height=self.height, width=self.width
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "seed": self.seed}


class Resizing(CropLayer):
    """Makes images larger or smaller, also when predicting.

    Args:
        height: of the result, in pixels.
        width: of the result, in pixels.
        interpolation: "bilinear", "nearest", "bicubic", "lanczos3" or "lanczos5".
        crop_to_aspect_ratio: whether the largest window of the new proportions is taken, instead
            of pulling the image to them.
        pad_to_aspect_ratio: whether the image is padded evenly to the new proportions.
        fill_mode: only "constant".
        fill_value: what is padded.
        antialias: whether each pixel of a smaller image is made of all that it covers.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name``, ``bounding_box_format`` and the like.

    Raises:
        ValueError: if a size is no positive integer, or a setting is none of those above.

    Example:
        >>> from handmill import layers, ops
        >>> layers.Resizing(1, 4)(ops.reshape([0.0, 2.0], (1, 1, 2, 1))).ravel()
        array([0. , 0.5, 1.5, 2. ], dtype=float32)
    """

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(height, width, data_format, **kwargs)
        self.interpolation = interpolation
        self.crop_to_aspect_ratio = crop_to_aspect_ratio
        self.pad_to_aspect_ratio = pad_to_aspect_ratio
        self.fill_mode = fill_mode
        self.fill_value = fill_value
        self.antialias = bool(antialias)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Notes the sizes; nothing is drawn."""
        extent = self._extent(data)
        return extent.height, extent.width

    def _resized(self, images: Any, interpolation: str) -> Any:
        return ops.image.resize(
            images,
            (self.height, self.width),
            interpolation=interpolation,
            antialias=self.antialias,
            crop_to_aspect_ratio=self.crop_to_aspect_ratio,
            pad_to_aspect_ratio=self.pad_to_aspect_ratio,
            fill_mode=self.fill_mode,
            fill_value=self.fill_value,
            data_format=self.data_format,
        )

    def transform_images(
        self, images: Any, transformation: Any = None, training: bool = True
    ) -> Any:
        """Resizes images; they keep their dtype."""
        return self._resized(images, self.interpolation)

    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any = None, training: bool = True
    ) -> Any:
        """Resizes masks; no classes are mixed."""
        return self._resized(segmentation_masks, "nearest")

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Resizes boxes; what is all 0 or all -1 stands for no box and becomes 0."""
        high, wide = transformation
        numbers = bounding_boxes["boxes"]
        none = ops.logical_or(
            ops.all(ops.equal(numbers, -1.0), axis=-1, keepdims=True),
            ops.all(ops.equal(numbers, 0.0), axis=-1, keepdims=True),
        )
        found = convert_format(
            bounding_boxes, self.bounding_box_format, "xyxy", height=high, width=wide
        )
        scale = (self.height / high, self.width / wide)
        shift = (0.0, 0.0)
        if self.pad_to_aspect_ratio:
            scale = (min(scale), min(scale))
            shift = tuple(
                (new - old * scale[0]) // 2
                for new, old in ((self.height, high), (self.width, wide))
            )
        elif self.crop_to_aspect_ratio:
            scale = (max(scale), max(scale))
            shift = tuple(
                -((old * scale[0] - new) // 2)
                for new, old in ((self.height, high), (self.width, wide))
            )
        factors, offsets = (np.array([pair[1], pair[0]] * 2, np.float32) for pair in (scale, shift))
        found["boxes"] = ops.add(ops.multiply(found["boxes"], factors), offsets)
        found = clip_to_image_size(found, self.height, self.width)
        found["boxes"] = ops.where(none, 0.0, found["boxes"])
        return convert_format(
            found, "xyxy", self.bounding_box_format, height=self.height, width=self.width
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "interpolation": self.interpolation,
            "crop_to_aspect_ratio": self.crop_to_aspect_ratio,
            "pad_to_aspect_ratio": self.pad_to_aspect_ratio,
            "fill_mode": self.fill_mode,
            "fill_value": self.fill_value,
            "antialias": self.antialias,
        }
