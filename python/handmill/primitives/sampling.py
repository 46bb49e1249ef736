"""Images sampled at a projective function of places, each image by its own.

Which pixels are taken is not continuous in the places, so these are computed in float32, in one
order of operations, and so are the weights, by reference and kernel alike; only the values are
blended in the reference's dtype.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import same
from handmill.ir.gradient import pullback
from handmill.ir.op import Array, Attrs, Op, Sample, Ulp, register
from handmill.ir.shapes import Spec
from handmill.primitives.samples import both, given, uniform


def _infer(x: Spec, matrix: Spec, *, order: int, fill_mode: str, fill_value: float) -> Spec:
    if x.rank != 4 or matrix.rank != 2 or matrix.shape[1] != 8:
        problem = "images (B, H, W, C) and matrices (B or 1, 8) were expected"
        raise shape_error("sample_images", problem, {"x": x, "matrix": matrix})
    count = matrix.shape[0]
    if not (isinstance(count, int) and count == 1) and not same(count, x.shape[0]):
        problem = "one matrix, or one for each image, was expected"
        raise shape_error("sample_images", problem, {"x": x, "matrix": matrix})
    return x


def _mirrored(v: Array, last: np.float32) -> Array:
    turned, period = v + last, np.float32(2) * last
    return np.asarray(np.abs(turned - np.floor(turned / period) * period - last))


def _folded(v: Array, size: int, fill_mode: str) -> Array:
    n = np.float32(size)
    if fill_mode == "wrap":
        return np.asarray(v - np.floor(v / n) * n)
    if fill_mode == "mirror":
        return v * np.float32(0) if size == 1 else _mirrored(v, np.float32(size - 1))
    if fill_mode == "reflect":
        twice = np.float32(2)
        found = _mirrored(twice * v + np.float32(1), twice * n)
        return np.asarray(np.floor((found - np.float32(1)) * np.float32(0.5)))
    return v


def _put(v: Array, size: int, fill_mode: str) -> tuple[Array, Array]:
    """The places inside of the image, and whether they were there, if that counts."""
    last = np.float32(size - 1)
    inside = (v >= 0) & (v <= last) if fill_mode == "constant" else np.ones(v.shape, bool)
    place = _folded(v, size, fill_mode)
    place = np.where(place > 0, place, np.float32(0))
    return np.where(place < last, place, last).astype(np.int64), inside


def _samples_along(v: Array, size: int, order: int, fill_mode: str) -> list[tuple[Any, ...]]:
    """Places, whether they were inside, and weights (float32)."""
    if order == 0:
        whole = np.trunc(v)
        step = np.where(v < 0, np.float32(-1), np.float32(1))
        return [
            (*_put(np.where(np.abs(v - whole) >= 0.5, whole + step, whole), size, fill_mode), 1)
        ]
    lower = np.floor(v)
    above = v - lower
    return [
        (*_put(lower, size, fill_mode), 1 - above),
        (*_put(lower + np.float32(1), size, fill_mode), above),
    ]


def _reference(x: Array, matrix: Array, *, order: int, fill_mode: str, fill_value: float) -> Array:
    B, H, W, _ = x.shape
    if x.size == 0:
        return np.zeros(x.shape, x.dtype)
    with np.errstate(all="ignore"):
        m = matrix.astype(np.float32).reshape(-1, 8, 1, 1).transpose(1, 0, 2, 3)
        row = np.arange(H, dtype=np.float32)[None, :, None]
        column = np.arange(W, dtype=np.float32)[None, None, :]
        below = m[6] * column + m[7] * row + np.float32(1)
        down = (m[3] * column + m[4] * row + m[5]) / below
        right = (m[0] * column + m[1] * row + m[2]) / below
        images = np.arange(B)[:, None, None]
        fill = np.asarray(np.float32(fill_value), x.dtype)
        y: Any = None
        for at_row, in_rows, row_weight in _samples_along(down, H, order, fill_mode):
            for at_column, in_columns, weight in _samples_along(right, W, order, fill_mode):
                part = x[images, at_row, at_column]
                part = np.where((in_rows & in_columns)[..., None], part, fill)
                if order == 1:
                    part = np.asarray(row_weight * weight, x.dtype)[..., None] * part
                y = part if y is None else y + part
    return np.asarray(y, x.dtype)


def _magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    options = {**attrs, "fill_value": abs(attrs["fill_value"])}
    return _reference(np.abs(inputs[0]), inputs[1], **options)


def _vjp(inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> Any:
    # That of gathering. It is no `composite`: in float64 that would take other pixels.
    from handmill.ops.image.interpolation import sampled_by_gathering

    graph = dys[0].graph
    start = len(graph.nodes)
    y = sampled_by_gathering(*inputs, **attrs)
    return pullback(graph, [y], [dys[0]], inputs, graph.nodes[start:])


def _turned(count: int) -> Array:
    found = np.zeros((count, 8), np.float32)
    for i, row in enumerate(found):
        angle, zoom = 0.4 + i, 0.7 + 0.2 * i
        cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
        row[:] = [cos, -sin, 1.3 + i, sin, cos, -0.8, 0.01 * i, -0.02]
    return found


def _samples() -> Iterable[Sample]:
    for fill_mode in ("constant", "nearest", "wrap", "mirror", "reflect"):
        for order in (0, 1):
            options = {"order": order, "fill_mode": fill_mode, "fill_value": 0.5}
            name = f"{fill_mode}_{order}"
            for shape in ((3, 7, 9, 3), (2, 1, 17, 1), (2, 6, 1, 5)):
                make = both(uniform(shape), given(_turned(shape[0])))
                yield Sample(f"{name}_{shape[-1]}", make, options, smooth=False)
    options = {"order": 1, "fill_mode": "constant", "fill_value": 0.0}
    moved = np.array([[1, 0, 0.3, 0, 1, -0.4, 0, 0]], np.float32)
    yield Sample("moved", both(uniform((2, 4, 5, 2)), given(moved)), options, smooth=False)
    yield Sample("none", both(uniform((0, 3, 3, 1)), given(moved)), options, smooth=False)
    wild = np.full((2, 8), np.nan, np.float32)
    wild[1] = [1e30, 0, 0, 0, -1e38, 1e38, 0, 0]
    for fill_mode in ("constant", "wrap", "reflect"):
        make = both(uniform((2, 3, 4, 3)), given(wild))
        attrs = {"order": 0, "fill_mode": fill_mode, "fill_value": 2.0}
        yield Sample(f"wild_{fill_mode}", make, attrs, smooth=False)
    bench = both(uniform((128, 32, 32, 3)), given(_turned(128)))
    yield Sample("bench", bench, options, smooth=False, bench=True)


# Four products of a weight, the same in float32 here and there, and a pixel, and three sums.
SAMPLE_IMAGES = register(
    Op(
        "sample_images",
        infer=_infer,
        reference=_reference,
        samples=_samples,
        bound=Ulp(3, of=_magnitude),
        vjp=_vjp,
        attribution="midpoint",
        kernel="sample_images",
        native=lambda specs, attrs: all(s.dtype == "float32" for s in specs),
        flops=lambda inputs, outputs, attrs: 7 * int(np.prod(outputs[0].shape)),  # type: ignore[arg-type]
    )
)
