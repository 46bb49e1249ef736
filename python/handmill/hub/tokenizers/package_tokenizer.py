"""Tokenizers of the package `tokenizers`, under the names of ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from handmill.hub.tokenizers.tokenizer import Tokenizer, checked_text


class PackageTokenizer(Tokenizer):
    """A tokenizer of Hugging Face's package `tokenizers`, which must be installed.

    Args:
        tokenizer: a `tokenizers.Tokenizer`, or the path of its `tokenizer.json`. What a
            `transformers` tokenizer holds is its `backend_tokenizer`.
        sequence_length: the length of every row of ids; see :class:`Tokenizer`.
        add_special_tokens: whether it adds what its post-processor adds.
        dtype: of the ids.

    Raises:
        ImportError: where a path is given and the package is missing.

    Source: https://github.com/huggingface/tokenizers
    """

    def __init__(
        self,
        tokenizer: Any,
        sequence_length: int | None = None,
        add_special_tokens: bool = False,
        dtype: str = "int32",
    ) -> None:
        super().__init__(sequence_length, dtype)
        if isinstance(tokenizer, str | os.PathLike):
            try:
                import tokenizers
            except ImportError as error:
                raise ImportError(
                    "PackageTokenizer reads files by the package `tokenizers`, which is not "
                    "installed: pip install tokenizers"
                ) from error
            tokenizer = tokenizers.Tokenizer.from_file(os.fspath(tokenizer))
        tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
        for needed in ("encode", "decode", "id_to_token", "token_to_id", "get_vocab_size"):
            if not callable(getattr(tokenizer, needed, None)):
                raise ValueError(
                    "`tokenizer` must be a `tokenizers.Tokenizer` or a path. Received: "
                    f"{type(tokenizer).__name__}, which has no `{needed}`"
                )
        self._tokenizer = tokenizer
        self.add_special_tokens = bool(add_special_tokens)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one text."""
        text = checked_text(text)
        found = self._tokenizer.encode(text, add_special_tokens=self.add_special_tokens)
        ids: list[int] = list(found.ids)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids."""
        ids = self._checked(ids, None)
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def token_bytes(self, id: int) -> bytes:
        """Returns the bytes of one id: of a byte-level token those that it stands for."""
        from handmill.hub.tokenizers.byte_symbols import BYTES, to_bytes

        token = self._tokenizer.id_to_token(id)
        if token is None:
            return b""
        decoder = type(getattr(self._tokenizer, "decoder", None)).__name__
        if decoder == "ByteLevel" and set(token) <= set(BYTES):
            return to_bytes(token)
        if decoder == "WordPiece":
            return (token[2:] if token.startswith("##") else f" {token}").encode()
        return str(self._tokenizer.decode([id], skip_special_tokens=False)).encode()

    def vocabulary_size(self) -> int:
        """Returns the number of ids."""
        return int(self._tokenizer.get_vocab_size())

    def id_to_token(self, id: int) -> str:
        """Returns the token of an id."""
        return str(self._tokenizer.id_to_token(self._check_id(id)))

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token."""
        id = self._tokenizer.token_to_id(token)
        if id is None:
            raise ValueError(f"{token!r} is not in the vocabulary")
        return int(id)
