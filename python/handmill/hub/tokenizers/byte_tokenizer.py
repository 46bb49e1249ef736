"""Bytes as ids."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from handmill.hub.tokenizers.tokenizer import Tokenizer, checked_text

NORMAL_FORMS = (None, "NFC", "NFKC", "NFD", "NFKD")


def checked_normal_form(form: Any) -> Any:
    """Returns the name of a Unicode normal form.

    Raises:
        ValueError: for another name.
    """
    if form not in NORMAL_FORMS:
        raise ValueError(f"`normalization_form` must be one of {NORMAL_FORMS}. Received: {form!r}")
    return form


class ByteTokenizer(Tokenizer):
    """Takes the UTF-8 bytes of a text as its ids: a vocabulary of 256.

    Args:
        lowercase: whether texts are made lower case.
        sequence_length: the length of every row of ids; see :class:`Tokenizer`.
        normalization_form: the Unicode form that texts are brought to: `"NFC"`, `"NFKC"`,
            `"NFD"`, `"NFKD"`, or None.
        errors: what becomes of bytes that are no UTF-8: `"strict"`, `"replace"`, `"ignore"`.
        dtype: of the ids.

    Example:
        >>> from handmill import hub
        >>> tokenizer = hub.tokenizers.ByteTokenizer()
        >>> tokenizer("Hello"), tokenizer.detokenize([104, 105])
        (array([104, 101, 108, 108, 111], dtype=int32), 'hi')

    Source: the class of the same name in KerasHub.
    """

    def __init__(
        self,
        lowercase: bool = True,
        sequence_length: int | None = None,
        normalization_form: str | None = None,
        errors: str = "replace",
        dtype: str = "int32",
    ) -> None:
        super().__init__(sequence_length, dtype)
        if errors not in ("strict", "replace", "ignore"):
            raise ValueError(
                f"`errors` must be 'strict', 'replace' or 'ignore'. Received: {errors!r}"
            )
        if dtype == "string":
            raise ValueError("a byte is no text: `dtype` must be 'int32' or 'int64'")
        self.lowercase = bool(lowercase)
        self.normalization_form = checked_normal_form(normalization_form)
        self.errors = errors

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one text."""
        text = checked_text(text)
        if self.lowercase:
            text = text.lower()
        if self.normalization_form is not None:
            text = unicodedata.normalize(self.normalization_form, text)
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids."""
        ids = self._checked(ids, None)
        return bytes(ids).decode("utf-8", self.errors)

    def token_bytes(self, id: int) -> bytes:
        """Returns the byte."""
        return bytes([id])

    def vocabulary_size(self) -> int:
        """Returns 256."""
        return 256

    def id_to_token(self, id: int) -> str:
        """Returns the character with this number."""
        return chr(self._check_id(id))

    def token_to_id(self, token: str) -> int:
        """Returns the number of a character below 256."""
        if not isinstance(token, str) or len(token) != 1 or ord(token) > 255:
            raise ValueError(f"a token is one character below 256. Received: {token!r}")
        return ord(token)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal tokenizer, as plain data."""
        return {
            "lowercase": self.lowercase,
            **super().get_config(),
            "normalization_form": self.normalization_form,
            "errors": self.errors,
        }
