"""What all tokenizers share: shapes of texts and ids, checks, padding, saving."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.hub.tokenizers.streaming import StreamingDetokenizer
from handmill.ir.op import Array


class Tokenizer:
    """Base class of tokenizers: texts in, ids out, and back.

    A subclass defines :meth:`encode`, :meth:`decode`, :meth:`token_bytes` and the vocabulary.

    Args:
        sequence_length: the length of every row of ids: longer ones are cut off, shorter ones
            filled up with 0. Default: as many as there are.
        dtype: of the ids, ``"int32"`` or ``"int64"``; ``"string"`` for tokens in their place.

    Source: the class of the same name in KerasHub.
    """

    def __init__(self, sequence_length: int | None = None, dtype: str = "int32") -> None:
        if sequence_length is not None:
            sequence_length = whole_number("sequence_length", sequence_length, 1)
        if dtype not in ("int32", "int64", "string"):
            raise ValueError(
                f"`dtype` of a tokenizer must be 'int32', 'int64' or 'string'. Received: {dtype!r}"
            )
        self.sequence_length = sequence_length
        self.dtype = dtype

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one text.

        Raises:
            ValueError: for what is no text, and for a lone surrogate, which no bytes stand for.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `encode`")

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids.

        Raises:
            ValueError: for ids that are no whole numbers or outside the vocabulary.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `decode`")

    def token_bytes(self, id: int) -> bytes:
        """Returns the UTF-8 bytes that one id adds to a text that is being generated."""
        raise NotImplementedError(f"{type(self).__name__} must define `token_bytes`")

    def first_bytes(self, piece: bytes) -> bytes:
        """Returns what :meth:`token_bytes` is where a text begins with it."""
        return piece

    def vocabulary_size(self) -> int:
        """Returns the number of ids."""
        raise NotImplementedError(f"{type(self).__name__} must define `vocabulary_size`")

    def id_to_token(self, id: int) -> str:
        """Returns the token of an id."""
        raise NotImplementedError(f"{type(self).__name__} must define `id_to_token`")

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token."""
        raise NotImplementedError(f"{type(self).__name__} must define `token_to_id`")

    def get_vocabulary(self) -> list[str]:
        """Returns all tokens, in the order of their ids."""
        return [self.id_to_token(i) for i in range(self.vocabulary_size())]

    def __call__(self, inputs: Any) -> Any:
        return self.tokenize(inputs)

    def tokenize(self, inputs: Any) -> Any:
        """Returns the ids of texts.

        Args:
            inputs: a text, or a list or array of texts.

        Returns:
            For one text an array of shape (T,). For several, with a `sequence_length`, an array
            of shape (B, sequence_length); without one a list of arrays.

        Raises:
            ValueError: for what is no text, and for a lone surrogate, which no bytes stand for.
        """
        if isinstance(inputs, str | bytes | np.str_) or np.ndim(inputs) == 0:
            return self._row(checked_text(inputs, None))
        rows = [self._row(checked_text(text, i)) for i, text in enumerate(_flat(inputs))]
        if self.sequence_length is None:
            return rows
        kind = object if self.dtype == "string" else self.dtype
        found: Array = np.array(rows, kind).reshape(len(rows), self.sequence_length)
        return found

    def _row(self, text: str) -> Array:
        ids: list[Any] = self.encode(text)
        if self.sequence_length is not None:
            ids = ids[: self.sequence_length]
        empty: Any = 0
        if self.dtype == "string":
            ids, empty = [self.id_to_token(i) for i in ids], ""
        if self.sequence_length is not None:
            ids = ids + [empty] * (self.sequence_length - len(ids))
        return np.array(ids, object if self.dtype == "string" else self.dtype)

    def detokenize(self, inputs: Any) -> Any:
        """Returns the texts of ids.

        Args:
            inputs: ids of shape (T,), or several rows of them.

        Returns:
            A text, or a list of texts.

        Raises:
            ValueError: for ids that are no whole numbers or outside the vocabulary.
        """
        rows = inputs
        if isinstance(inputs, list | tuple) and any(np.ndim(row) for row in inputs):
            return [self.decode(self._checked(row, i)) for i, row in enumerate(rows)]
        array = np.asarray(inputs)
        if array.ndim < 2:
            return self.decode(self._checked(array.reshape(-1), None))
        if array.ndim > 2:
            raise ValueError(f"detokenize takes ids of rank 1 or 2. Received: shape {array.shape}")
        return [self.decode(self._checked(row, i)) for i, row in enumerate(array)]

    def _checked(self, row: Any, number: int | None) -> list[int]:
        array = np.asarray(row)
        if array.ndim > 1:
            raise ValueError(
                "a text is one flat list of ids; detokenize() takes several. Received: shape "
                f"{array.shape}"
            )
        if array.size == 0:
            return []
        if array.dtype.kind not in "iu":
            raise ValueError(f"ids must be whole numbers. Received: dtype {array.dtype}")
        wrong = np.flatnonzero((array < 0) | (array >= self.vocabulary_size()))
        if wrong.size:
            of = "" if number is None else f" of row {number}"
            raise ValueError(
                f"id {int(array[wrong[0]])} at position {int(wrong[0])}{of} is outside the "
                f"vocabulary, 0 to {self.vocabulary_size() - 1}"
            )
        found: list[int] = array.tolist()
        return found

    def stream(self) -> StreamingDetokenizer:
        """Returns what makes a text of ids as they come.

        Example:
            >>> from handmill import hub
            >>> stream = hub.tokenizers.ByteTokenizer().stream()
            >>> [stream.add(byte) for byte in "né".encode()], stream.finish()
            (['n', '', 'é'], '')
        """
        return StreamingDetokenizer(self)

    def _check_id(self, id: Any) -> int:
        number = whole_number("id", id)
        if not 0 <= number < self.vocabulary_size():
            raise ValueError(
                f"`id` must be in range [0, {self.vocabulary_size() - 1}]. Received: {id}"
            )
        return number

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal tokenizer, as plain data."""
        return {"sequence_length": self.sequence_length, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Tokenizer:
        """Returns the tokenizer of a configuration."""
        return cls(**config)

    @classmethod
    def from_preset(cls, folder: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Returns the tokenizer of a Hugging Face folder, from the disk alone.

        Args:
            folder: with a `tokenizer.json`; or with a `vocab.json` and a `merges.txt`, or a
                `vocab.txt`.
            **kwargs: other arguments of the tokenizer's class.

        Returns:
            A :class:`BertTokenizer`, :class:`GPT2Tokenizer` or :class:`BytePairTokenizer`, by what
            the folder holds.

        Raises:
            ValueError: where the files are missing or damaged, with file, line and reason; for a
                tokenizer that is none of the class.
        """
        from handmill.hub.tokenizers.bert_tokenizer import BertTokenizer
        from handmill.hub.tokenizers.folders import is_word_piece
        from handmill.hub.tokenizers.gpt2_tokenizer import byte_pairs_of

        pieces = is_word_piece(folder)
        made = (
            BertTokenizer.from_preset(folder, **kwargs)
            if pieces
            else byte_pairs_of(folder, **kwargs)
        )
        if not isinstance(made, cls):
            raise ValueError(
                f"{cls.__name__} cannot be made from {os.fspath(folder)}, which holds a "
                f"{type(made).__name__}"
            )
        return made

    def save_assets(self, folder: str | os.PathLike[str]) -> list[str]:
        """Writes the vocabulary into a folder, under the names that Hugging Face gives.

        Returns:
            The names of the files.
        """
        return []


def _flat(inputs: Any) -> list[Any]:
    if isinstance(inputs, dict) or not hasattr(inputs, "__len__"):
        raise ValueError(f"a tokenizer takes texts. Received: {type(inputs).__name__}")
    if np.ndim(np.asarray(inputs, object)) > 1:
        shape = np.shape(np.asarray(inputs, object))
        raise ValueError(
            f"a tokenizer takes one text or a flat list of texts. Received: shape {shape}"
        )
    return list(inputs)


def checked_text(value: Any, index: int | None = None) -> str:
    """Returns a text as str.

    Args:
        value: a str, or the bytes of one.
        index: its number among others, for messages.

    Raises:
        ValueError: for what is no text, and for a lone surrogate.
    """
    of = "" if index is None else f" at index {index}"
    if isinstance(value, np.ndarray):
        value = value.item()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise ValueError(
            f"a tokenizer takes texts (str). Received{of}: {type(value).__name__} {value!r:.60}"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text{of} holds a lone surrogate, {value[error.start]!r}, at position "
            f"{error.start}, which stands for no character; decode the bytes again, with "
            "errors='replace'"
        ) from None
    return str(value)
