"""Gradients that travel while the backward pass still computes others.

The program of a shard says, by a node that runs on the host, when a group of gradients is final:
the plan ends a segment there. In the last shard of a rank the group is then added to what the
rank's other shards gave, in the order of the tree, and sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from handmill.distribution.buffers import Packing, Sums
from handmill.distribution.exchange import Exchange, Share
from handmill.distribution.sharing import cut_evenly
from handmill.ir.graph import Graph, Value
from handmill.ir.op import Array, Exact, Op
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply

_GROUPS = 4
"""Into how many groups of neighbours, about as large, gradients are cut."""


class Listener(Protocol):
    """Who is told that gradients are final."""

    def ready(self, group: int, arrays: Sequence[Array]) -> None:
        """Is told so, with the gradients of a group."""
        ...


def _infer(*specs: Spec, **attrs: Any) -> Spec:
    return Spec((), "float32")


def _tell(*arrays: Array, listener: Listener, group: int) -> Array:
    listener.ready(group, arrays)
    return np.zeros((), np.float32)


# Not in the registry: it is told by its place in a program, and is nothing by itself.
_READY = Op("gradients_ready", _infer, _tell, lambda: (), Exact())


def groups_of(sizes: Sequence[int]) -> list[range]:
    """Cuts gradients into groups: their places, in the order of the buffers."""
    places = cut_evenly(sizes, _GROUPS)
    return [range(a, b) for a, b in pairwise(places) if b > a]


def tell_when_ready(
    graph: Graph, gradients: Sequence[Value], groups: Sequence[range], listener: Listener
) -> list[Value]:
    """Lets a program tell when each group of its gradients is final.

    Args:
        graph: the program that is being traced.
        gradients: the gradients.
        groups: places among them.
        listener: is told.

    Returns:
        Values of no meaning, which must be outputs of the program so that it keeps the nodes.
    """
    told = []
    for number, group in enumerate(groups):
        value = apply(_READY, *(gradients[i] for i in group), listener=listener, group=number)
        node = graph.nodes.pop()
        position = {n: i for i, n in enumerate(graph.nodes)}
        makers = [gradients[i].node for i in group]
        after = max(-1 if maker is None else position[maker] for maker in makers)
        graph.nodes.insert(after + 1, node)
        told.append(value)
    return told


class Early:
    """The exchange of one step, which begins while the last shard of the rank is computed.

    Args:
        packing: where gradients lie.
        groups: places of the gradients that become final together.
        held: the sums that wait for the last shard, the largest first; empty if it is the only
            one of the rank.
        placed: the buffers that the sum of the rank comes to lie in.
        exchange: what sends.
        share: what ranks make of their parts.

    Attributes:
        stop: how many elements of the narrow buffer are gradients, and added up already.
    """

    def __init__(
        self,
        packing: Packing,
        groups: Sequence[range],
        held: Sequence[Sums],
        placed: Sums,
        exchange: Exchange,
        share: Share | None,
    ) -> None:
        self._packing = packing
        self._groups = groups
        self._views = [packing.views(sums) for sums in held] or [packing.views(placed)]
        self._is_alone = not held
        self._placed = placed
        self._exchange = exchange
        self._share = share
        self.stop = packing.stop(groups[-1].stop - 1)
        exchange.begin_early()

    def add(self, group: int, arrays: Sequence[Array]) -> None:
        """Adds a group up, and sends it."""
        places = self._groups[group]
        for i, array in zip(places, arrays, strict=True):
            if self._is_alone:
                np.copyto(self._views[0][i], array)
                continue
            new = array
            for views in reversed(self._views):
                new = np.add(views[i], new, out=views[i])
        start, stop = self._packing.start(places.start), self._packing.stop(places.stop - 1)
        self._exchange.send_early(self._placed.narrow, start, stop, self._share)
