"""Points that fill a cube evenly: Sobol's sequence, scrambled."""

from __future__ import annotations

import numpy as np

from handmill.ir.op import Array

_BITS = 30

_TABLE = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
    (5, 4, (1, 1, 5, 5, 5)),
    (5, 7, (1, 1, 7, 11, 19)),
    (5, 11, (1, 1, 5, 1, 1)),
    (5, 13, (1, 1, 1, 3, 11)),
    (5, 14, (1, 3, 5, 5, 31)),
    (6, 1, (1, 3, 3, 9, 7, 49)),
    (6, 13, (1, 1, 1, 15, 21, 21)),
    (6, 16, (1, 3, 1, 13, 27, 49)),
    (6, 19, (1, 1, 1, 15, 7, 5)),
    (6, 22, (1, 3, 1, 15, 13, 25)),
    (6, 25, (1, 1, 5, 5, 19, 61)),
    (7, 1, (1, 3, 7, 11, 23, 15, 103)),
    (7, 4, (1, 3, 7, 13, 13, 15, 69)),
)
"""Degree, inner coefficients and first direction numbers of a primitive polynomial for each
dimension after the first (Joe and Kuo)."""

MOST_DIMENSIONS = len(_TABLE) + 1


def sobol(count: int, dimensions: int, seed: int | None = 0) -> Array:
    """Returns the first points of Sobol's sequence in the unit cube.

    They leave no gaps that random points would: of 2^m points, each half, quarter and so on of a
    side holds its share. Scrambling (a random lower triangular matrix over the bits, and a random
    shift; Matousek) keeps that, and makes each point uniform.

    I. M. Sobol (1967); S. Joe and F. Y. Kuo (2008), Constructing Sobol sequences with better
    two-dimensional projections; J. Matousek (1998), On the L2-discrepancy for anchored boxes.

    Args:
        count: how many points.
        dimensions: of the cube, 21 at most.
        seed: of the scrambling; None for the plain sequence, which begins with 0.

    Returns:
        float64 in [0, 1), shape (count, dimensions).

    Raises:
        ValueError: for more dimensions.

    Example:
        >>> from handmill.strategy.sobol import sobol
        >>> sobol(4, 2, seed=None).tolist()
        [[0.0, 0.0], [0.5, 0.5], [0.75, 0.25], [0.25, 0.75]]
    """
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise ValueError(
            f"Sobol points have from 1 to {MOST_DIMENSIONS} dimensions here. Received: {dimensions}"
        )
    directions = np.array([_directions(d) for d in range(dimensions)], np.int64)
    shift = np.zeros(dimensions, np.int64)
    if seed is not None:
        draws = np.random.Generator(np.random.Philox(seed))
        directions = _scrambled(directions, draws)
        shift = draws.integers(0, 1 << _BITS, dimensions)
    found = np.empty((count, dimensions), np.int64)
    now = shift
    for i in range(count):
        found[i] = now
        lowest_zero = (~i & (i + 1)).bit_length() - 1  # Gray code: one bit differs
        now = now ^ directions[:, lowest_zero]
    return np.asarray(found / float(1 << _BITS))


def _directions(dimension: int) -> list[int]:
    """The direction numbers of a dimension, as whole numbers of 30 bits."""
    if dimension == 0:
        return [1 << (_BITS - 1 - i) for i in range(_BITS)]
    degree, inner, first = _TABLE[dimension - 1]
    found = [m << (_BITS - 1 - i) for i, m in enumerate(first)]
    for i in range(degree, _BITS):
        value = found[i - degree] ^ (found[i - degree] >> degree)
        for k in range(1, degree):
            if inner >> (degree - 1 - k) & 1:
                value ^= found[i - k]
        found.append(value)
    return found


def _scrambled(directions: Array, draws: np.random.Generator) -> Array:
    """Direction numbers times a random lower triangular matrix of bits, one a dimension."""
    places = np.arange(_BITS - 1, -1, -1)
    bits = (directions[:, :, None] >> places) & 1  # (dimension, direction, bit), highest first
    matrix = np.tril(draws.integers(0, 2, (len(directions), _BITS, _BITS)), -1) + np.eye(
        _BITS, dtype=np.int64
    )
    mixed = np.einsum("dij,dkj->dki", matrix, bits) & 1
    return np.asarray((mixed << places).sum(axis=2))
