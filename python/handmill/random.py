"""Random numbers that do not depend on threads, executor or NumPy's global generator.

Everything is drawn from Philox4x32-10, a counter-based generator: word ``i`` of call ``c``
under seed ``s`` is a function of (s, c, i) alone. (Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3", SC 2011.)
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from handmill import config
from handmill.ir.op import Array
from handmill.ir.shapes import numpy_dtype
from handmill.lazy import plain_module
from handmill.runtime.variable import Variable
from handmill.runtime.watch import Watched

_LOCK = threading.Lock()
_root: int | None = None
_drawn = 0


def seed_all(seed: int) -> None:
    """Starts every draw of handmill that has no seed of its own from ``seed``."""
    global _root, _drawn
    with _LOCK:
        _root, _drawn = _checked_seed(seed), 0
    if _of_programs is not None:
        _of_programs.state.assign(np.array([next_host_seed(), 0], np.int64))


def next_host_seed() -> int:
    """A fresh seed below 2**62; the sequence follows from :func:`seed_all`."""
    global _root, _drawn
    with _LOCK:
        if _root is None:
            import secrets

            _root = secrets.randbits(62)
        root, call = _root, _drawn
        _drawn += 1
    low, high = (int(w) for w in words(root, call, 2))
    return (high << 32 | low) & (1 << 62) - 1


def state() -> dict[str, Any]:
    """What all draws to come without a seed of their own depend on, as plain data."""
    programs = None if _of_programs is None else [int(n) for n in _of_programs.state.read()]
    with _LOCK:
        return {"root": _root, "drawn": _drawn, "programs": programs}


def is_state(data: Any) -> bool:
    """Whether ``data`` is what :func:`state` returns."""
    if not isinstance(data, dict) or set(data) != {"root", "drawn", "programs"}:
        return False
    programs = data["programs"]
    if programs is not None and not (isinstance(programs, list) and len(programs) == 2):
        return False
    numbers = [data["drawn"], *(programs or ()), *([] if data["root"] is None else [data["root"]])]
    return all(type(n) is int and 0 <= n < 1 << 63 for n in numbers)


def restore_state(data: Mapping[str, Any]) -> None:
    """Lets draws go on from what :func:`state` returned."""
    global _root, _drawn, _of_programs
    programs = data["programs"]
    if programs is not None:
        if _of_programs is None:
            _of_programs = SeedGenerator(0)
        _of_programs.state.assign(np.array(programs, np.int64))
    with _LOCK:
        _root, _drawn = data["root"], data["drawn"]


def _checked_seed(seed: int) -> int:
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
        raise ValueError(f"seed: expected an integer, got {seed!r}")
    return int(seed) & (1 << 63) - 1


def words(seed: int, counter: int, n: int) -> Array:
    """The first ``n`` random words (uint32) of call ``counter`` under ``seed``."""
    if config.backend() == "native":
        from handmill import _core

        return np.asarray(_core.philox(seed, counter, n))
    from handmill.primitives.philox import philox_words

    return philox_words(seed, counter, n)


def permutation(seed: int, counter: int, n: int) -> Array:
    """A random order of ``n`` rows (int64): indices sorted by random words, ties by index."""
    if config.backend() == "native":
        from handmill import _core

        return np.asarray(_core.permutation(seed, counter, n))
    return np.argsort(words(seed, counter, n), kind="stable").astype(np.int64)


def unit(shape: Sequence[int], seed: int, counter: int = 0) -> Array:
    """Uniform float32 numbers in [0, 1), multiples of 2**-24."""
    n = _count(shape)
    numbers: Array = (words(seed, counter, n) >> 8) * np.float32(2**-24)
    return numbers.astype(np.float32).reshape(shape)


def uniform(
    shape: Sequence[int],
    minval: float = 0.0,
    maxval: float = 1.0,
    dtype: str | None = None,
    seed: int | SeedGenerator | None = None,
) -> Any:
    """Draws uniform numbers in [minval, maxval). Inside a program, anew each time that it runs.

    Args:
        shape: the shape of the result.
        minval: the lower end.
        maxval: the upper end.
        dtype: a float dtype; default float32.
        seed: an integer, for the same numbers each time; a :class:`SeedGenerator`, for new
            numbers each time; default: the next seed after ``utils.set_random_seed``.

    Example:
        >>> from handmill import random
        >>> random.uniform((3,), 5.0, 6.0, seed=1).round(2)
        array([5.89, 5.89, 5.59], dtype=float32)
    """
    state = _state_in_program(seed)
    if state is not None:
        from handmill import ops
        from handmill.primitives.random import random_uniform

        drawn = ops.multiply(random_uniform(state, tuple(shape)), np.float32(maxval - minval))
        return ops.cast(ops.add(drawn, np.float32(minval)), dtype or "float32")
    numbers = unit(shape, *_draw(seed))
    numbers *= np.float32(maxval - minval)
    numbers += np.float32(minval)
    return numbers.astype(numpy_dtype(dtype or "float32"), copy=False)


def normal(
    shape: Sequence[int],
    mean: float = 0.0,
    stddev: float = 1.0,
    dtype: str | None = None,
    seed: int | SeedGenerator | None = None,
) -> Any:
    """Draws normal numbers (Box and Muller, 1958). Inside a program, anew each time that it runs.

    Args:
        shape: the shape of the result.
        mean: their mean.
        stddev: their standard deviation.
        dtype: a float dtype; default float32.
        seed: see :func:`uniform`.

    Example:
        >>> from handmill import random
        >>> random.normal((3,), seed=1).round(2)
        array([ 0.38, -0.3 , -0.25], dtype=float32)
    """
    state = _state_in_program(seed)
    if state is not None:
        from handmill import ops
        from handmill.primitives.random import random_normal

        drawn = ops.multiply(random_normal(state, tuple(shape)), np.float32(stddev))
        return ops.cast(ops.add(drawn, np.float32(mean)), dtype or "float32")
    numbers = _standard_normal(_count(shape), *_draw(seed)) * stddev + mean
    return (
        numbers.astype(np.float32)
        .astype(numpy_dtype(dtype or "float32"), copy=False)
        .reshape(shape)
    )


def truncated_normal(
    shape: Sequence[int],
    mean: float = 0.0,
    stddev: float = 1.0,
    dtype: str | None = None,
    seed: int | SeedGenerator | None = None,
) -> Any:
    """Draws normal numbers; those beyond two standard deviations are drawn again.

    Args:
        shape: the shape of the result.
        mean: the mean before the ends are cut off.
        stddev: the standard deviation before the ends are cut off.
        dtype: a float dtype; default float32.
        seed: see :func:`uniform`.

    Example:
        >>> from handmill import random
        >>> bool(abs(random.truncated_normal((1000,), seed=1)).max() <= 2)
        True
    """
    n = _count(shape)
    kept = np.empty(0)
    key, call = _draw(seed)
    call <<= 16
    while kept.size < n:
        drawn = _standard_normal(max(64, int((n - kept.size) * 1.1)), key, call)
        kept = np.concatenate([kept, drawn[np.abs(drawn) <= 2.0]])
        call += 1
    numbers = (kept[:n] * stddev + mean).astype(np.float32)
    return numbers.astype(numpy_dtype(dtype or "float32"), copy=False).reshape(shape)


def _count(shape: Sequence[int]) -> int:
    if any(d < 0 for d in shape):
        raise ValueError(f"`shape` cannot have negative sizes, got shape={tuple(shape)}")
    return math.prod(shape)


_of_programs: SeedGenerator | None = None
"""Seeds the draws of programs that name no seed, as Keras's global generator does."""


def _state_in_program(seed: int | SeedGenerator | None) -> Any:
    """The state for one draw of the program that is being traced, None outside a trace."""
    from handmill.ir.graph import current_graph

    global _of_programs
    if current_graph() is None:
        return None
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if seed is not None:
        return np.array([_checked_seed(seed), 0], np.int64)
    if _of_programs is None:
        _of_programs = SeedGenerator()
    return _of_programs.next()


def _draw(seed: int | SeedGenerator | None) -> tuple[int, int]:
    """The seed and the counter of one draw on the host."""
    from handmill.ir.graph import current_graph

    if not isinstance(seed, int) and current_graph() is not None:
        raise RuntimeError(
            "truncated_normal() draws on the host; inside a program it would draw once, when the "
            "program is traced. Use random.normal() or random.uniform(), which programs repeat."
        )
    if isinstance(seed, SeedGenerator):
        key, counter = (int(v) for v in seed.state.numpy())
        seed.state.assign(np.array([key, counter + 1], np.int64))
        return key, counter
    return (next_host_seed() if seed is None else _checked_seed(seed)), 0


def _standard_normal(n: int, seed: int, counter: int) -> Array:
    pairs = words(seed, counter, n + n % 2).reshape(-1, 2) >> 8
    radius = np.sqrt(-2.0 * np.log((pairs[:, 0] + 1.0) * 2.0**-24))
    angle = pairs[:, 1] * (2.0**-24 * 2.0 * np.pi)
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return both.reshape(-1)[:n]


class SeedGenerator(Watched):
    """The seed and call counter of a layer that draws random numbers inside programs.

    Args:
        seed: an integer; default: the next seed after ``utils.set_random_seed``.
        name: for files; default: ``seed_generator``.

    Attributes:
        state: a Variable of two int64: seed, and number of draws so far.
    """

    _unwatched = frozenset({"seed", "name"})

    def __init__(self, seed: int | None = None, name: str | None = None) -> None:
        self.seed = next_host_seed() if seed is None else _checked_seed(seed)
        self.name = name or "seed_generator"
        self.state = Variable(
            np.array([self.seed, 0], np.int64), trainable=False, name="seed_generator_state"
        )

    def next(self) -> object:
        """The state for one draw; the counter then goes on, in the program if one is traced."""
        from handmill.ir.graph import current_graph
        from handmill.primitives.random import advance_seed

        state = self.state.numpy() if current_graph() is None else self.state.value
        self.state.assign(advance_seed(state))
        return state

    def get_config(self) -> dict[str, Any]:
        """The seed; how many numbers were drawn is state."""
        return {"seed": self.seed}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SeedGenerator:
        """Makes a generator from its config."""
        return cls(**config)


if not TYPE_CHECKING:  # a __getattr__ would hide typing errors from mypy
    __getattr__ = plain_module(__name__)
