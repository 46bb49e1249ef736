"""ONNX's Resize and Upsample: along each axis a product with a matrix of weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from handmill import ops
from handmill.exchange.from_onnx.execution import Call, Unreadable, rule
from handmill.ir.dims import is_symbolic_dim
from handmill.ir.op import Array

_MOST_WEIGHTS = 1 << 24


@rule("Resize", "Upsample")
def resize(call: Call, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
    """Every axis whose size changes, one after the other."""
    if call.step.op == "Upsample" or (call.opset < 11 and scales is None):
        scales, roi = roi, None
    rank = len(x.shape)
    call.attr("antialias", 0)  # which only some modes use
    at = call.axes(call.ints("axes", None, list(range(rank))), rank)
    factors: list[float] | None = None
    if scales is not None and call.known(scales, "scales").size:
        factors = [float(s) for s in scales.reshape(-1)]
    elif call.step.attrs.get("scales"):
        factors = [float(s) for s in call.attr("scales", [0.0])]
    wanted: list[int] | None = None
    if sizes is not None and call.known(sizes, "sizes").size:
        wanted = [int(s) for s in sizes.reshape(-1)]
    given = factors if factors is not None else wanted
    if given is None or len(given) != len(at) or min(given) <= 0:
        raise Unreadable(f"scales {factors} and sizes {wanted} for {len(at)} axes")
    policy = call.attr("keep_aspect_ratio_policy", "stretch")
    lengths = [x.shape[axis] for axis in at]
    if wanted is not None and policy != "stretch":
        ratios = [w / int(n) for w, n in zip(wanted, lengths, strict=True)]
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        factors = [ratio] * len(at)
        wanted = [math.floor(ratio * int(n) + 0.5) for n in lengths]
    bounds = None
    if call.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        bounds = call.known(roi, "roi").reshape(2, -1)
    for i, axis in enumerate(at):
        n = x.shape[axis]
        if is_symbolic_dim(n):
            same = factors[i] == 1.0 if factors is not None else False
            if same:
                continue
            raise Unreadable("the size of an axis that is resized is decided by a call")
        size = wanted[i] if wanted is not None else math.floor(int(n) * factors[i])  # type: ignore[index]
        scale = factors[i] if factors is not None else size / int(n)
        region = None if bounds is None else (float(bounds[0, i]), float(bounds[1, i]))
        if size == n and scale == 1.0 and region is None:
            continue
        call.room([*x.shape[:axis], size, *x.shape[axis + 1 :]])
        if size * int(n) > _MOST_WEIGHTS:
            raise Unreadable(f"from {n} to {size} places along one axis")
        x = _along(call, x, axis, int(n), size, scale, region)
    return x


def _along(call: Call, x: Any, axis: int, n: int, size: int, scale: float, region: Any) -> Any:
    places, outside = _places(call, n, size, scale, region)
    mode = call.attr("mode", "nearest")
    if mode == "nearest":
        index = _nearest(call, places)
        return ops.take(x, np.clip(index, 0, n - 1).astype(np.int32), axis=axis)
    weights = _weights(call, places, n, scale, mode)
    dtype = str(x.dtype)
    wide = "float64" if dtype == "float64" else "float32"
    moved = ops.cast(ops.moveaxis(x, axis, -1), wide)
    found = ops.matmul(moved, weights.T.astype(wide))
    if region is not None and outside.any():
        extra = np.asarray(call.attr("extrapolation_value", 0.0), wide)
        found = ops.where(outside, extra, found)
    return ops.cast(ops.moveaxis(found, -1, axis), dtype)


def _places(call: Call, n: int, size: int, scale: float, region: Any) -> tuple[Array, Array]:
    """Where each entry of the result lies in what is resized."""
    default = "asymmetric" if call.opset < 11 else "half_pixel"
    mode = call.attr("coordinate_transformation_mode", default)
    x = np.arange(size, dtype=np.float64)
    if mode == "asymmetric":
        found = x / scale
    elif mode == "half_pixel":
        found = (x + 0.5) / scale - 0.5
    elif mode == "pytorch_half_pixel":
        found = (x + 0.5) / scale - 0.5 if size > 1 else np.zeros(size)
    elif mode == "align_corners":
        apart = scale * n - 1
        found = x * (n - 1) / apart if size > 1 and apart > 0 else np.zeros(size)
    elif mode == "half_pixel_symmetric":
        adjustment = size / (scale * n)
        center = n / 2
        found = center * (1 - adjustment) + (x + 0.5) / scale - 0.5
    elif mode == "tf_crop_and_resize":
        start, end = region
        if size > 1:
            found = start * (n - 1) + x * (end - start) * (n - 1) / (size - 1)
        else:
            found = np.full(size, 0.5 * (start + end) * (n - 1))
    else:
        raise Unreadable(f"coordinate_transformation_mode {mode!r} is not read")
    return found, (found < 0) | (found > n - 1)


def repeats(call: Call, times: int) -> bool:
    """Whether the nearest entries of an axis so many times as long are each entry that often."""
    if call.attr("coordinate_transformation_mode", "half_pixel") not in _LOCAL:
        return False
    n = 5
    places, _ = _places(call, n, n * times, float(times), None)
    index = np.clip(_nearest(call, places), 0, n - 1)
    return bool(np.array_equal(index, np.repeat(np.arange(n), times)))


_LOCAL = ("asymmetric", "half_pixel", "pytorch_half_pixel")
"""Modes in which places do not depend on how long an axis is."""


def _nearest(call: Call, places: Array) -> Array:
    mode = call.attr("nearest_mode", "floor" if call.opset < 11 else "round_prefer_floor")
    if mode == "round_prefer_floor":
        return np.asarray(np.ceil(places - 0.5))
    if mode == "round_prefer_ceil":
        return np.asarray(np.floor(places + 0.5))
    if mode in ("floor", "ceil"):
        return np.asarray(np.floor(places) if mode == "floor" else np.ceil(places))
    raise Unreadable(f"nearest_mode {mode!r} is not read")


def _weights(call: Call, places: Array, n: int, scale: float, mode: str) -> Array:
    """How much each place counts for each entry of the result: (size, n)."""
    a = call.attr("cubic_coeff_a", -0.75)

    def linear(d: Array) -> Array:
        return np.asarray(np.maximum(1 - np.abs(d), 0))

    def cubic(d: Array) -> Array:
        d = np.abs(d)
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))

    if mode not in ("linear", "cubic"):
        raise Unreadable(f"the mode {mode!r} is not read")
    kernel, reach = (linear, 1) if mode == "linear" else (cubic, 2)
    shrink = min(scale, 1.0) if call.attr("antialias", 0) else 1.0
    width = math.ceil(reach / shrink)
    base = np.floor(places)
    taps = base[:, None] + np.arange(-width + 1, width + 1)
    parts = kernel((taps - places[:, None]) * shrink)
    if call.attr("exclude_outside", 0) or shrink < 1.0:
        parts = (
            np.where((taps < 0) | (taps > n - 1), 0.0, parts)
            if call.attr("exclude_outside", 0)
            else parts
        )
        parts = parts / parts.sum(1, keepdims=True)
    found = np.zeros((len(places), n))
    rows = np.broadcast_to(np.arange(len(places))[:, None], taps.shape)
    np.add.at(found, (rows, np.clip(taps, 0, n - 1).astype(int)), parts)
    return found
