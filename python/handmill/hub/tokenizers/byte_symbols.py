"""The 256 bytes as characters that can be seen, under which GPT-2's files keep them."""

from __future__ import annotations

_SHOWN = [*range(33, 127), *range(161, 173), *range(174, 256)]
_HIDDEN = [byte for byte in range(256) if byte not in _SHOWN]

SYMBOLS = {byte: chr(byte) for byte in _SHOWN} | {
    byte: chr(256 + i) for i, byte in enumerate(_HIDDEN)
}
"""byte -> character: printable ones stand for themselves, the others for 256 and on."""

BYTES = {symbol: byte for byte, symbol in SYMBOLS.items()}
"""character -> byte."""

_TO_SYMBOLS = "".join(SYMBOLS[byte] for byte in range(256))


def to_symbols(content: bytes) -> str:
    """Returns bytes as the characters that stand for them."""
    return content.decode("latin-1").translate(_TO_SYMBOLS)


def to_bytes(symbols: str) -> bytes:
    """Returns what :func:`to_symbols` was given; other characters as their UTF-8."""
    try:
        return bytes([BYTES[symbol] for symbol in symbols])
    except KeyError:  # a special token, which is written as it is
        return symbols.encode()
