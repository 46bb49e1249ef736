"""Which weights stay: the largest, exactly as many as asked for, the first of equal ones."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from handmill.ir.op import Array

BLOCK = 16
"""Outputs of one block: the float32 numbers of a vector register of 512 bits."""


SCOPES = ("erk", "layer", "global")
"""How kernels share what goes; see :func:`choose`."""


def largest(scores: Array, count: int) -> Array:
    """Marks the ``count`` largest of scores in one axis; of equal ones, those that come first."""
    kept = np.zeros(scores.shape, np.bool_)
    if count <= 0:
        return kept
    if count >= scores.size:
        return ~kept
    least = np.partition(scores, scores.size - count)[scores.size - count]
    kept[:] = scores > least
    equal = np.flatnonzero(scores == least)
    kept[equal[: count - int(np.count_nonzero(kept))]] = True
    return kept


def count_kept(size: int, sparsity: float) -> int:
    """How many of ``size`` stay, as TF-MOT counts: at least one."""
    return max(round(size * (1.0 - sparsity)), 1) if size else 0


def erk_counts(
    shapes: Sequence[tuple[int, ...]], sizes: Sequence[int], sparsity: float
) -> list[int]:
    """How many of each array stay, so that small kernels lose less than large ones.

    The part that stays is proportional to the sum of a kernel's sizes divided by their product
    (Erdos-Renyi-Kernel: Evci et al., Rigging the Lottery, ICML 2020; Mocanu et al. 2018): what
    leads to a unit, and from it, grows with the units and not with their products. Kernels of which
    all would stay are left as they are, and the others bear it.

    Args:
        shapes: of the kernels.
        sizes: how many things each of them is made of: weights, blocks or channels.
        sparsity: the part of all of them that goes.
    """
    total = max(count_kept(sum(sizes), sparsity), len([s for s in sizes if s]))
    raw = [sum(shape) / max(1, math.prod(shape)) for shape in shapes]
    dense: set[int] = set()
    while True:
        open_ = [i for i, size in enumerate(sizes) if i not in dense and size]
        left = total - sum(sizes[i] for i in dense)
        factor = left / sum(raw[i] * sizes[i] for i in open_) if open_ else 0.0
        full = [i for i in open_ if raw[i] * factor >= 1]
        if not full:
            break
        dense.update(full)
    counts = [sizes[i] if i in dense else 0 for i in range(len(sizes))]
    for i in open_:
        counts[i] = max(1, math.floor(raw[i] * factor * sizes[i]))
    # What rounding left over goes to the largest kernels, or is taken from them.
    for i in sorted(open_, key=lambda i: -sizes[i]):
        counts[i] = min(sizes[i], max(1, counts[i] + total - sum(counts)))
    return counts


@dataclass(frozen=True)
class Granularity:
    """What is removed together.

    Attributes:
        kind: ``"weight"``, ``"block"``, ``"channel"`` or ``"n:m"``.
        zeros: of n:m, how many in each group are zero.
        group: of n:m, how many are a group.
    """

    kind: str
    zeros: int = 0
    group: int = 0

    def scores(self, weight: Array) -> Array:
        """The size of each thing that is kept or removed, in one axis."""
        size: Array = np.abs(weight.astype(np.float32, copy=False))
        if self.kind == "weight":
            return size.reshape(-1)
        if self.kind == "channel":
            squares: Array = np.square(size, dtype=np.float64)
            return np.asarray(np.sqrt(squares.sum(axis=tuple(range(size.ndim - 1)))))
        rows, count = size.reshape(-1, size.shape[-1]), size.shape[-1]
        starts = np.arange(0, count, BLOCK)
        widths = np.diff(np.append(starts, count))
        means: Array = np.add.reduceat(rows, starts, axis=1, dtype=np.float64) / widths
        return means.reshape(-1)

    def mask(self, weight: Array, kept: Array) -> Array:
        """The mask of a weight, from the marks of what is kept."""
        if self.kind == "weight":
            return np.array(kept.reshape(weight.shape))
        if self.kind == "channel":
            return np.array(np.broadcast_to(kept, weight.shape))
        count = weight.shape[-1]
        wide = np.repeat(kept.reshape(-1, -(-count // BLOCK)), BLOCK, axis=1)[:, :count]
        return np.array(wide.reshape(weight.shape))

    def mask_of_groups(self, weight: Array) -> Array:
        """The mask of n:m: groups of inputs of an output; of a part of a group, in proportion."""
        size = np.abs(weight).reshape(-1, weight.shape[-1])
        kept: Array = np.zeros(size.shape, np.bool_)
        for start in range(0, len(size), self.group):
            part = size[start : start + self.group]
            zeros = self.zeros * len(part) // self.group
            order = np.argsort(-part, axis=0, kind="stable")
            np.put_along_axis(kept[start : start + self.group], order[: len(part) - zeros], True, 0)
        return np.array(kept.reshape(weight.shape))


def granularity_of(name: str) -> Granularity:
    """What a name means.

    Raises:
        ValueError: for another name, or more zeros than numbers in n:m.
    """
    if name in ("weight", "block", "channel"):
        return Granularity(name)
    if isinstance(name, str) and (found := re.fullmatch(r"(\d{1,3}):(\d{1,3})", name)):
        zeros, group = int(found[1]), int(found[2])
        if not 0 < zeros < group:
            raise ValueError(
                f"granularity {name!r}: of each group of {group} weights, from 1 to {group - 1} "
                "can be zero"
            )
        return Granularity("n:m", zeros, group)
    raise ValueError(
        "`granularity` must be 'weight', 'block' (16 outputs at one input), 'channel' or zeros and "
        f"length of a group, such as '2:4'. Received: {name!r}"
    )


def choose(
    weights: Sequence[Array], sparsity: float, granularity: Granularity, scope: str
) -> list[Array]:
    """The masks of weights.

    Args:
        weights: the arrays, finite.
        sparsity: the part that is zero; n:m has its own.
        granularity: what is removed together.
        scope: ``"layer"``: the part holds in each array; ``"global"``: in all of them together,
            but something stays of each; ``"erk"``: likewise in all together, and of each stays
            what :func:`erk_counts` says.
    """
    if granularity.kind == "n:m":
        return [granularity.mask_of_groups(w) for w in weights]
    scores = [granularity.scores(w) for w in weights]
    if scope == "erk":
        shapes = [w.shape for w in weights]
        counts = erk_counts(shapes, [s.size for s in scores], sparsity)
        kept = [largest(s, count) for s, count in zip(scores, counts, strict=True)]
    elif scope == "layer":
        kept = [largest(s, count_kept(s.size, sparsity)) for s in scores]
    else:
        for one in scores:  # the largest of each stays
            one[np.argmax(one)] = np.inf
        sizes = [s.size for s in scores]
        marks = largest(np.concatenate(scores), max(count_kept(sum(sizes), sparsity), len(sizes)))
        kept = np.split(marks, np.cumsum(sizes)[:-1])
    return [granularity.mask(w, k) for w, k in zip(weights, kept, strict=True)]
