"""Images with more or less around them."""

from __future__ import annotations

from typing import Any

from handmill.arguments import whole_number
from handmill.ir.dims import SymbolicDim
from handmill.ir.trace import apply
from handmill.ops.image.layout import images_of
from handmill.primitives.emit import slice_axis
from handmill.primitives.movement import PAD
from handmill.primitives.operands import Tensor, shape_of


def _two_of_three(kind: str, sides: tuple[str, str, str], values: list[Any]) -> None:
    named = [f"{side}_{kind}" for side in sides[:2]] + [f"target_{sides[2]}"]
    if values.count(None) != 1:
        received = ", ".join(f"{n}={v}" for n, v in zip(named, values, strict=True))
        raise ValueError(f"Must specify exactly two of {', '.join(named)}. Received: {received}")
    for name, value in zip(named, values, strict=True):
        _not_negative(name, value)


def _not_negative(name: str, value: Any) -> None:
    """Refuses a number below 0; of one that a call decides, the call does."""
    if value is None or isinstance(value, SymbolicDim):
        return
    if whole_number(f"`{name}`", value) < 0:
        raise ValueError(f"{name} must be >= 0. Received: {name}={value}")


def _around(kind: str, sides: tuple[str, str, str], size: Any, values: list[Any]) -> list[Any]:
    """What lies before and after, of these and the size that comes out."""
    _two_of_three(kind, sides, values)
    before, after, target = values
    if target is not None:
        rest = target - size if kind == "padding" else size - target
        before = rest - after if before is None else before
        after = rest - before
        _not_negative(f"{sides[0]}_{kind}", before)
        _not_negative(f"{sides[1]}_{kind}", after)
    elif kind == "cropping":
        _not_negative(f"target_{sides[2]}", size - before - after)
    return [before, after]


def pad_images(
    images: Tensor,
    top_padding: int | None = None,
    left_padding: int | None = None,
    bottom_padding: int | None = None,
    right_padding: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Any:
    """Puts zeros around images; of each direction two of the three numbers are given.

    Args:
        images: one image or a batch.
        top_padding: rows of zeros above.
        left_padding: columns of zeros on the left.
        bottom_padding: rows of zeros below.
        right_padding: columns of zeros on the right.
        target_height: the height of the result.
        target_width: the width of the result.
        data_format: "channels_last" or "channels_first".

    Raises:
        ValueError: if not exactly two of three are given, or one is negative.

    Example:
        >>> from handmill import ops
        >>> ops.image.pad_images(ops.ones((2, 2, 1)), 1, 0, target_height=4, target_width=5).shape
        (4, 5, 1)
    """
    found = images_of(images, data_format)
    shape = shape_of(found.x)
    rows = [top_padding, bottom_padding, target_height]
    columns = [left_padding, right_padding, target_width]
    around: list[Any] = [[0, 0] for _ in shape]
    around[found.height] = _around(
        "padding", ("top", "bottom", "height"), shape[found.height], rows
    )
    around[found.width] = _around(
        "padding", ("left", "right", "width"), shape[found.width], columns
    )
    flat = tuple(n for pair in around for n in pair)
    return apply(PAD, found.x, paddings=flat, value=0.0)


def crop_images(
    images: Tensor,
    top_cropping: int | None = None,
    left_cropping: int | None = None,
    bottom_cropping: int | None = None,
    right_cropping: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Any:
    """Takes a window of images; of each direction two of the three numbers are given.

    Args:
        images: one image or a batch.
        top_cropping: rows left out above.
        left_cropping: columns left out on the left.
        bottom_cropping: rows left out below.
        right_cropping: columns left out on the right.
        target_height: the height of the result.
        target_width: the width of the result.
        data_format: "channels_last" or "channels_first".

    Raises:
        ValueError: if not exactly two of three are given, or one is negative.

    Example:
        >>> from handmill import ops
        >>> ops.image.crop_images(ops.ones((4, 4, 1)), 1, 0, target_height=2, target_width=3).shape
        (2, 3, 1)
    """
    found = images_of(images, data_format)
    shape = shape_of(found.x)
    rows = [top_cropping, bottom_cropping, target_height]
    columns = [left_cropping, right_cropping, target_width]
    top, bottom = _around("cropping", ("top", "bottom", "height"), shape[found.height], rows)
    left, right = _around("cropping", ("left", "right", "width"), shape[found.width], columns)
    tall = slice_axis(found.x, found.height, top, shape[found.height] - bottom)
    return slice_axis(tall, found.width, left, shape[found.width] - right)
