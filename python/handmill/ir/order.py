"""Topological orders."""

from __future__ import annotations

import heapq
from typing import Any


def list_schedule(needs: dict[Any, set[Any]], rank: dict[Any, Any]) -> list[Any]:
    """Orders units behind what they need, of those that are ready the one of the least rank first.

    Raises:
        AssertionError: if there is no such order.
    """
    feeds: dict[Any, list[Any]] = {unit: [] for unit in needs}
    missing = {unit: len(above) for unit, above in needs.items()}
    for unit, above in needs.items():
        for other in above:
            feeds[other].append(unit)
    units = list(needs)
    number = {unit: i for i, unit in enumerate(units)}
    ready = [(rank[u], number[u]) for u in units if not missing[u]]
    heapq.heapify(ready)
    order: list[Any] = []
    while ready:
        unit = units[heapq.heappop(ready)[1]]
        order.append(unit)
        for below in feeds[unit]:
            missing[below] -= 1
            if not missing[below]:
                heapq.heappush(ready, (rank[below], number[below]))
    if len(order) != len(units):
        raise AssertionError("the graph has a cycle")
    return order
