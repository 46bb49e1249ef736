"""WordPiece, as BERT defines it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handmill.arguments import whole_number
from handmill.hub.tokenizers.bert_words import bert_words
from handmill.hub.tokenizers.folders import CONFIG
from handmill.hub.tokenizers.tokenizer import Tokenizer, checked_text
from handmill.hub.tokenizers.vocabulary_files import checked_lines, read_vocabulary_lines
from handmill.saving.atomic_file import write_several

_MOST_CACHED = 1 << 16


class WordPieceTokenizer(Tokenizer):
    """Cuts words into the longest pieces of a vocabulary, from the left.

    A word of which a part is in no piece is one `oov_token`, as a whole.

    Args:
        vocabulary: the tokens in the order of their ids, or the path of a `vocab.txt`.
        sequence_length: the length of every row of ids; see :class:`Tokenizer`.
        lowercase: whether texts are made lower case.
        strip_accents: whether accents are dropped.
        split: whether texts are cut into words at spaces and punctuation; else a text is a word.
        split_on_cjk: whether each CJK ideograph is a word.
        suffix_indicator: what pieces that do not begin a word begin with.
        oov_token: stands for words that cannot be cut.
        special_tokens: tokens such as `"[CLS]"`, which must be in the vocabulary.
        special_tokens_in_strings: whether they are found in texts. Off, they are text like any
            other.
        longest_word: characters of the longest word that is cut; longer ones are `oov_token`.
        dtype: of the ids; `"string"` for tokens.

    Raises:
        ValueError: for a vocabulary with a fault, which is named with its file and line.

    Example:
        >>> from handmill import hub
        >>> words = ["[UNK]", "the", "qu", "##ick", "br", "##own", "fox", "."]
        >>> tokenizer = hub.tokenizers.WordPieceTokenizer(words, lowercase=True)
        >>> tokenizer("The quick brown fox.")
        array([1, 2, 3, 4, 5, 6, 7], dtype=int32)
        >>> tokenizer.detokenize([1, 2, 3, 6])
        'the quick fox'

    Source: the class of the same name in KerasHub; BERT's ``tokenization.py``.
    """

    def __init__(
        self,
        vocabulary: Sequence[str] | str | os.PathLike[str],
        sequence_length: int | None = None,
        lowercase: bool = False,
        strip_accents: bool = False,
        split: bool = True,
        split_on_cjk: bool = True,
        suffix_indicator: str = "##",
        oov_token: str = "[UNK]",
        special_tokens: Sequence[str] | None = None,
        special_tokens_in_strings: bool = False,
        longest_word: int = 100,
        dtype: str = "int32",
    ) -> None:
        super().__init__(sequence_length, dtype)
        if isinstance(vocabulary, str | os.PathLike):
            tokens = read_vocabulary_lines(vocabulary)
        else:
            tokens = checked_lines(vocabulary, "vocabulary[{}]".format)
        self._tokens = tokens
        self._ids = {token: id for id, token in enumerate(tokens)}
        self.lowercase = bool(lowercase)
        self.strip_accents = bool(strip_accents)
        self.split = bool(split)
        self.split_on_cjk = bool(split_on_cjk)
        self.suffix_indicator = suffix_indicator
        self.oov_token = oov_token
        self.special_tokens = list(special_tokens or ())
        self.special_tokens_in_strings = bool(special_tokens_in_strings)
        self.longest_word = whole_number("longest_word", longest_word, 1)
        for token in (oov_token, *self.special_tokens):
            if token not in self._ids:
                raise ValueError(
                    f"Cannot find {token!r} in the vocabulary of {len(tokens)} tokens: add it, or "
                    "name the `oov_token` and `special_tokens` that it has"
                )
        self._longest = max(map(len, tokens))
        self._cache: dict[str, list[int]] = {}
        self._cut: re.Pattern[str] | None = None
        if self.special_tokens and self.special_tokens_in_strings:
            longest_first = sorted(self.special_tokens, key=len, reverse=True)
            self._cut = re.compile(f"({'|'.join(map(re.escape, longest_first))})")

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one text."""
        text = checked_text(text)
        if self._cut is None:
            return self._encode_plain(text)
        ids: list[int] = []
        for i, part in enumerate(self._cut.split(text)):
            ids += [self._ids[part]] if i % 2 else self._encode_plain(part)
        return ids

    def _encode_plain(self, text: str) -> list[int]:
        if self.split:
            words = bert_words(text, self.lowercase, self.strip_accents, self.split_on_cjk)
        else:
            words = [text] if text else []
        cache = self._cache
        ids: list[int] = []
        for word in words:
            found = cache.get(word)
            ids += self._encode_word(word) if found is None else found
        return ids

    def _encode_word(self, word: str) -> list[int]:
        ids = self._pieces(word)
        if len(word) <= 64:
            if len(self._cache) >= _MOST_CACHED:
                self._cache.clear()
            self._cache[word] = ids
        return ids

    def _pieces(self, word: str) -> list[int]:
        if len(word) > self.longest_word:
            return [self._ids[self.oov_token]]
        ids: list[int] = []
        begin = 0
        while begin < len(word):
            prefix = self.suffix_indicator if begin else ""
            end = min(len(word), begin + self._longest - len(prefix))
            while end > begin:
                id = self._ids.get(prefix + word[begin:end])
                if id is not None:
                    break
                end -= 1
            else:
                return [self._ids[self.oov_token]]
            ids.append(id)
            begin = end
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids: pieces joined to words, with a space between words."""
        ids = self._checked(ids, None)
        joined = b"".join(map(self.token_bytes, ids))
        return self.first_bytes(joined).decode()

    def token_bytes(self, id: int) -> bytes:
        """Returns the bytes of one id: a space before what begins a word."""
        token = self._tokens[id]
        if self.suffix_indicator and token.startswith(self.suffix_indicator):
            return token[len(self.suffix_indicator) :].encode()
        return f" {token}".encode()

    def first_bytes(self, piece: bytes) -> bytes:
        """Returns what begins a text, without the space before."""
        return piece[1:] if piece.startswith(b" ") else piece

    def get_vocabulary(self) -> list[str]:
        """Returns all tokens, in the order of their ids."""
        return list(self._tokens)

    def vocabulary_size(self) -> int:
        """Returns the number of ids."""
        return len(self._tokens)

    def id_to_token(self, id: int) -> str:
        """Returns the token of an id."""
        return self._tokens[self._check_id(id)]

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token; that of `oov_token` for an unknown one."""
        return self._ids.get(token, self._ids[self.oov_token])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal tokenizer, as plain data."""
        return {
            "vocabulary": list(self._tokens),
            **super().get_config(),
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
            "split": self.split,
            "split_on_cjk": self.split_on_cjk,
            "suffix_indicator": self.suffix_indicator,
            "oov_token": self.oov_token,
            "special_tokens": self.special_tokens,
            "special_tokens_in_strings": self.special_tokens_in_strings,
            "longest_word": self.longest_word,
        }

    def save_assets(self, folder: str | os.PathLike[str]) -> list[str]:
        """Writes `vocab.txt` and `tokenizer_config.json` into a folder; returns their names.

        The second says what becomes of letters; pieces' signs and a text as one word it cannot say.

        Raises:
            ValueError: if a token has a line break, which a line cannot hold.
        """
        for token in self._tokens:
            if "\n" in token or "\r" in token:
                raise ValueError(f"vocab.txt holds a token a line; {token!r} has a line break")
        settings = {
            "do_lower_case": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.split_on_cjk,
            "unk_token": self.oov_token,
        }
        contents = {
            "vocab.txt": "".join(f"{token}\n" for token in self._tokens),
            CONFIG: json.dumps(settings, indent=2),
        }
        write_several({Path(folder) / name: [text.encode()] for name, text in contents.items()})
        return list(contents)
