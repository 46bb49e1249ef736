"""The image warp in plain NumPy: what csrc/kernels/images/warp.cpp computes, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from handmill.ir.op import Array

FILL_MODES = ("nearest", "constant", "reflect", "wrap")


def warp_batch(
    source: Array | Sequence[Array],
    index: Array | None,
    matrices: Array,
    flips: Array,
    fill_mode: str,
    cval: float,
    order: int,
    scale: float,
    offset: float,
    out: Array,
    threads: int = 1,
) -> None:
    """Warps a batch of images into ``out``; the arguments are those of ``_core.warp_batch``.

    Args:
        source: images (N, H, W, C), uint8 or float32, or a list of images (H, W, C).
        index: which images of ``source`` to take; None takes all.
        matrices: (B, 6) float64: row = m0 r + m1 c + m2, column = m3 r + m4 c + m5 is the place in
            the source that pixel (r, c) of the result comes from.
        flips: (B,) uint8: bit 0 mirrors the columns of the result, bit 1 its rows.
        fill_mode: what lies outside of the source, in scipy's meaning.
        cval: the value outside, for ``"constant"``.
        order: 0 takes the nearest sample, 1 blends the four around.
        scale: the result is multiplied by this,
        offset: and this is added.
        out: (B, H, W, C) float32, written.
        threads: not used here.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        for b, matrix in enumerate(matrices):
            image = source[b if index is None else index[b]]
            warped = _warp(image.astype(np.float32), matrix, int(flips[b]), fill_mode, cval, order)
            out[b] = warped * np.float32(scale) + np.float32(offset)


def _warp(x: Array, m: Array, flips: int, fill_mode: str, cval: float, order: int) -> Array:
    columns_step = -1 if flips & 1 else 1
    rows_step = -1 if flips & 2 else 1
    if np.array_equal(m, (1, 0, 0, 0, 1, 0)):
        return x[::rows_step, ::columns_step]
    H, W = x.shape[:2]
    r = np.arange(H, dtype=np.float64)[::rows_step, None]
    c = np.arange(W, dtype=np.float64)[None, ::columns_step]
    row = (r * m[0] + c * m[1]) + m[2]
    column = (r * m[3] + c * m[4]) + m[5]
    from_row = _map_coordinates(row, H, fill_mode)
    from_column = _map_coordinates(column, W, fill_mode)
    if order == 0:
        y = x[(from_row + 0.5).astype(np.int64), (from_column + 0.5).astype(np.int64)]
    else:
        y = _blend(x, from_row, from_column)
    if fill_mode == "constant":
        inside = (row >= 0) & (row <= H - 1) & (column >= 0) & (column <= W - 1)
        y = np.where(inside[:, :, None], y, np.float32(cval))
    return y


def _blend(x: Array, row: Array, column: Array) -> Array:
    H, W = x.shape[:2]
    r = np.minimum(row.astype(np.int64), max(H - 2, 0))
    c = np.minimum(column.astype(np.int64), max(W - 2, 0))
    down, right = int(H > 1), int(W > 1)
    row_fraction = (row - r).astype(np.float32)[:, :, None]
    column_fraction = (column - c).astype(np.float32)[:, :, None]
    upper_left, upper_right = x[r, c], x[r, c + right]
    left = upper_left + row_fraction * (x[r + down, c] - upper_left)
    between = upper_right + row_fraction * (x[r + down, c + right] - upper_right)
    result: Array = left + column_fraction * (between - left)
    return result


def _map_coordinates(v: Array, length: int, fill_mode: str) -> Array:
    """Maps coordinates as scipy does, then clamps them to [0, length - 1]."""
    last = float(length - 1)
    if fill_mode == "reflect":
        period = 2.0 * length
        rest = v - np.copysign(period * _whole_periods(v, period), v)
        near = np.where(rest < -length, rest + period, rest)
        folded = np.where(near >= length, period - near - 1, near)
        v = np.where(near < 0, -near - 1, folded)
    elif fill_mode == "wrap":
        period = last if last > 0 else 1.0
        whole = _whole_periods(v, period)
        above = np.where(v > last, whole, 0.0)
        v = v - period * np.where(v < 0, -whole - 1, above)
    v = np.where(v > 0, v, 0.0)
    return np.where(v < last, v, last)


def _whole_periods(v: Array, period: float) -> Array:
    ratio = np.abs(v) / period
    rounded = (ratio + 2.0**52) - 2.0**52
    return rounded - (rounded > ratio)
