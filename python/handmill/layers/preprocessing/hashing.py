"""Categories by their hash."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import config as process
from handmill import ops
from handmill.arguments import whole_number
from handmill.ir.op import Array
from handmill.ir.shapes import FLOATS
from handmill.ir.trace import apply
from handmill.layers.preprocessing.encoding import (
    ROWS,
    encoded,
    encoded_on_host,
    encoded_shape,
    refuse_sparse,
)
from handmill.layers.preprocessing.index_lookup import as_key, checked_salt
from handmill.layers.preprocessing.strings import StringLayer, as_strings
from handmill.layers.preprocessing.tokens import as_bytes
from handmill.layers.symbolic import KerasTensor
from handmill.primitives.fingerprints import bins_of
from handmill.primitives.hashing import HASH_BIN
from handmill.primitives.loss import WHOLE, uncast


class Hashing(StringLayer):
    """Sorts strings or whole numbers into bins by their hash; there is nothing to learn.

    The bins are those of Keras: FarmHash, or with a ``salt`` SipHash, of the string or of the
    number's digits. Whole numbers may come inside of a model, where NumPy hashes them between
    kernels; strings as in :class:`StringLookup`.

    Args:
        num_bins: how many bins there are, that of ``mask_value`` included.
        mask_value: what means padding, in bin 0 alone.
        salt: an integer or two: the key of the hash.
        output_mode: ``"int"``: bins; ``"one_hot"``: a row for each; ``"multi_hot"``, ``"count"``:
            a row for each sample.
        sparse: not supported; must be False.
        **kwargs: ``name``, ``dtype`` and the like.

    Example:
        >>> from handmill.layers import Hashing
        >>> Hashing(num_bins=3)([["A"], ["B"], ["C"], ["D"], ["E"]])
        array([[1],
               [0],
               [1],
               [1],
               [2]])
    """

    def __init__(
        self,
        num_bins: int,
        mask_value: Any = None,
        salt: Any = None,
        output_mode: str = "int",
        sparse: bool = False,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("dtype") is None:
            kwargs["dtype"] = "int64" if output_mode == "int" else process.floatx()
        super().__init__(**kwargs)
        if num_bins is None or whole_number("`num_bins`", num_bins) <= 0:
            raise ValueError(
                "The `num_bins` for `Hashing` cannot be `None` or non-positive values. Received: "
                f"num_bins={num_bins}."
            )
        if output_mode == "int" and self.dtype_policy.name not in ("int32", "int64"):
            raise ValueError(
                "When `output_mode=\"int\"`, `dtype` should be an integer type, 'int32' or "
                f"'int64'. Received: dtype={kwargs['dtype']}"
            )
        if output_mode not in ("int", *ROWS):
            raise ValueError(
                f"Invalid value for argument `output_mode`. Expected one of {('int', *ROWS)}. "
                f"Received: output_mode={output_mode}"
            )
        if sparse and output_mode == "int":
            raise ValueError(
                '`sparse` may only be true if `output_mode` is `"one_hot"`, `"multi_hot"`, or '
                f'`"count"`. Received: sparse={sparse} and output_mode={output_mode}'
            )
        refuse_sparse(sparse)
        self.num_bins = num_bins
        self.mask_value = mask_value
        self.output_mode = output_mode
        self.sparse = sparse
        self.salt = checked_salt("Hashing", salt)
        self.autocast = False  # hashed are the whole numbers that come in

    @property
    def _masks(self) -> bool:
        """Whether bin 0 is that of the mask value."""
        return self.mask_value is not None and self.num_bins > 1

    def call(self, inputs: Any) -> Any:
        """Computes the output for numbers."""
        x = uncast(inputs, WHOLE)  # a float32 holds whole numbers up to 2^24 only
        if ops.dtype(x) in FLOATS or ops.dtype(x) == "bool":
            x = ops.cast(x, "int64")
        found = apply(HASH_BIN, x, bins=self.num_bins - self._masks, key=as_key(self.salt))
        if self._masks:
            masked = ops.equal(x, self.mask_value)
            found = ops.where(masked, np.int64(0), found + np.int64(1))
        return encoded(found, self.output_mode, self.num_bins, self.compute_dtype)

    def on_strings(self, inputs: Any) -> Array:
        """Computes the output for strings, in Python."""
        array = as_strings(inputs, self.describe())
        ids = bins_of(as_bytes(array), self.num_bins - self._masks, self.salt).reshape(array.shape)
        if self._masks:
            ids = np.where(array == self.mask_value, 0, ids + 1)
        return encoded_on_host(ids, self.output_mode, self.num_bins, self.compute_dtype)

    def string_output(self, inputs: Any) -> KerasTensor:
        """Returns what stands for the output for strings in a model."""
        shape = encoded_shape(inputs.shape, self.output_mode, self.num_bins)
        return KerasTensor(shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "num_bins": self.num_bins,
            "salt": self.salt,
            "mask_value": self.mask_value,
            "output_mode": self.output_mode,
            "sparse": self.sparse,
        }
