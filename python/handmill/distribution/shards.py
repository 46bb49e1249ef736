"""How a batch is cut into shards, which rank computes which, and in what order sums are taken.

A batch is cut by the number of its rows alone, and what the shards give is added up in one binary
tree, whoever computes them. So sums have the same bits for any number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TypeVar

T = TypeVar("T")

Node = tuple[int, int]
"""The shards ``[first, last)`` below a node of the tree."""


def rows_of_shard(shard: int, shards: int, rows: int) -> tuple[int, int]:
    """The rows ``[first, last)`` of a shard; none where a batch has fewer rows than shards.

    Args:
        shard: its number.
        shards: how many there are.
        rows: of the batch. If there is one, shard 0 has one.

    Example:
        >>> [rows_of_shard(s, 4, 10) for s in range(4)]
        [(0, 3), (3, 5), (5, 8), (8, 10)]
    """
    return -(-shard * rows // shards), -(-(shard + 1) * rows // shards)


def nodes_of_ranks(shards: int, ranks: int) -> list[Node]:
    """The node of the tree that each rank computes, in the order of the ranks.

    Args:
        shards: a power of two.
        ranks: at most as many. A count that is no power of two leaves some with twice the work.

    Example:
        >>> nodes_of_ranks(16, 2), nodes_of_ranks(16, 3)
        ([(0, 8), (8, 16)], [(0, 4), (4, 8), (8, 16)])
    """
    nodes = [(0, shards)]
    while len(nodes) < ranks:
        largest = max(range(len(nodes)), key=lambda i: (nodes[i][1] - nodes[i][0], -i))
        first, last = nodes[largest]
        middle = (first + last) // 2
        nodes[largest : largest + 1] = [(first, middle), (middle, last)]
    return nodes


def fold(
    node: Node,
    leaves: Container[Node],
    give: Callable[[Node], T | None],
    add: Callable[[T, T], T],
) -> T | None:
    """Adds up what is below a node, in the order of the tree.

    Args:
        node: where to begin.
        leaves: the nodes that are not made of the two below them.
        give: gives what a leaf holds, None if it holds nothing.
        add: adds two; what it returns may be the first of them.

    Returns:
        The sum; None if there is nothing.

    Example:
        >>> fold((0, 4), {(0, 2), (2, 3), (3, 4)}, str, lambda a, b: f"[{a} + {b}]")
        '[(0, 2) + [(2, 3) + (3, 4)]]'
    """
    if node in leaves:
        return give(node)
    first, last = node
    middle = (first + last) // 2
    left = fold((first, middle), leaves, give, add)
    right = fold((middle, last), leaves, give, add)
    if left is None or right is None:
        return right if left is None else left
    return add(left, right)
