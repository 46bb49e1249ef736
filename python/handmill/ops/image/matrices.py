"""Matrices that make lines of pixels out of lines of pixels, and points out of points.

The kernels of interpolation take the functions that they compute with, NumPy's or those of ``ops``:
matrices of known numbers are constants of a program, others are computed in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from handmill.errors import ShapeError
from handmill.ir.op import Array
from handmill.ops.core.conversion import cast
from handmill.ops.linalg import solve
from handmill.ops.numpy.arrange import moveaxis, stack
from handmill.ops.numpy.create import ones_like, zeros_like
from handmill.ops.numpy.movement import concatenate, reshape
from handmill.ops.numpy.products import matmul
from handmill.primitives.emit import slice_axis
from handmill.primitives.operands import converted, dtype_of, shape_of

Kernel: TypeAlias = Callable[[Any, Any], Any]
"""Takes a namespace of functions and distances of 0 or more, in pixels; gives weights."""


def triangle(f: Any, x: Any) -> Any:
    """Linear interpolation."""
    return f.maximum(0.0, 1.0 - x)


def keys_cubic(f: Any, x: Any) -> Any:
    """Keys's cubic convolution with a = -1/2."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return f.where(x >= 2.0, 0.0, f.where(x >= 1.0, far, near))


def lanczos(radius: float) -> Kernel:
    """A sinc in a window that is the middle of a wider sinc."""
    return lambda f, x: f.where(x > radius, 0.0, f.sinc(x) * f.sinc(x / radius))


def weights(
    f: Any, size: Any, target: int, step: Any, shift: Any, kernel: Kernel, antialias: bool
) -> Any:
    """How much each of ``size`` pixels counts for each of ``target``.

    Args:
        f: the functions to compute with: ``numpy``, or ``handmill.ops.numpy``.
        size: the number of pixels that there are; what a call decides needs ``ops.numpy``.
        target: the number of pixels to make.
        step: how far two of those lie apart, in the pixels that there are.
        shift: how far they all are moved.
        kernel: the weights of distances.
        antialias: whether a step above 1 widens the kernel.

    Returns:
        A row for each pixel to make. It sums to 1, or is 0 where the pixel lies outside.
    """
    centers = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * step - shift - 0.5
    apart = f.abs(f.reshape(centers, (target, 1)) - f.arange(size, dtype="float32"))
    found = kernel(f, apart / f.maximum(step, 1.0) if antialias else apart)
    total = f.sum(found, axis=1, keepdims=True)
    # Keras on JAX: 1000 spacings of float32.
    counts = f.logical_and(f.abs(total) > 1000.0 * 2.0**-23, f.reshape(centers, (-1, 1)) >= -0.5)
    last = (size if isinstance(size, int) else cast(size, dtype_of(centers))) - 0.5
    counts = f.logical_and(counts, f.reshape(centers, (-1, 1)) <= last)
    return f.where(counts, found / f.where(total != 0.0, total, 1.0), 0.0)


def gaussian(size: int, sigma: float) -> Array:
    """The weights of a Gaussian window, which sum to 1."""
    x = np.arange(size) - (size - 1) / 2
    found = np.exp(-0.5 * (x / sigma) ** 2)
    return np.asarray(found / found.sum())


def band(window: Array, size: int, padded: bool) -> Array:
    """The matrix that slides a window over ``size`` pixels.

    Args:
        window: the weights.
        size: the number of pixels.
        padded: whether zeros around them keep their number; else the window stays inside.
    """
    if padded:
        before, target = (window.size - 1) // 2, size
    else:
        before, target = 0, size - window.size + 1
    place = np.arange(size) - np.arange(target)[:, None] + before
    inside = (place >= 0) & (place < window.size)
    return np.asarray(np.where(inside, window[np.clip(place, 0, window.size - 1)], 0.0))


def along(x: Any, axis: int, matrix: Any) -> Any:
    """The product of a matrix with each line of pixels along an axis."""
    if axis == len(shape_of(x)) - 2:
        return matmul(matrix, x)
    return moveaxis(matmul(moveaxis(x, axis, -1), moveaxis(matrix, 0, 1)), -1, axis)


def fixed(name: str, x: Any, *axes: int) -> list[int]:
    """The sizes along axes.

    Raises:
        ShapeError: if a call decides one of them.
    """
    sizes = [shape_of(x)[axis] for axis in axes]
    if not all(isinstance(n, int) for n in sizes):
        raise ShapeError(
            f"{name}: expected images of a fixed height and width, received images.shape="
            f"{shape_of(x)}; give the input its height and width, or do it in the data"
        )
    return [int(n) for n in sizes]


def filtered(name: str, x: Any, axes: Sequence[int], windows: Sequence[Array], padded: bool) -> Any:
    """Images under one window along each axis.

    Args:
        name: the function's, for errors.
        x: the images.
        axes: height and width.
        windows: the weights along each.
        padded: see :func:`band`.
    """
    for axis, size, window in zip(axes, fixed(name, x, *axes), windows, strict=True):
        x = along(x, axis, converted(band(window, size, padded), dtype_of(x)))
    return x


def homography(start: Any, end: Any) -> Any:
    """The eight factors that take end points back to start points, ``(B, 8)``."""
    (u, v), (x, y) = (
        [reshape(slice_axis(points, 2, i, i + 1), (-1, 4)) for i in range(2)]
        for points in (start, end)
    )
    one, nil = ones_like(x), zeros_like(x)
    columns = stack([x, y, one, nil, nil, nil, -u * x, -u * y], axis=-1)
    rows = stack([nil, nil, nil, x, y, one, -v * x, -v * y], axis=-1)
    wanted = reshape(concatenate([u, v], axis=-1), (-1, 8, 1))
    return reshape(solve(concatenate([columns, rows], axis=1), wanted), (-1, 8))
