"""Regular expressions that files may hold: none can take long, whatever it is matched with."""

from __future__ import annotations

import re
from typing import Any

_MOST_REPEATS = 2
_MOST_LETTERS = 1000

# What a pattern is made of. Repetitions of groups, references back and conditions are left out:
# those make the time of a match grow as a power of two.
_PARTS = re.compile(
    r"(?P<atom>\\[dDwWsSbBAZ]|\\[^\w]|\[\^?\]?(?:\\.|[^\]\\])*\]|[^\\\[\](){}*+?])"
    r"(?P<repeat>[*+?]\??|\{\d{1,3}(?:,\d{0,3})?\}\??)?"
    r"|\((?:\?:)?|\)(?![*+?{])"
)


def check_pattern(pattern: Any) -> str:
    """Returns ``pattern`` if it is a regular expression that is matched in little time.

    Raises:
        ValueError: if it is none, or may take long: repeated groups, more than two repetitions,
            references, conditions.
    """
    if isinstance(pattern, str) and len(pattern) <= _MOST_LETTERS:
        place = repeats = 0
        while found := _PARTS.match(pattern, place):
            place = found.end()
            repeats += found["repeat"] is not None
        if place == len(pattern) and repeats <= _MOST_REPEATS:
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError):
                pass
            else:
                return pattern
    raise ValueError(
        "a file can hold regular expressions for paths of variables such as 'encoder/.*', "
        "'(encoder|decoder)/dense_[0-9]+/kernel': no repeated groups, no references, at most "
        f"{_MOST_REPEATS} repetitions, since others may take for ever. Received: {pattern!r:.200}"
    )
