"""64-bit fingerprints of strings, for whole arrays at once.

``farm_hash`` is FarmHash's Fingerprint64, ``sip_hash`` SipHash-2-4 with a key, ``crossed`` what
makes one bin of several: the functions with which Keras, through TensorFlow, sorts strings into
bins. They are fixed for ever, so a bin is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from handmill.ir.op import Array

_K0 = np.uint64(0xC3A5C85C97CB3127)
_K1 = np.uint64(0xB492B66FBE98F273)
_K2 = np.uint64(0x9AE16A3B2F90404F)
_JOIN = np.uint64(0xC6A4A7935BD1E995)


def _n(number: int) -> Any:
    return np.uint64(number)


def _rotated(x: Array, count: int) -> Any:
    return (x >> _n(count)) | (x << _n(64 - count))


def _mixed(x: Any) -> Any:
    return x ^ (x >> _n(47))


def _of_two(u: Array, v: Array, factor: Any) -> Any:
    a = _mixed((u ^ v) * factor)
    return _mixed((v ^ a) * factor) * factor


class _Text(NamedTuple):
    """Strings one after the other, with where each starts and how long it is."""

    bytes: Array
    starts: Array
    lengths: Array

    def of(self, rows: Array) -> _Text:
        return _Text(self.bytes, self.starts[rows], self.lengths[rows])

    def word(self, offset: Any, size: int = 8) -> Array:
        """The little-endian word of ``size`` bytes at an offset into each string."""
        at = (self.starts + offset)[:, None] + np.arange(size)
        found = np.ascontiguousarray(self.bytes[at]).view(f"<u{size}")[:, 0]
        return found.astype(np.uint64)


def _text(strings: Sequence[bytes]) -> _Text:
    lengths = np.fromiter(map(len, strings), np.int64, len(strings))
    content = np.frombuffer(b"".join(strings) + bytes(8), np.uint8)
    return _Text(content, np.cumsum(lengths) - lengths, lengths)


def farm_hash(strings: Sequence[bytes]) -> Array:
    """Returns the FarmHash fingerprint of each string (uint64)."""
    text = _text(strings)
    found = np.empty(len(strings), np.uint64)
    for low, high, function in (
        (0, 0, lambda t: np.full(len(t.starts), _K2)),
        (1, 3, _up_to_3),
        (4, 7, _up_to_7),
        (8, 16, _up_to_16),
        (17, 32, _up_to_32),
        (33, 64, _up_to_64),
        (65, None, _longer),
    ):
        fits = text.lengths >= low
        if high is not None:
            fits &= text.lengths <= high
        rows = np.flatnonzero(fits)
        if rows.size:
            with np.errstate(over="ignore"):
                found[rows] = function(text.of(rows))
    return found


def _up_to_3(text: _Text) -> Array:
    length = text.lengths.astype(np.uint64)
    first, middle, last = (text.word(n, 1) for n in (0, text.lengths >> 1, text.lengths - 1))
    y, z = first + (middle << _n(8)), length + (last << _n(2))
    mixed: Array = _mixed(y * _K2 ^ z * _K0) * _K2
    return mixed


def _factor(text: _Text) -> Array:
    factor: Array = _K2 + text.lengths.astype(np.uint64) * _n(2)
    return factor


def _up_to_7(text: _Text) -> Array:
    length = text.lengths.astype(np.uint64)
    head, tail = text.word(0, 4), text.word(text.lengths - 4, 4)
    found: Array = _of_two(length + (head << _n(3)), tail, _factor(text))
    return found


def _up_to_16(text: _Text) -> Array:
    factor, a, b = _factor(text), text.word(0) + _K2, text.word(text.lengths - 8)
    c, d = _rotated(b, 37) * factor + a, (_rotated(a, 25) + b) * factor
    found: Array = _of_two(c, d, factor)
    return found


def _ends(text: _Text, first: np.uint64) -> tuple[Array, Array, Array, Array, Array]:
    """What two words at the start and two at the end give, with those that are needed again."""
    factor = _factor(text)
    a, b = text.word(0) * first, text.word(8)
    c, d = text.word(text.lengths - 8) * factor, text.word(text.lengths - 16) * _K2
    sums = _rotated(a + b, 43) + _rotated(c, 30) + d
    return factor, a, sums, _of_two(sums, a + _rotated(b + _K2, 18) + c, factor), b


def _up_to_32(text: _Text) -> Array:
    return _ends(text, _K1)[3]


def _up_to_64(text: _Text) -> Array:
    factor, a, y, z, _ = _ends(text, _K2)
    e, f = text.word(16) * factor, text.word(24)
    g = (y + text.word(text.lengths - 32)) * factor
    h = (z + text.word(text.lengths - 24)) * factor
    found: Array = _of_two(
        _rotated(e + f, 43) + _rotated(g, 30) + h, e + _rotated(f + a, 18) + g, factor
    )
    return found


class _Long:
    """The state of strings that are longer than a block of 64 bytes."""

    def __init__(self, text: _Text) -> None:
        count = len(text.starts)
        y = _n(81) * _K1 + _n(113)
        self.x = _n(81) * _K2 + text.word(0)
        self.y = np.full(count, y)
        self.z = np.full(count, _mixed(y * _K2 + _n(113)) * _K2)
        self.v = [np.zeros(count, np.uint64), np.zeros(count, np.uint64)]
        self.w = [np.zeros(count, np.uint64), np.zeros(count, np.uint64)]

    def add(self, text: _Text, offset: Any, factor: Any, nine: int) -> None:
        """Takes a block of 64 bytes."""
        v, w, times = self.v, self.w, _n(nine)
        x = _rotated(self.x + self.y + v[0] + text.word(offset + 8), 37) * factor
        y = _rotated(self.y + v[1] + text.word(offset + 48), 42) * factor
        x ^= w[1] * times
        y += v[0] * times + text.word(offset + 40)
        z = _rotated(self.z + w[0], 33) * factor
        self.v = _four_words(text, offset, v[1] * factor, x + w[0])
        self.w = _four_words(text, offset + 32, z + w[1], y + text.word(offset + 16))
        self.x, self.y, self.z = z, y, x

    def keep(self, old: _Long, rows: Array) -> None:
        """Takes the state of ``rows`` from ``old``."""
        for new, was in zip(self.parts(), old.parts(), strict=True):
            new[rows] = was[rows]

    def parts(self) -> list[Array]:
        """All numbers of the state."""
        return [self.x, self.y, self.z, *self.v, *self.w]

    def copy(self) -> _Long:
        """The state as it is now."""
        made = object.__new__(_Long)
        made.x, made.y, made.z = self.x.copy(), self.y.copy(), self.z.copy()
        made.v, made.w = [a.copy() for a in self.v], [a.copy() for a in self.w]
        return made


def _four_words(text: _Text, offset: Any, a: Array, b: Array) -> list[Array]:
    w, x, y, z = (text.word(offset + n) for n in (0, 8, 16, 24))
    a = a + w
    b, c = _rotated(b + a + z, 21), a
    a = a + x + y
    return [a + z, b + _rotated(a, 44) + c]


def _longer(text: _Text) -> Array:
    blocks, rest = (text.lengths - 1) >> 6, (text.lengths - 1) & 63
    state = _Long(text)
    for block in range(int(blocks.max())):
        done = np.flatnonzero(blocks <= block)
        before = state.copy()
        # Strings that have no such block read another and keep what they had.
        state.add(text, np.where(blocks > block, block * 64, 0), _K1, 1)
        state.keep(before, done)
    factor = _K1 + ((state.z & _n(0xFF)) << _n(1))
    state.w[0] = state.w[0] + rest.astype(np.uint64)
    state.v[0] = state.v[0] + state.w[0]
    state.w[0] = state.w[0] + state.v[0]
    state.add(text, text.lengths - 64, factor, 9)
    first = _of_two(state.v[0], state.w[0], factor) + _mixed(state.y) * _K0 + state.z
    found: Array = _of_two(first, _of_two(state.v[1], state.w[1], factor) + state.x, factor)
    return found


_SIP = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


def sip_hash(strings: Sequence[bytes], key: Sequence[int]) -> Array:
    """Returns the SipHash-2-4 of each string under a key of two integers (uint64)."""
    text = _text(strings)
    low, high = (_n(number & (2**64 - 1)) for number in key)
    v = [
        np.full(len(strings), _n(constant) ^ k)
        for constant, k in zip(_SIP, (low, high, low, high), strict=True)
    ]
    blocks, rest = text.lengths >> 3, text.lengths & 7
    with np.errstate(over="ignore"):
        for block in range(int(blocks.max(initial=0)) + 1):
            # The last word holds the bytes that are left, and the length in its highest byte.
            inside = np.where(blocks >= block, block * 8, 0)
            word = text.of(np.arange(len(strings))).word(np.minimum(inside, text.lengths))
            last = blocks == block
            kept = np.where(rest > 0, (_n(1) << (rest * 8).astype(np.uint64)) - _n(1), _n(0))
            length = (text.lengths & 0xFF).astype(np.uint64) << _n(56)
            word = np.where(last, (word & kept) | length, word)
            active = blocks >= block
            v = _absorbed(v, word, active)
        v[2] = v[2] ^ _n(0xFF)
        for _ in range(4):
            v = _sip_round(*v)
    found: Array = v[0] ^ v[1] ^ v[2] ^ v[3]
    return found


def _absorbed(v: list[Array], word: Array, active: Array) -> list[Array]:
    new = _sip_round(*_sip_round(v[0], v[1], v[2], v[3] ^ word))
    new[0] = new[0] ^ word
    return [np.where(active, a, b) for a, b in zip(new, v, strict=True)]


def _sip_round(a: Array, b: Array, c: Array, d: Array) -> list[Array]:
    a, c = a + b, c + d
    b, d = _rotated(b, 51) ^ a, _rotated(d, 48) ^ c
    a = _rotated(a, 32)
    c, a = c + b, a + d
    b, d = _rotated(b, 47) ^ c, _rotated(d, 43) ^ a
    return [a, b, _rotated(c, 32), d]


def crossed(fingerprints: Sequence[Array], bins: int) -> Array:
    """Returns the bin of each row of fingerprints, of 0 to ``bins - 1`` (int64).

    Args:
        fingerprints: uint64, one array for each part; their order matters.
        bins: how many bins there are.
    """
    found: Any = _n(0xDECAFCAFFE)
    with np.errstate(over="ignore"):
        for part in fingerprints:
            mixed = (found ^ _JOIN ^ _mixed(part * _JOIN) * _JOIN) * _JOIN
            found = _mixed(_mixed(mixed) * _JOIN)
    bin_numbers: Array = (found % _n(bins)).astype(np.int64)
    return bin_numbers


def as_decimal(numbers: Array) -> list[bytes]:
    """Returns whole numbers as the strings that are hashed."""
    found: list[bytes] = np.asarray(numbers, np.int64).astype("S20").reshape(-1).tolist()
    return found


def bins_of(strings: Sequence[bytes], bins: int, key: Sequence[int] | None) -> Array:
    """Returns the bin of each string, of 0 to ``bins - 1`` (int64).

    Args:
        strings: what is hashed.
        bins: how many bins there are.
        key: two integers for SipHash; None for FarmHash.
    """
    found = farm_hash(strings) if key is None else sip_hash(strings, key)
    bin_numbers: Array = (found % _n(bins)).astype(np.int64)
    return bin_numbers
