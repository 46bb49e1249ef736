"""Clustering: few different numbers a kernel, so that files are small when they are zipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.compress.pruning import finite_arrays, kernels_of
from handmill.compress.sizes import zipped_bytes
from handmill.ir.op import Array

_ROUNDS = 100


@dataclass(frozen=True)
class Clustering:
    """What :func:`cluster` did.

    Attributes:
        rows: (path of a kernel, different numbers before, after, root mean square of the change).
        zipped: bytes of all weights, compressed, before and after.
    """

    rows: tuple[tuple[str, int, int, float], ...]
    zipped: tuple[int, int]

    def __str__(self) -> str:
        width = max(len(row[0]) for row in self.rows)
        lines = [f"{'kernel':{width}}  numbers  after  change"]
        for path, before, after, change in self.rows:
            lines.append(f"{path:{width}}  {before:7}  {after:5}  {change:.2g}")
        before, after = self.zipped
        lines.append(f"zipped: {before:,} -> {after:,} bytes. No product is faster for it.")
        return "\n".join(lines)


def cluster(
    model: Any,
    number_of_clusters: int = 16,
    layers: Sequence[Any] | Callable[[Any], bool] | None = None,
) -> Clustering:
    """Replaces the numbers of each kernel by a few: the means of clusters.

    Lloyd's algorithm from centroids that have equally many numbers around them (TF-MOT's
    DENSITY_BASED), until nothing moves. Zeros stay zero, so it can follow
    :func:`handmill.compress.prune`. Training moves the numbers apart again: cluster in the end.

    Args:
        model: a built model; its weights are changed.
        number_of_clusters: different numbers in each kernel, at least 2.
        layers: the layers, as for :func:`handmill.compress.prune`.

    Returns:
        A :class:`Clustering`.

    Raises:
        ValueError: for arguments out of range, weights that are not finite, no kernels.

    Example:
        >>> import handmill
        >>> model = handmill.Sequential([handmill.Input((8,)), handmill.layers.Dense(64)])
        >>> handmill.compress.cluster(model, 4).rows[0][2]
        4
    """
    count = whole_number("`number_of_clusters`", number_of_clusters, 2)
    kernels = kernels_of(model, layers)
    arrays = finite_arrays(kernels)
    before = zipped_bytes(model)
    rows = []
    for kernel, array in zip(kernels, arrays, strict=True):
        found = clustered(array, count)
        change = float(np.sqrt(np.mean(np.square(found - array, dtype=np.float64))))
        rows.append((kernel.path, len(np.unique(array)), len(np.unique(found)), change))
        kernel.assign(found)
    return Clustering(tuple(rows), (before, zipped_bytes(model)))


def clustered(array: Array, count: int) -> Array:
    """An array with at most ``count`` different numbers; zeros stay, and are one of them."""
    flat = array.reshape(-1).astype(np.float64)
    zero = flat == 0
    values = np.sort(flat[~zero])
    count -= bool(zero.any())
    if len(np.unique(values)) <= count:
        return array
    sums = np.concatenate([[0.0], np.cumsum(values)])
    middles = ((np.arange(count) + 0.5) / count * len(values)).astype(np.int64)
    centres = np.unique(values[middles])
    for _ in range(_ROUNDS):
        ends = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
        edges = np.concatenate([[0], ends, [len(values)]])
        sizes = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(sizes, 1)
        moved = np.where(sizes > 0, means, centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    chosen = centres[np.searchsorted((centres[1:] + centres[:-1]) / 2, flat)]
    found: Array = np.where(zero, 0.0, chosen).reshape(array.shape).astype(array.dtype)
    return found
