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


def channels_last(data_format: Any) -> bool:
    """Whether channels are the last axis.

    Args:
        data_format: "channels_last" or "channels_first"; None means
            ``config.image_data_format()``.

    Raises:
        ValueError: if there is no such format.
    """
    known = config.image_data_format() if data_format is None else str(data_format).lower()
    if known not in ("channels_last", "channels_first"):
        raise ValueError(
            "The `data_format` argument must be one of 'channels_first', 'channels_last'. "
            f"Received: data_format={data_format}"
        )
    return known == "channels_last"


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
    last = channels_last(data_format)
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
