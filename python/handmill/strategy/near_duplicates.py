"""Rows that are nearly the same: exact nearest neighbours, by matrix products over blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from handmill import ops
from handmill.ir.op import Array
from handmill.strategy.inputs import Inputs, Part

NEAR = 0.13
"""A row is near another if their distance is below so much of the median nearest distance: the
limit of the library cleanlab, which also takes cosine distances above three numbers a row."""

_NEAR_IMAGES = 0.5
"""Of images so far apart the details are compared ..."""
_SAME_DETAILS = 0.7
"""... and called near if the differences of neighbouring pixels correlate so much."""

_COARSE, _FINE = 8, 16
_ROWS, _COLUMNS = 1024, 8192
_LEAST_ROWS = 20


@dataclass(frozen=True)
class Neighbours:
    """The nearest other row of each row.

    Attributes:
        rows: its number (int64).
        distances: how far it is (float32): Euclidean up to three numbers a row, else the cosine
            distance ``1 - cos`` of rows from which their mean, or that of the data, was taken.
    """

    rows: Array
    distances: Array


def near_duplicates(
    inputs: Inputs, other: Inputs | None = None, codes: Array | None = None
) -> tuple[Array, bool]:
    """Finds rows that are nearly the same; equal ones are left to :mod:`.duplicates`.

    Two rows are near if they are much nearer than rows of the class usually are to their nearest
    neighbour. Images are first compared as averages over 8 x 8 fields, each less its mean, so that
    brightness and contrast do not matter; those that are near enough are compared by the
    differences of neighbouring pixels at 16 x 16, which a common background leaves alone.

    Args:
        inputs: the rows that are looked at.
        other: where their neighbours are looked for; default: among themselves.
        codes: the class of each row of ``inputs``; -1 where there is none.

    Returns:
        Pairs of rows (int64, ``(pairs, 2)``), the first of ``inputs``, the second its nearest one;
        and whether they are of images in colour, which are not alike by chance. Of no use, and
        empty, below 20 rows.
    """
    second = inputs if other is None else other
    nothing = np.zeros((0, 2), np.int64), False
    if inputs.rows < _LEAST_ROWS or second.rows < _LEAST_ROWS or not inputs.numbers:
        return nothing
    image = _image_of(inputs)
    finite = [_finite(inputs), _finite(second)]
    if min(map(np.count_nonzero, finite)) < _LEAST_ROWS:
        return nothing
    numbers = [np.flatnonzero(rows) for rows in finite]
    if image is None:
        a, b = _features(inputs, second)
        is_cosine = a.shape[1] > 3
    else:
        a, b = (_unit(_pooled(part, _COARSE)) for part in (image, second.numbers[0]))
        is_cosine = True
    a, b = a[numbers[0]], b[numbers[1]]
    found = nearest(a, None if other is None else b, is_cosine)
    own = np.zeros(len(a), np.int64) if codes is None else codes[numbers[0]]
    ratio = found.distances / _usual(found.distances, own)
    ratio[found.distances == 0] = np.inf  # equal: not nearly so
    pairs = np.stack([numbers[0], numbers[1][found.rows]], axis=1)
    if image is None:
        return pairs[ratio < min(NEAR, _by_chance(found.distances))], False
    pairs = pairs[ratio < _NEAR_IMAGES]
    details = [
        _details(_pooled(_taken(part, rows), _FINE))
        for part, rows in zip((image, second.numbers[0]), pairs.T, strict=True)
    ]
    # Strokes on an even ground, as in MNIST, look alike without being copies.
    is_photograph = image.width >= 3 * int(np.prod(image.values.shape[1:3]))
    return pairs[np.einsum("ij,ij->i", *details) >= _SAME_DETAILS], is_photograph


def nearest(a: Array, b: Array | None, is_cosine: bool) -> Neighbours:
    """Finds the nearest row of ``b`` for each row of ``a``; exact, in blocks of 1,024 x 8,192.

    Args:
        a: float32 of shape ``(rows, numbers)``, rows of length 1 if ``is_cosine``.
        b: the same; None for the nearest *other* row of ``a``.
        is_cosine: whether the distance is 1 minus the product of rows; else Euclidean.
    """
    among = a if b is None else b
    # |x - y|^2 = |x|^2 - 2 (x y - |y|^2 / 2): the nearest row has the largest bracket.
    offset = np.zeros(len(among), np.float32) if is_cosine else 0.5 * np.sum(among**2, axis=1)
    best = np.full(len(a), -np.inf, np.float32)
    rows = np.zeros(len(a), np.int64)
    for column in range(0, len(among), _COLUMNS):
        block = np.ascontiguousarray(among[column : column + _COLUMNS].T)
        shift = offset[column : column + _COLUMNS]
        for row in range(0, len(a), _ROWS):
            scores = np.array(ops.matmul(a[row : row + _ROWS], block), copy=False)
            if not is_cosine:
                scores = scores - shift
            if b is None:
                scores = np.array(scores)
                i = np.arange(max(row, column), min(row + _ROWS, column + _COLUMNS, len(a)))
                scores[i - row, i - column] = -np.inf
            place = scores.argmax(axis=1)
            value = scores[np.arange(len(scores)), place]
            better = value > best[row : row + _ROWS]
            best[row : row + _ROWS][better] = value[better]
            rows[row : row + _ROWS][better] = place[better] + column
    # From the rows themselves: the difference of large products would lose what is small.
    gaps = a - among[rows]
    squares: Array = np.einsum("ij,ij->i", gaps, gaps)
    return Neighbours(rows, squares / 2 if is_cosine else np.sqrt(squares))


def _usual(distances: Array, codes: Array) -> Array:
    """The median distance in the class of each row; of all rows where the class has few."""
    usual = np.full(len(distances), np.median(distances), np.float64)
    for code in np.unique(codes[codes >= 0]):
        members = codes == code
        if np.count_nonzero(members) >= _LEAST_ROWS:
            usual[members] = np.median(distances[members])
    return np.maximum(usual, 1e-30)


def _by_chance(distances: Array) -> float:
    """Below which part of the median distance chance puts a hundredth of a row.

    Where rows lie evenly in m dimensions, a share of about ln 2 r^m of them has its neighbour
    within r times the median; m is told by the quartile and the median of the distances themselves.
    In few dimensions that is soon more than nothing, whatever the rows are.
    """
    quartile, median = np.quantile(distances, [0.25, 0.5])
    if not 0 < quartile < median:
        return 0.0
    dimensions = math.log(math.log(2) / math.log(4 / 3)) / math.log(median / quartile)
    return float((0.01 / (math.log(2) * len(distances))) ** (1 / dimensions))


def _finite(inputs: Inputs) -> Array:
    rows: Array = np.ones(inputs.rows, bool)
    for part in inputs.numbers:
        np.logical_and(rows, _finite_rows(part)[:, 0], out=rows)
    return rows


def _finite_rows(part: Part) -> Array:
    """Whether each row is free of NaN and infinities, shape ``(rows, 1)``."""
    if part.values.dtype.kind != "f":
        return np.ones((len(part.values), 1), bool)
    finite: Array = np.logical_and.reduce(np.isfinite(part.flat()), axis=1, keepdims=True)
    return finite


def _features(inputs: Inputs, other: Inputs) -> tuple[Array, Array]:
    """Columns scaled by mean and deviation of ``other``; rows of length 1 above three columns."""
    found: tuple[list[Array], list[Array]] = ([], [])
    for part, second in zip(inputs.numbers, other.numbers, strict=True):
        reference = second.flat().astype(np.float64)
        reference = reference[np.isfinite(reference).all(axis=1)]
        mean, deviation = reference.mean(axis=0), reference.std(axis=0)
        if part.values.dtype.kind == "u" or _one_scale(deviation):
            deviation = np.full_like(deviation, max(float(deviation.max(initial=0)), 1e-30))
        deviation[deviation == 0] = 1
        for features, rows in zip(found, (part, second), strict=True):
            scaled = (np.where(_finite_rows(rows), rows.flat(), mean) - mean) / deviation
            features.append(scaled.astype(np.float32))
    a, b = (np.concatenate(features, axis=1) for features in found)
    return (a, b) if a.shape[1] <= 3 else (_unit(a, centred=False), _unit(b, centred=False))


def _one_scale(deviation: Array) -> bool:
    """Whether columns are like pixels: many, and of one scale, so that quiet ones stay quiet."""
    return len(deviation) >= 16 and float(deviation.max()) < 100 * float(np.median(deviation))


def _unit(rows: Array, centred: bool = True) -> Array:
    rows = rows.reshape(len(rows), -1)
    if centred:
        rows = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    result: Array = rows / np.maximum(lengths, np.float32(1e-20))
    return result


def _image_of(inputs: Inputs) -> Part | None:
    """The inputs, if they are one array of images."""
    if len(inputs.parts) != 1 or inputs.parts[0].is_table:
        return None
    shape = inputs.parts[0].values.shape
    is_image = len(shape) == 3 or (len(shape) == 4 and shape[3] <= 4)
    return inputs.parts[0] if is_image and min(shape[1:3]) >= _COARSE else None


def _taken(part: Part, rows: Array) -> Part:
    return Part(part.name, part.values[rows], part.columns)


def _pooled(part: Part, side: int) -> Array:
    """Images as averages over fields: ``side`` to ``2 side - 1`` in a row and in a column."""
    images = part.values
    height, width = images.shape[1:3]
    fields = max(1, height // side), max(1, width // side)
    count = height // fields[0], width // fields[1]
    cut = images[:, : count[0] * fields[0], : count[1] * fields[1]]
    found = np.empty((len(images), *count, int(np.prod(images.shape[3:]))), np.float32)
    for begin in range(0, len(images), _ROWS):
        block = cut[begin : begin + _ROWS]
        split = block.reshape(len(block), count[0], fields[0], count[1], fields[1], -1)
        found[begin : begin + _ROWS] = split.mean(axis=(2, 4), dtype=np.float32)
    return found


def _details(images: Array) -> Array:
    """The differences of neighbouring pixels, as rows of length 1."""
    rows = [np.diff(images, axis=axis).reshape(len(images), -1) for axis in (1, 2)]
    return _unit(np.concatenate(rows, axis=1), centred=False)
