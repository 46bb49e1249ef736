"""Hashes of strings: published values, and those of Keras's layers with TensorFlow."""

from __future__ import annotations

import numpy as np

from handmill.primitives import fingerprints

WORDS = (b"", b"a", b"hello world", b"x" * 20, b"y" * 50, b"z" * 100)

# What TensorFlow 2.21 gives: tf.strings.to_hash_bucket_fast(WORDS, 1 << 62).
FARM = (
    1936946117179621455,
    3694432073954588131,
    1769834696496558107,
    3621402210320469444,
    1536034821532487699,
    4609163928736578169,
)


def test_farm_hash_is_that_of_tensorflow() -> None:
    """One string of each class of lengths, which have formulas of their own."""
    found = (fingerprints.farm_hash(WORDS) % np.uint64(1 << 62)).tolist()
    assert found == list(FARM)


def test_sip_hash_is_the_published_one() -> None:
    """The first vectors of SipHash-2-4 under the key 00 01 .. 0f, of 0 to 8 and 15 bytes."""
    key = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
    found = fingerprints.sip_hash([bytes(range(n)) for n in (0, 1, 8, 15)], key)
    want = (0x726FDB47DD0E0E31, 0x74F839C593DC67FD, 0x93F5F5799A932462, 0xA129CA6149BE45E5)
    assert found.tolist() == list(want)


def test_strings_do_not_depend_on_their_neighbours() -> None:
    rng = np.random.default_rng(0)
    words = [rng.bytes(n) for n in (0, 1, 3, 4, 7, 8, 16, 17, 32, 33, 64, 65, 128, 129, 300)]
    for function in (fingerprints.farm_hash, lambda w: fingerprints.sip_hash(w, (1, 2))):
        together = function(words)
        alone = [function([word])[0] for word in words]
        assert together.tolist() == alone
        assert len(set(alone)) == len(words)
        assert function([]).shape == (0,)


def test_decimal_digits() -> None:
    numbers = np.array([0, -1, 1 << 40, -(1 << 63), (1 << 63) - 1])
    assert fingerprints.as_decimal(numbers) == [str(n).encode() for n in numbers.tolist()]
