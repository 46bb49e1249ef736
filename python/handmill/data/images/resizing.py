"""Resizing images without smoothing: each pixel blends those around its place in the source."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from handmill.ir.op import Array


def _cubic(x: Array) -> Array:
    """Keys's kernel with a = -1/2."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _mitchell(x: Array) -> Array:
    """Mitchell and Netravali's kernel with B = C = 1/3."""
    near = (7 * x - 12) * x * x + 16 / 3
    far = ((-7 / 3 * x + 12) * x - 20) * x + 32 / 3
    return np.where(x < 1, near, np.where(x < 2, far, 0.0)) / 6


def _lanczos(radius: int) -> Callable[[Array], Array]:
    return lambda x: np.where(x < radius, np.sinc(x) * np.sinc(x / radius), 0.0)


def _gaussian(x: Array) -> Array:
    """Of standard deviation 1/2, up to 3/2."""
    return np.where(x < 1.5, np.exp(-2 * x * x), 0.0)


_KERNELS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "bicubic": (_cubic, 2),
    "lanczos3": (_lanczos(3), 3),
    "lanczos5": (_lanczos(5), 5),
    "gaussian": (_gaussian, 1.5),
    "mitchellcubic": (_mitchell, 2),
}
INTERPOLATIONS = ("bilinear", "nearest", "area", *_KERNELS)


def resize_axis(
    x: Array, axis: int, start: int, length: int, target: int, interpolation: str
) -> Array:
    """Returns ``target`` samples along an axis of what lies from ``start`` on.

    Args:
        x: numbers; integers become float32, unless ``interpolation`` is ``"nearest"``.
        axis: the axis.
        start: where the part that is resized begins.
        length: how long it is.
        target: how long the result is.
        interpolation: one of ``INTERPOLATIONS``.
    """
    dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)

    def taken(places: Array) -> Array:  # what is taken is mostly less than all to convert
        return np.take(x, start + places, axis).astype(dtype, copy=False)

    place = (np.arange(target) + 0.5) * (length / target) - 0.5
    if interpolation == "nearest":
        nearest = np.floor(place + 0.5).astype(np.int64).clip(0, length - 1)
        return np.asarray(np.take(x, start + nearest, axis))
    shape = [1] * x.ndim
    shape[axis] = target
    if interpolation == "bilinear":
        place = place.clip(0, length - 1)
        lower = place.astype(np.int64)
        upper = np.minimum(lower + 1, length - 1)
        low, result = taken(lower), taken(upper)
        result -= low
        result *= (place - lower).astype(dtype).reshape(shape)
        result += low
        return result
    places, weights = _taps(place, length, target, interpolation)
    blend: Array = np.zeros((), dtype)
    for column, factor in zip(places.T, weights.T.astype(dtype), strict=True):
        blend = blend + taken(column) * factor.reshape(shape)
    return blend


def _taps(place: Array, length: int, target: int, interpolation: str) -> tuple[Array, Array]:
    """Which samples make up each of the result, and their weights, which add up to 1."""
    if interpolation == "area":
        scale = length / target
        first, last = np.arange(target) * scale, np.arange(1, target + 1) * scale
        places = np.floor(first).astype(np.int64)[:, None] + np.arange(int(np.ceil(scale)) + 1)
        weights = np.minimum(places + 1, last[:, None]) - np.maximum(places, first[:, None])
        weights = weights.clip(0, None)
    else:
        kernel, radius = _KERNELS[interpolation]
        reach = int(np.ceil(radius))
        places = np.floor(place).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
        weights = kernel(np.abs(places - place[:, None]))
    weights = np.where((places >= 0) & (places < length), weights, 0.0)
    return places.clip(0, length - 1), weights / weights.sum(axis=1, keepdims=True)


def resized(image: Array, size: tuple[int, int], interpolation: str, fit: str) -> Array:
    """Returns an image (H, W, C) in another size, as float32.

    Args:
        image: the image.
        size: (height, width).
        interpolation: one of ``INTERPOLATIONS``.
        fit: ``"stretch"``; ``"crop"`` cuts the centre to the aspect ratio of ``size`` first,
            ``"pad"`` adds zeros around it.
    """
    x = image
    height, width = x.shape[:2]
    if fit == "pad":
        high = max(height, int(float(width * size[0]) / size[1]))
        wide = max(width, int(float(height * size[1]) / size[0]))
        top, left = (high - height) // 2, (wide - width) // 2
        x = np.pad(x, ((top, high - height - top), (left, wide - width - left), (0, 0)))
    parts = list(x.shape[:2])
    if fit == "crop":
        parts = [
            max(min(height, int(float(width * size[0]) / size[1])), 1),
            max(min(width, int(float(height * size[1]) / size[0])), 1),
        ]
    for axis in (0, 1):
        length, target = parts[axis], size[axis]
        start = (x.shape[axis] - length) // 2
        if length == target:
            x = x[start : start + length] if axis == 0 else x[:, start : start + length]
        else:
            x = resize_axis(x, axis, start, length, target, interpolation)
    return x.astype(np.float32, copy=False)
