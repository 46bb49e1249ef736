"""Images of other sizes: a product with a small constant matrix along each axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill.errors import ShapeError
from handmill.ir.op import Array
from handmill.ir.shapes import FLOATS
from handmill.ops.core.conversion import cast, saturate_cast
from handmill.ops.image.layout import images_of
from handmill.ops.numpy.arrange import moveaxis, pad
from handmill.ops.numpy.elementwise import round
from handmill.ops.numpy.products import matmul
from handmill.ops.numpy.sorting import take
from handmill.primitives.emit import slice_axis
from handmill.primitives.operands import Tensor, dtype_of, shape_of


def _triangle(x: Array) -> Array:
    return np.maximum(0.0, 1.0 - x)


def _keys_cubic(x: Array) -> Array:
    """Keys's cubic convolution with a = -1/2."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x >= 2.0, 0.0, np.where(x >= 1.0, far, near))


def _lanczos(radius: float) -> Callable[[Array], Array]:
    return lambda x: np.where(x > radius, 0.0, np.sinc(x) * np.sinc(x / radius))


_KERNELS: dict[str, Callable[[Array], Array] | None] = {
    "bilinear": _triangle,
    "nearest": None,
    "lanczos3": _lanczos(3.0),
    "lanczos5": _lanczos(5.0),
    "bicubic": _keys_cubic,
}


def _weights(size: int, target: int, kernel: Callable[[Array], Array], antialias: bool) -> Array:
    """How much each of ``size`` pixels counts for each of ``target``: rows that sum to 1."""
    step = size / target
    widened = max(step, 1.0) if antialias else 1.0
    centers = (np.arange(target) + 0.5) * step - 0.5
    found = kernel(np.abs(centers[:, None] - np.arange(size)) / widened)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _nearest(size: int, target: int) -> Array:
    # Products and quotients in float32, one rounding each, as Keras on JAX picks its pixels.
    at = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * np.float32(size)
    return np.asarray(np.floor(at / np.float32(target)), np.int32)


def _along(x: Any, axis: int, matrix: Array) -> Any:
    """The product of a matrix with each line of pixels along an axis."""
    if axis == len(shape_of(x)) - 2:
        return matmul(matrix, x)
    return moveaxis(matmul(moveaxis(x, axis, -1), matrix.T.copy()), -1, axis)


def _to_aspect(x: Any, axes: tuple[int, int], size: Sequence[int], crop: bool, fill: float) -> Any:
    height, width = (int(shape_of(x)[a]) for a in axes)
    like = (int(float(width * size[0]) / size[1]), int(float(height * size[1]) / size[0]))
    if crop:
        for axis, have, want in zip(axes, (height, width), like, strict=True):
            kept = max(min(have, want), 1)
            start = int(float(have - kept) / 2)
            x = slice_axis(x, axis, start, start + kept)
        return x
    rows, columns = (
        int(float(max(have, want) - have) / 2)
        for have, want in zip((height, width), like, strict=True)
    )
    around: list[Any] = [[0, 0] for _ in shape_of(x)]
    if rows:
        around[axes[0]] = [rows, rows]
    else:
        around[axes[1]] = [columns, columns]
    return pad(x, around, constant_values=fill) if rows or columns else x


def resize(
    images: Tensor,
    size: Sequence[int],
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> Any:
    """Makes images larger or smaller.

    Args:
        images: one image or a batch; integers are rounded to the nearest at the end.
        size: height and width of the result.
        interpolation: "bilinear", "nearest", "bicubic", "lanczos3" or "lanczos5".
        antialias: whether each pixel of a smaller image is made of all that it covers.
        crop_to_aspect_ratio: whether the largest window of the new proportions is taken, instead
            of pulling the image to them.
        pad_to_aspect_ratio: whether the image is padded evenly to the new proportions.
        fill_mode: only "constant".
        fill_value: what is padded.
        data_format: "channels_last" or "channels_first".

    Raises:
        ValueError: if a setting is none of those above.
        ShapeError: if the images have no fixed height and width.

    Example:
        >>> from handmill import ops
        >>> ops.image.resize([[[0.0], [2.0]]], (1, 4)).ravel()
        array([0. , 0.5, 1.5, 2. ], dtype=float32)
    """
    if len(size) != 2:
        raise ValueError(f"Expected `size` to be a tuple of 2 integers. Received: size={size}")
    if size[0] <= 0 or size[1] <= 0:
        raise ValueError(f"`size` must have positive height and width. Received: size={size}")
    if interpolation not in _KERNELS:
        raise ValueError(
            "Invalid value for argument `interpolation`. Expected of one "
            f"{tuple(_KERNELS)}. Received: interpolation={interpolation}"
        )
    if fill_mode != "constant":
        raise ValueError(
            "Invalid value for argument `fill_mode`. Only `'constant'` is supported. "
            f"Received: fill_mode={fill_mode}"
        )
    if pad_to_aspect_ratio and crop_to_aspect_ratio:
        raise ValueError(
            "Only one of `pad_to_aspect_ratio` & `crop_to_aspect_ratio` can be `True`."
        )
    found = images_of(images, data_format)
    x, axes = found.x, (found.height, found.width)
    if not all(isinstance(shape_of(x)[a], int) for a in axes):
        raise ShapeError(
            "resize: expected images of a fixed height and width, received images.shape="
            f"{shape_of(x)}; give the input its height and width, or resize in the data"
        )
    if crop_to_aspect_ratio or pad_to_aspect_ratio:
        x = _to_aspect(x, axes, size, crop_to_aspect_ratio, fill_value)
    dtype, kernel = dtype_of(x), _KERNELS[interpolation]
    computed = dtype if dtype in FLOATS else "float32"
    for axis, target in zip(axes, size, strict=True):
        have = int(shape_of(x)[axis])
        if have == target:
            continue
        if kernel is None:
            x = take(x, _nearest(have, int(target)), axis=axis)
            continue
        matrix = _weights(have, int(target), kernel, antialias)
        x = _along(cast(x, computed), axis, cast(matrix, computed))
    if dtype_of(x) == dtype:
        return x
    return saturate_cast(round(x), dtype)
