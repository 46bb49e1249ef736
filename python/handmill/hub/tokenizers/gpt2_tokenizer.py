"""GPT-2's tokenizer: a byte-pair tokenizer that knows where texts end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from handmill.hub.tokenizers.byte_pair_tokenizer import BytePairTokenizer
from handmill.hub.tokenizers.folders import byte_pair_files

END = "<|endoftext|>"


def byte_pairs_of(folder: str | os.PathLike[str], **kwargs: Any) -> BytePairTokenizer:
    """Returns the tokenizer of a Hugging Face folder: GPT-2's where its vocabulary has an end."""
    vocabulary, merges = byte_pair_files(folder)
    kind = GPT2Tokenizer if END in vocabulary else BytePairTokenizer
    return kind(vocabulary, merges, **kwargs)


class GPT2Tokenizer(BytePairTokenizer):
    """A byte-pair tokenizer whose `"<|endoftext|>"` begins and ends texts.

    Args:
        vocabulary: see :class:`BytePairTokenizer`; it must hold `"<|endoftext|>"`.
        merges: see there.
        sequence_length: see there.
        add_prefix_space: see there.
        special_tokens_in_strings: whether `"<|endoftext|>"` in a text is the token. Off, it is
            text like any other, so that users cannot end a text by writing it.
        dtype: of the ids.

    Example:
        >>> from handmill import hub
        >>> trained = hub.tokenizers.train_byte_pair(["a b a b"], 256)
        >>> words = {**{t: i for i, t in enumerate(trained.get_vocabulary())}, "<|endoftext|>": 256}
        >>> hub.tokenizers.GPT2Tokenizer(words, []).end_token_id
        256

    Source: the class of the same name in KerasHub.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int] | str | os.PathLike[str],
        merges: Iterable[str] | str | os.PathLike[str],
        sequence_length: int | None = None,
        add_prefix_space: bool = False,
        special_tokens_in_strings: bool = False,
        dtype: str = "int32",
    ) -> None:
        self.special_tokens_in_strings = bool(special_tokens_in_strings)
        unsplittable = [END] if special_tokens_in_strings else None
        super().__init__(vocabulary, merges, sequence_length, add_prefix_space, unsplittable, dtype)
        self.end_token = self.start_token = END
        self.end_token_id = self.start_token_id = self.token_to_id(END)
        self.pad_token_id = 0

    @classmethod
    def from_preset(cls, folder: str | os.PathLike[str], **kwargs: Any) -> GPT2Tokenizer:
        """Returns the tokenizer of a Hugging Face folder, from the disk alone.

        Args:
            folder: with a `tokenizer.json`, or with a `vocab.json` and a `merges.txt`.
            **kwargs: other arguments of the class.

        Raises:
            ValueError: where the files are missing or damaged, with file, line and reason.
        """
        vocabulary, merges = byte_pair_files(folder)
        return cls(vocabulary, merges, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal tokenizer, as plain data."""
        config = super().get_config()
        del config["unsplittable_tokens"]
        return {**config, "special_tokens_in_strings": self.special_tokens_in_strings}
