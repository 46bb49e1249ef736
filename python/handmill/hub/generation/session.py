"""One model, ready to continue a batch of texts.

Everything that a step changes is a variable: tokens, positions, which rows are done, the cache of
keys and values. Positions are data, so that one program, and one plan, serves all of them; steps
follow one another in C++ (``run_fed``), and Python is back after some milliseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from handmill import ops
from handmill.hub.layers.key_value_cache import written
from handmill.hub.samplers.sampler import Sampler, chosen
from handmill.ir.op import Array
from handmill.primitives.operands import shape_of
from handmill.runtime.feed import Feed
from handmill.runtime.function import TracedFunction
from handmill.runtime.memory import Account
from handmill.runtime.structure import Constant
from handmill.runtime.variable import Variable, zeros

PLACES = 256
"""Caches have a multiple of so many places, so that few sizes need a program."""

_KEY = "generation"  # among the programs of a model
_STEPS = 1 << 20
_SECONDS = 0.03
_STOPS = 16


class Session:
    """A model, the cache and the tokens of a batch of texts that it continues.

    Args:
        model: has ``make_cache`` and ``call_with_cache``, see ``hub.models.CausalLM``.
        rows: how many texts.
        places: the most tokens of a text.
        sampler: one of the user's own, which becomes part of the program; None: tokens are chosen
            by the numbers that :meth:`begin` is given.
        is_search: whether texts change places (:meth:`take_rows`), as beams do.
    """

    def __init__(
        self,
        model: Any,
        rows: int,
        places: int,
        sampler: Sampler | None = None,
        is_search: bool = False,
    ) -> None:
        self.model = model
        self.rows, self.places = rows, places
        self.sampler = sampler
        self.is_search = is_search
        self._lock = threading.Lock()

        def state(shape: tuple[int, ...], dtype: str) -> Variable:
            return Variable(zeros, shape, dtype, trainable=False, autocast=False)

        dtype = model.compute_dtype
        shapes = model.cache_shapes(rows, places)
        with Account(
            f"keys and values of {rows} texts of {places} tokens",
            "Pass a smaller max_length, or fewer texts at a time",
        ):
            self.cache = [(state(shape, dtype), state(shape, dtype)) for shape in shapes]
        # Of a search: the row in which each place of a text lies in the cache.
        self.lies = state((rows, places), "int32") if is_search else None
        self.tokens = state((rows, places), "int32")
        self.position = state((rows,), "int32")  # of the last token of each row
        self.done = state((rows,), "bool")
        self.failed = state((rows,), "bool")
        self.seeds = state((rows, 2), "int64")
        self.settings = state((3,), "float32")
        self.stops = state((_STOPS,), "int32")
        self.limit = state((), "int32")
        self._read = _program(self, self._trace_read_once if is_search else self._trace_read)
        self._step = _program(self, self._trace_step)
        self._feed = Feed([np.zeros((_STEPS, 1), np.uint8)])

    def fits(self, rows: int, places: int, sampler: Sampler | None, is_search: bool) -> bool:
        """Whether this session is one for so many rows and places, and this sampler."""
        own = (self.rows, self.places, self.is_search)
        return own == (rows, places, is_search) and self.sampler is sampler

    def is_free(self) -> bool:
        """Whether nobody uses the session; it is in use from now on."""
        return self._lock.acquire(blocking=False)

    def set_free(self) -> None:
        """Ends the use of the session."""
        self._lock.release()

    def variables(self) -> list[Variable]:
        """What steps read and change."""
        own = [self.tokens, self.position, self.done, self.failed, self.seeds]
        cached = [v for pair in self.cache for v in pair]
        more = [] if self.lies is None else [self.lies]
        return [*own, self.settings, self.stops, self.limit, *cached, *more]

    def begin(
        self,
        prompts: Sequence[Array],
        limit: int,
        seeds: Array,
        settings: Sequence[float],
        stops: Sequence[int],
    ) -> None:
        """Reads prompts.

        Args:
            prompts: the tokens of each row, at least one, fewer than ``limit``; of a search the
                tokens from which all rows go on, which are read once.
            limit: how long a row becomes at most.
            seeds: the seed state of each row at position 0.
            settings: temperature, k, p.
            stops: tokens that end a row, at most 16.

        Raises:
            ValueError: for more.
        """
        if len(stops) > _STOPS:
            raise ValueError(f"there may be {_STOPS} stop tokens. Received: {len(stops)}")
        each = list(prompts) * self.rows if self.is_search else prompts
        tokens = np.zeros((self.rows, self.places), np.int32)
        for row, prompt in enumerate(each):
            tokens[row, : len(prompt)] = prompt
        lengths = np.array([len(prompt) for prompt in each], np.int32)
        self.tokens.assign(tokens)
        self.position.assign(lengths - 1)
        self.done.assign(lengths >= limit)
        self.failed.assign(np.zeros(self.rows, bool))
        self.seeds.assign(seeds)
        self.settings.assign(np.array(settings, np.float32))
        self.stops.assign(np.array([*stops, *[-2] * (_STOPS - len(stops))], np.int32))
        self.limit.assign(np.array(limit, np.int32))
        longest = int(lengths.max()) - 1
        if self.lies is not None:
            lies = self._own_rows()
            lies[:, :longest] = 0
            self.lies.assign(lies)
        if longest > 0:  # the last token of each row is the first step's
            self._read(np.ascontiguousarray(tokens[: len(prompts), :longest].T))

    def go_on(self, most: int, seconds: float = _SECONDS) -> int:
        """Takes steps, until about ``seconds`` have passed; returns how many."""
        self._feed.position = 0
        return self._step.run_fed(self._feed, 1, most, seconds)

    def step_logits(self) -> Array:
        """Takes a step that writes the cache alone, and returns the logits (B, V) it gives."""
        if not hasattr(self, "_logits"):
            self._logits = _program(self, self._trace_logits)
        found: Array = self._logits(np.zeros((1, 1), np.uint8))
        return found

    def take_rows(self, order: Array, length: int) -> None:
        """Lets each row of a search go on from another one; keys and values stay where they lie.

        Args:
            order: of each row, the one whose places it takes.
            length: how many places have been written.
        """
        assert self.lies is not None, "made with is_search=True only"  # noqa: S101
        found = self._own_rows()
        found[:, :length] = self.lies.numpy()[order, :length]
        self.lies.assign(found)

    def _own_rows(self) -> Array:
        return np.repeat(np.arange(self.rows, dtype=np.int32)[:, None], self.places, axis=1)

    # What is traced.

    def _cached(self) -> list[tuple[Any, ...]]:
        more = () if self.lies is None else (self.lies.value,)
        return [(keys.value, values.value, *more) for keys, values in self.cache]

    def _keep(self, made: Sequence[tuple[Any, ...]]) -> None:
        for own, new in zip(self.cache, made, strict=True):
            for variable, value in zip(own, new[:2], strict=True):
                variable.assign(value)

    def _trace_read(self, tokens: Any) -> Any:
        """Reads tokens (T, B): their number is the symbol of the program's axis 0."""
        _, _, made = self.model.call_with_cache(ops.transpose(tokens), self._cached(), 0)
        self._keep(made)
        return ()

    def _trace_read_once(self, tokens: Any) -> Any:
        """Reads tokens (T, 1) into the first row: a cache of T places, written where it stays."""
        count = shape_of(tokens)[0]
        blank = [
            tuple(ops.zeros((1, count, *v.shape[2:]), v.dtype) for v in pair) for pair in self.cache
        ]
        _, _, made = self.model.call_with_cache(ops.transpose(tokens), blank, 0)
        kept = [
            tuple(written(own.value, new, 0) for own, new in zip(pair, row, strict=True))
            for pair, row in zip(self.cache, made, strict=True)
        ]
        self._keep(kept)
        return ()

    def _last_logits(self) -> Any:
        position = self.position.value
        token = ops.take_along_axis(self.tokens.value, ops.expand_dims(position, 1), axis=1)
        logits, _, made = self.model.call_with_cache(token, self._cached(), position)
        self._keep(made)
        return ops.cast(ops.reshape(logits, (self.rows, -1)), "float32")

    def _trace_logits(self, tick: Any) -> Any:
        return self._last_logits()

    def _trace_step(self, tick: Any) -> Any:
        logits = self._last_logits()
        position, done = self.position.value, self.done.value
        at = ops.expand_dims(ops.cast(position, "int64") + 1, 1)
        states = self.seeds.value + at * np.array([[0, 1]], np.int64)
        if self.sampler is None:
            new = chosen(logits, states, self.settings.value)
        else:
            new = ops.cast(self.sampler.choose(logits, states), "int32")
        missing = ops.less(new, 0)
        writes = ops.logical_not(ops.logical_or(done, missing))
        row = np.arange(self.rows, dtype=np.int32) * self.places
        place = ops.where(writes, position + 1 + row, -1)
        flat = ops.reshape(self.tokens.value, (self.rows * self.places,))
        written = ops.scatter_update(flat, ops.expand_dims(place, 1), new)
        self.tokens.assign(ops.reshape(written, (self.rows, self.places)))
        position = position + ops.cast(writes, "int32")
        self.position.assign(position)
        stopped = ops.any(ops.equal(ops.expand_dims(new, 1), self.stops.value), axis=1)
        full = ops.greater_equal(position + 1, self.limit.value)
        ended = ops.logical_or(ops.logical_and(stopped, writes), full)
        self.failed.assign(ops.logical_or(self.failed.value, ops.logical_and(missing, ~done)))
        self.done.assign(ops.logical_or(done, ops.logical_or(ended, missing)))
        return ()


class _Subject:
    """What the programs of a session depend on."""

    ignores_trainable = False

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._constant = Constant((name, session.rows, session.places, session.is_search))

    def parts(self) -> tuple[Any, ...]:
        """What the program depends on."""
        session = self._session
        return session.model, session.variables(), session.sampler, self._constant

    def memo(self, before: Any) -> None:
        """Nothing: a step makes no variables."""

    def prepare(self, memo: None, before: Any) -> tuple[()]:
        """There is nothing to make."""
        return ()


def _program(session: Session, trace: Any) -> TracedFunction:
    subject = _Subject(session, trace.__name__)
    return TracedFunction(trace, trace.__name__.lstrip("_"), subject=subject, rows_alone=True)


@contextmanager
def session_for(
    model: Any, rows: int, length: int, sampler: Sampler | None, is_search: bool = False
) -> Iterator[Session]:
    """Gives a session for so many rows and tokens: the one of the call before, if it fits.

    Where that one is in use, by another thread or by a callback, another one is made.
    """
    most = model.max_sequence_length
    places = -(-length // PLACES) * PLACES
    places = places if most is None else min(places, most)
    known: Session | None = model._programs.get(_KEY)
    if known is None or not known.fits(rows, places, sampler, is_search) or not known.is_free():
        known = Session(model, rows, places, sampler, is_search)
        known.is_free()
        model._programs[_KEY] = known
    try:
        yield known
    finally:
        known.set_free()
