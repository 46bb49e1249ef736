"""Texts made ready for BERT's training: segments packed, tokens hidden."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from handmill.errors import warn_caller
from handmill.hub.preprocessing.masked_lm_mask_generator import MaskedLMMaskGenerator
from handmill.hub.preprocessing.multi_segment_packer import MultiSegmentPacker
from handmill.hub.preprocessing.preprocessor import Preprocessor
from handmill.hub.preprocessing.text_classifier_preprocessor import packed_segments
from handmill.hub.tokenizers.bert_tokenizer import BertTokenizer
from handmill.ir.op import Array


class BertMaskedLMPreprocessor(Preprocessor):
    """Makes tokens of which some are hidden, and these as labels, of texts.

    Args:
        tokenizer: a :class:`BertTokenizer`.
        sequence_length: the length of every row.
        truncate: see :class:`MultiSegmentPacker`.
        mask_selection_rate: see :class:`MaskedLMMaskGenerator`.
        mask_selection_length: see there.
        mask_token_rate: see there.
        random_token_rate: see there.
        seed: see there.

    Example:
        >>> from handmill import hub
        >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]
        >>> tokenizer = hub.tokenizers.BertTokenizer(words)
        >>> preprocessor = hub.models.BertMaskedLMPreprocessor(
        ...     tokenizer, 6, mask_selection_length=2, seed=0)
        >>> x, y, weights = preprocessor(["a b c"])
        >>> x["token_ids"].shape, y.shape, weights
        ((1, 6), (1, 2), array([[1., 0.]], dtype=float32))

    Source: the class of the same name in KerasHub.
    """

    def __init__(
        self,
        tokenizer: Any,
        sequence_length: int = 512,
        truncate: str = "round_robin",
        mask_selection_rate: float = 0.15,
        mask_selection_length: int = 96,
        mask_token_rate: float = 0.8,
        random_token_rate: float = 0.1,
        seed: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.packer = MultiSegmentPacker(
            sequence_length,
            tokenizer.cls_token_id,
            tokenizer.sep_token_id,
            pad_value=tokenizer.pad_token_id,
            truncate=truncate,
        )
        self.masker = MaskedLMMaskGenerator(
            tokenizer.vocabulary_size(),
            mask_selection_rate,
            tokenizer.mask_token_id,
            mask_selection_length,
            [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id],
            mask_token_rate,
            random_token_rate,
            seed,
        )

    def __call__(
        self, x: Any, y: Any = None, sample_weight: Any = None
    ) -> tuple[dict[str, Array], Array, Array]:
        """Makes a batch to train with.

        Args:
            x: texts, or a tuple of several lists of texts, the segments.
            y: none: the labels are made of the texts.
            sample_weight: none, for the same reason.

        Returns:
            ``{"token_ids", "padding_mask", "segment_ids", "mask_positions"}``, the hidden tokens
            (B, M) and their weights (B, M).
        """
        if y is not None or sample_weight is not None:
            warn_caller(
                f"{type(self).__name__} makes `y` and `sample_weight` of the texts; those that "
                "were given are left out"
            )
        packed = packed_segments(self.tokenizer, self.packer, x)
        found = self.masker(packed["token_ids"])
        packed["token_ids"] = found["token_ids"]
        packed["mask_positions"] = found["mask_positions"]
        return packed, found["mask_ids"], np.asarray(found["mask_weights"])

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
            "mask_selection_rate": self.masker.mask_selection_rate,
            "mask_selection_length": self.masker.mask_selection_length,
            "mask_token_rate": self.masker.mask_token_rate,
            "random_token_rate": self.masker.random_token_rate,
            "seed": self.masker.seed,
        }
