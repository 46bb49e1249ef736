"""As many boxes for each image."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.arguments import whole_number
from handmill.layers.preprocessing.images.base import BaseImagePreprocessingLayer


class MaxNumBoundingBoxes(BaseImagePreprocessingLayer):
    """Gives each image the same number of boxes: leaves out those beyond, and fills up.

    Args:
        max_number: how many boxes each image gets.
        fill_value: what stands in boxes and labels where there are fewer.
        **kwargs: ``bounding_box_format``, ``name`` and the like.

    Raises:
        ValueError: if ``max_number`` is no positive integer, or ``fill_value`` no integer.

    Example:
        >>> import numpy as np
        >>> from handmill import layers
        >>> layer = layers.MaxNumBoundingBoxes(3, bounding_box_format="xyxy")
        >>> boxes = {"boxes": np.ones((2, 1, 4)), "labels": np.array([[5], [6]])}
        >>> layer({"images": np.ones((2, 8, 8, 3)), "bounding_boxes": boxes})["bounding_boxes"][
        ...     "labels"
        ... ]
        array([[ 5, -1, -1],
               [ 6, -1, -1]])
    """

    _MOVES_PIXELS = False

    def __init__(self, max_number: int, fill_value: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_number = whole_number("`max_number`", max_number, least=1)
        self.fill_value = whole_number("`fill_value`", fill_value)

    def transform_images(
        self, images: Any, transformation: Any = None, training: bool = True
    ) -> Any:
        """Leaves images as they are."""
        return images

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Cuts boxes and labels to the number, or fills them up."""
        found = dict(bounding_boxes)
        for key in ("boxes", "labels"):
            more = [[0, 0], [0, self.max_number], *[[0, 0]] * (len(found[key].shape) - 2)]
            filled = ops.pad(found[key], more, constant_values=self.fill_value)
            found[key] = filled[:, : self.max_number]
        return found

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "max_number": self.max_number,
            "fill_value": self.fill_value,
        }
