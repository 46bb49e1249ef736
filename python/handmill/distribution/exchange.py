"""Sums over the ranks of a training, in the order of one tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from handmill.distribution.buffers import Sums
from handmill.distribution.ranks import DisagreementError
from handmill.distribution.shards import Node, fold, nodes_of_ranks
from handmill.errors import warn_caller
from handmill.ir.op import Array

WHOLE = 1 << 16
"""Bytes up to which each rank gets all that the others have, and adds up by itself: one round."""

_LINE = 16
"""Elements at whose multiples the parts of ranks begin."""

_RECORD = 6
"""Numbers that ranks show each other before they exchange: count, kind, failure, epoch, step,
microseconds."""

_TAGS = 30_000
"""So many steps later a number is used again for what is sent early; MPI has 32,768 at least."""

_SLOW = 1.5
_STEPS_TO_JUDGE = 50

STEPS = ("train", "test")
KINDS = (*STEPS, "fit()", "the end", "predict()", "whole()")
"""What ranks do between which they meet."""


class Share(NamedTuple):
    """What each rank makes of its part of a sum.

    Attributes:
        ends: the elements between which the parts of the ranks lie: one more than ranks.
        change: is given the array, changes the part of this rank, and looks at no other.
    """

    ends: Sequence[int]
    change: Callable[[Array], None]


class Exchange:
    """Adds up what the ranks have.

    Args:
        ranks: the processes.
        shards: into how many a batch is cut, a power of two.

    Attributes:
        node: of the tree that this rank computes.
        epoch: that is under way, from 1.
    """

    def __init__(self, ranks: Any, shards: int) -> None:
        self.ranks = ranks
        self.root: Node = (0, shards)
        self.nodes = nodes_of_ranks(shards, ranks.size)
        self.node = self.nodes[ranks.rank]
        self._count = 0
        self.epoch = 1
        self._buffers: dict[Any, Array] = {}
        self._work = np.zeros(ranks.size)
        self._judged = 0
        self._has_warned = False
        self._early: list[tuple[int, Any]] | None = None  # what was begun before total()
        self._early_stop = 0
        self._abandoned: list[Any] = []  # MPI may still write there
        self._shared: dict[int, tuple[list[Array], Array] | None] = {}  # by the number of elements

    def meet(
        self, kind: str, step: int, failure: BaseException | None = None, seconds: float = 0.0
    ) -> None:
        """Makes sure that all ranks are at the same place and none has failed.

        Args:
            kind: what is done, such as ``"train"``.
            step: its number, from 1.
            failure: why this rank cannot go on.
            seconds: that its shards took.

        Raises:
            DisagreementError: if another rank is elsewhere, or has failed.
            BaseException: ``failure``.
        """
        ranks = self.ranks
        self._count += 1
        ranks.at = place = _place(kind, step, self.epoch)
        if ranks.board is not None:
            ranks.board.note(ranks.rank, place)
        if ranks.size > 1:
            own = [self._count, KINDS.index(kind), int(failure is not None), self.epoch, step]
            own.append(int(1e6 * seconds))
            found = self._records(own)
            if any(r[:2] != own[:2] or r[2] for r in found):
                self._tell(place, failure)
            ranks.note([_place(KINDS[r[1]], r[4], r[3]) for r in found])
            if seconds:
                self._look_for_slow_ranks([r[5] for r in found])
        if failure is not None:
            raise failure

    def _look_for_slow_ranks(self, microseconds: Sequence[int]) -> None:
        """Says once, on rank 0, which rank the others wait for."""
        self._work += microseconds
        self._judged += 1
        if self._judged < _STEPS_TO_JUDGE:
            return
        shards = [last - first for first, last in self.nodes]
        each = self._work / np.array(shards)
        slowest, others = int(each.argmax()), float(np.median(each))
        self._work[:], self._judged = 0, 0
        if each[slowest] > _SLOW * others and self.ranks.rank == 0 and not self._has_warned:
            self._has_warned = True
            warn_caller(
                f"{self.ranks.members[slowest]} takes {each[slowest] / others:.1f} times as long "
                f"for a shard as the median of the ranks (over {_STEPS_TO_JUDGE} steps): the "
                "others wait for it. Other programs there, or fewer threads?",
                UserWarning,
            )

    def _records(self, own: Sequence[int]) -> list[list[int]]:
        ranks = self.ranks
        table = np.zeros((ranks.size, _RECORD), np.int64)
        table[ranks.rank] = own
        others = [None if q == ranks.rank else q for q in range(ranks.size)]
        ranks.exchange(
            [None if q is None else table[ranks.rank] for q in others],
            [None if q is None else table[q] for q in others],
        )
        return table.tolist()  # type: ignore[no-any-return]

    def _tell(self, place: str, failure: BaseException | None) -> None:
        """Tells the others where this rank is, or what is wrong with it."""
        ranks = self.ranks
        text = f"failed at {place}: {type(failure).__name__}: {failure}" if failure else place
        said = [data.decode() for data in ranks.gather(text.encode())]
        if failure is not None:
            return
        failed = [q for q, what in enumerate(said) if what.startswith("failed at ")]
        if failed:
            raise DisagreementError(f"{ranks.members[failed[0]]} {said[failed[0]]}")
        places = "; ".join(f"rank {q} is at {what}" for q, what in enumerate(said))
        raise DisagreementError(
            f"the ranks took different ways through the program: {places}. All of them have to "
            "call fit(), evaluate() and predict() in the same order, with the same arguments"
        )

    def total(
        self,
        sums: Sums | None,
        empty: Sequence[bool],
        new: Callable[[], Sums],
        share: Share | None = None,
    ) -> Sums:
        """Returns the sum over all ranks, the same bits on each.

        Args:
            sums: what this rank has; None for nothing. It is used up.
            empty: which ranks have nothing; not all of them.
            new: makes buffers.
            share: what ranks make of the sum before the others get it; more than :data:`WHOLE`
                bytes are narrow then.
        """
        if self.ranks.size == 1:
            assert sums is not None  # noqa: S101
            return sums
        found = new() if sums is None else sums
        narrow = self._add_up(found.narrow, empty, 0, share)
        return Sums(narrow, self._add_up(found.wide, empty, 1))

    def _add_up(
        self, own: Array, empty: Sequence[bool], which: int, share: Share | None = None
    ) -> Array:
        ranks, size = self.ranks, self.ranks.size
        if not len(own):
            return own
        parts = self._parts(own, share)
        mine, has = parts[ranks.rank], not empty[ranks.rank]
        shared = self._shared.get(len(own)) if which == 0 else None
        if shared is not None:
            if has and own is not shared[0][ranks.rank]:
                np.copyto(shared[0][ranks.rank], own)
            return self._add_up_in_place(*shared, parts, empty, share)
        received = [
            None if q == ranks.rank or empty[q] else self._received(which, q, mine, own.dtype)
            for q in range(size)
        ]
        if which == 0 and self._early is not None:
            self.send_early(own, self._early_stop, len(own), share)
            ranks.finish(self._early)
            self._early = None
        else:
            ranks.exchange(
                [own[parts[q]] if has and q != ranks.rank else None for q in range(size)], received
            )
        held: dict[Node, Array | None] = dict(zip(self.nodes, received, strict=True))
        held[self.node] = own[mine] if has else None
        # Into the array of the first: what this rank has is sent by now.
        result = fold(self.root, held, held.__getitem__, lambda a, b: np.add(a, b, out=a))
        assert isinstance(result, np.ndarray)  # noqa: S101
        if own.nbytes <= WHOLE:
            return result
        own[mine] = result
        if share is not None:
            share.change(own)
        elsewhere = [None if q == ranks.rank else own[parts[q]] for q in range(size)]
        ranks.exchange([None if q == ranks.rank else own[mine] for q in range(size)], elsewhere)
        return own

    def _parts(self, own: Array, share: Share | None) -> list[slice]:
        """Which elements each rank adds up."""
        size = self.ranks.size
        if share is not None:
            return [slice(*ends) for ends in pairwise(share.ends)]
        if own.nbytes <= WHOLE:
            return [slice(0, len(own))] * size
        step = -(-len(own) // (size * _LINE)) * _LINE
        ends = [min(q * step, len(own)) for q in range(size + 1)]
        return [slice(*each) for each in pairwise(ends)]

    def _received(self, which: int, rank: int, mine: slice, dtype: Any) -> Array:
        return self._buffer((which, rank), mine.stop - mine.start, dtype)

    @property
    def goes_by_messages(self) -> bool:
        """Whether ranks are on several machines."""
        return bool(self.ranks.local_size < self.ranks.size)

    def begin_early(self) -> None:
        """Says that parts of the next sum will be sent before :meth:`total` is called."""
        self._early, self._early_stop = [], 0

    def send_early(self, own: Array, start: int, stop: int, share: Share | None) -> None:
        """Begins to exchange elements that are final; all ranks do so in the same order.

        Args:
            own: what this rank has, as :meth:`total` is then given it.
            start: the first of the elements.
            stop: the end of them.
            share: as for :meth:`total`.
        """
        ranks, size = self.ranks, self.ranks.size
        assert self._early is not None  # noqa: S101
        parts = self._parts(own, share)
        mine = parts[ranks.rank]

        def common(part: slice) -> slice:
            first = min(max(part.start, start), part.stop)
            return slice(first, max(min(part.stop, stop), first))

        here = common(mine)
        into = slice(here.start - mine.start, here.stop - mine.start)
        others = [q != ranks.rank for q in range(size)]
        self._early += ranks.begin(
            [own[common(parts[q])] if other else None for q, other in enumerate(others)],
            [
                self._received(0, q, mine, own.dtype)[into] if other else None
                for q, other in enumerate(others)
            ],
            2 + self._count % _TAGS,
        )
        self._early_stop = max(self._early_stop, stop)
        ranks.look(self._early)

    def abandon_early(self) -> None:
        """Forgets what was sent early: the step fails."""
        if self._early:
            self._abandoned += [*self._early, *self._buffers.values()]
            self._buffers.clear()
        self._early = None

    def place(self, sums: Sums, kind: str, step: int) -> Sums:
        """Lets ``sums`` lie where other ranks of the machine read it; called by all ranks.

        What is then handed to :meth:`total` need not be copied. It may be written again when
        :meth:`total` has returned.

        Args:
            sums: new buffers.
            kind: as for :meth:`meet`.
            step: as for :meth:`meet`.
        """
        size = len(sums.narrow)
        if self.ranks.size == 1 or sums.narrow.nbytes <= WHOLE:
            return sums
        if size not in self._shared:  # a rank that makes its program anew need not meet the others
            self.meet(kind, step)
            found = self.ranks.shared(sums.narrow.nbytes)
            self._shared[size] = None
            if found is not None:
                parts = [part.view(np.float32) for part in found[0]]
                self._shared[size] = parts, found[1].view(np.float32)
        shared = self._shared[size]
        return sums if shared is None else Sums(shared[0][self.ranks.rank], sums.wide)

    def _add_up_in_place(
        self,
        given: Sequence[Array],
        result: Array,
        parts: Sequence[slice],
        empty: Sequence[bool],
        share: Share | None,
    ) -> Array:
        """As :meth:`_add_up`: each rank adds up its part of what it sees of the others.

        Two meetings keep writers from readers: all have given before anyone adds, and all have
        added before anyone uses the result, which is read until the ranks meet for the next step.
        """
        ranks, mine = self.ranks, parts[self.ranks.rank]
        ranks.meet()
        held = {node: None if empty[q] else given[q][mine] for q, node in enumerate(self.nodes)}
        sums: list[Array] = []

        def add(one: Array, other: Array) -> Array:
            target = next((a for a in (one, other) if any(a is s for s in sums)), None)
            if target is None:  # both are what ranks gave, which others may read
                target = result[mine]
                if sums:
                    key = "sum", len(result), len(sums)
                    target = self._buffer(key, mine.stop - mine.start, result.dtype)
                sums.append(target)
            return np.add(one, other, out=target)

        found = fold(self.root, held, held.__getitem__, add)
        assert isinstance(found, np.ndarray)  # noqa: S101
        if not sums or found is not sums[0]:
            np.copyto(result[mine], found)
        if share is not None:
            share.change(result)
        ranks.meet()
        return result

    def _buffer(self, key: Any, size: int, dtype: Any) -> Array:
        found = self._buffers.get(key)
        if found is None or len(found) != size:
            found = self._buffers[key] = np.empty(size, dtype)
        return found


def _place(kind: str, step: int, epoch: int) -> str:
    return f"{kind} step {step} of epoch {epoch}" if kind in STEPS else f"{kind} of epoch {epoch}"
