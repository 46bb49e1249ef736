"""Texts as numbers of their words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.ir.op import Array
from handmill.layers.preprocessing import tokens
from handmill.layers.preprocessing.adapting import batches_of, check_not_empty, is_array
from handmill.layers.preprocessing.encoding import checked_mode
from handmill.layers.preprocessing.index_lookup import MODES, no_vocabulary, refuse_path
from handmill.layers.preprocessing.string_lookup import StringLookup
from handmill.layers.preprocessing.strings import StringLayer, as_strings, checked_encoding
from handmill.layers.symbolic import STRING, KerasTensor
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


class TextVectorization(StringLayer):
    """Cuts texts into words and gives each word its number.

    It computes in Python: on arrays of strings (in the ``map`` of a data set, for example), or as
    one of the first layers of a functional model whose input has ``dtype="string"``.

    Args:
        max_tokens: how many numbers there are at most, those of padding and unknown words included.
        standardize: ``"lower_and_strip_punctuation"``, ``"lower"``, ``"strip_punctuation"`` (all
            three change ASCII only, as in Keras), None, or a function of an array of strings.
        split: ``"whitespace"``, ``"character"``, None, or a function of an array of strings that
            returns a list of tokens for each.
        ngrams: runs of words up to this length are tokens too; a tuple: of these lengths.
        output_mode: ``"int"``: numbers, 0 for padding and 1 for unknown words; ``"multi_hot"``,
            ``"count"``, ``"tf_idf"``: one row for each text.
        output_sequence_length: with ``"int"``, how long rows are; default: as the longest.
        pad_to_max_tokens: whether rows of the other modes have ``max_tokens`` columns.
        vocabulary: words, or the path of a text file with one a line; else call :meth:`adapt`.
        idf_weights: with ``"tf_idf"`` and a vocabulary, a weight for each word.
        sparse: not supported; must be False.
        ragged: not supported; must be False.
        encoding: how bytes are read.
        name: the layer's name.
        **kwargs: ``trainable`` and the like.

    Example:
        >>> from handmill.layers import TextVectorization
        >>> layer = TextVectorization(output_sequence_length=4)
        >>> layer.adapt(["foo bar", "bar baz", "baz bada boom"])
        >>> layer(["Foo qux bar!", "qux baz"])
        array([[4, 1, 3, 0],
               [1, 2, 0, 0]])
    """

    def __init__(
        self,
        max_tokens: int | None = None,
        standardize: Any = "lower_and_strip_punctuation",
        split: Any = "whitespace",
        ngrams: Any = None,
        output_mode: str = "int",
        output_sequence_length: int | None = None,
        pad_to_max_tokens: bool = False,
        vocabulary: Any = None,
        idf_weights: Any = None,
        sparse: bool = False,
        ragged: bool = False,
        encoding: str = "utf-8",
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if ragged:
            raise ValueError(
                "`ragged=True` is not supported: rows are padded with 0, to "
                "`output_sequence_length` or as long as the longest. Received: ragged=True"
            )
        _check_choice("standardize", standardize, tokens.STANDARDS)
        _check_choice("split", split, tokens.SPLITS)
        output_mode = checked_mode("TextVectorization", output_mode, MODES)
        is_tuple = isinstance(ngrams, tuple) and all(isinstance(n, int) for n in ngrams)
        if not (ngrams is None or isinstance(ngrams, int) or is_tuple):
            raise ValueError(
                "`ngrams` must be None, an integer, or a tuple of integers. "
                f"Received: ngrams={ngrams}"
            )
        for width in ngrams if isinstance(ngrams, tuple) else (1 if ngrams is None else ngrams,):
            whole_number("`ngrams`", width, least=1)
        is_length = isinstance(output_sequence_length, int) or output_sequence_length is None
        if output_mode == "int" and not is_length:
            raise ValueError(
                "`output_sequence_length` must be either None or an integer when `output_mode` is "
                f"'int'. Received: output_sequence_length={output_sequence_length}"
            )
        if output_mode != "int" and output_sequence_length is not None:
            raise ValueError(
                "`output_sequence_length` must not be set if `output_mode` is not 'int'. "
                f"Received output_sequence_length={output_sequence_length}."
            )
        if output_sequence_length is not None:
            whole_number("`output_sequence_length`", output_sequence_length, least=0)
        size = kwargs.pop("vocabulary_size", None)
        given = kwargs.pop("has_input_vocabulary", vocabulary is not None)
        super().__init__(name=name, **kwargs)
        self._has_input_vocabulary = given
        self._standardize = standardize
        self._split = split
        self._ngrams_arg = ngrams
        self._widths = tuple(range(1, ngrams + 1)) if isinstance(ngrams, int) else ngrams
        self._output_mode = output_mode
        self._output_sequence_length = output_sequence_length
        self._encoding = checked_encoding(encoding)
        self._lookup_layer = StringLookup(
            max_tokens=max_tokens,
            vocabulary=vocabulary,
            idf_weights=idf_weights,
            pad_to_max_tokens=pad_to_max_tokens,
            mask_token="",
            output_mode=output_mode,
            sparse=sparse,
            has_input_vocabulary=given,
            encoding=encoding,
            vocabulary_size=size,
        )

    # The vocabulary.

    def adapt(self, data: Any, batch_size: int | None = None, steps: int | None = None) -> None:
        """Learns the vocabulary: the words of the texts, the most frequent first.

        Args:
            data: an array or list of texts, or a data set or iterable of such batches.
            batch_size: accepted for Keras.
            steps: how many batches at most.
        """
        self.reset_state()
        rows = 0
        if is_array(data) or isinstance(data, list | tuple | str):
            texts = self._texts(data)
            rows = texts.size
            if rows:
                self._update(texts[:, None] if texts.ndim == 1 else texts)
        else:
            for batch in batches_of(data, steps):
                texts = self._texts(batch)
                rows += texts.size
                self._update(texts)
        check_not_empty(rows, self.describe())
        self.finalize_state()

    def update_state(self, data: Any) -> None:
        """Counts the words of a batch of texts."""
        self._update(self._texts(data))

    def _update(self, texts: Array) -> None:
        rows, shape = self._tokens(texts)
        if self._split is None and len(shape) < 2:  # without rows they are one document
            rows = [list(chain.from_iterable(rows))]
        self._lookup_layer.count_documents(rows)

    def reset_state(self) -> None:
        """Forgets what :meth:`update_state` counted."""
        self._lookup_layer.reset_state()

    def finalize_state(self) -> None:
        """Makes the vocabulary of what was counted."""
        self._lookup_layer.finalize_state()

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """Returns the words, in the order of their numbers.

        Args:
            include_special_tokens: whether those of padding and unknown words come first.
        """
        return self._lookup_layer.get_vocabulary(include_special_tokens)

    def vocabulary_size(self) -> int:
        """Returns how many numbers there are, those of padding and unknown words included."""
        return self._lookup_layer.vocabulary_size()

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Sets the words, instead of learning them.

        Args:
            vocabulary: words, or the path of a text file with one a line.
            idf_weights: with ``output_mode="tf_idf"``, a weight for each word.
        """
        self._lookup_layer.set_vocabulary(vocabulary, idf_weights=idf_weights)

    # Computing.

    def takes_strings(self, inputs: Any) -> bool:
        """Always: other things are refused."""
        return not isinstance(inputs, KerasTensor) or super().takes_strings(inputs)

    def _texts(self, inputs: Any) -> Array:
        return as_strings(inputs, self.describe(), self._encoding)

    def _tokens(self, texts: Array) -> tuple[list[list[bytes]], tuple[int, ...]]:
        """The tokens of each text, and the shape in which the texts lie.

        Without splitting the last axis holds tokens, and each row of them is a text.
        """
        content = tokens.standardized(texts, self._standardize, self.describe())
        if self._split is None:
            shape = content.shape
            rows = content.reshape(-1, shape[-1] if shape else 1).tolist()
            return [self._grouped(row) for row in rows], shape
        if content.ndim > 1:
            if content.shape[-1] != 1:
                raise ValueError(
                    "When using `TextVectorization` to tokenize strings, the input rank must be 1 "
                    "or the last shape dimension must be 1. Received: inputs.shape="
                    f"{content.shape} with rank={content.ndim}"
                )
            content = content[..., 0]
        flat = content.reshape(-1)
        rows = tokens.split(flat, self._split, self.describe(), self._encoding)
        grouped = rows if self._widths is None else [self._grouped(row) for row in rows]
        return grouped, (*content.shape, -1)

    def _grouped(self, row: list[bytes]) -> list[bytes]:
        return row if self._widths is None else tokens.with_ngrams(row, self._widths)

    def on_strings(self, inputs: Any) -> Array:
        """Computes the output, in Python."""
        if not self._lookup_layer.is_ready:
            raise RuntimeError(no_vocabulary(self))
        rows, shape = self._tokens(self._texts(inputs))
        lookup = self._lookup_layer
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = lookup.numbers_of(list(chain.from_iterable(rows)))
        outer = shape[:-1]
        if self._output_mode == "int":
            length = self._output_sequence_length
            if shape == ():  # one token
                return ids.reshape(())
            found = tokens.padded(lengths, ids, len(rows), length)
            return found.reshape((*outer, found.shape[-1]))
        if self._output_mode == "one_hot":
            if len(set(lengths.tolist())) > 1:
                raise ValueError(
                    f"{self.describe()}: rows of one-hot vectors need texts of equally many "
                    f"tokens, but these have {int(lengths.min())} to {int(lengths.max())}"
                )
            return lookup.encode(ids.reshape(*outer, -1))
        numbers = np.repeat(np.arange(len(rows)), lengths)
        found = lookup.encode_rows(ids, numbers, math.prod(outer))
        return found.reshape((*outer, found.shape[-1]))

    def string_output(self, inputs: Any) -> KerasTensor:
        """Returns what stands for the output in a model."""
        shape = inputs.shape
        if self._output_mode == "int":
            outer = shape[:-1] if len(shape) > 1 or self._split is None else shape
            length = self._output_sequence_length
            if self._split is None and self._widths is None and length is None:
                return KerasTensor(shape, "int64")
            return KerasTensor((*outer, length), "int64")
        if self._split is not None:
            shape = (*(shape[:-1] if len(shape) > 1 else shape), None)
        return self._lookup_layer.output_spec(shape)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the output for strings of a shape."""
        return self.string_output(KerasTensor(input_shape, STRING)).shape

    def call(self, inputs: Any) -> Any:
        """Refuses numbers inside of programs."""
        raise TypeError(
            f"{self.describe()} takes texts, and its input holds numbers; begin the model with "
            "Input(shape, dtype='string')"
        )

    # Description.

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data.

        Raises:
            TypeError: if `standardize` or `split` is a lambda, which is code and not data.
        """
        lookup = self._lookup_layer
        return {
            **super().get_config(),
            "max_tokens": lookup.max_tokens,
            "standardize": serialize_keras_object(self._standardize),
            "split": serialize_keras_object(self._split),
            "ngrams": self._ngrams_arg,
            "output_mode": self._output_mode,
            "output_sequence_length": self._output_sequence_length,
            "pad_to_max_tokens": lookup.pad_to_max_tokens,
            "sparse": lookup.sparse,
            "ragged": False,
            "vocabulary": lookup.input_vocabulary,
            "idf_weights": lookup.input_idf_weights,
            "encoding": self._encoding,
            "vocabulary_size": self.vocabulary_size(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a layer from its config."""
        refuse_path(cls, config.get("vocabulary"))
        arguments = dict(config)
        for name in ("standardize", "split"):
            if isinstance(arguments.get(name), dict):
                arguments[name] = deserialize_keras_object(arguments[name])
        if isinstance(arguments.get("ngrams"), list):
            arguments["ngrams"] = tuple(arguments["ngrams"])
        if arguments.get("vocabulary") is None:
            arguments.pop("vocabulary_size", None)  # what was learned brings it along
        return super().from_config(arguments)

    def get_build_config(self) -> dict[str, Any] | None:
        """What was learned, or read from a file."""
        return self._lookup_layer.get_build_config()

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Takes what :meth:`get_build_config` gave."""
        self._lookup_layer.build_from_config(config)
        self.built = self._lookup_layer.built

    def save_assets(self, folder: str) -> None:
        """Writes a learned vocabulary to ``vocabulary.txt``, a token a line."""
        self._lookup_layer.save_assets(folder)

    def load_assets(self, folder: str) -> None:
        """Reads what :meth:`save_assets` wrote, here or in Keras."""
        self._lookup_layer.load_assets(folder)
        self.built = self._lookup_layer.built


def _check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value is not None and not callable(value) and value not in allowed:
        raise ValueError(
            f"Unknown value for `{name}` argument of layer TextVectorization. If restricting to "
            f"strings, `{name}` must be one of {allowed}. It may also be None or a callable. "
            f"Received: {name}={value!r}"
        )
