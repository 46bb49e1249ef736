"""The NumPy twin of Philox4x32-10: known answers, and the same words as the C++ side."""

from __future__ import annotations

import numpy as np
import pytest

from handmill.primitives.philox import philox_block, philox_words

try:
    from handmill import _core
except ImportError:  # a build without kernels
    _core = None

# kat_vectors of Random123: counter, key, result.
KNOWN = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
)  # fmt: skip


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_known_answers(counter, key, result):
    block = philox_block(tuple(np.uint32(c) for c in words(counter)), tuple(words(key)))
    assert [int(word) for word in block] == words(result)


def test_words_lie_in_blocks():
    all_words = philox_words(5, 2, 4003)
    block = philox_block(tuple(np.uint32(c) for c in (1000, 0, 2, 0)), (5, 0))
    assert [int(w) for w in all_words[4000:]] == [int(w) for w in block[:3]]
    assert all_words.dtype == np.uint32


@pytest.mark.parametrize("n", (0, 1, 3, 4, 5, 1000))
def test_a_shorter_stream_is_a_beginning(n):
    assert np.array_equal(philox_words(9, 1, n), philox_words(9, 1, 1003)[:n])


@pytest.mark.parametrize("seed", (0, 1, 2**32, -1, 2**63 - 1, -(2**63)))
@pytest.mark.parametrize("counter", (0, 1, 2**32 + 5))
def test_both_executors_draw_the_same_words(seed, counter):
    if _core is None:
        pytest.skip("a build without kernels")
    assert np.array_equal(
        _core.philox(seed % 2**64, counter, 1001), philox_words(seed, counter, 1001)
    )


@pytest.mark.parametrize("n", (0, 1, 2, 3, 127, 1440, 16384, 16385, 70000))
def test_permutations_sort_the_words(n):
    if _core is None:
        pytest.skip("a build without kernels")
    for seed, counter in ((3, 0), (2**63, 9)):
        order = _core.permutation(seed, counter, n)
        assert np.array_equal(order, np.argsort(philox_words(seed, counter, n), kind="stable"))


def test_moments():
    from handmill.primitives import random

    state = np.array([3, 1], dtype=np.int64)
    n = 200_000
    even = random.random_uniform(state, (n,))
    normal = random.random_normal(state, (n,))
    # Standard errors: 1 / sqrt(12 n), 1 / sqrt(n) and sqrt(2 / n); five of them.
    assert abs(even.mean() - 0.5) < 5 / np.sqrt(12 * n)
    assert abs(normal.mean()) < 5 / np.sqrt(n)
    assert abs(normal.var() - 1) < 5 * np.sqrt(2 / n)
    assert even.min() >= 0.0
    assert even.max() < 1.0
    assert np.isfinite(normal).all()
    kept = random.dropout(np.ones(n, np.float32), state, rate=0.25)
    assert abs((kept > 0).mean() - 0.75) < 5 * np.sqrt(0.25 * 0.75 / n)
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / 0.75)}
