"""Mirror images."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.layers.preprocessing.images.base import BaseImagePreprocessingLayer
from handmill.layers.preprocessing.images.boxes import clip_to_image_size, convert_format

_MODES = ("horizontal", "vertical", "horizontal_and_vertical")


class RandomFlip(BaseImagePreprocessingLayer):
    """Mirrors half of the images while training.

    Args:
        mode: "horizontal" exchanges left and right, "vertical" top and bottom,
            "horizontal_and_vertical" both at once.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name``, ``bounding_box_format`` and the like.

    Raises:
        ValueError: for another mode.

    Example:
        >>> import numpy as np
        >>> from handmill import layers
        >>> row = np.arange(3.0, dtype="float32").reshape(1, 1, 3, 1)
        >>> layers.RandomFlip("horizontal", seed=1)(row).ravel().tolist() in ([0, 1, 2], [2, 1, 0])
        True
    """

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        if mode not in _MODES:
            raise ValueError(f"`mode` must be one of {_MODES}. Received: mode={mode}")
        self._set_seed(seed)
        self.mode = mode

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws which images are mirrored."""
        if not training:
            return None
        extent = self._extent(data)
        shape = (1, 1, 1) if extent.single else (extent.batch, 1, 1, 1)
        flips = ops.less_equal(self._draws(seed).uniform(shape), 0.5)
        return {"flips": flips, "input_shape": extent.shape}

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        """Mirrors images."""
        images = ops.cast(images, self.compute_dtype)
        return self._flipped(images, transformation, training)

    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Mirrors masks."""
        masks = ops.cast(segmentation_masks, self.compute_dtype)
        return self._flipped(masks, transformation, training)

    def _flipped(self, images: Any, transformation: Any, training: bool) -> Any:
        if not training or transformation is None:
            return images
        flips = transformation["flips"]
        height, width, _ = self._axes
        axes = [a for a, name in ((width, "horizontal"), (height, "vertical")) if name in self.mode]
        return ops.where(flips, ops.flip(images, axis=axes), images)

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Mirrors boxes."""
        if not training or transformation is None:
            return bounding_boxes
        height, width = (transformation["input_shape"][axis] for axis in self._axes[:2])
        found = convert_format(
            bounding_boxes, self.bounding_box_format, "rel_xyxy", height=height, width=width
        )
        left, top, right, bottom = ops.split(found["boxes"], 4, axis=-1)
        if "horizontal" in self.mode:
            left, right = 1.0 - right, 1.0 - left
        if "vertical" in self.mode:
            top, bottom = 1.0 - bottom, 1.0 - top
        mirrored = ops.concatenate([left, top, right, bottom], axis=-1)
        flips = ops.squeeze(transformation["flips"], -1)  # one axis less than images have
        found["boxes"] = ops.where(flips, mirrored, found["boxes"])
        found = clip_to_image_size(found, 1.0, 1.0)
        return convert_format(
            found, "rel_xyxy", self.bounding_box_format, height=height, width=width
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "seed": self.seed, "mode": self.mode}
