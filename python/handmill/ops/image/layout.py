"""Where rows, columns and channels of images lie."""

from __future__ import annotations

from typing import Any, NamedTuple

from handmill import config
from handmill.errors import ShapeError
from handmill.primitives.operands import Tensor, shape_of, tensor


class Images(NamedTuple):
    """A tensor of images and the axes of it."""

    x: Any
    rank: int
    height: int
    width: int
    channels: int


def images_of(images: Tensor, data_format: Any) -> Images:
    """One image or a batch, with its axes.

    Args:
        images: of rank 3 or 4.
        data_format: "channels_last" or "channels_first"; None means
            ``config.image_data_format()``.

    Raises:
        ShapeError: if the rank is another one.
        ValueError: if there is no such format.
    """
    last = config.standardize_data_format(data_format) == "channels_last"
    x = tensor(images)
    rank = len(shape_of(x))
    if rank not in (3, 4):
        raise ShapeError(
            "Invalid images rank: expected rank 3 (single image) or rank 4 (batch of images). "
            f"Received: images.shape={shape_of(x)}"
        )
    first = rank - 3
    if last:
        return Images(x, rank, first, first + 1, first + 2)
    return Images(x, rank, first + 1, first + 2, first)
