"""Patches cut out of images and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import config
from handmill.errors import ShapeError
from handmill.ops.image.matrices import fixed
from handmill.ops.numpy.arrange import moveaxis, pad
from handmill.ops.numpy.movement import expand_dims, reshape, squeeze, transpose
from handmill.ops.numpy.sorting import take
from handmill.primitives.emit import slice_axis
from handmill.primitives.operands import Tensor, shape_of, tensor

_Sizes = int | Sequence[int]


def _each(name: str, value: Any, count: int) -> list[int]:
    """One whole number above 0 for each direction."""
    found = [value] * count if isinstance(value, int | np.integer) else list(value)
    if len(found) != count:
        raise ValueError(
            f"Invalid `{name}` argument. Expected an int or {count} of them. "
            f"Received: {name}={value}"
        )
    if any(int(n) != n or n < 1 for n in found):
        raise ValueError(f"`{name}` must be 1 or more. Received: {name}={value}")
    return [int(n) for n in found]


def _parts(x: Any, axis: int, size: int, step: int, apart: int) -> Any:
    """An axis as two: the patches, and the ``size`` elements of each."""
    shape = list(shape_of(x))
    have = int(shape[axis])
    count = (have - apart * (size - 1) - 1) // step + 1
    if count < 1:
        raise ShapeError(f"patches of size {size} do not fit into {have} pixels along axis {axis}")
    if step == size and apart == 1:
        return reshape(
            slice_axis(x, axis, 0, count * size) if count * size < have else x,
            [*shape[:axis], count, size, *shape[axis + 1 :]],
        )
    at = np.arange(count)[:, None] * step + np.arange(size) * apart
    return take(x, at.astype(np.int32), axis=axis)


def _cut(
    images: Tensor,
    size: _Sizes,
    strides: _Sizes | None,
    dilation_rate: _Sizes,
    padding: str,
    data_format: str | None,
    count: int,
) -> Any:
    """Patches in ``count`` directions."""
    last = config.standardize_data_format(data_format) == "channels_last"
    if padding not in ("valid", "same"):
        raise ValueError(f"`padding` must be 'valid' or 'same'. Received: padding={padding}")
    sizes = _each("size", size, count)
    steps = _each("strides", size if strides is None else strides, count)
    dilations = _each("dilation_rate", dilation_rate, count)
    x = tensor(images)
    rank = len(shape_of(x))
    if rank not in (count + 1, count + 2):
        raise ShapeError(
            f"Invalid images rank: expected rank {count + 1} (one) or rank {count + 2} (a batch). "
            f"Received: images.shape={shape_of(x)}"
        )
    single = rank == count + 1
    x = expand_dims(x, 0) if single else x
    x = x if last else moveaxis(x, 1, -1)
    directions = range(1, count + 1)
    have = fixed("extract_patches", x, *directions)
    if padding == "same":
        around = [[0, 0]]
        for n, extent, step, apart in zip(have, sizes, steps, dilations, strict=True):
            lacking = max((-(-n // step) - 1) * step + (extent - 1) * apart + 1 - n, 0)
            around.append([lacking // 2, lacking - lacking // 2])
        x = pad(x, [*around, [0, 0]])
    for i in directions:
        x = _parts(x, 2 * i - 1, sizes[i - 1], steps[i - 1], dilations[i - 1])
    batch, *inner, channels = shape_of(x)
    places, offsets = range(1, 2 * count, 2), range(2, 2 * count + 1, 2)
    x = transpose(x, (0, *places, *offsets, 2 * count + 1))
    x = reshape(x, (batch, *inner[::2], int(np.prod(sizes)) * channels))
    x = x if last else moveaxis(x, -1, 1)
    return squeeze(x, 0) if single else x


def extract_patches(
    images: Tensor,
    size: _Sizes,
    strides: _Sizes | None = None,
    dilation_rate: _Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Any:
    """Cuts images into patches, or volumes if ``size`` has three numbers.

    Args:
        images: one image or a batch, of fixed height and width.
        size: the size of a patch: an int, or its height and width.
        strides: how far one patch begins after the other. Default: ``size``.
        dilation_rate: how far the pixels of a patch lie apart.
        padding: "valid": patches lie inside; "same": zeros around the image let one begin in each
            stride.
        data_format: "channels_last" or "channels_first".

    Returns:
        For each patch its pixels, one after the other, as channels.

    Raises:
        TypeError: if ``size`` is no int, list or tuple.
        ValueError: if an argument is none of those above.

    Example:
        >>> from handmill import ops
        >>> ops.image.extract_patches(ops.ones((2, 20, 20, 3)), (5, 4)).shape
        (2, 4, 5, 60)
    """
    if isinstance(size, int | np.integer):
        count = 2
    elif not isinstance(size, tuple | list):
        raise TypeError(
            "Invalid `size` argument. Expected an int or a tuple. "
            f"Received: size={size} of type {type(size).__name__}"
        )
    elif len(size) not in (2, 3):
        raise ValueError(
            "Invalid `size` argument. Expected a tuple of length 2 or 3. "
            f"Received: size={size} with length {len(size)}"
        )
    else:
        count = len(size)
    return _cut(images, size, strides, dilation_rate, padding, data_format, count)


def extract_patches_3d(
    volumes: Tensor,
    size: _Sizes,
    strides: _Sizes | None = None,
    dilation_rate: _Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Any:
    """Cuts volumes into patches.

    Args:
        volumes: one volume or a batch, of fixed depth, height and width.
        size: the size of a patch: an int, or its depth, height and width.
        strides: see :func:`extract_patches`.
        dilation_rate: see :func:`extract_patches`.
        padding: see :func:`extract_patches`.
        data_format: "channels_last" or "channels_first".

    Returns:
        For each patch its elements, one after the other, as channels.

    Raises:
        TypeError: if ``size`` is neither an int nor three of them.

    Example:
        >>> from handmill import ops
        >>> ops.image.extract_patches_3d(ops.ones((1, 4, 4, 4, 2)), 2).shape
        (1, 2, 2, 2, 16)
    """
    if not isinstance(size, int | np.integer) and len(size) != 3:
        raise TypeError(
            "Invalid `size` argument. Expected an int or a tuple of length 3. "
            f"Received: size={size}"
        )
    return _cut(volumes, size, strides, dilation_rate, padding, data_format, 3)
