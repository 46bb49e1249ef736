"""Random numbers that do not depend on threads, executor or NumPy's global generator.

Everything is drawn from Philox4x32-10, a counter-based generator: word ``i`` of call ``c``
under seed ``s`` is a function of (s, c, i) alone. (Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3", SC 2011.)
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from handmill import config
from handmill.ir.op import Array
from handmill.lazy import plain_module
from handmill.variable import Variable

_LOCK = threading.Lock()
_root: int | None = None
_drawn = 0


def seed_all(seed: int) -> None:
    """Starts every draw of handmill that has no seed of its own from ``seed``."""
    global _root, _drawn
    with _LOCK:
        _root, _drawn = _checked_seed(seed), 0


def next_host_seed() -> int:
    """A fresh seed below 2**62; the sequence follows from :func:`seed_all`."""
    global _root, _drawn
    with _LOCK:
        if _root is None:
            _root = secrets.randbits(62)
        root, call = _root, _drawn
        _drawn += 1
    low, high = (int(w) for w in words(root, call, 2))
    return (high << 32 | low) & (1 << 62) - 1


def _checked_seed(seed: int) -> int:
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
        raise ValueError(f"seed: expected an integer, got {seed!r}")
    return int(seed) & (1 << 63) - 1


def words(seed: int, counter: int, n: int) -> Array:
    """The first ``n`` random words (uint32) of call ``counter`` under ``seed``."""
    if config.backend() == "native":
        from handmill import _core

        return _core.philox(seed, counter, n)
    from handmill.ops.philox import philox_words

    return philox_words(seed, counter, n)


def permutation(seed: int, counter: int, n: int) -> Array:
    """A random order of ``n`` rows (int64): indices sorted by random words, ties by index."""
    if config.backend() == "native":
        from handmill import _core

        return _core.permutation(seed, counter, n)
    return np.argsort(words(seed, counter, n), kind="stable").astype(np.int64)


def unit(shape: Sequence[int], seed: int, counter: int = 0) -> Array:
    """Uniform float32 numbers in [0, 1), multiples of 2**-24."""
    n = math.prod(shape)
    return ((words(seed, counter, n) >> 8) * np.float32(2**-24)).astype(np.float32).reshape(shape)


def uniform(shape: Sequence[int], low: float, high: float, seed: int, counter: int = 0) -> Array:
    """Uniform float32 numbers in [low, high)."""
    numbers = unit(shape, seed, counter)
    numbers *= np.float32(high - low)
    numbers += np.float32(low)
    return numbers


def normal(shape: Sequence[int], mean: float, stddev: float, seed: int, counter: int = 0) -> Array:
    """Normal float32 numbers (Box and Muller, 1958)."""
    n = math.prod(shape)
    return (_standard_normal(n, seed, counter) * stddev + mean).astype(np.float32).reshape(shape)


def truncated_normal(
    shape: Sequence[int], mean: float, stddev: float, seed: int, counter: int = 0
) -> Array:
    """Normal float32 numbers, those beyond two standard deviations drawn again."""
    n = math.prod(shape)
    kept = np.empty(0)
    call = counter << 16
    while kept.size < n:
        drawn = _standard_normal(max(64, int((n - kept.size) * 1.1)), seed, call)
        kept = np.concatenate([kept, drawn[np.abs(drawn) <= 2.0]])
        call += 1
    return (kept[:n] * stddev + mean).astype(np.float32).reshape(shape)


def _standard_normal(n: int, seed: int, counter: int) -> Array:
    pairs = words(seed, counter, n + n % 2).reshape(-1, 2) >> 8
    radius = np.sqrt(-2.0 * np.log((pairs[:, 0] + 1.0) * 2.0**-24))
    angle = pairs[:, 1] * (2.0**-24 * 2.0 * np.pi)
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return both.reshape(-1)[:n]


class SeedGenerator:
    """The seed and call counter of a layer that draws random numbers inside programs.

    Args:
        seed: an integer; default: the next seed after ``utils.set_random_seed``.
        name: for files.

    Attributes:
        state: a Variable of two int64: seed, and number of draws so far.
    """

    def __init__(self, seed: int | None = None, name: str = "seed_generator") -> None:
        self.seed = next_host_seed() if seed is None else _checked_seed(seed)
        self.name = name
        self.state = Variable(
            np.array([self.seed, 0], np.int64), trainable=False, name="seed_generator_state"
        )

    def next(self) -> object:
        """The state for one draw, as a symbolic value; the program then advances the counter.

        Only while a program is traced.
        """
        from handmill.ir.graph import current_graph
        from handmill.ops.random import advance_seed

        if current_graph() is None:
            raise RuntimeError("SeedGenerator.next() works while a program is traced only")
        state = self.state.value
        self.state.assign(advance_seed(state))
        return state


if not TYPE_CHECKING:  # a __getattr__ would hide typing errors from mypy
    __getattr__ = plain_module(__name__)
