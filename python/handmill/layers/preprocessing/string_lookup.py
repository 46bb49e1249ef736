"""Strings as numbers."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.layers.preprocessing.index_lookup import IndexLookup, no_vocabulary
from handmill.layers.preprocessing.strings import as_strings, checked_encoding, text_array
from handmill.layers.symbolic import STRING, KerasTensor
from handmill.primitives.fingerprints import bins_of

_UNKNOWN = -2
"""Stands for strings whose number has yet to be found; the mask's may be -1."""


class StringLookup(IndexLookup):
    """Gives each string of a vocabulary its number, or numbers their strings back.

    It computes in Python: on arrays of strings (in the ``map`` of a data set, for example), or as
    one of the first layers of a functional model whose input has ``dtype="string"``.

    Args:
        max_tokens: how many numbers there are at most, those of mask and unknown strings included.
        num_oov_indices: how many numbers stand for strings that are not in the vocabulary; more
            than one: by their hash. None of them: such a string is an error.
        mask_token: the string that means padding: number 0 in ``output_mode="int"``, left out
            otherwise. None: there is none.
        oov_token: with ``invert=True``, the string for other numbers.
        vocabulary: strings, or the path of a text file with one a line; else call :meth:`adapt`.
        idf_weights: with ``output_mode="tf_idf"`` and a vocabulary, a weight for each string.
        invert: whether numbers become strings.
        output_mode: ``"int"``: numbers; ``"one_hot"``: a row for each string; ``"multi_hot"``,
            ``"count"``, ``"tf_idf"``: a row for each sample.
        pad_to_max_tokens: whether rows have ``max_tokens`` columns.
        sparse: not supported; must be False.
        encoding: how bytes are read.
        name: the layer's name.
        salt: an integer or two: the key with which unknown strings are hashed (SipHash).
        **kwargs: ``trainable`` and the like.

    Example:
        >>> from handmill.layers import StringLookup
        >>> layer = StringLookup(vocabulary=["a", "b", "c"])
        >>> layer([["a", "c", "d"], ["d", "a", "b"]])
        array([[1, 3, 0],
               [0, 1, 2]])
        >>> layer.get_vocabulary()
        ['[UNK]', 'a', 'b', 'c']
    """

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: str | None = None,
        oov_token: str | None = "[UNK]",
        vocabulary: Any = None,
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        pad_to_max_tokens: bool = False,
        sparse: bool = False,
        encoding: str = "utf-8",
        name: str | None = None,
        salt: Any = None,
        **kwargs: Any,
    ) -> None:
        self.encoding = checked_encoding(encoding)
        kwargs.pop("vocabulary_dtype", None)  # of a config
        super().__init__(
            max_tokens=max_tokens,
            num_oov_indices=num_oov_indices,
            mask_token=mask_token,
            oov_token=oov_token,
            vocabulary=vocabulary,
            idf_weights=idf_weights,
            invert=invert,
            output_mode=output_mode,
            pad_to_max_tokens=pad_to_max_tokens,
            sparse=sparse,
            vocabulary_dtype="string",
            salt=salt,
            name=name,
            **kwargs,
        )

    def _as_array(self, x: Any) -> Array:
        return as_strings(x, self.describe(), self.encoding)

    def _tokens_of(self, values: Any) -> list[Any]:
        found: list[Any] = self._as_array(values).reshape(-1).tolist()
        return found

    def takes_strings(self, inputs: Any) -> bool:
        """Always: other things are refused."""
        return not isinstance(inputs, KerasTensor) or super().takes_strings(inputs) or self.invert

    def on_strings(self, inputs: Any) -> Array:
        """Computes the output, in Python."""
        if self.invert:
            return self._strings_of(inputs)
        array = self._as_array(inputs)
        flat = array.reshape(-1).tolist()
        return self.encode(self.numbers_of(flat).reshape(array.shape))

    def numbers_of(self, strings: list[Any]) -> Array:
        """Returns the number of each string, or of each in UTF-8 if they are bytes (int64).

        Raises:
            RuntimeError: if there is no vocabulary.
        """
        if not self.is_ready:
            raise RuntimeError(no_vocabulary(self))
        in_bytes = bool(strings) and isinstance(strings[0], bytes)
        vocabulary = self._vocabulary or self._numbered(())
        known = vocabulary.numbers_of_bytes if in_bytes else vocabulary.numbers
        unknown = self._oov_start() if self.num_oov_indices == 1 else _UNKNOWN
        numbers = map(known.get, strings, repeat(unknown))
        found = np.fromiter(numbers, np.int64, len(strings))
        if self.num_oov_indices != 1:
            self._place_unknown(found, strings, in_bytes)
        return found

    def _place_unknown(self, found: Array, strings: list[Any], in_bytes: bool) -> None:
        places = np.flatnonzero(found == _UNKNOWN)
        if not places.size:
            return
        if self.num_oov_indices == 0:
            shown = [strings[i] for i in places[:10]]
            raise ValueError(
                f"When `num_oov_indices=0` all inputs should be in vocabulary, found OOV values "
                f"{shown}, consider setting `num_oov_indices=1`."
            )
        texts = [strings[i] for i in places.tolist()]
        words = texts if in_bytes else [t.encode("utf-8", "surrogateescape") for t in texts]
        found[places] = bins_of(words, self.num_oov_indices, self.salt) + self._oov_start()

    def _strings_of(self, inputs: Any) -> Array:
        numbers = np.asarray(inputs)
        if numbers.dtype.kind not in "iuf" or (numbers.dtype.kind == "f" and numbers.size == 0):
            raise ValueError(
                f"{self.describe()} turns numbers into strings (invert=True); it received an array "
                f"of dtype {numbers.dtype}"
            )
        if not self.is_ready:
            raise RuntimeError(no_vocabulary(self))
        table = self.get_vocabulary()
        unknown = self.oov_token
        flat = numbers.astype(np.int64).reshape(-1).tolist()
        size = len(table)
        return text_array([table[i] if 0 <= i < size else unknown for i in flat], numbers.shape)

    def string_output(self, inputs: Any) -> KerasTensor:
        """Returns what stands for the output in a model."""
        if self.invert:
            raise ValueError(
                f"{self.describe()} gives strings (invert=True), which programs cannot hold: call "
                "it on what model.predict returns"
            )
        return self.output_spec(inputs.shape)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the output for strings of a shape."""
        return self.string_output(KerasTensor(input_shape, STRING)).shape

    def call(self, inputs: Any) -> Any:
        """Refuses numbers inside of programs."""
        raise TypeError(
            f"{self.describe()} takes strings, and its input holds numbers; begin the model with "
            "Input(shape, dtype='string'), or use IntegerLookup"
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "encoding": self.encoding}
