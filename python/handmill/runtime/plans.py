"""Who keeps what: the one owner of plans, and the traces that models share."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handmill.runtime.traces import Trace

PLAN_BYTES = 1 << 27
"""Plans are dropped, least recently used first, when all together hold more than this."""

FEWEST_PLANS = 4
"""So many are kept however large they are: a fit needs two, its validation two."""

TRACE_BYTES = 1 << 26
"""Traces are forgotten, least recently used first, when all together need more than this."""


FEWEST_HELD = 256
"""So many notes are kept before those of owners that are gone are looked for."""


class Plans:
    """Decides which plans are kept.

    A plan lies in ``plans`` of its trace and goes with it; whoever calls one looks it up there, or
    knows it weakly. What counts is all that plans hold: descriptions, the instances that run them
    with what they have grown to, and packed weights (once, however many plans use them).
    """

    def __init__(self, limit: int = PLAN_BYTES) -> None:
        self.limit = limit
        self.latest = 0  # ``last_use`` of the plan that was made last
        self._owners: list[tuple[weakref.ref[Trace], Any]] = []

    def __len__(self) -> int:
        return len(self._present())

    def add(self, trace: Trace, key: Any) -> None:
        """Notes that ``trace`` has made a plan; drops others if there is too much of them."""
        from handmill import _core

        self._owners.append((weakref.ref(trace), key))
        self.latest = trace.plans[key].last_use
        if _core.plan_bytes() > self.limit:
            self._shrink(_core)
        elif len(self._owners) % 256 == 0:
            self._owners = [(weakref.ref(t), k) for t, k, _ in self._present()]

    def _present(self) -> list[tuple[Trace, Any, Any]]:
        found = []
        for reference, key in self._owners:
            trace = reference()
            plan = None if trace is None else trace.plans.get(key)
            if trace is not None and plan is not None:
                found.append((trace, key, plan))
        return found

    def drop_all(self) -> None:
        """Drops every plan that does not run now: another one needs the memory."""
        from handmill import _core

        owners, self._owners = self._owners, []
        for reference, key in owners:
            trace = reference()
            if trace is not None:
                trace.plans.pop(key, None)
        _core.give_back_free_memory()

    def _shrink(self, core: Any) -> None:
        """Drops the plans that were not used for the longest time, to 7/8 of the limit."""
        by_use = sorted(self._present(), key=lambda item: item[2].last_use)
        uses = [(trace, key) for trace, key, _ in by_use]
        del by_use  # or the plans would stay alive
        dropped = 0
        for trace, key in uses[:-FEWEST_PLANS]:
            if core.plan_bytes() <= self.limit - self.limit // 8:
                break
            trace.plans.pop(key, None)
            dropped += 1
        self._owners = [(weakref.ref(trace), key) for trace, key in uses[dropped:]]
        core.give_back_free_memory()  # the allocator keeps what lies between what is in use


class Traces:
    """The traces of this process: those that models share by structure, and whose limit all count.

    A trace lies with the functions that use it. One that depends on nothing but structure lies here
    too, so that the next model of that structure finds it.
    """

    def __init__(self, limit: int = TRACE_BYTES) -> None:
        self.limit = limit
        self._shared: dict[Any, Trace] = {}
        # Bytes, owner or None, and the plan that had been made last when it was noted.
        self._held: OrderedDict[Any, tuple[int, Any, int]] = OrderedDict()
        self._crowded = FEWEST_HELD
        self.nbytes = 0

    def find(self, key: Any) -> Trace | None:
        """Returns the trace that was shared under ``key``."""
        found = self._shared.get(key)
        if found is not None:
            self._held.move_to_end(key)
        return found

    def share(self, key: Any, trace: Trace) -> None:
        """Makes a trace known under the key of its structure."""
        self._shared[key] = trace
        self._hold(key, trace.nbytes, None)

    def note(self, owner: Any, key: Any, trace: Trace) -> None:
        """Notes that ``owner`` holds a trace under ``key``, to be told when it must be dropped.

        Args:
            owner: has ``drop_trace(key)`` and ``trace_of(key)``.
            key: hashable.
            trace: the trace; a shared one is counted already.
        """
        self._hold((id(owner), key), 0 if trace.is_shared else trace.nbytes, weakref.ref(owner))

    def touch(self, owner: Any, key: Any) -> None:
        """Notes that ``owner`` has used a trace."""
        try:
            self._held.move_to_end((id(owner), key))
        except KeyError:  # another thread has dropped it meanwhile
            return

    def clear(self) -> None:
        """Forgets the traces that models share; those in use stay where they are used."""
        for key in list(self._shared):
            self._drop(key)

    def release(self, owner: Any, key: Any) -> None:
        """Notes that ``owner`` has let go of a trace."""
        nbytes, *_ = self._held.pop((id(owner), key), (0, None, 0))
        self.nbytes -= nbytes

    def _hold(self, key: Any, nbytes: int, owner: Any) -> None:
        before = self._held.pop(key, None)
        self.nbytes += nbytes - (before[0] if before is not None else 0)
        self._held[key] = nbytes, owner, PLANS.latest
        if self.nbytes > self.limit:
            self._shrink()
        elif len(self._held) > self._crowded:  # what is shared weighs nothing here, and is many
            self._forget_gone()
            self._crowded = max(FEWEST_HELD, 2 * len(self._held))

    def _forget_gone(self) -> None:
        """Lets go of the notes of owners that are no more."""
        for key, (_, owner, _) in list(self._held.items()):
            if owner is not None and owner() is None:
                self._drop(key)

    def _shrink(self) -> None:
        """Forgets what is gone, then what was not used for the longest time, to 7/8 of the limit.

        The latest stays.
        """
        self._forget_gone()
        for key in sorted(list(self._held)[:-1], key=self._last_use):
            if self.nbytes <= self.limit - self.limit // 8:
                break
            self._drop(key)

    def _last_use(self, key: Any) -> int:
        """When a plan of the trace ran last, which those who call plans in C++ do not say here.

        Of a trace without plans: when it was made.
        """
        _, owner, since = self._held[key]
        holder = owner() if owner is not None else None
        trace = self._shared[key] if owner is None else holder and holder.trace_of(key[1])
        plans = [] if trace is None else list(trace.plans.values())
        return max((plan.last_use for plan in plans), default=since)

    def _drop(self, key: Any) -> None:
        nbytes, owner, _ = self._held.pop(key)
        self.nbytes -= nbytes
        if owner is None:
            del self._shared[key]
        elif (found := owner()) is not None:
            found.drop_trace(key[1])


PLANS = Plans()
"""The owner of all plans of this process."""

TRACES = Traces()
"""The traces of this process."""
