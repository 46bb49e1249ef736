"""BERT's tokenizer: WordPiece with the tokens that BERT's inputs are packed with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from handmill.hub.tokenizers.folders import word_piece_files
from handmill.hub.tokenizers.word_piece_tokenizer import WordPieceTokenizer

_SPECIAL = ("[CLS]", "[SEP]", "[PAD]", "[MASK]")


class BertTokenizer(WordPieceTokenizer):
    """A WordPiece tokenizer whose vocabulary holds `[CLS]`, `[SEP]`, `[PAD]` and `[MASK]`.

    Args:
        vocabulary: the tokens in the order of their ids, or the path of a `vocab.txt`.
        lowercase: whether texts are made lower case and lose their accents. False, as in
            KerasHub; :meth:`from_preset` goes by the folder.
        special_tokens_in_strings: whether special tokens are found in texts.
        **kwargs: other arguments of :class:`WordPieceTokenizer`.

    Example:
        >>> from handmill import hub
        >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b"]
        >>> tokenizer = hub.tokenizers.BertTokenizer(words, lowercase=True)
        >>> tokenizer("AB a"), tokenizer.cls_token_id
        (array([5, 6, 5], dtype=int32), 2)

    Source: the class of the same name in KerasHub.
    """

    def __init__(
        self,
        vocabulary: Sequence[str] | str | os.PathLike[str],
        lowercase: bool = False,
        special_tokens_in_strings: bool = False,
        **kwargs: Any,
    ) -> None:
        arguments = {"strip_accents": lowercase, "special_tokens": list(_SPECIAL), **kwargs}
        super().__init__(
            vocabulary,
            lowercase=lowercase,
            special_tokens_in_strings=special_tokens_in_strings,
            **arguments,
        )
        self.cls_token, self.sep_token, self.pad_token, self.mask_token = _SPECIAL
        self.cls_token_id, self.sep_token_id, self.pad_token_id, self.mask_token_id = (
            self.token_to_id(token) for token in _SPECIAL
        )
        self.start_token_id, self.end_token_id = self.cls_token_id, self.sep_token_id

    @classmethod
    def from_preset(cls, folder: str | os.PathLike[str], **kwargs: Any) -> BertTokenizer:
        """Returns the tokenizer of a Hugging Face folder, from the disk alone.

        Args:
            folder: with a `tokenizer.json`, or a `vocab.txt` and its `tokenizer_config.json`,
                which say whether texts are made lower case. A `vocab.txt` alone says nothing:
                they are, as Hugging Face has it; `lowercase=False` is for a cased one.
            **kwargs: other arguments of the class, which win.

        Raises:
            ValueError: where the files are missing or damaged, with file, line and reason.
        """
        vocabulary, arguments = word_piece_files(folder)
        return cls(vocabulary, **{**arguments, **kwargs})
