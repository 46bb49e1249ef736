"""Text made of ids as they come."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from handmill.arguments import whole_number

if TYPE_CHECKING:
    from handmill.hub.tokenizers.tokenizer import Tokenizer


class StreamingDetokenizer:
    """Makes a text of ids one by one; holds back what is no whole character yet.

    Joined, what :meth:`add` and :meth:`finish` return is what ``detokenize`` makes of all ids.

    Args:
        tokenizer: whose ids they are.

    Example:
        >>> from handmill import hub
        >>> stream = hub.tokenizers.StreamingDetokenizer(hub.tokenizers.ByteTokenizer())
        >>> [stream.add(byte) for byte in "aé".encode()]
        ['a', '', 'é']
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = False

    def add(self, id: int) -> str:
        """Returns the characters that ``id`` completes.

        Raises:
            ValueError: for what is no id of the tokenizer.
        """
        piece = self._tokenizer.token_bytes(whole_number("`id`", id, 0))
        if not self._begun and piece:
            piece = self._tokenizer.first_bytes(piece)
            self._begun = True
        return self._decoder.decode(piece)

    def finish(self) -> str:
        """Returns what was held back; afterwards a new text begins."""
        rest = self._decoder.decode(b"", True)
        self._decoder.reset()
        self._begun = False
        return rest
