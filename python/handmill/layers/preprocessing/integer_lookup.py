"""Whole numbers by their place in a vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops
from handmill.arguments import whole_number
from handmill.ir.op import Array
from handmill.ir.trace import apply
from handmill.layers.preprocessing.adapting import numbers_of
from handmill.layers.preprocessing.index_lookup import (
    IN_NO_CATEGORY,
    IndexLookup,
    as_key,
    no_vocabulary,
)
from handmill.layers.preprocessing.strings import is_string
from handmill.layers.preprocessing.vocabulary import find
from handmill.primitives.hashing import HASH_BIN
from handmill.primitives.loss import WHOLE, check_labels, uncast


class IntegerLookup(IndexLookup):
    """Gives each whole number of a vocabulary its place there. It runs inside of programs.

    Args:
        max_tokens: how many places there are at most, those of mask and unknown numbers included.
        num_oov_indices: how many places there are for numbers that are not in the vocabulary; more
            than one: by the remainder, or by their hash. None of them: such a number is an error.
        mask_token: the number that means padding: place 0 in ``output_mode="int"``, left out
            otherwise. None: there is none.
        oov_token: with ``invert=True``, the number for other places.
        vocabulary: numbers, or the path of a text file with one a line; else call :meth:`adapt`.
        vocabulary_dtype: must be ``"int64"``.
        idf_weights: with ``output_mode="tf_idf"`` and a vocabulary, a weight for each number.
        invert: whether places become numbers.
        output_mode: ``"int"``: places; ``"one_hot"``: a row for each number; ``"multi_hot"``,
            ``"count"``, ``"tf_idf"``: a row for each sample.
        sparse: not supported; must be False.
        pad_to_max_tokens: whether rows have ``max_tokens`` columns.
        oov_method: ``"floormod"``, or ``"farmhash"``, which NumPy computes between kernels.
        salt: with ``"farmhash"``, an integer or two: the key of the hash, which is SipHash then.
        name: the layer's name.
        **kwargs: ``trainable`` and the like.

    Example:
        >>> from handmill.layers import IntegerLookup
        >>> layer = IntegerLookup(vocabulary=[12, 36, 1138, 42])
        >>> layer([[12, 1138, 42], [42, 1000, 36]])
        array([[1, 3, 4],
               [4, 0, 2]])
    """

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: int | None = None,
        oov_token: int | None = -1,
        vocabulary: Any = None,
        vocabulary_dtype: str = "int64",
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        sparse: bool = False,
        pad_to_max_tokens: bool = False,
        oov_method: str = "floormod",
        salt: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if max_tokens is not None and max_tokens <= 1:
            raise ValueError(
                "If `max_tokens` is set for `IntegerLookup`, it must be greater than 1. "
                f"Received: max_tokens={max_tokens}"
            )
        if num_oov_indices < 0:
            raise ValueError(
                "The value of `num_oov_indices` argument for `IntegerLookup` must >= 0. "
                f"Received: num_oov_indices={num_oov_indices}"
            )
        if vocabulary_dtype != "int64":
            raise ValueError(
                "The value of `vocabulary_dtype` argument for `IntegerLookup` must be 'int64'. "
                f"Received: vocabulary_dtype={vocabulary_dtype!r}"
            )
        if mask_token is not None:
            whole_number("`mask_token`", mask_token)
        super().__init__(
            max_tokens=max_tokens,
            num_oov_indices=num_oov_indices,
            mask_token=mask_token,
            oov_token=oov_token,
            vocabulary=vocabulary,
            vocabulary_dtype=vocabulary_dtype,
            idf_weights=idf_weights,
            invert=invert,
            output_mode=output_mode,
            sparse=sparse,
            pad_to_max_tokens=pad_to_max_tokens,
            oov_method=oov_method,
            name=name,
            salt=salt,
            **kwargs,
        )
        self.autocast = False  # a float32 holds more whole numbers than a bfloat16

    def _as_array(self, x: Any) -> Array:
        array = np.asarray(x)
        if array.dtype.kind not in "biuf":
            raise ValueError(
                f"{self.describe()} takes whole numbers. Received an array of dtype {array.dtype}"
            )
        return array.astype(np.int64)

    def _to_learn(self, data: Any) -> Array:
        return numbers_of(data, self.describe(), whole=True).astype(np.int64)

    def _tokens_of(self, values: Any) -> list[Any]:
        if isinstance(values, list) and any(isinstance(v, str) for v in values):
            try:
                values = [int(v) for v in values]
            except ValueError as error:
                raise ValueError(f"{self.describe()}: no whole number: {error}") from None
        if isinstance(values, list | tuple):
            for value in values:
                if isinstance(value, float) and not value.is_integer():
                    raise ValueError(f"{self.describe()}: {value} is no whole number")
        found: list[Any] = self._as_array(values).reshape(-1).tolist()
        return found

    def takes_strings(self, inputs: Any) -> bool:
        """Never; strings are refused."""
        if is_string(inputs):
            raise ValueError(
                f"{self.describe()} takes whole numbers, and its input holds strings; use "
                "StringLookup"
            )
        return False

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        x = ops.cast(uncast(inputs, WHOLE), "int64")  # a float32 holds those up to 2^24 only
        if not self.is_ready:  # models are put together before adapt(); what runs is refused
            missing = check_labels(ops.minimum(x, -1), 0, f"{no_vocabulary(self)}: place")
            return self._encoded(missing)
        if self.invert:
            return self._inverted(x)
        one = self.num_oov_indices == 1
        found = find(x, self._vocabulary, self._oov_start() if one else IN_NO_CATEGORY)
        if self.num_oov_indices > 1:
            found = ops.where(ops.less(found, np.int64(0)), self._bin(x), found)
        if self.mask_token is not None:
            place = np.int64(0 if self.output_mode == "int" else self.vocabulary_size())
            found = ops.where(ops.equal(x, np.int64(self.mask_token)), place, found)
        if self.num_oov_indices == 0:
            what = "place in the vocabulary (num_oov_indices=0), where -1 is not in it,"
            found = check_labels(found, self.vocabulary_size() + 1, what)
        if self.mask_token is not None and self.output_mode != "int":
            masked = ops.equal(x, np.int64(self.mask_token))
            found = ops.where(masked, np.int64(IN_NO_CATEGORY), found)
        return self._encoded(found)

    def _bin(self, x: Any) -> Any:
        bins = self.num_oov_indices
        if self.oov_method == "floormod":
            found = ops.mod(x, np.int64(bins))
        else:
            found = apply(HASH_BIN, x, bins=bins, key=as_key(self.salt))
        return found + np.int64(self._oov_start())

    def _inverted(self, x: Any) -> Any:
        table = self.get_vocabulary()
        if not table:
            return ops.full_like(x, self.oov_token)
        inside = ops.logical_and(ops.greater_equal(x, np.int64(0)), ops.less(x, len(table)))
        found = ops.take(np.asarray(table, np.int64), ops.where(inside, x, np.int64(0)))
        return ops.where(inside, found, np.int64(self.oov_token))
