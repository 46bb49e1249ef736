"""Places for the boxes of a graph without cycles: in layers, with few crossings.

Boxes lie in the layer of their longest way from a source. Edges over several layers get a place in
each of them, so that no line runs through a box. Layers are ordered by the means of their
neighbours, then boxes move towards these as far as the others let them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

_SWEEPS = 8


@dataclass
class Places:
    """Where boxes and edges lie.

    Attributes:
        centers: the centre of each box.
        lines: the corners of each edge, from box to box.
        width: of everything.
        height: of everything.
    """

    centers: list[tuple[float, float]]
    lines: list[list[tuple[float, float]]]
    width: float
    height: float


@dataclass
class _Item:
    """A box, or the place of an edge in a layer between."""

    width: float
    layer: int
    before: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    x: float = 0.0


def layered(
    sizes: Sequence[tuple[float, float]],
    edges: Sequence[tuple[int, int]],
    gap: float = 24.0,
    layer_gap: float = 36.0,
) -> Places:
    """Returns places from top to bottom.

    Args:
        sizes: width and height of each box.
        edges: pairs of boxes; the first lies above the second. No cycles.
        gap: between boxes of a layer.
        layer_gap: between layers.
    """
    layers = _layers_of(len(sizes), edges)
    items = [_Item(size[0], layer) for size, layer in zip(sizes, layers, strict=True)]
    chains = []
    for start, end in edges:
        chain = [start]
        for layer in range(layers[start] + 1, layers[end]):
            items.append(_Item(0.0, layer))
            chain.append(len(items) - 1)
        chain.append(end)
        for a, b in itertools.pairwise(chain):
            items[a].after.append(b)
            items[b].before.append(a)
        chains.append(chain)
    rows: list[list[int]] = [[] for _ in range(max(layers, default=-1) + 1)]
    for index, item in enumerate(items):
        rows[item.layer].append(index)
    _order(rows, items)
    _spread(rows, items, gap)
    heights = [max((sizes[i][1] for i in row if i < len(sizes)), default=0.0) for row in rows]
    tops = [sum(heights[:i]) + i * layer_gap for i in range(len(heights))]
    middles = [top + height / 2 for top, height in zip(tops, heights, strict=True)]
    left = min((item.x - item.width / 2 for item in items), default=0.0)
    right = max((item.x + item.width / 2 for item in items), default=0.0)
    lines = []
    for chain in chains:
        a, b = chain[0], chain[-1]
        points = [(items[a].x - left, middles[items[a].layer] + sizes[a][1] / 2)]
        for inner in chain[1:-1]:
            top, height = tops[items[inner].layer], heights[items[inner].layer]
            points += [(items[inner].x - left, top), (items[inner].x - left, top + height)]
        points.append((items[b].x - left, middles[items[b].layer] - sizes[b][1] / 2))
        lines.append(points)
    centers = [(items[i].x - left, middles[items[i].layer]) for i in range(len(sizes))]
    return Places(centers, lines, right - left, tops[-1] + heights[-1] if tops else 0.0)


def _layers_of(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    after: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for start, end in edges:
        after[start].append(end)
        waiting[end] += 1
    layers = [0] * count
    ready = [i for i in range(count) if not waiting[i]]
    while ready:
        start = ready.pop()
        for end in after[start]:
            layers[end] = max(layers[end], layers[start] + 1)
            waiting[end] -= 1
            if not waiting[end]:
                ready.append(end)
    for start in range(count):  # sources that are needed late lie just above
        if layers[start] == 0 and after[start]:
            layers[start] = min(layers[end] for end in after[start]) - 1
    return layers


def _order(rows: list[list[int]], items: list[_Item]) -> None:
    place = {i: float(k) for row in rows for k, i in enumerate(row)}
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            means = {}
            for i in row:
                near = items[i].before if down else items[i].after
                means[i] = sum(place[j] for j in near) / len(near) if near else place[i]
            row.sort(key=lambda i: (means[i], place[i]))
            place.update((i, float(k)) for k, i in enumerate(row))


def _spread(rows: list[list[int]], items: list[_Item], gap: float) -> None:
    for row in rows:
        at = 0.0
        for i in row:
            items[i].x = at + items[i].width / 2
            at += items[i].width + gap
        for i in row:
            items[i].x -= (at - gap) / 2
    for sweep in range(2 * _SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wishes = []
            for i in row:
                near = items[i].before if down else items[i].after
                near = near or items[i].after or items[i].before
                wishes.append(sum(items[j].x for j in near) / len(near) if near else items[i].x)
            _settle(row, wishes, items, gap)


def _settle(row: list[int], wishes: list[float], items: list[_Item], gap: float) -> None:
    """Puts a row as near to its wishes as distances allow: blocks that would overlap are joined."""
    blocks: list[tuple[list[int], list[float], float]] = []  # members, wished starts, width
    for i, wish in zip(row, wishes, strict=True):
        members, starts, width = [i], [wish - items[i].width / 2], items[i].width
        while blocks:
            others, other_starts, other_width = blocks[-1]
            end = sum(other_starts) / len(other_starts) + other_width
            if end + gap <= sum(starts) / len(starts):
                break
            blocks.pop()
            shift = other_width + gap
            starts = other_starts + [start - shift for start in starts]
            members, width = others + members, shift + width
        blocks.append((members, starts, width))
    for members, starts, _ in blocks:
        at = sum(starts) / len(starts)
        for i in members:
            items[i].x = at + items[i].width / 2
            at += items[i].width + gap
