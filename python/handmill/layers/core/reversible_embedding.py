"""Vectors for whole numbers, and back from vectors to a score for each number."""

from __future__ import annotations

import math
from typing import Any

from handmill import ops
from handmill.ir.trace import with_mask
from handmill.layers.core.embedding import Embedding


class ReversibleEmbedding(Embedding):
    """An embedding that also turns vectors into logits: ``layer(x, reverse=True)``.

    A model of language can so begin and end with the same weights.

    Args:
        input_dim: how many numbers there are.
        output_dim: the length of the vectors.
        tie_weights: whether the way back multiplies with the vectors themselves, instead of a
            matrix of its own.
        embeddings_initializer: initial values of the vectors, and of that matrix.
        embeddings_regularizer: penalty on the vectors.
        embeddings_constraint: condition on the vectors.
        mask_zero: whether 0 is padding.
        reverse_dtype: the dtype of the way back; default: that of the operands.
        logit_soft_cap: a bound ``c`` on the logits, which become ``c * tanh(logits / c)``.
        **kwargs: ``name`` and the like.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import ReversibleEmbedding
        >>> layer = ReversibleEmbedding(5, 3)
        >>> layer(layer(np.array([[0, 4]])), reverse=True).shape
        (1, 2, 5)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        tie_weights: bool = True,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        reverse_dtype: str | None = None,
        logit_soft_cap: float | None = None,
        **kwargs: Any,
    ) -> None:
        if logit_soft_cap is not None and not 0 < logit_soft_cap < math.inf:
            raise ValueError(
                "`logit_soft_cap` must be a finite number above 0. Received: "
                f"logit_soft_cap={logit_soft_cap}"
            )
        self.tie_weights = tie_weights  # before `weights` among kwargs builds the layer
        super().__init__(
            input_dim,
            output_dim,
            embeddings_initializer=embeddings_initializer,
            embeddings_regularizer=embeddings_regularizer,
            embeddings_constraint=embeddings_constraint,
            mask_zero=mask_zero,
            **kwargs,
        )
        self.reverse_dtype = reverse_dtype
        self.logit_soft_cap = logit_soft_cap

    def build(self, input_shape: Any = None) -> None:
        """Makes the vectors, and the matrix for the way back."""
        if self.built:
            return
        super().build(input_shape)
        if not self.tie_weights:
            self.reverse_embeddings = self.add_weight(
                name="reverse_embeddings",
                shape=(self.output_dim, self.input_dim),
                initializer=self.embeddings_initializer,
            )

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        """Computes vectors from numbers, or logits from vectors."""
        if not reverse:
            return with_mask(super().call(inputs), super().compute_mask(inputs))
        if self._rounds and self.tie_weights:
            return self._capped(self._quantized_product(inputs))
        kernel = ops.transpose(self.embeddings) if self.tie_weights else self.reverse_embeddings
        if self.reverse_dtype is not None:
            inputs = ops.cast(inputs, self.reverse_dtype)
            kernel = ops.cast(kernel, self.reverse_dtype)
        return self._capped(ops.matmul(inputs, kernel))

    def _table_matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The vectors, which are what both ways multiply with."""
        if not self.tie_weights:
            raise NotImplementedError(
                f"{self.describe()} has a matrix of its own for the way back, which is not "
                "quantized; with `tie_weights=True` it has none."
            )
        return super()._table_matrix(shape)

    def _capped(self, logits: Any) -> Any:
        cap = self.logit_soft_cap
        return logits if cap is None else ops.multiply(ops.tanh(ops.divide(logits, cap)), cap)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: the numbers' mask is attached by :meth:`call`, and logits have none."""

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "tie_weights": self.tie_weights,
            "reverse_dtype": self.reverse_dtype,
            "logit_soft_cap": self.logit_soft_cap,
        }
