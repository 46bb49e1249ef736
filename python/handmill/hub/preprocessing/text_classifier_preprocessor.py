"""Texts made ready for BERT's classifier."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from handmill.hub.preprocessing.multi_segment_packer import MultiSegmentPacker
from handmill.hub.preprocessing.preprocessor import Preprocessor
from handmill.hub.tokenizers.bert_tokenizer import BertTokenizer
from handmill.ir.op import Array


def packed_segments(tokenizer: Any, packer: MultiSegmentPacker, x: Any) -> dict[str, Array]:
    """Returns texts, or a tuple of several lists of texts, as what BERT takes."""
    segments = tuple(tokenizer(part) for part in (x if isinstance(x, tuple) else (x,)))
    tokens, numbers = packer(segments)
    return {
        "token_ids": tokens,
        "padding_mask": np.asarray(tokens != tokenizer.pad_token_id),
        "segment_ids": numbers,
    }


class BertTextClassifierPreprocessor(Preprocessor):
    """Makes tokens, their mask and numbers of segments of texts.

    Args:
        tokenizer: a :class:`BertTokenizer`.
        sequence_length: the length of every row.
        truncate: see :class:`MultiSegmentPacker`.

    Example:
        >>> from handmill import hub
        >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
        >>> tokenizer = hub.tokenizers.BertTokenizer(words)
        >>> preprocessor = hub.models.BertTextClassifierPreprocessor(tokenizer, 5)
        >>> preprocessor(["good", "bad bad"])["token_ids"]
        array([[2, 5, 3, 0, 0],
               [2, 6, 6, 3, 0]], dtype=int32)

    Source: the class of the same name in KerasHub.
    """

    def __init__(
        self, tokenizer: Any, sequence_length: int = 512, truncate: str = "round_robin"
    ) -> None:
        self.tokenizer = tokenizer
        self.packer = MultiSegmentPacker(
            sequence_length,
            tokenizer.cls_token_id,
            tokenizer.sep_token_id,
            pad_value=tokenizer.pad_token_id,
            truncate=truncate,
        )

    def __call__(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Makes a batch.

        Args:
            x: texts, or a tuple of several lists of texts, the segments.
            y: labels, handed on.
            sample_weight: weights, handed on.

        Returns:
            ``{"token_ids", "padding_mask", "segment_ids"}``; with labels, a tuple with them.
        """
        packed = packed_segments(self.tokenizer, self.packer, x)
        if y is None:
            return packed
        return (packed, y) if sample_weight is None else (packed, y, sample_weight)

    @classmethod
    def from_preset(cls, folder: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Returns a preprocessor with the tokenizer of a Hugging Face folder.

        Args:
            folder: with a `tokenizer.json`, or a `vocab.txt` and its `tokenizer_config.json`.
            **kwargs: other arguments of the class.

        Raises:
            ValueError: where the files are missing or damaged, with file, line and reason.
        """
        return cls(BertTokenizer.from_preset(folder), **kwargs)

    def _arguments(self) -> dict[str, Any]:
        return {
            "sequence_length": self.packer.sequence_length,
            "truncate": self.packer.truncate,
        }
