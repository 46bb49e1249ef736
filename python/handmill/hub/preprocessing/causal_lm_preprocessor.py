"""Texts made ready for a model that continues them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.errors import warn_caller
from handmill.hub.preprocessing.preprocessor import Preprocessor
from handmill.hub.preprocessing.start_end_packer import StartEndPacker
from handmill.hub.tokenizers.gpt2_tokenizer import byte_pairs_of
from handmill.hub.tokenizers.tokenizer import Tokenizer
from handmill.ir.op import Array


class CausalLMPreprocessor(Preprocessor):
    """Makes tokens, and as labels the token after each, of texts.

    Args:
        tokenizer: whose `start_token_id`, `end_token_id` and `pad_token_id` are used where it has
            them.
        sequence_length: the length of every row.
        add_start_token: whether texts get a start token.
        add_end_token: whether they get an end token.

    Example:
        >>> from handmill import hub
        >>> tokenizer = hub.tokenizers.ByteTokenizer()
        >>> preprocessor = hub.models.CausalLMPreprocessor(tokenizer, sequence_length=4)
        >>> x, y, weights = preprocessor(["abc"])
        >>> x["token_ids"], y
        (array([[97, 98, 99,  0]], dtype=int32), array([[98, 99,  0,  0]], dtype=int32))
        >>> weights
        array([[ True,  True, False, False]])

    Source: the class of the same name in KerasHub.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        sequence_length: int = 1024,
        add_start_token: bool = True,
        add_end_token: bool = True,
    ) -> None:
        self.tokenizer = tokenizer
        self.sequence_length = whole_number("sequence_length", sequence_length, 1)
        self.add_start_token = bool(add_start_token)
        self.add_end_token = bool(add_end_token)

    @property
    def start_token_id(self) -> int | None:
        """The token that begins texts; None where the tokenizer has none."""
        return getattr(self.tokenizer, "start_token_id", None)

    @property
    def end_token_id(self) -> int | None:
        """The token that ends texts; None where the tokenizer has none."""
        return getattr(self.tokenizer, "end_token_id", None)

    def _packed(self, x: Any, length: int, end: bool) -> tuple[Array, Array]:
        packer = StartEndPacker(
            length,
            self.start_token_id,
            self.end_token_id,
            getattr(self.tokenizer, "pad_token_id", 0),
            return_padding_mask=True,
        )
        tokens = self.tokenizer(x)
        if isinstance(tokens, list) and not tokens:  # no texts, which is not one without tokens
            return np.zeros((0, length), np.int32), np.zeros((0, length), bool)
        found: tuple[Array, Array] = packer(
            tokens, add_start_value=self.add_start_token, add_end_value=end
        )
        return found

    def __call__(
        self, x: Any, y: Any = None, sample_weight: Any = None, sequence_length: int | None = None
    ) -> tuple[dict[str, Array], Array, Array]:
        """Makes a batch to train with.

        Args:
            x: texts.
            y: none: the labels are made of the texts.
            sample_weight: none, for the same reason.
            sequence_length: in the place of the preprocessor's own.

        Returns:
            ``{"token_ids", "padding_mask"}`` (B, L), the token after each (B, L), and true where
            that one is real (B, L).
        """
        if y is not None or sample_weight is not None:
            warn_caller(
                f"{type(self).__name__} makes `y` and `sample_weight` of the texts; those that "
                "were given are left out"
            )
        length = self.sequence_length if sequence_length is None else sequence_length
        tokens, mask = self._packed(x, length + 1, self.add_end_token)
        inputs = {"token_ids": tokens[..., :-1], "padding_mask": mask[..., :-1]}
        return inputs, tokens[..., 1:], mask[..., 1:]

    def generate_preprocess(self, x: Any, sequence_length: int | None = None) -> dict[str, Array]:
        """Returns tokens of prompts, without an end, and their mask, filled up to one length."""
        length = self.sequence_length if sequence_length is None else sequence_length
        tokens, mask = self._packed(x, length, False)
        return {"token_ids": tokens, "padding_mask": mask}

    def prompts(self, x: list[str]) -> list[Array]:
        """Returns the tokens of prompts, with a start token, neither cut nor filled up."""
        start = self.start_token_id
        add = self.add_start_token and start is not None
        rows = self.tokenizer(x)
        return [np.array([start, *row] if add else row, np.int32) for row in rows]

    def generate_postprocess(self, x: dict[str, Any]) -> Any:
        """Returns the texts of tokens, without start, end and what fills up."""
        tokens, mask = np.asarray(x["token_ids"]), np.asarray(x["padding_mask"]).astype(bool)
        special = [t for t in (self.start_token_id, self.end_token_id) if t is not None]
        if tokens.ndim == 1:
            return self.tokenizer.detokenize(self._plain(tokens, mask, special))
        rows = zip(tokens, mask, strict=True)
        return [self.tokenizer.detokenize(self._plain(t, m, special)) for t, m in rows]

    @staticmethod
    def _plain(tokens: Array, mask: Array, special: list[int]) -> Array:
        found: Array = tokens[mask & ~np.isin(tokens, special)]
        return found

    @classmethod
    def from_preset(cls, folder: str | os.PathLike[str], **kwargs: Any) -> CausalLMPreprocessor:
        """Returns a preprocessor with the byte-pair tokenizer of a Hugging Face folder.

        Args:
            folder: with a `tokenizer.json`, or with a `vocab.json` and a `merges.txt`. Texts
                begin and end with `"<|endoftext|>"` where the vocabulary has it.
            **kwargs: other arguments of the class.

        Raises:
            ValueError: where the files are missing or damaged, with file, line and reason.
        """
        return cls(byte_pairs_of(folder), **kwargs)

    def _arguments(self) -> dict[str, Any]:
        return {
            "sequence_length": self.sequence_length,
            "add_start_token": self.add_start_token,
            "add_end_token": self.add_end_token,
        }


class GPT2CausalLMPreprocessor(CausalLMPreprocessor):
    """The preprocessor of GPT-2: texts begin and end with `"<|endoftext|>"`.

    Args:
        tokenizer: a :class:`GPT2Tokenizer`.
        sequence_length: the length of every row.
        add_start_token: whether texts get a start token.
        add_end_token: whether they get an end token.

    Source: the class of the same name in KerasHub.
    """
