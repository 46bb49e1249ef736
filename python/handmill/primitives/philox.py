"""Philox4x32-10 in NumPy: random words that depend on seed, call and position only.

A word is a function of where it stands, not of the words before it, so any part of the stream
can be computed by any thread. csrc/core/random has the same function in C++.

References:
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.ir.op import Array

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_ROUNDS = 10


def philox_block(counter: tuple[Array, ...], key: tuple[Any, Any]) -> tuple[Array, ...]:
    """Returns four random words for each counter.

    Args:
        counter: four uint32 arrays that broadcast, the words of the counter from low to high.
        key: two 32-bit words: numbers, or arrays (uint64) that broadcast with the counters.
    """
    c0, c1, c2, c3 = (np.asarray(c, np.uint32) for c in counter)
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0 = c0.astype(np.uint64) * _MULTIPLIERS[0]
        product1 = c2.astype(np.uint64) * _MULTIPLIERS[1]
        high0, low0 = _halves(product0)
        high1, low1 = _halves(product1)
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint32(k0), low1, high0 ^ c3 ^ np.uint32(k1), low0
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return c0, c1, c2, c3


def _halves(x: Array) -> tuple[Array, Array]:
    return (x >> np.uint64(32)).astype(np.uint32), x.astype(np.uint32)


def philox_words(seed: int, counter: int, n: int) -> Array:
    """Returns the first ``n`` random words of call ``counter`` under ``seed``.

    Word ``i`` is word ``i % 4`` of the block with number ``i // 4``.

    Args:
        seed: taken modulo 2^64.
        counter: the number of the call, modulo 2^64.
        n: how many words.

    Example:
        >>> [hex(word) for word in philox_words(0, 0, 2)]
        ['0x6627e8d5', '0xe169c58d']
    """
    seed, counter = int(seed), int(counter)
    block = np.arange(-(-n // 4), dtype=np.uint64)
    low, high = _halves(block)[::-1]
    call = (np.uint32(counter & _MASK), np.uint32(counter >> 32 & _MASK))
    words = philox_block((low, high, *map(np.asarray, call)), (seed & _MASK, seed >> 32 & _MASK))
    return np.stack(np.broadcast_arrays(*words), axis=-1).reshape(-1)[:n]


def philox_rows(states: Array, n: int) -> Array:
    """Returns the first ``n`` random words of each of several seed states.

    Args:
        states: int64, of shape (rows, 2): seeds and calls.
        n: how many words.
    """
    seed, call = (states[:, i : i + 1].astype(np.uint64) for i in (0, 1))
    blocks = -(-n // 4)
    low, high = _halves(np.arange(blocks, dtype=np.uint64))[::-1]
    key = (seed & np.uint64(_MASK), seed >> np.uint64(32))
    words = philox_block((low, high, *_halves(call)[::-1]), key)
    return np.stack(np.broadcast_arrays(*words), axis=-1).reshape(len(states), 4 * blocks)[:, :n]
