"""Vectors for whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import constraints, initializers, ops, regularizers
from handmill.errors import warn_caller
from handmill.ir.shapes import FLOATS
from handmill.layers.core.quantized_table import QuantizedTableLayer
from handmill.primitives.int8 import unpack_int4
from handmill.primitives.loss import check_labels, uncast

_EXACT = {"bfloat16": 1 << 8, "float32": 1 << 24}
"""Up to where these dtypes hold every whole number."""


class Embedding(QuantizedTableLayer):
    """Gives each whole number from 0 to ``input_dim - 1`` a vector that is learned.

    A number outside that range is refused, with its row, before anything is written.

    Args:
        input_dim: how many numbers there are.
        output_dim: the length of the vectors.
        embeddings_initializer: initial values of the vectors.
        embeddings_regularizer: penalty on the vectors.
        embeddings_constraint: condition on the vectors.
        mask_zero: whether 0 is padding, which layers behind, losses and metrics leave out.
        weights: the vectors, of shape ``(input_dim, output_dim)``, or a list that holds them.
        lora_rank: trains two small tables of so many columns and rows, whose product is added to
            the vectors, in their place (:meth:`enable_lora`).
        lora_alpha: the factor of that product, times ``lora_rank``; default: ``lora_rank``.
        quantization_config: how a layer whose dtype policy is a quantized one computes
            (:meth:`quantize`).
        sparse_rows: whether a step updates only the rows that its batch uses, with their slots in
            the optimizer, so that its time does not depend on ``input_dim``. SGD without momentum
            and Adagrad give the same numbers as otherwise; momentum, and the means of Adam and
            RMSprop, stay as they are while a row is not used. What needs the whole table (a
            regularizer, a constraint, ``use_ema``, accumulated gradients, other optimizers) is
            refused. Not an argument of Keras.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, ...)``

    Output shape:
        ``(batch, ..., output_dim)``

    Raises:
        ValueError: if a size is not a positive integer.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import Embedding
        >>> table = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
        >>> Embedding(3, 2, weights=table)(np.array([2, 1]))
        array([[3., 4.],
               [1., 2.]], dtype=float32)
    """

    _table_name = "embeddings"

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        *,
        sparse_rows: bool = False,
        **kwargs: Any,
    ) -> None:
        for name, size in (("input_dim", input_dim), ("output_dim", output_dim)):
            whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
            if not whole or size <= 0:
                raise ValueError(
                    f"`{name}` must be a positive integer. Received: {name}={size!r} (of type "
                    f"{type(size).__name__})"
                )
        if sparse_rows and (embeddings_regularizer or embeddings_constraint):
            raise ValueError(
                "`sparse_rows=True` updates only the rows that a step uses, but a regularizer or "
                "constraint is a condition on all of them. Leave out one of both. Received: "
                f"embeddings_regularizer={embeddings_regularizer!r}, "
                f"embeddings_constraint={embeddings_constraint!r}"
            )
        if kwargs.pop("input_length", None) is not None:
            warn_caller(
                "Argument `input_length` is deprecated: the length follows from the data. Remove "
                "it.",
            )
        super().__init__(
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            quantization_config=quantization_config,
            **kwargs,
        )
        self.input_dim = int(input_dim)
        self.output_dim = int(output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)
        self.mask_zero = mask_zero
        self.sparse_rows = bool(sparse_rows)
        self.supports_masking = bool(mask_zero)
        # The rows that are taken are converted, not the whole table.
        self.autocast = False
        if weights is not None:
            self.build()
            single = isinstance(weights, list) and len(weights) == 1
            self.set_weights(weights if single else [weights])

    def build(self, input_shape: Any = None) -> None:
        """Makes the vectors."""
        if self.built:
            return
        table = self._add_table(
            (self.input_dim, self.output_dim),
            self.embeddings_initializer,
            self.embeddings_regularizer,
            self.embeddings_constraint,
        )
        if self.sparse_rows and self.quantization_mode is None:
            table.sparse_rows = True
        self._enable_lora_from_start()

    @property
    def embeddings(self) -> Any:
        """The vectors, after :meth:`enable_lora` with what is added to it."""
        return self._adapted_table()

    @embeddings.setter
    def embeddings(self, value: Any) -> None:
        self._embeddings = value

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        dtype = ops.dtype(inputs)
        if self.input_dim > _EXACT.get(dtype, self.input_dim):
            raise ValueError(
                f"{self.describe()}: its input is {dtype}, which cannot hold each number up to "
                f"{self.input_dim - 1}: begin the model with Input(..., dtype='int32')"
            )
        # 2^32 + 1 is 1 once it is an int32, and NaN is 0: what was given is looked at.
        numbers = uncast(inputs, ("int64", *FLOATS))
        numbers = check_labels(numbers, self.input_dim, "embedding index")
        if self.lora_enabled and type(self).embeddings is Embedding.embeddings:
            a, b, factor = self._lora  # for the rows that are taken, not for the whole table
            added = ops.multiply(ops.matmul(ops.take(a, numbers, axis=0), b), factor)
            outputs = ops.add(self._rows_of_table(numbers), added)
        elif self._rounds:
            outputs = self._rows_of_table(numbers)
        else:
            outputs = ops.take(self.embeddings, numbers, axis=0)
        return ops.cast(outputs, self.compute_dtype)

    embeddings_scale: Any
    embeddings_zero: Any
    _by_rows = True
    _has_inputs = False  # ReversibleEmbedding multiplies vectors that differ at each call

    def _table_matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Vectors are what inputs are multiplied with where logits are made of them."""
        return shape[1], shape[0]

    def _scale_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A scale for each vector."""
        return (shape[0],)

    def _rows_of_table(self, numbers: Any) -> Any:
        """The vectors of the table itself."""
        rows = ops.take(self._table, numbers, axis=0)
        if self.quantize_aware is not None:
            return self._simulated_rows(rows)
        if self.quantization_mode is None:
            return rows
        scale = ops.take(self.embeddings_scale, numbers, axis=0)
        if self.quantization_mode == "int4":
            rows = unpack_int4(rows, self.output_dim)
        rows = ops.cast(rows, "float32")
        if self._block_size() <= 0:
            return ops.divide(rows, ops.expand_dims(scale, -1))
        groups = ops.cast(self.g_idx, "int32")
        zero = ops.cast(ops.take(self.embeddings_zero, numbers, axis=0), "float32")
        step, zero = (ops.take(x, groups, axis=-1) for x in (scale, zero))
        return ops.multiply(ops.subtract(rows, zero), step)

    def _simulated_rows(self, rows: Any) -> Any:
        """The numbers that integers will stand for: of each vector by itself, as of the table."""
        return self._simulated_numbers(ops.cast(rows, "float32"))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """True where a number is not the padding; None without ``mask_zero``."""
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_initializer": initializers.serialize(self.embeddings_initializer),
            "embeddings_regularizer": regularizers.serialize(self.embeddings_regularizer),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "embeddings_constraint": constraints.serialize(self.embeddings_constraint),
            "mask_zero": self.mask_zero,
            **({"sparse_rows": True} if self.sparse_rows else {}),  # Keras does not know the word
        }
