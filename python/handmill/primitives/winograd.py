"""The sizes of what Winograd's filtering adds up, for the bounds of convolutions of 3x3 taps.

The kernels of csrc/kernels/convolution/winograd.h compute 2x2 neighbours from 16 products of sums
of 4x4 elements. An error is a part of these sums, so the bound of an output counts elements beside
its own window too: the size is that of the same sums with all factors positive. What is not finite
the kernels compute tap by tap, so there the plain size holds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from handmill.ir.op import Array

ROUNDINGS = 16
"""Of the transforms, beside the chain of products: on each axis one of the source, up to three of
the kernel, two of the sums; and some."""

_SOURCE = np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]])
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 1]])
_SUMS = np.array([[1, 1, 1, 0], [0, 1, 1, 1]])


def is_filtered(kernel: Any, depth: int, columns: int, counts: Any, attrs: Any) -> bool:
    """Whether kernels compute a convolution so: see lower/convolution/winograd.cpp."""
    return (
        tuple(kernel) == (3, 3)
        and set(attrs["strides"]) == set(attrs["dilation"]) == {1}
        and attrs["groups"] == 1
        and min(depth, columns) >= 16
        and min(counts) >= 2
    )


def conv_sizes(x: Array, w: Array, padding: Any) -> Array:
    """For ``y (N, H, W, O)`` of positive ``x (N, H, W, C)`` and ``w (3, 3, C, O)``."""
    tiles, counts = _tiles(_placed(x, padding))
    transformed = _both(_KERNEL, w)  # (4, 4, C, O)
    products = np.einsum("ijntsc,ijco->ijntso", _both(_SOURCE, tiles), transformed, optimize=True)
    sums = np.moveaxis(_both(_SUMS, products), (0, 1), (3, 5))  # (N, down, across, 2, O, 2)
    n, down, across, _, filters, _ = sums.shape
    sums = sums.transpose(0, 1, 3, 2, 5, 4).reshape(n, 2 * down, 2 * across, filters)
    found: Array = sums[:, : counts[0], : counts[1]]
    return found


def kernel_sizes(x: Array, dy: Array, padding: Any) -> Array:
    """For the gradient by the kernel, of positive ``x`` and ``dy (N, H, W, O)``."""
    tiles, counts = _tiles(_placed(x, padding))
    odd = [(0, n % 2) for n in counts]
    pairs = np.pad(dy, [(0, 0), *odd, (0, 0)])
    n, height, width, filters = pairs.shape
    pairs = pairs.reshape(n, height // 2, 2, width // 2, 2, filters).transpose(2, 4, 0, 1, 3, 5)
    products = np.einsum(
        "ijntsc,ijntso->ijco", _both(_SOURCE, tiles), _both(_SUMS.T, pairs), optimize=True
    )
    return _both(_KERNEL.T, products)


def input_sizes(dy: Array, w: Array, sizes: Any, padding: Any) -> Array:
    """For the gradient by the input, which convolves ``dy`` by the turned kernel."""
    turned = np.swapaxes(w[::-1, ::-1], 2, 3)
    around = [
        (2 - low, size + low - count)
        for (low, _), size, count in zip(padding, sizes, dy.shape[1:3], strict=True)
    ]
    return conv_sizes(dy, turned, around)


def _placed(x: Array, padding: Any) -> Array:
    """``x`` with zeros around it, or without its borders where padding is negative."""
    x = np.pad(x, [(0, 0), *((max(low, 0), max(high, 0)) for low, high in padding), (0, 0)])
    inside = [
        slice(max(-low, 0), n - max(-high, 0))
        for (low, high), n in zip(padding, x.shape[1:3], strict=True)
    ]
    return x[:, inside[0], inside[1]]


def _both(matrix: Array, x: Array) -> Array:
    """``matrix`` applied to axes 0 and 1."""
    matrix = matrix.astype(x.dtype)
    down = np.tensordot(matrix, x, (1, 0))
    return np.moveaxis(np.tensordot(matrix, down, (1, 1)), 0, 1)


def _tiles(x: Array) -> tuple[Array, tuple[int, int]]:
    """4x4 elements of each tile, (4, 4, N, down, across, C), and how many windows there are."""
    down, across = x.shape[1] - 2, x.shape[2] - 2
    x = np.pad(x, [(0, 0), (0, down % 2), (0, across % 2), (0, 0)])
    view = sliding_window_view(x, (4, 4), (1, 2))[:, ::2, ::2]  # (N, down, across, C, 4, 4)
    return np.moveaxis(view, (4, 5), (0, 1)), (down, across)
