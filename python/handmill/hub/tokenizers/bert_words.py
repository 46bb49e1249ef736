"""Texts cut into the words that WordPiece cuts further, as BERT cuts them."""

from __future__ import annotations

import functools
import re
import unicodedata

# The blocks of CJK ideographs, as BERT's tokenization.py lists them.
_CJK = (
    "\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f"
    "\U0002b740-\U0002b81f\U0002b820-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f"
)


def bert_words(text: str, lowercase: bool, strip_accents: bool, split_on_cjk: bool) -> list[str]:
    """Returns the words of a text: cut at white space, each punctuation mark a word of its own.

    Args:
        text: any.
        lowercase: whether it is made lower case.
        strip_accents: whether marks that stand over letters are dropped.
        split_on_cjk: whether each ideograph is a word of its own.
    """
    if text.isascii():
        text = text.translate(_ascii_table())
        found: list[str] = _ascii_pattern().findall(text.lower() if lowercase else text)
        return found
    text = text.translate(_CLEANING)
    if split_on_cjk:
        text = _cjk_pattern().sub(r" \g<0> ", text)
    if strip_accents:
        text = unicodedata.normalize("NFD", text)
        text = "".join(c for c in text if unicodedata.category(c) != "Mn")
    if lowercase:  # each letter alone: Python would write a last sigma in another way
        text = text.replace("\u03a3", "\u03c3").lower()
    words: list[str] = []
    for word in text.split(" "):
        begin = 0
        for i, c in enumerate(word):
            if _is_punctuation(c):
                words += [word[begin:i], c]
                begin = i + 1
        words.append(word[begin:])
    return [word for word in words if word]


class _Cleaning(dict[int, str | None]):
    """Code point -> what stands in its place: a space, nothing, or itself."""

    def __missing__(self, code: int) -> str | None:
        c = chr(code)
        found: str | None = c
        if c in "\t\n\r" or unicodedata.category(c) in ("Zs", "Zl", "Zp"):
            found = " "
        elif code in (0, 0xFFFD) or unicodedata.category(c) in ("Cc", "Cf", "Co"):
            found = None
        self[code] = found
        return found


_CLEANING = _Cleaning()


@functools.cache
def _ascii_table() -> dict[int, str | None]:
    return {code: _CLEANING[code] for code in range(128)}


@functools.cache
def _ascii_pattern() -> re.Pattern[str]:
    return re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9 ]")


@functools.cache
def _cjk_pattern() -> re.Pattern[str]:
    return re.compile(f"[{_CJK}]")


@functools.lru_cache(1 << 12)
def _is_punctuation(c: str) -> bool:
    code = ord(c)
    if code < 128:
        return 33 <= code <= 126 and not c.isalnum()
    return unicodedata.category(c).startswith("P")
