r"""Texts cut into the words that byte-pair merges stay within, as GPT-2 cuts them.

The pattern is the one of GPT-2's ``encoder.py``:
``'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+``.
Python's ``re`` knows no ``\p``: the classes are written out. (KerasHub cuts GPT-2's texts by
Llama 3's pattern where TensorFlow is missing, which gives other ids from four digits on.)
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

# White space as Unicode defines it; Python's \s takes 0x1C to 0x1F too.
_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_PATTERN = (
    "'s|'t|'re|'ve|'m|'ll|'d| ?{letter}+| ?{number}+| ?[^{space}{not_mark}]+|"
    "[{space}]+(?![^{space}])|[{space}]+"
)


def gpt2_words(text: str) -> list[str]:
    """Returns the words of a text; joined, they are the text."""
    return (_ascii_words() if text.isascii() else _unicode_words())(text)


@functools.cache
def _ascii_words() -> Callable[[str], list[str]]:
    classes = {"letter": "[A-Za-z]", "number": "[0-9]", "not_mark": "A-Za-z0-9"}
    return re.compile(_PATTERN.format(space="\t-\r ", **classes)).findall


@functools.cache
def _unicode_words() -> Callable[[str], list[str]]:
    letters = _ranges(str.isalpha)
    numbers = _ranges(lambda c: c.isnumeric() and unicodedata.category(c)[0] == "N")
    pattern = _PATTERN.format(
        letter=f"[{letters}]", number=f"[{numbers}]", space=_SPACE, not_mark=letters + numbers
    )
    return re.compile(pattern).findall


def _ranges(belongs: Callable[[str], bool]) -> str:
    """Returns all characters of a class as the inside of a set of ``re``."""
    found, first = [], -1
    for code in range(0x110001):
        inside = code < 0x110000 and belongs(chr(code))
        if inside and first < 0:
            first = code
        elif not inside and first >= 0:
            found.append(f"\\U{first:08x}-\\U{code - 1:08x}")
            first = -1
    return "".join(found)
