"""Images as seen from elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops
from handmill.layers.preprocessing.images.arguments import (
    INTERPOLATIONS,
    check_choice,
    is_number,
)
from handmill.layers.preprocessing.images.base import GeometricLayer, column
from handmill.layers.preprocessing.images.boxes import clip_to_image_size, convert_format
from handmill.ops.image.matrices import homography


class RandomPerspective(GeometricLayer):
    """Moves the corners of images by random distances while training.

    Args:
        factor: the largest probability with which an image changes, or the least and the largest.
        scale: how far corners move, from 0 to 1: by up to half of the image times that.
        interpolation: "nearest" or "bilinear".
        fill_value: what is seen beyond the borders.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name``, ``bounding_box_format`` and the like.

    Raises:
        ValueError: if ``factor`` or ``scale`` is outside [0, 1].
        NotImplementedError: for another interpolation.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomPerspective(scale=0.3)(ops.ones((2, 4, 4, 3))).shape
        (2, 4, 4, 3)
    """

    _FACTOR_BOUNDS = (0, 1)

    def __init__(
        self,
        factor: Any = 1.0,
        scale: float = 1.0,
        interpolation: str = "bilinear",
        fill_value: float = 0.0,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self._set_factor(factor)
        if not is_number(scale) or not 0 <= scale <= 1:
            raise ValueError(
                "The `scale` argument should be a number in the range [0, 1]. Received: "
                f"scale={scale}"
            )
        check_choice("interpolation", interpolation, INTERPOLATIONS)
        self.scale = scale
        self.fill_value = fill_value
        self.interpolation = interpolation
        self._set_seed(seed)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws where the corners of images come to, and which images change."""
        if not training:
            return None
        extent = self._extent(data)
        draws = self._draws(seed)
        apply = draws.chance(extent.batch, self.factor)
        scale = 0.5 * self.scale
        moved = draws.uniform((extent.batch, 4, 2), -scale, scale)
        # Corners that fall together, of images one pixel wide or high, would fix no transform.
        right, bottom = (
            ops.maximum(ops.cast(n, "float32") - 1.0, 1.0) for n in (extent.width, extent.height)
        )
        # Left upper, right upper, left lower, right lower; x before y.
        far = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
        corners = ops.multiply(far, ops.stack([right, bottom]))
        start = ops.add(ops.multiply(moved, 0.0), corners)
        return {
            "apply_perspective": apply,
            "start_points": start,
            "end_points": ops.add(start, ops.multiply(start, moved)),
            "input_shape": extent.shape,
        }

    def _moved(self, images: Any, transformation: Any, interpolation: str) -> Any:
        seen = ops.image.perspective_transform(
            images,
            transformation["start_points"],
            transformation["end_points"],
            interpolation=interpolation,
            fill_value=self.fill_value,
            data_format=self.data_format,
        )
        return ops.where(column(transformation["apply_perspective"]), seen, images)

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Moves boxes: each becomes the box around its moved corners.

        Keras returns them as "xyxy" whatever the layer's format is.
        """
        if not training or transformation is None:
            return bounding_boxes
        height, width = (transformation["input_shape"][axis] for axis in self._axes[:2])
        found = convert_format(
            bounding_boxes, self.bounding_box_format, "xyxy", height=height, width=width
        )
        boxes = ops.cast(found["boxes"], "float32")
        ends = (ops.cast(transformation[f"{end}_points"], "float32") for end in ("end", "start"))
        a, b, c, d, e, f, g, h = (
            ops.reshape(factor, (-1, 1, 1)) for factor in ops.split(homography(*ends), 8, axis=-1)
        )
        left, top, right, bottom = ops.split(boxes, 4, axis=-1)
        corners = [(x, y, g * x + h * y + 1.0) for x in (left, right) for y in (top, bottom)]
        xs = ops.concatenate([(a * x + b * y + c) / far for x, y, far in corners], axis=-1)
        ys = ops.concatenate([(d * x + e * y + f) / far for x, y, far in corners], axis=-1)
        ends_of_box = [m(v, axis=-1, keepdims=True) for m in (ops.min, ops.max) for v in (xs, ys)]
        moved = ops.concatenate(ends_of_box, axis=-1)
        found["boxes"] = ops.where(column(transformation["apply_perspective"], 3), moved, boxes)
        found = clip_to_image_size(found, height, width)
        return convert_format(found, "xyxy", self.bounding_box_format, height=height, width=width)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "factor": self.factor,
            "scale": self.scale,
            "interpolation": self.interpolation,
            "fill_value": self.fill_value,
            "seed": self.seed,
        }
