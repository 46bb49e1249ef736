"""Values between pixels, gathered at coordinates."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill.ir.shapes import FLOATS
from handmill.ops.core.conversion import cast
from handmill.ops.numpy.create import ones_like
from handmill.ops.numpy.elementwise import absolute, clip, floor, sign, trunc
from handmill.ops.numpy.logic import logical_and, where
from handmill.ops.numpy.movement import expand_dims, reshape
from handmill.ops.numpy.sorting import cumsum, take
from handmill.primitives.emit import slice_axis
from handmill.primitives.operands import common_dtype, converted, dtype_of, shape_of

# Places are whole numbers in floats, exact below 2^24: such quotients round to no other floor.


def _mirrored(place: Any, size: int) -> Any:
    """Back and forth; the pixels at the ends count once."""
    last = size - 1
    if last == 0:
        return place * 0.0
    turned = place + float(last)
    return absolute(turned - floor(turned / (2.0 * last)) * (2.0 * last) - float(last))


def _reflected(place: Any, size: int) -> Any:
    """Back and forth; the pixels at the ends count twice."""
    return floor((_mirrored(2.0 * place + 1.0, 2 * size + 1) - 1.0) * 0.5)


_MODES: dict[str, Callable[[Any, int], Any]] = {
    "constant": lambda place, size: place,
    "nearest": lambda place, size: place,
    "wrap": lambda place, size: place - floor(place / float(size)) * float(size),
    "mirror": _mirrored,
    "reflect": _reflected,
}


def check_mode(fill_mode: str) -> None:
    """Refuses what is no way to go on beyond the borders.

    Raises:
        ValueError: that names those that there are.
    """
    if fill_mode not in _MODES:
        raise ValueError(
            f"Invalid value for argument `fill_mode`. Expected one of {tuple(_MODES)}. "
            f"Received: fill_mode={fill_mode}"
        )


def _rounded(x: Any) -> Any:
    """The nearest whole number; halves go away from zero."""
    whole = trunc(x)
    return where(absolute(x - whole) >= 0.5, whole + sign(x), whole)


def gathered(
    rows: Any,
    sizes: Sequence[int],
    coordinates: Sequence[Any],
    order: int,
    fill_mode: str,
    fill_value: float,
    first: Any = None,
) -> Any:
    """Interpolates between rows that lie on a grid.

    Args:
        rows: a row of values for each point of the grid, ``(points, values)``.
        sizes: of the grid.
        coordinates: along each of its axes those of the points wanted, all of one shape, floats.
        order: 0 for the nearest row, 1 for linear interpolation.
        fill_mode: how the grid goes on beyond its borders.
        fill_value: what is there for "constant".
        first: of several grids in ``rows``, the first row of that of each point; broadcasts.

    Returns:
        A row for each point, in the dtype of ``rows``.
    """
    dtype = dtype_of(rows)
    found = common_dtype(["float32", dtype, *map(dtype_of, coordinates)])
    fill = np.asarray(fill_value).astype(np.float64 if dtype in FLOATS else dtype).item()
    options = []
    for size, coordinate in zip(sizes, coordinates, strict=True):
        at = converted(coordinate, "float64" if dtype_of(coordinate) == "float64" else "float32")
        if order == 0:
            candidates = [(_rounded(at), None)]
        else:
            lower = floor(at)
            above = at - lower
            candidates = [(lower, 1.0 - above), (lower + 1.0, above)]
        options.append([(*_place(place, size, fill_mode), weight) for place, weight in candidates])
    total: Any = None
    for corner in itertools.product(*options):
        index: Any = None
        for (place, _, _), size in zip(corner, sizes, strict=True):
            index = place if index is None else index * size + place
        index = index if first is None else index + first
        part = converted(take(rows, index, axis=0), found)
        inside = [valid for _, valid, _ in corner if valid is not None]
        if inside:
            part = where(expand_dims(functools.reduce(logical_and, inside), -1), part, fill)
        weights = [weight for _, _, weight in corner if weight is not None]
        if weights:
            weight = functools.reduce(lambda a, b: a * b, weights)
            part = expand_dims(converted(weight, found), -1) * part
        total = part if total is None else total + part
    if order == 1 and dtype not in FLOATS:
        total = _rounded(total)
    return cast(total, dtype)


def _place(place: Any, size: int, fill_mode: str) -> tuple[Any, Any]:
    """The place inside of the grid, and whether it was there, if that counts."""
    inside = logical_and(place >= 0.0, place <= size - 1.0) if fill_mode == "constant" else None
    fixed_place = clip(_MODES[fill_mode](place, size), 0.0, size - 1.0)
    return converted(fixed_place, "int32"), inside


def sampled_by_gathering(x: Any, matrix: Any, order: int, fill_mode: str, fill_value: float) -> Any:
    """Images of what lies at a projective function of places, from simpler operators.

    Args:
        x: images (B, H, W, C) of fixed height and width.
        matrix: (B or 1, 8): what comes to column x and row y lies at column
            ``(m0 x + m1 y + m2) / d`` and row ``(m3 x + m4 y + m5) / d``, where
            ``d = m6 x + m7 y + 1``.
        order: 0 for the nearest pixel, 1 for linear interpolation.
        fill_mode: how images go on beyond their borders.
        fill_value: what is there for "constant".
    """
    shape = shape_of(x)
    height, width = int(shape[1]), int(shape[2])
    rows, columns = (grid[None] for grid in np.mgrid[:height, :width].astype(np.float32))
    m = [reshape(slice_axis(matrix, 1, i, i + 1), (-1, 1, 1)) for i in range(8)]
    below = m[6] * columns + m[7] * rows + 1.0
    down = (m[3] * columns + m[4] * rows + m[5]) / below
    right = (m[0] * columns + m[1] * rows + m[2]) / below
    first = reshape(numbers_of(x) * (height * width), (-1, 1, 1))
    pixels = reshape(x, (-1, shape[3]))
    found = gathered(pixels, (height, width), (down, right), order, fill_mode, fill_value, first)
    return reshape(found, shape)


def numbers_of(pixels: Any) -> Any:
    """0, 1, ... for the images of a batch.

    They are counted along the tensor: in the functional API its size has no value by itself.
    """
    corner = slice_axis(slice_axis(slice_axis(pixels, 1, 0, 1), 2, 0, 1), 3, 0, 1)
    return cumsum(ones_like(reshape(corner, (-1,)), dtype="int32"), axis=0) - 1
