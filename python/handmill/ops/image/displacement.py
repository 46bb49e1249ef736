"""Images of what lies at given places of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.ops.image.interpolation import gathered, numbers_of
from handmill.ops.image.layout import Images
from handmill.ops.image.matrices import fixed
from handmill.ops.numpy.arrange import moveaxis
from handmill.ops.numpy.movement import reshape
from handmill.primitives.operands import shape_of

_ORDERS = {"nearest": 0, "bilinear": 1}


def order_of(interpolation: str) -> int:
    """The order of the spline that a name stands for.

    Raises:
        ValueError: if there is no such interpolation.
    """
    if interpolation not in _ORDERS:
        raise ValueError(
            "Invalid value for argument `interpolation`. Expected of one "
            f"{tuple(_ORDERS)}. Received: interpolation={interpolation}"
        )
    return _ORDERS[interpolation]


def grid(name: str, images: Images) -> tuple[Any, Any]:
    """The row and the column of each pixel, ``(1, H, W)``."""
    height, width = fixed(name, images.x, images.height, images.width)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return rows[None], columns[None]


def displaced(
    images: Images, y: Any, x: Any, interpolation: str, fill_mode: str, fill_value: float
) -> Any:
    """Images of what lies at rows ``y`` and columns ``x``, each ``(B or 1, H, W)``."""
    order = order_of(interpolation)
    pixels = moveaxis(images.x, images.channels, -1)
    shape = shape_of(pixels)
    height, width = fixed("image", images.x, images.height, images.width)
    first = None
    if images.rank == 4:
        first = reshape(numbers_of(pixels) * (height * width), (-1, 1, 1))
    rows = reshape(pixels, (-1, shape[-1]))
    found = gathered(rows, (height, width), (y, x), order, fill_mode, fill_value, first)
    found = reshape(found, shape)
    return moveaxis(found, -1, images.channels)
