"""The optimizer's state shared out: each rank holds, and updates, what belongs to its variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np

from handmill.distribution.exchange import WHOLE, Exchange
from handmill.ir.graph import Graph
from handmill.ir.op import Array
from handmill.ir.shapes import Spec
from handmill.optimizers.applied import Applied, is_separable
from handmill.runtime.function import TracedFunction
from handmill.runtime.variable import Variable


class Elsewhere:
    """The state of a variable whose content another rank holds: whoever asks for it is told so.

    Args:
        state: gets the content back; it takes no memory meanwhile.
        owner: names the rank that holds it.
    """

    def __init__(self, state: Any, owner: str) -> None:
        self.held = state
        self.owner = owner
        self.nbytes = state.nbytes
        self.version = state.version
        state.zero()

    def _refuse(self, *given: Any) -> NoReturn:
        raise RuntimeError(
            f"while fit() trains over ranks, {self.owner} holds this state of the optimizer, which "
            "is shared out to save memory. All ranks get all of it when fit() ends; "
            "ModelCheckpoint, BackupAndRestore and fit(resume=...) collect it for the file of "
            "rank 0. To save or read it in a callback, do so inside "
            "`with distribution.distribution().whole(model) as writes:` on every rank, or keep "
            "all of it on every rank: DataParallel(shard_optimizer=False). After a fit() that "
            "ended with an error, another fit() collects it, and compile() starts anew"
        )

    view = copy = item = write = zero = bump = _refuse


def cut_evenly(sizes: Sequence[int], parts: int) -> list[int]:
    """Cuts a list into parts of neighbours such that the largest is as small as can be.

    Args:
        sizes: what each item weighs.
        parts: how many; some may be empty.

    Returns:
        The places ``[0, ..., len(sizes)]`` between which the parts lie.

    Example:
        >>> cut_evenly([4, 1, 1, 1, 1], 2), cut_evenly([5], 2)
        ([0, 1, 5], [0, 1, 1])
    """
    low, high = max(sizes, default=0), sum(sizes)
    while low < high:
        middle = (low + high) // 2
        if len(_filled(sizes, middle)) <= parts + 1:
            high = middle
        else:
            low = middle + 1
    places = _filled(sizes, low)
    return places + [len(sizes)] * (parts + 1 - len(places))


def _filled(sizes: Sequence[int], limit: int) -> list[int]:
    places, held = [0], 0
    for i, size in enumerate(sizes):
        if held + size > limit and held:
            places.append(i)
            held = 0
        held += size
    return [*places, len(sizes)]


class Shares:
    """Which rank holds and updates what of an optimizer.

    Args:
        optimizer: one that updates each variable by itself, built.
        variables: those that have gradients, in the order of the buffers.
        exchange: the ranks.

    Attributes:
        variables: as given.
        places: between which of the variables those of the ranks lie.
    """

    def __init__(self, optimizer: Any, variables: Sequence[Variable], exchange: Exchange) -> None:
        self.optimizer = optimizer
        self.variables = list(variables)
        self._ranks = exchange.ranks
        size, rank = self._ranks.size, self._ranks.rank
        self.places = cut_evenly([v.size for v in self.variables], size)
        parts = [self.variables[a:b] for a, b in pairwise(self.places)]
        self.own = parts[rank]
        common = {id(v) for v in _written(optimizer, [])}
        trained = {id(v) for v in self.variables}
        self._slots = [
            [v for v in _written(optimizer, part) if id(v) not in common | trained]
            for part in parts
        ]
        self.sharded = {id(v) for slots in self._slots for v in slots}
        subject = Applied(optimizer, self.own)
        name = f"{optimizer.name}_of_rank"
        self._update = TracedFunction(self._trace, name, batched=False, subject=subject)

    def variables_are(self, variables: Sequence[Variable]) -> bool:
        """Whether it is for these variables."""
        return [id(v) for v in variables] == [id(v) for v in self.variables]

    def _trace(self, *gradients: Any) -> tuple[()]:
        self.optimizer.step_of_some(list(gradients), self.own)
        return ()

    def update(self, views: Sequence[Array]) -> None:
        """Updates what this rank holds, and puts the new contents where the gradients were.

        Args:
            views: the gradients of :attr:`variables`; those of the variables of this rank are
                looked at.
        """
        mine = views[self.places[self._ranks.rank] : self.places[self._ranks.rank + 1]]
        self._update(*mine)
        for view, variable in zip(mine, self.own, strict=True):
            view[...] = variable.read()

    def take(self, views: Sequence[Array]) -> None:
        """Takes over the new contents of the variables that other ranks have updated."""
        first, last = self.places[self._ranks.rank], self.places[self._ranks.rank + 1]
        for i, (view, variable) in enumerate(zip(views, self.variables, strict=True)):
            if not first <= i < last:
                variable.state.write(view.astype(variable.read().dtype, copy=False))

    # Where the slots are.

    def let_go(self) -> None:
        """Gives back the memory of what other ranks hold."""
        for q, slots in enumerate(self._slots):
            if q != self._ranks.rank:
                for slot in slots:
                    if not isinstance(slot.state, Elsewhere):
                        slot.state = Elsewhere(slot.state, str(self._ranks.members[q]))

    def collect(self, is_wanted: Callable[[int], bool]) -> None:
        """Gives ranks what they do not hold; called by all.

        Args:
            is_wanted: whether a rank gets it.
        """
        ranks = self._ranks
        for owner, slots in enumerate(self._slots):
            targets = [q for q in range(ranks.size) if q != owner and is_wanted(q)]
            for slot in slots if targets else ():
                self._send(slot, owner, targets)

    def _send(self, slot: Variable, owner: int, targets: Sequence[int]) -> None:
        ranks = self._ranks
        nothing: list[Any] = [None] * ranks.size
        if ranks.rank == owner:
            flat = np.ascontiguousarray(slot.read()).reshape(-1).view(np.uint8)
            sends = [flat if q in targets else None for q in range(ranks.size)]
            ranks.exchange(sends, nothing)
        elif ranks.rank in targets:
            if isinstance(slot.state, Elsewhere):
                slot.state = slot.state.held
            new = slot.state.copy()
            receives = list(nothing)
            receives[owner] = new.reshape(-1).view(np.uint8)
            ranks.exchange(nothing, receives)
            slot.state.write(new)


def can_be_shared(optimizer: Any, variables: Sequence[Variable], nbytes: int) -> bool:
    """Whether an optimizer's state is shared out, for variables with gradients of some bytes."""
    return (
        nbytes > WHOLE
        and is_separable(optimizer)
        and all(v.dtype in ("float32", "float16", "bfloat16") for v in variables)
    )


def _written(optimizer: Any, variables: Sequence[Variable]) -> list[Variable]:
    """The variables that an update of some variables writes."""
    graph = Graph("share")
    with graph:
        gradients = [
            graph.input(Spec(v.shape, "float32"), f"gradient_{i}") for i, v in enumerate(variables)
        ]
        optimizer.step_of_some(gradients, list(variables))
    return [v for v in graph.updates if isinstance(v, Variable)]
