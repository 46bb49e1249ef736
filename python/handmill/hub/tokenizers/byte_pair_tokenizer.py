"""Byte-pair encoding of bytes, as GPT-2 defines it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from handmill.hub.tokenizers.byte_symbols import SYMBOLS, to_bytes
from handmill.hub.tokenizers.merges import merged
from handmill.hub.tokenizers.tokenizer import Tokenizer, checked_text
from handmill.hub.tokenizers.vocabulary_files import (
    checked_merges,
    checked_vocabulary,
    read_merges,
    read_vocabulary_json,
)
from handmill.hub.tokenizers.words import gpt2_words
from handmill.saving.atomic_file import write_several

_MOST_WORDS = 1 << 16
_LONGEST_KNOWN = 64


class _Words(dict[str, list[int]]):
    """Word -> ids; a word is cut when it is first asked for, and known from then on."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, word: str) -> list[int]:
        ids = self._encode(word)
        if len(word) <= _LONGEST_KNOWN:
            if len(self) >= _MOST_WORDS:
                self.clear()
            self[word] = ids
        return ids


class BytePairTokenizer(Tokenizer):
    """Cuts texts into pieces of bytes by merges that were learned from a corpus.

    The words are GPT-2's, to the bit; the ids are those of ``tiktoken`` and of the package
    ``tokenizers``.

    Args:
        vocabulary: token -> id, or the path of a `vocab.json`. Tokens are written as in GPT-2's
            files, where a character stands for each byte.
        merges: the pairs that are joined, first the most important: texts of two tokens with a
            space between, or the path of a `merges.txt`.
        sequence_length: the length of every row of ids; see :class:`Tokenizer`.
        add_prefix_space: whether a text begins with a space when it has none.
        unsplittable_tokens: tokens that are found in texts before they are cut, such as
            `"<|endoftext|>"`. Default: none, so that users cannot write them.
        dtype: of the ids; `"string"` for tokens.

    Raises:
        ValueError: for a vocabulary or merges with a fault, which is named with its file and line.

    Example:
        >>> from handmill import hub
        >>> tokenizer = hub.tokenizers.train_byte_pair(["low lower lowest"] * 3, 260)
        >>> ids = tokenizer("lower")
        >>> tokenizer.detokenize(ids), tokenizer.detokenize(ids[:1])
        ('lower', 'low')

    Source: the class of the same name in KerasHub; Sennrich, Haddow, Birch, "Neural machine
    translation of rare words with subword units", ACL 2016; GPT-2's ``encoder.py``.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int] | str | os.PathLike[str],
        merges: Iterable[str] | str | os.PathLike[str],
        sequence_length: int | None = None,
        add_prefix_space: bool = False,
        unsplittable_tokens: Sequence[str] | None = None,
        dtype: str = "int32",
    ) -> None:
        super().__init__(sequence_length, dtype)
        if isinstance(vocabulary, str | os.PathLike):
            vocabulary = read_vocabulary_json(vocabulary)
        else:
            vocabulary = checked_vocabulary(vocabulary, "the vocabulary")
        if isinstance(merges, str | os.PathLike):
            pairs = read_merges(merges, vocabulary)
        else:
            pairs = checked_merges(merges, vocabulary, "merge {}".format)
        self.add_prefix_space = bool(add_prefix_space)
        self.unsplittable_tokens = list(unsplittable_tokens or ())
        self._ids = vocabulary
        self._tokens = {id: token for token, id in vocabulary.items()}
        self._size = max(self._tokens, default=-1) + 1
        self._pairs = pairs
        # Pieces on the way to a token need no id of their own; they get those after the last.
        known = dict(vocabulary)

        def number(piece: str) -> int:
            return known.setdefault(piece, self._size + len(known))

        self._byte_ids = [number(SYMBOLS[byte]) for byte in range(256)]
        self._merges = {
            (number(a), number(b)): (rank, number(a + b)) for rank, (a, b) in enumerate(pairs)
        }
        self._pieces = {id: piece for piece, id in known.items() if id >= self._size}
        self._known_words = _Words(self._encode_word)
        self._cut: re.Pattern[str] | None = None
        for token in self.unsplittable_tokens:
            if token not in vocabulary:
                raise ValueError(
                    f"every token of `unsplittable_tokens` must be in the vocabulary. Missing: "
                    f"{token!r}"
                )
        if self.unsplittable_tokens:
            longest_first = sorted(self.unsplittable_tokens, key=len, reverse=True)
            self._cut = re.compile(f"({'|'.join(map(re.escape, longest_first))})")

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one text."""
        text = checked_text(text)
        if self.add_prefix_space and text and not text[0].isspace():
            text = f" {text}"
        if self._cut is None:
            return self._encode_plain(text)
        ids: list[int] = []
        for i, part in enumerate(self._cut.split(text)):
            ids += [self._ids[part]] if i % 2 else self._encode_plain(part)
        return ids

    def _encode_plain(self, text: str) -> list[int]:
        return list(chain.from_iterable(map(self._known_words.__getitem__, gpt2_words(text))))

    def _encode_word(self, word: str) -> list[int]:
        content = word.encode()
        ids = merged([self._byte_ids[byte] for byte in content], self._merges)
        if self._pieces and max(ids) >= self._size:
            piece = next(self._pieces[id] for id in ids if id >= self._size)
            raise ValueError(
                f"the vocabulary has no token {piece!r}, a piece of {word!r:.40}: it needs a token "
                "for each of the 256 bytes that texts may hold"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids; bytes that are no UTF-8 become U+FFFD."""
        ids = self._checked(ids, None)
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_bytes(self, id: int) -> bytes:
        """Returns the bytes of one id; none for an id without a token."""
        token = self._tokens.get(id)
        return b"" if token is None else to_bytes(token)

    def get_vocabulary(self) -> list[str]:
        """Returns all tokens, in the order of their ids."""
        return [self._tokens[id] for id in sorted(self._tokens)]

    def vocabulary_size(self) -> int:
        """Returns the number of ids."""
        return self._size

    def id_to_token(self, id: int) -> str:
        """Returns the token of an id, as GPT-2's files write it."""
        number = self._check_id(id)
        if number not in self._tokens:
            raise ValueError(f"no token has the id {number}")
        return self._tokens[number]

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token, as GPT-2's files write it."""
        if token not in self._ids:
            raise ValueError(f"{token!r} is not in the vocabulary of {len(self._ids)} tokens")
        return self._ids[token]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal tokenizer, as plain data."""
        return {
            "vocabulary": dict(self._ids),
            "merges": [f"{a} {b}" for a, b in self._pairs],
            **super().get_config(),
            "add_prefix_space": self.add_prefix_space,
            "unsplittable_tokens": self.unsplittable_tokens,
        }

    def save_assets(self, folder: str | os.PathLike[str]) -> list[str]:
        """Writes `vocab.json` and `merges.txt` into a folder; returns their names."""
        lines = ["#version: 0.2", *(f"{a} {b}" for a, b in self._pairs), ""]
        contents = {
            "vocab.json": json.dumps(self._ids, ensure_ascii=False),
            "merges.txt": "\n".join(lines),
        }
        write_several({Path(folder) / name: [text.encode()] for name, text in contents.items()})
        return list(contents)
