"""Random orders, and numbers of distributions that need several words each, which run in NumPy.

An element that takes another word when one was rejected cannot read at its own place of the
stream of its seed state. So these draws have streams of their own: the first two words of the
state are the key, and each round of all elements that are not settled is one call. What is drawn
depends on state and shape alone. Everything is computed in float64 and rounded once.

References:
    Marsaglia and Tsang, "A simple method for generating gamma variables", TOMS 26, 2000.
    Devroye, "Non-uniform random variate generation", chapter X.4, 1986.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Shape
from handmill.ir.op import Array, Exact, Op, Sample, Ulp, never_native, register
from handmill.ir.shapes import Spec, broadcasts_to
from handmill.primitives.philox import philox_words
from handmill.primitives.random import check_state
from handmill.primitives.samples import both, given, name_of

Words = Callable[[int, int, int], Array]
"""``(seed, call, n)`` -> n random words."""

_STATE = np.array([1234567890123, 7], dtype=np.int64)


class Stream:
    """Numbers drawn one after the other, for one seed state."""

    def __init__(self, seed_state: Array) -> None:
        low, high = (int(w) for w in philox_words(int(seed_state[0]), int(seed_state[1]), 2))
        self._key = high << 32 | low
        self._calls = 0

    def words(self, count: int) -> Array:
        """Random words (uint32)."""
        self._calls += 1
        return philox_words(self._key, self._calls, count)

    def uniform(self, count: int) -> Array:
        """Numbers of 53 bits in (0, 1): half a step away from both ends."""
        words = self.words(2 * count).astype(np.uint64).reshape(2, count)
        numbers: Array = (
            ((words[0] << np.uint64(32) | words[1]) >> np.uint64(12)) + 0.5
        ) * 2.0**-52
        return numbers

    def normal(self, count: int) -> Array:
        """Standard normal numbers (Box and Muller)."""
        radius, angle = self.uniform(count), self.uniform(count)
        return np.asarray(np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle))

    def log_gamma(self, alpha: Array) -> Array:
        """Logarithms of gamma numbers of these shapes and scale 1; NaN where one is not positive.

        Small shapes give numbers below all floats: their logarithms are still good.
        """
        flat = np.ravel(alpha).astype(np.float64)
        # Marsaglia and Tsang start at 1: G(a) = G(a + 1) U^(1/a).
        small = flat < 1
        d = np.where(small, flat + 1, flat) - 1 / 3
        c = 1 / np.sqrt(9 * d)
        y = np.full(flat.shape, np.nan)
        left = np.flatnonzero((flat > 0) & np.isfinite(flat))
        while left.size:
            x, u = self.normal(left.size), self.uniform(left.size)
            v = (1 + c[left] * x) ** 3
            good = v > 0
            log_v = np.log(np.where(good, v, 1.0))
            good &= np.log(u) < x * x / 2 + d[left] * (1 - v + log_v)
            y[left[good]] = (np.log(d[left]) + log_v)[good]
            left = left[~good]
        if small.any():
            u = self.uniform(flat.size)
            with np.errstate(divide="ignore", invalid="ignore"):
                y = np.where(small, y + np.log(u) / flat, y)
        return y.reshape(np.shape(alpha))

    def beta(self, a: Array, b: Array) -> Array:
        """Beta numbers: the share of one gamma number in the sum of two."""
        x, y = self.log_gamma(a), self.log_gamma(b)
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(y - x)))

    def binomial(self, counts: Array, probabilities: Array) -> Array:
        """Numbers of successes in ``counts`` trials.

        The middle one of n ordered uniform numbers is a beta number. It tells how many trials
        are certain, and leaves half of them, so that few are left after log2(n) rounds.
        """
        n, p = np.floor(np.ravel(counts)), np.ravel(probabilities).astype(np.float64)
        wrong = ~((n >= 0) & np.isfinite(n) & (p >= 0) & (p <= 1))
        n, p = np.where(wrong, 0.0, n), np.where(wrong, 0.0, p)
        found = np.zeros(n.shape)
        while (many := np.flatnonzero(n > _FEW)).size:
            size, chance = n[many], p[many]
            rank = np.floor((size + 1) / 2)
            middle = self.beta(rank, size + 1 - rank)
            below = middle <= chance
            found[many] += np.where(below, rank, 0)
            n[many] = np.where(below, size - rank, rank - 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                rest = np.where(below, (chance - middle) / (1 - middle), chance / middle)
            p[many] = np.clip(np.nan_to_num(rest), 0.0, 1.0)
        for trial in range(int(n.max(initial=0))):
            found += (trial < n) & (self.uniform(n.size) < p)
        return np.where(wrong, np.nan, found).reshape(np.shape(counts))


_FEW = 16


def truncated_pieces(words: Words, seed: int, call: int, count: int) -> Iterator[Array]:
    """Standard normal numbers; those beyond 2 are drawn again, from further calls.

    Args:
        words: the generator.
        seed: of the generator.
        call: the draw's number. Its rounds are calls from ``call * 2**16``.
        count: how many.
    """
    missing, call = count, call << 16
    while missing > 0:
        for drawn in normal_pieces(words, seed, call, max(64, int(missing * 1.1))):
            kept = drawn[np.abs(drawn) <= 2.0][:missing]
            missing -= kept.size
            yield kept
        call += 1


def normal_pieces(words: Words, seed: int, call: int, count: int) -> Iterator[Array]:
    """Normal numbers (Box and Muller) from 24 bits of each word of one call."""
    pairs = words(seed, call, count + count % 2).reshape(-1, 2)
    for first in range(0, len(pairs), _PAIRS):
        whole = pairs[first : first + _PAIRS] >> 8
        radius = np.sqrt(-2.0 * np.log((whole[:, 0] + 1.0) * 2.0**-24))
        angle = whole[:, 1] * (2.0**-24 * 2.0 * np.pi)
        both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        yield both.reshape(-1)[: count - 2 * first]


_PAIRS = 1 << 15
"""A piece: its doubles take little memory, however many numbers are drawn."""


def scaled(pieces: Iterable[Array], count: int, stddev: float = 1.0, mean: float = 0.0) -> Array:
    """The numbers of all pieces, with this deviation and mean, rounded to float32 at the end."""
    found, first = np.empty(count, np.float32), 0
    for piece in pieces:
        found[first : first + piece.size] = piece * stddev + mean
        first += piece.size
    return found


def _count(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _host(name: str, infer: Any, reference: Any, samples: Any, bound: Any) -> Op:
    """A draw from a seed state, and parameters that get no gradient."""
    return register(
        Op(
            name,
            infer=infer,
            reference=reference,
            samples=samples,
            bound=bound,
            native=never_native,
            random=True,
            grad_none=(0,),
        )
    )


# The same float64 number is rounded once, by reference and kernel alike.
_ROUNDED = Ulp(0.5)


def _truncated_infer(seed_state: Spec, *, shape: Shape) -> Spec:
    check_state("random_truncated_normal", seed_state)
    return Spec(shape, "float32")


def _truncated_reference(seed_state: Array, *, shape: tuple[int, ...]) -> Array:
    (seed, call), count = (int(v) for v in seed_state), _count(shape)
    return scaled(truncated_pieces(philox_words, seed, call, count), count).reshape(shape)


RANDOM_TRUNCATED_NORMAL = _host(
    "random_truncated_normal",
    _truncated_infer,
    _truncated_reference,
    lambda: [
        Sample(name_of(shape), given(_STATE), {"shape": shape}, smooth=False)
        for shape in ((0,), (1,), (127, 3))
    ],
    _ROUNDED,
)


def _integers_infer(seed_state: Spec, low: Spec, high: Spec, *, shape: Shape) -> Spec:
    check_state("random_integers", seed_state)
    _fits("random_integers", shape, low, high)
    if low.dtype != "int64" or high.dtype != "int64":
        raise shape_error("random_integers", "int64 ends were expected", {"low": low, "high": high})
    return Spec(shape, "int64")


def _integers_reference(
    seed_state: Array, low: Array, high: Array, *, shape: tuple[int, ...]
) -> Array:
    # floor(word * size / 2^32): each integer has the chance 1 / size, give or take 2^-32. Where
    # nothing lies between the ends, the result is the lower one.
    words = philox_words(int(seed_state[0]), int(seed_state[1]), _count(shape)).reshape(shape)
    size = np.maximum(high - low, 1)
    if np.max(size, initial=1) <= 1 << 32:
        at = (words.astype(np.uint64) * size.astype(np.uint64)) >> np.uint64(32)
        return np.asarray(low + at.astype(np.int64), np.int64)
    more = philox_words(int(seed_state[0]), ~int(seed_state[1]), _count(shape)).reshape(shape)
    wide = words.astype(object) << 32 | more.astype(object)
    return np.asarray(low.astype(object) + (wide * size.astype(object) >> 64), np.int64)


def _integers_samples() -> Iterable[Sample]:
    for name, low, high, shape in (
        ("17", 0, 10, (17,)),
        ("5x3", [[-5], [0], [3], [7], [100]], [5, 300, 2**31 - 1], (5, 3)),
        ("wide", -(2**40), 2**41, (9,)),
        ("empty", 4, 4, (3,)),
        ("none", 0, 2, (0,)),
    ):
        ends = given(_STATE, np.asarray(low, np.int64), np.asarray(high, np.int64))
        yield Sample(name, ends, {"shape": shape}, smooth=False)


RANDOM_INTEGERS = _host(
    "random_integers", _integers_infer, _integers_reference, _integers_samples, Exact()
)


def _order_infer(seed_state: Spec, *, shape: Shape, axis: int) -> Spec:
    check_state("random_order", seed_state)
    return Spec(shape, "int32")


def _order_reference(seed_state: Array, *, shape: tuple[int, ...], axis: int) -> Array:
    words = philox_words(int(seed_state[0]), int(seed_state[1]), _count(shape)).reshape(shape)
    return np.argsort(words, axis=axis, kind="stable").astype(np.int32)


# Along an axis the integers from 0 on, in an order of their own for each place of the others.
RANDOM_ORDER = register(
    Op(
        "random_order",
        infer=_order_infer,
        reference=_order_reference,
        samples=lambda: [
            *(
                Sample(name_of(shape), given(_STATE), {"shape": shape, "axis": 0}, smooth=False)
                for shape in ((0,), (1,), (17,), (4099,))
            ),
            Sample("columns_5x3", given(_STATE), {"shape": (5, 3), "axis": 0}, smooth=False),
        ],
        bound=Exact(),
        kernel="random_order",
        native=lambda specs, attrs: len(attrs["shape"]) == 1,
        random=True,
        grad_none=(0,),
    )
)


def _fits(op: str, shape: Shape, *operands: Spec) -> None:
    if not all(broadcasts_to(spec.shape, shape) for spec in operands):
        raise shape_error(
            op,
            f"the parameters do not broadcast to `shape` {shape}",
            {f"x{i}": s for i, s in enumerate(operands)},
        )


def _parametric(name: str, draw: Callable[..., Array], samples: Any) -> Op:
    def infer(seed_state: Spec, *parameters: Spec, shape: Shape) -> Spec:
        check_state(name, seed_state)
        _fits(name, shape, *parameters)
        return Spec(shape, "float32")

    def reference(seed_state: Array, *parameters: Array, shape: tuple[int, ...]) -> Array:
        wide = [np.broadcast_to(p, shape).astype(np.float64) for p in parameters]
        with np.errstate(under="ignore"):
            return np.asarray(draw(Stream(seed_state), *wide), np.float32)

    def made() -> Iterable[Sample]:
        for sample, shape, parameters in samples:
            make = both(given(_STATE), given(*parameters))
            yield Sample(sample, make, {"shape": shape}, smooth=False)

    return _host(name, infer, reference, made, _ROUNDED)


RANDOM_GAMMA = _parametric(
    "random_gamma",
    lambda stream, alpha: np.exp(stream.log_gamma(alpha)),
    (
        ("17", (17,), (2.5,)),
        ("5x3", (5, 3), ([0.01, 0.9, 40.0],)),
        ("wrong", (4,), ([0.0, -1.0, np.nan, 1.0],)),
        ("none", (0,), (1.0,)),
    ),
)
RANDOM_BETA = _parametric(
    "random_beta",
    Stream.beta,
    (("17", (17,), (2.5, 0.5)), ("5x3", (5, 3), ([0.001, 0.9, 40.0], [[1.0]]))),
)
RANDOM_BINOMIAL = _parametric(
    "random_binomial",
    Stream.binomial,
    (
        ("17", (17,), (10.0, 0.3)),
        ("5x3", (5, 3), ([1.0, 1000.0, 1e6], [0.0, 0.5, 1.0])),
        ("wrong", (4,), ([-1.0, 5.0, 5.0, np.nan], [0.5, 1.5, np.nan, 0.5])),
    ),
)
