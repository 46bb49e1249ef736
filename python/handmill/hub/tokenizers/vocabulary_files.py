"""Vocabularies and merges, read from files; every fault is named with its file and line."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from handmill.errors import FileFormatError
from handmill.files import read_regular

MOST_BYTES = 256 << 20
MOST_TOKENS = 1 << 24
MOST_CHARACTERS = 1 << 16


def read_text(path: str | os.PathLike[str]) -> str:
    """Returns a file of text, without a byte order mark, its lines ended as on Unix.

    Raises:
        ValueError: if it is missing, too large, or no UTF-8.
    """
    name = os.fspath(path)
    try:
        size = Path(path).stat().st_size
        if size > MOST_BYTES:
            raise FileFormatError(
                f"{name}: {size} bytes are more than a vocabulary may have, {MOST_BYTES}"
            )
        content = read_regular(path)
    except OSError as error:
        raise FileFormatError(f"{name}: cannot be read: {error.strerror or error}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileFormatError(f"{name}, line {line}: no UTF-8 at byte {error.start}") from None
    return text.replace("\r\n", "\n")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the object of a JSON file.

    Raises:
        ValueError: if it is none, or names one key twice.
    """
    name = os.fspath(path)
    text = read_text(path)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise FileFormatError(
                f"{name}{_line_of_key(text, twice)}: {twice!r} stands there twice"
            )
        return found

    try:
        found = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise FileFormatError(
            f"{name}, line {error.lineno}, column {error.colno}: no JSON: {error.msg}"
        ) from None
    except RecursionError:
        raise FileFormatError(f"{name}: nested too deeply to be read") from None
    if not isinstance(found, dict):
        raise FileFormatError(f"{name}: expected an object, found {type(found).__name__}")
    return found


def _line_of_key(text: str, key: str) -> str:
    """Where a key stands for the second time, as errors say it; empty where that is not found."""
    for written in (json.dumps(key, ensure_ascii=False), json.dumps(key)):
        first = text.find(written)
        second = text.find(written, first + 1) if first >= 0 else -1
        if second >= 0:
            line_number = text.count("\n", 0, second) + 1
            return f", line {line_number}"
    return ""


def checked_vocabulary(tokens: Any, where: str, whole: bool = False) -> dict[str, int]:
    """Returns token -> id as a dictionary.

    Args:
        tokens: what was given.
        where: what errors call it.
        whole: whether the ids must be 0 to n - 1.

    Raises:
        ValueError: for ids that are no whole numbers from 0, that two tokens share, or, where all
            are wanted, that are missing.
    """
    if not isinstance(tokens, Mapping):
        raise FileFormatError(f"{where}: expected token -> id, found {type(tokens).__name__}")
    if len(tokens) > MOST_TOKENS:
        raise FileFormatError(f"{where}: {len(tokens)} tokens are more than {MOST_TOKENS}")
    owner: dict[int, str] = {}
    for token, id in tokens.items():
        if not isinstance(token, str) or len(token) > MOST_CHARACTERS:
            raise FileFormatError(f"{where}: no token: {token!r:.60}")
        if isinstance(id, bool) or not isinstance(id, int) or not 0 <= id < MOST_TOKENS:
            raise FileFormatError(f"{where}: the id of {token!r:.60} is {id!r:.60}")
        if id in owner:
            raise FileFormatError(
                f"{where}: the tokens {owner[id]!r:.60} and {token!r:.60} have the same id, {id}"
            )
        owner[id] = token
    if whole and len(owner) <= max(owner, default=-1):
        missing = next(id for id in range(len(owner) + 1) if id not in owner)
        raise FileFormatError(
            f"{where}: no token has the id {missing}, though ids go up to {max(owner)}"
        )
    return dict(tokens)


def read_vocabulary_json(path: str | os.PathLike[str]) -> dict[str, int]:
    """Returns token -> id of a `vocab.json`.

    Raises:
        ValueError: for a fault, with file and line.
    """
    return checked_vocabulary(read_json(path), os.fspath(path), whole=True)


def read_vocabulary_lines(path: str | os.PathLike[str]) -> list[str]:
    """Returns the tokens of a `vocab.txt`, one a line; its number is its id.

    Raises:
        ValueError: for empty and repeated lines, with file and line.
    """
    name = os.fspath(path)
    lines = read_text(path).split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return checked_lines(lines, lambda index: f"{name}, line {index + 1}")


def checked_lines(lines: Iterable[Any], place: Any) -> list[str]:
    """Returns tokens as a list.

    Args:
        lines: what was given.
        place: index -> what errors call the place.

    Raises:
        ValueError: for empty and repeated ones.
    """
    first: dict[str, int] = {}
    for index, token in enumerate(lines):
        if not isinstance(token, str) or not token:
            raise FileFormatError(f"{place(index)}: expected a token, found {token!r:.60}")
        if len(token) > MOST_CHARACTERS or index >= MOST_TOKENS:
            raise FileFormatError(f"{place(index)}: too long, of the token or the list")
        if token in first:
            raise FileFormatError(
                f"{place(index)}: the token {token!r:.60} stands already at {place(first[token])}"
            )
        first[token] = index
    if not first:
        raise FileFormatError(f"{place(0)}: there is no token")
    return list(first)


def read_merges(
    path: str | os.PathLike[str], vocabulary: Mapping[str, int]
) -> list[tuple[str, str]]:
    """Returns the pairs of a `merges.txt`, the most important first.

    Args:
        path: the file; a first line `#version...` is no pair.
        vocabulary: of which each pair and what it becomes must be.

    Raises:
        ValueError: for lines that are no pair, repeated or unknown ones, with file and line.
    """
    name = os.fspath(path)
    lines = read_text(path).split("\n")
    while lines and not lines[-1]:
        lines.pop()
    skipped = 1 if lines and lines[0].startswith("#version") else 0
    return checked_merges(
        lines[skipped:],
        vocabulary,
        lambda index: f"{name}, line {index + 1 + skipped}",
        whole=True,
    )


def checked_merges(
    lines: Iterable[Any], vocabulary: Mapping[str, int], place: Any, whole: bool = False
) -> list[tuple[str, str]]:
    """Returns merges as pairs.

    Args:
        lines: texts of two tokens with a space between, or pairs of tokens.
        vocabulary: token -> id.
        place: index -> what errors call the place.
        whole: whether pairs, and what they become, must be in the vocabulary.

    Raises:
        ValueError: for what is no pair, repeated ones, and, where all must be, unknown ones.
    """
    found: dict[tuple[str, str], int] = {}
    for index, line in enumerate(lines):
        parts = line.split(" ") if isinstance(line, str) else line
        is_pair = isinstance(parts, list | tuple) and len(parts) == 2
        if not is_pair or not all(isinstance(part, str) and part for part in parts):
            raise FileFormatError(
                f"{place(index)}: expected two tokens with a space between, found {line!r:.60}"
            )
        pair = (parts[0], parts[1])
        if pair in found:
            raise FileFormatError(
                f"{place(index)}: the merge {' '.join(pair)!r:.60} stands already at "
                f"{place(found[pair])}"
            )
        if whole:
            for token in (*pair, pair[0] + pair[1]):
                if token not in vocabulary:
                    raise FileFormatError(
                        f"{place(index)}: the merge {' '.join(pair)!r:.60} needs the token "
                        f"{token!r:.60}, which is not in the vocabulary"
                    )
        found[pair] = index
    return list(found)
