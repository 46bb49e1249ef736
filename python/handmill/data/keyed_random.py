"""Random numbers addressed by a key and a position: any subset of them, in any order.

Augmentation needs the numbers of the images of one batch out of those of a whole pass. With
:mod:`handmill.random` that means drawing the whole pass; here number ``i`` under a key is
SplitMix64's output function applied to ``key + i * gamma``. (Steele, Lea, Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from handmill.ir.op import Array

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15


def _mix(z: Array) -> Array:
    """SplitMix64's output function; :func:`_mix_one` is the same for a Python integer."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: Array = z ^ (z >> np.uint64(31))
    return result


def make_key(*parts: int) -> int:
    """A 64-bit key from integers; keys of different parts have unrelated numbers."""
    key = 0
    for part in parts:
        key = _mix_one(_mix_one(key + _GAMMA ^ part & _MASK) + _GAMMA)
    return key


def _mix_one(z: int) -> int:
    z &= _MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
    return z ^ z >> 31


def words(key: int, positions: Array) -> Array:
    """The 64-bit words at ``positions`` (non-negative integers, any shape) under ``key``."""
    steps = positions.astype(np.uint64) + np.uint64(1)
    return _mix(steps * np.uint64(_GAMMA) + np.uint64(key))


def uniform(key: int, positions: Array) -> Array:
    """Numbers in [0, 1), float64 with 53 random bits, at ``positions`` under ``key``."""
    result: Array = (words(key, positions) >> np.uint64(11)) * 2.0**-53
    return result


def permutation(key: int, n: int) -> Array:
    """A random order of ``n`` things (int64)."""
    return np.argsort(words(key, np.arange(n)), kind="stable").astype(np.int64, copy=False)
