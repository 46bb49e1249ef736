"""Byte-pair merges applied to one word."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping

_LONG = 48
"""Symbols from which on a heap is quicker than looking at all pairs."""

Merges = Mapping[tuple[int, int], tuple[int, int]]
"""Pair of ids -> (rank, id of both joined)."""


def merged(ids: list[int], merges: Merges) -> list[int]:
    """Returns the ids of a word: the pair of lowest rank joined first, from the left.

    Args:
        ids: of its bytes; is changed.
        merges: the pairs that may be joined.
    """
    if len(ids) > _LONG:
        return _merged_by_heap(ids, merges)
    get = merges.get
    while len(ids) > 1:
        best: tuple[int, int] | None = None
        place = 0
        for i, pair in enumerate(itertools.pairwise(ids)):
            found = get(pair)
            if found is not None and (best is None or found[0] < best[0]):
                best, place = found, i
        if best is None:
            break
        ids[place : place + 2] = (best[1],)
    return ids


def _merged_by_heap(ids: list[int], merges: Merges) -> list[int]:
    """The same in n log n: symbols are a linked list, pairs that may be joined a heap."""
    count = len(ids)
    after = list(range(1, count + 1))
    before = list(range(-1, count - 1))
    heap: list[tuple[int, int, int, int]] = []

    def offer(left: int, right: int) -> None:
        found = merges.get((ids[left], ids[right]))
        if found is not None:
            heapq.heappush(heap, (found[0], left, right, found[1]))

    for i in range(count - 1):
        offer(i, i + 1)
    while heap:
        rank, left, right, joined = heapq.heappop(heap)
        if ids[left] < 0 or after[left] != right:
            continue
        found = merges.get((ids[left], ids[right]))
        if found is None or found[0] != rank:  # one of them has grown since
            continue
        ids[left], ids[right] = joined, -1
        after[left] = following = after[right]
        if following < count:
            before[following] = left
            offer(left, following)
        if before[left] >= 0:
            offer(before[left], left)
    return [id for id in ids if id >= 0]
