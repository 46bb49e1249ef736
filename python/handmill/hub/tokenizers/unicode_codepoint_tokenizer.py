"""Characters as ids."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from handmill.arguments import whole_number
from handmill.hub.tokenizers.byte_tokenizer import checked_normal_form
from handmill.hub.tokenizers.tokenizer import Tokenizer, checked_text

_ALL = 0x110000


class UnicodeCodepointTokenizer(Tokenizer):
    """Takes the code points of a text as its ids.

    Args:
        sequence_length: the length of every row of ids; see :class:`Tokenizer`.
        lowercase: whether texts are made lower case.
        normalization_form: the Unicode form that texts are brought to: `"NFC"`, `"NFKC"`,
            `"NFD"`, `"NFKD"`, or None.
        vocabulary_size: characters from this number on get the last id. Default: none do.
        dtype: of the ids.

    Example:
        >>> from handmill import hub
        >>> tokenizer = hub.tokenizers.UnicodeCodepointTokenizer(sequence_length=4)
        >>> tokenizer("Aß"), tokenizer.detokenize([97, 223])
        (array([ 97, 223,   0,   0], dtype=int32), 'aß')

    Source: the class of the same name in KerasHub.
    """

    def __init__(
        self,
        sequence_length: int | None = None,
        lowercase: bool = True,
        normalization_form: str | None = None,
        vocabulary_size: int | None = None,
        dtype: str = "int32",
    ) -> None:
        super().__init__(sequence_length, dtype)
        self.lowercase = bool(lowercase)
        self.normalization_form = checked_normal_form(normalization_form)
        if vocabulary_size is not None:
            vocabulary_size = whole_number("vocabulary_size", vocabulary_size, 1)
        self._size = vocabulary_size

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one text."""
        text = checked_text(text)
        if self.lowercase:
            text = text.lower()
        if self.normalization_form is not None:
            text = unicodedata.normalize(self.normalization_form, text)
        ids = list(map(ord, text))
        return ids if self._size is None else [min(id, self._size - 1) for id in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids, without the 0 that fills rows up."""
        ids = self._checked(ids, None)
        return b"".join(map(self.token_bytes, ids)).decode()

    def token_bytes(self, id: int) -> bytes:
        """Returns a character; U+FFFD for a surrogate, which is none."""
        if id == 0:
            return b""
        return ("\ufffd" if 0xD800 <= id < 0xE000 else chr(id)).encode()

    def vocabulary_size(self) -> int:
        """Returns the number of ids."""
        return _ALL if self._size is None else min(self._size, _ALL)

    def id_to_token(self, id: int) -> str:
        """Returns the character with this number."""
        return chr(self._check_id(id))

    def token_to_id(self, token: str) -> int:
        """Returns the number of a character."""
        if not isinstance(token, str) or len(token) != 1:
            raise ValueError(f"a token is one character. Received: {token!r}")
        return min(ord(token), self.vocabulary_size() - 1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal tokenizer, as plain data."""
        return {
            **super().get_config(),
            "lowercase": self.lowercase,
            "normalization_form": self.normalization_form,
            "vocabulary_size": self._size,
        }
