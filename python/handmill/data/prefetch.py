"""Work done ahead of its consumer on threads, in order and within a bound."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import copy_context
from itertools import count
from typing import Any

from handmill import config
from handmill.errors import keep_warnings, warn_caller

# How long the end of the process waits for threads that are in the middle of a batch.
_EXIT_SECONDS = 5.0


_Told = list[tuple[str, type[Warning]]]
_Outcome = tuple[Any, BaseException | None, _Told]
"""What a step gave: a result or an exception, and of what it warned."""


class _Shared:
    """What the threads and the Prefetcher share; it knows neither the Prefetcher nor its owner."""

    def __init__(self, produce: Callable[[int], Any], first: int, ahead: int) -> None:
        self.produce = produce
        self.next_step = first  # the first step that no thread has begun
        self.wanted = first  # the step that the consumer takes next
        self.ahead = ahead
        self.results: dict[int, _Outcome] = {}
        self.closed = False
        # Reentrant: the collector may close a forgotten Prefetcher while this thread holds it.
        self.lock = threading.RLock()
        self.has_room = threading.Condition(self.lock)
        self.has_result = threading.Condition(self.lock)
        self.threads: list[threading.Thread] = []
        self.process = os.getpid()

    def work(self) -> None:
        while True:
            with self.lock:
                while not self.closed and self.next_step >= self.wanted + self.ahead:
                    self.has_room.wait()
                if self.closed:
                    return
                step = self.next_step
                self.next_step += 1
            outcome: _Outcome
            with keep_warnings() as told:
                try:
                    outcome = self.produce(step), None, told
                except BaseException as error:  # raised again in Prefetcher.get
                    outcome = None, error, told
            with self.lock:
                if self.closed:
                    return
                self.results[step] = outcome
                self.has_result.notify_all()
            del outcome

    def close(self) -> None:
        # In a forked child the threads are not there, and one of them may have held the lock.
        if os.getpid() == self.process:
            with self.lock:
                self.closed = True
                self.results.clear()
                self.has_room.notify_all()
                self.has_result.notify_all()


class Prefetcher:
    """Calls ``produce(step)`` for step = first, first + 1, ... on threads, ahead of the consumer.

    The results are handed out in order whatever thread finished first. An exception of
    ``produce`` is raised by the :meth:`get` of its step; later steps are not touched by it. Of what
    it warns, each thing once, the caller of ``get`` is told. The threads end when the Prefetcher is
    closed or forgotten, and at the end of the process.

    Args:
        produce: makes the result of a step; called from several threads unless ``threads`` is 1.
            It must not refer to the owner of the Prefetcher, or neither is ever collected.
        first: the first step.
        threads: how many threads.
        ahead: how many steps may be finished or in work at a time.

    Example:
        >>> squares = Prefetcher(lambda step: step * step, first=0, threads=2, ahead=4)
        >>> [squares.get(step) for step in range(4)]
        [0, 1, 4, 9]
        >>> squares.close()
    """

    def __init__(self, produce: Callable[[int], Any], first: int, threads: int, ahead: int) -> None:
        self._shared = shared = _Shared(produce, first, ahead)
        self._backend = config.backend()
        self._told: set[tuple[str, type[Warning]]] = set()
        # Before they start: an interrupt may come while they do, and would leave them waiting.
        weakref.finalize(self, shared.close).atexit = False
        _running.add(shared)
        for number in range(threads):
            thread = threading.Thread(  # which sees the backend of the caller
                target=copy_context().run,
                args=(shared.work,),
                name=f"handmill-data-{number}",
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError:  # no more threads here: fewer will do, or none
                break
            shared.threads.append(thread)

    @property
    def is_of_this_process(self) -> bool:
        """False in a forked child of the maker, where its threads are not."""
        return self._shared.process == os.getpid()

    @property
    def is_usable(self) -> bool:
        """False in a forked child of the maker, with another backend, and once closed."""
        is_ours = self.is_of_this_process and self._backend == config.backend()
        return is_ours and not self._shared.closed

    def get(self, step: int) -> Any:
        """Waits for the result of ``step``; steps must be asked for in order, each once."""
        shared = self._shared
        if not shared.threads:
            return shared.produce(step)
        with shared.lock:
            while step not in shared.results:
                if shared.closed:
                    raise RuntimeError("the threads that prepare batches have been ended")
                shared.has_result.wait()
            result, error, told = shared.results.pop(step)
            shared.wanted = step + 1
            shared.has_room.notify()
        for warning in told:
            if warning not in self._told:
                self._told.add(warning)
                warn_caller(*warning)
        if error is not None:
            try:
                raise error
            finally:
                del error  # else this frame and the error's traceback keep each other alive
        return result

    def close(self) -> None:
        """Ends the threads, each after the step that it is working on."""
        self._shared.close()


class _Ended(Exception):
    """The iterator that elements come from has ended."""


def made_ahead(
    source: Iterator[Any], work: Callable[[Any], Any], threads: int, ahead: int
) -> Iterator[Any]:
    """Yields ``work(element)`` for each element of an iterator, made ahead on threads, in order.

    Args:
        source: where elements come from; one thread at a time asks it.
        work: called from several threads unless ``threads`` is 1.
        threads: how many threads.
        ahead: how many elements may be finished or in work at a time.

    Example:
        >>> list(made_ahead(iter([1, 2, 3]), lambda x: x * x, threads=2, ahead=4))
        [1, 4, 9]
    """
    lock = threading.Lock()
    arrived: dict[int, Any] = {}
    state = {"asked": 0, "ended": False}

    def element_of(step: int) -> Any:
        with lock:  # a thread may overtake another one on its way here
            while step not in arrived:
                if state["ended"]:
                    raise _Ended
                try:
                    arrived[state["asked"]] = next(source)
                except BaseException as error:
                    state["ended"] = True
                    if isinstance(error, StopIteration):
                        raise _Ended from None
                    raise
                state["asked"] += 1
            return arrived.pop(step)

    prefetcher = Prefetcher(lambda step: work(element_of(step)), 0, threads, ahead)
    try:
        for step in count():
            if not prefetcher.is_of_this_process:
                raise RuntimeError(
                    "the process was forked while elements were made ahead on threads, which a "
                    "child has not: start the iteration in the process that goes through it"
                )
            try:
                yield prefetcher.get(step)
            except _Ended:
                return
    finally:
        prefetcher.close()


HAND_OVER = 1e-4
"""Seconds that handing an element over from another thread costs, twice what was measured: both
threads are woken, and take turns with the interpreter."""


def made_ahead_if_slow(
    source: Iterator[Any], work: Callable[[Any], Any], threads: int, ahead: int
) -> Iterator[Any]:
    """Does what :func:`made_ahead` does, once two elements have taken longer than handing over.

    Until then the caller's thread makes each when it is asked for.

    Example:
        >>> list(made_ahead_if_slow(iter([1, 2, 3]), lambda x: x * x, threads=2, ahead=4))
        [1, 4, 9]
    """
    slow = 0  # the first one may be, because it loads or traces something
    while slow < 2:
        begin = time.perf_counter()
        try:
            element = next(source)
        except StopIteration:
            return
        made = work(element)
        del element
        slow += time.perf_counter() - begin > HAND_OVER
        yield made
    yield from made_ahead(source, work, threads, ahead)


_running: weakref.WeakSet[_Shared] = weakref.WeakSet()


def _end_all() -> None:
    """At exit: no thread may be inside a kernel or Pillow while the interpreter goes away."""
    all_shared = list(_running)
    for shared in all_shared:
        shared.close()
    until = time.monotonic() + _EXIT_SECONDS
    for shared in all_shared:
        if shared.process == os.getpid():
            for thread in shared.threads:
                thread.join(max(0.0, until - time.monotonic()))


def _register_end() -> None:
    import atexit

    atexit.register(_end_all)


_register_end()
