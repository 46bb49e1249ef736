"""Tensors cut into blocks and put together again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import config
from handmill.errors import ShapeError
from handmill.ir.dims import Dim, exact_quotient
from handmill.ir.trace import apply
from handmill.ops.numpy.arrange import pad
from handmill.ops.numpy.movement import reshape, transpose
from handmill.ops.numpy.sorting import take
from handmill.primitives.emit import slice_axis
from handmill.primitives.gather import SCATTER_ADD_ROWS
from handmill.primitives.operands import Tensor, shape_of, tensor


def _image(name: str, x: Tensor, block_size: int, data_format: Any) -> tuple[Any, list[Dim], bool]:
    """The tensor, its (batch, height, width, channels), whether channels come last."""
    if block_size < 2:
        raise ValueError(f"`block_size` must be at least 2. Received: block_size={block_size}")
    last = config.standardize_data_format(data_format) == "channels_last"
    x = tensor(x)
    shape = shape_of(x)
    if len(shape) != 4:
        raise ShapeError(f"`{name}` requires a 4D input tensor. Received: x.shape={shape}")
    order = (0, 1, 2, 3) if last else (0, 2, 3, 1)
    return x, [shape[a] for a in order], last


def _part(what: str, size: Dim, by: int, divisor: str) -> Dim:
    found = exact_quotient(size, by)
    if found is None:
        raise ShapeError(f"{what} ({size}) must be divisible by {divisor} ({by}).")
    return found


def depth_to_space(x: Tensor, block_size: int, data_format: str | None = "channels_last") -> Any:
    """Makes a block of pixels of the channels of each pixel.

    Args:
        x: images with ``C * block_size**2`` channels.
        block_size: how many pixels a block is high and wide; at least 2.
        data_format: "channels_last" or "channels_first".

    Returns:
        Images with C channels, ``block_size`` times as high and wide.

    Example:
        >>> from handmill import ops
        >>> ops.depth_to_space(ops.ones((1, 2, 2, 12)), 2).shape
        (1, 4, 4, 3)
    """
    x, (n, h, w, c), last = _image("depth_to_space", x, block_size, data_format)
    r = block_size
    c = _part("The number of channels", c, r * r, "block_size**2")
    if last:
        x = transpose(reshape(x, (n, h, w, r, r, c)), (0, 1, 3, 2, 4, 5))
        return reshape(x, (n, h * r, w * r, c))
    x = transpose(reshape(x, (n, c, r, r, h, w)), (0, 1, 4, 2, 5, 3))
    return reshape(x, (n, c, h * r, w * r))


def space_to_depth(x: Tensor, block_size: int, data_format: str | None = "channels_last") -> Any:
    """Makes channels of the pixels of each block.

    Args:
        x: images.
        block_size: how many pixels a block is high and wide; at least 2.
        data_format: "channels_last" or "channels_first".

    Returns:
        Images with ``block_size**2`` times as many channels.

    Example:
        >>> from handmill import ops
        >>> ops.space_to_depth(ops.ones((1, 4, 4, 3)), 2).shape
        (1, 2, 2, 12)
    """
    x, (n, h, w, c), last = _image("space_to_depth", x, block_size, data_format)
    r = block_size
    h, w = _part("Height", h, r, "block_size"), _part("Width", w, r, "block_size")
    if last:
        x = transpose(reshape(x, (n, h, r, w, r, c)), (0, 1, 3, 2, 4, 5))
        return reshape(x, (n, h, w, c * r * r))
    x = transpose(reshape(x, (n, c, h, r, w, r)), (0, 1, 3, 5, 2, 4))
    return reshape(x, (n, c * r * r, h, w))


def _two(value: Any) -> tuple[int, int]:
    if isinstance(value, int | np.integer):
        return int(value), int(value)
    first, second = value
    return int(first), int(second)


def _patches(
    size: Sequence[int], kernel: tuple[int, int], dilation: Any, padding: Any, stride: Any
) -> tuple[Any, list[int]]:
    """The pixel of each element of each patch of a padded image, and the image's height, width."""
    places = []
    padded = []
    options = zip(size, kernel, _two(dilation), _two(padding), _two(stride), strict=True)
    for own, extent, apart, around, step in options:
        whole = own + 2 * around
        number = (whole - apart * (extent - 1) - 1) // step + 1
        if number < 1:
            raise ShapeError(f"patches of {kernel} do not fit into images of {tuple(size)}")
        places.append(np.arange(extent)[:, None] * apart + np.arange(number) * step)
        padded.append(whole)
    rows, columns = places
    pixel = rows[:, None, :, None] * padded[1] + columns[None, :, None, :]
    count = kernel[0] * kernel[1]
    return pixel.reshape(count, -1).astype(np.int32), padded


def unfold(
    x: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Any:
    """Returns the patches of images.

    Args:
        x: images ``(N, C, H, W)`` of known height and width.
        kernel_size: the size of a patch, an integer or a pair.
        dilation: the distance of its pixels.
        padding: how many zeros are put around an image.
        stride: how far one patch begins after the other.

    Returns:
        Patches ``(N, C * KH * KW, number)``.

    Example:
        >>> from handmill import ops
        >>> ops.unfold(ops.ones((1, 3, 4, 4)), 2).shape
        (1, 12, 9)
    """
    x = tensor(x)
    shape = shape_of(x)
    if len(shape) != 4:
        raise ShapeError(f"Input must be a 4D tensor. Received: input.shape={shape}")
    n, c, h, w = shape
    if not isinstance(h, int) or not isinstance(w, int):
        raise ShapeError(f"unfold: height and width must be known, got shape {shape}")
    kernel, (above, left) = _two(kernel_size), _two(padding)
    pixels, (high, wide) = _patches((h, w), kernel, dilation, padding, stride)
    if above or left:
        x = pad(x, [(0, 0), (0, 0), (above, above), (left, left)])
    found = take(reshape(x, (n, c, high * wide)), pixels, axis=2)
    return reshape(found, (n, c * pixels.shape[0], pixels.shape[1]))


def fold(
    x: Tensor,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Any:
    """Adds patches up where they lie in images.

    Args:
        x: patches ``(N, C * KH * KW, number)``, as :func:`unfold` gives them.
        output_size: height and width of the images, an integer or a pair.
        kernel_size: see :func:`unfold`.
        dilation: see :func:`unfold`.
        padding: see :func:`unfold`.
        stride: see :func:`unfold`.

    Returns:
        Images ``(N, C, H, W)``.

    Example:
        >>> from handmill import ops
        >>> ops.fold(ops.ones((1, 4, 4)), 3, 2)[0, 0]
        array([[1., 2., 1.],
               [2., 4., 2.],
               [1., 2., 1.]], dtype=float32)
    """
    x = tensor(x)
    shape = shape_of(x)
    if len(shape) != 3:
        raise ShapeError(f"Input must be a 3D tensor. Received: input.shape={shape}")
    size, kernel, (above, left) = _two(output_size), _two(kernel_size), _two(padding)
    pixels, (high, wide) = _patches(size, kernel, dilation, padding, stride)
    n, depth, number = shape
    count = pixels.shape[0]
    c = _part("The second dimension", depth, count, "the size of a patch")
    if isinstance(number, int) and number != pixels.shape[1]:
        raise ShapeError(f"fold: {pixels.shape[1]} patches were expected, got {number}")
    moved = transpose(reshape(x, (n, c, count, pixels.shape[1])), (2, 3, 0, 1))
    y = apply(SCATTER_ADD_ROWS, moved, pixels, rows=high * wide)
    y = reshape(transpose(y, (1, 2, 0)), (n, c, high, wide))
    return slice_axis(slice_axis(y, 2, above, above + size[0]), 3, left, left + size[1])


def rearrange(tensor: Tensor, pattern: str, **axes_lengths: int) -> Any:
    """Splits, permutes and joins axes, as a pattern in the notation of einops says.

    Args:
        tensor: the input.
        pattern: names of the axes before and after an arrow; axes in parentheses are joined.
        **axes_lengths: sizes of axes that are split; one of each pair of parentheses may be left
            out.

    Example:
        >>> from handmill import ops
        >>> ops.rearrange(ops.ones((2, 6, 3)), "b (h w) c -> b c h w", h=2).shape
        (2, 3, 2, 3)
    """
    shape = shape_of(tensor)
    sides = [_axes_of(side) for side in pattern.split("->")]
    if len(sides) != 2 or len(sides[0]) != len(shape):
        raise ValueError(
            f"rearrange: {pattern!r} does not describe a tensor of {len(shape)} dimensions"
        )
    before, after = sides
    sizes: dict[str, Dim] = dict(axes_lengths)
    for group, size in zip(before, shape, strict=True):
        unknown = [name for name in group if name not in sizes]
        if len(unknown) > 1:
            raise ValueError(f"rearrange: the sizes of {unknown} are not known; give them by name")
        for name in group:
            if name in sizes:
                rest = exact_quotient(size, sizes[name])
                if rest is None:
                    raise ShapeError(
                        f"rearrange: an axis of {size} cannot be split by {name}={sizes[name]}"
                    )
                size = rest
        sizes.update((name, size) for name in unknown)
        if not unknown and size != 1:
            raise ShapeError(f"rearrange: the sizes of {group} do not make up an axis of {shape}")
    names = [name for group in before for name in group]
    wanted = [name for group in after for name in group]
    if sorted(names) != sorted(wanted) or len(set(names)) != len(names):
        raise ValueError(f"rearrange: each axis must stand once on both sides of {pattern!r}")
    split = reshape(tensor, tuple(sizes[name] for name in names))
    moved = transpose(split, tuple(names.index(name) for name in wanted))
    joined: list[Dim] = []
    for group in after:
        size = 1
        for name in group:
            size = size * sizes[name]
        joined.append(size)
    return reshape(moved, tuple(joined))


def _axes_of(side: str) -> list[list[str]]:
    return [re.findall(r"\w+", group) for group in re.findall(r"\w+|\(.*?\)", side)]
