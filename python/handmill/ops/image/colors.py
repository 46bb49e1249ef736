"""Colours of images."""

from __future__ import annotations

from typing import Any

from handmill.errors import ShapeError
from handmill.ir.shapes import FLOATS
from handmill.ops.core.conversion import cast
from handmill.ops.image.layout import Images, images_of
from handmill.ops.numpy.arrange import split, stack
from handmill.ops.numpy.elementwise import absolute, clip, floor, maximum, minimum
from handmill.ops.numpy.logic import where
from handmill.ops.numpy.movement import squeeze
from handmill.primitives.operands import Tensor, dtype_of, shape_of, widened

# The spacing of numbers above 1.
_EPSILONS = {"bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


def _planes(images: Images) -> list[Any]:
    return [squeeze(p, images.channels) for p in split(images.x, 3, axis=images.channels)]


def _float_planes(images: Tensor, data_format: str | None) -> tuple[list[Any], int, str]:
    found = images_of(images, data_format)
    dtype = dtype_of(found.x)
    if dtype not in FLOATS:
        raise ValueError(
            f"Invalid images dtype: expected float dtype. Received: images.dtype={dtype}"
        )
    if shape_of(found.x)[found.channels] != 3:
        raise ShapeError(
            "Input images must have 3 channels, but received images with "
            f"{shape_of(found.x)[found.channels]} channels."
        )
    return [widened(plane) for plane in _planes(found)], found.channels, dtype


def rgb_to_grayscale(images: Tensor, data_format: str | None = None) -> Any:
    """Weighs red, green and blue as eyes do.

    Args:
        images: one image or a batch, with 3 channels; with 1 it is returned as it is.
        data_format: "channels_last" or "channels_first".

    Returns:
        Images of the same dtype with one channel.

    Example:
        >>> from handmill import ops
        >>> ops.image.rgb_to_grayscale([[[1.0, 0.0, 0.0]]]).round(4)
        array([[[0.2989]]], dtype=float32)
    """
    found = images_of(images, data_format)
    count = shape_of(found.x)[found.channels]
    if count not in (1, 3):
        raise ShapeError(
            "Invalid channel size: expected 3 (RGB) or 1 (Grayscale). "
            f"Received input with shape: images.shape={shape_of(found.x)}"
        )
    if count == 1:
        return found.x
    dtype = dtype_of(found.x)
    computed = "float64" if dtype == "float64" else "float32"
    red, green, blue = (cast(plane, computed) for plane in _planes(found))
    gray = red * 0.2989 + green * 0.5870 + blue * 0.1140
    return cast(stack([gray], axis=found.channels), dtype)


def rgb_to_hsv(images: Tensor, data_format: str | None = None) -> Any:
    """Turns red, green and blue into hue, saturation and value, all in [0, 1].

    Args:
        images: one image or a batch of floats in [0, 1], with 3 channels.
        data_format: "channels_last" or "channels_first".

    Example:
        >>> from handmill import ops
        >>> ops.image.rgb_to_hsv([[[0.0, 0.5, 0.0]]]).round(4)
        array([[[0.3333, 1.    , 0.5   ]]], dtype=float32)
    """
    planes, axis, dtype = _float_planes(images, data_format)
    eps = _EPSILONS[dtype]
    red, green, blue = (where(absolute(p) < eps, 0.0, p) for p in planes)
    value = maximum(maximum(red, green), blue)
    spread = value - minimum(minimum(red, green), blue)
    saturation = where(value > 0.0, spread / where(value > 0.0, value, 1.0), 0.0)
    norm = 1.0 / (6.0 * where(spread > 0.0, spread, 1.0))
    hue = where(value == green, norm * (blue - red) + 2.0 / 6.0, norm * (red - green) + 4.0 / 6.0)
    hue = where(value == red, norm * (green - blue), hue)
    hue = where(spread > 0.0, hue, 0.0) + cast(hue < 0.0, dtype_of(hue))
    return cast(stack([hue, saturation, value], axis=axis), dtype)


def hsv_to_rgb(images: Tensor, data_format: str | None = None) -> Any:
    """Turns hue, saturation and value, all in [0, 1], into red, green and blue.

    Args:
        images: one image or a batch of floats, with 3 channels.
        data_format: "channels_last" or "channels_first".

    Example:
        >>> from handmill import ops
        >>> ops.image.hsv_to_rgb([[[0.0, 1.0, 0.5]]])
        array([[[0.5, 0. , 0. ]]], dtype=float32)
    """
    (hue, saturation, value), axis, dtype = _float_planes(images, data_format)
    turn = (hue - floor(hue)) * 6.0
    shares = (
        absolute(turn - 3.0) - 1.0,
        2.0 - absolute(turn - 2.0),
        2.0 - absolute(turn - 4.0),
    )
    gray = 1.0 - saturation
    rgb = [value * (gray + saturation * clip(share, 0.0, 1.0)) for share in shares]
    return cast(stack(rgb, axis=axis), dtype)
