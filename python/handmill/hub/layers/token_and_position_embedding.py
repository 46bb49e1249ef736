"""Vectors of tokens with vectors of places added."""

from __future__ import annotations

from typing import Any

from handmill import initializers, ops
from handmill.hub.layers.position_embedding import PositionEmbedding
from handmill.ir.trace import mask_of, with_mask
from handmill.layers.core.reversible_embedding import ReversibleEmbedding
from handmill.layers.layer import Layer


class TokenAndPositionEmbedding(Layer):
    """A learned vector for each token, and one for its place, added up.

    Args:
        vocabulary_size: how many tokens there are.
        sequence_length: how many places there are at most.
        embedding_dim: the length of the vectors.
        tie_weights: whether ``token_embedding(x, reverse=True)`` uses the vectors of the tokens.
        embeddings_initializer: initial values of both.
        mask_zero: whether token 0 is padding.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, time)``

    Output shape:
        ``(batch, time, embedding_dim)``

    Raises:
        ValueError: if a size is not a positive integer.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.layers import TokenAndPositionEmbedding
        >>> TokenAndPositionEmbedding(10, 6, 4)(np.array([[1, 2, 3]])).shape
        (1, 3, 4)
    """

    def __init__(
        self,
        vocabulary_size: int,
        sequence_length: int,
        embedding_dim: int,
        tie_weights: bool = True,
        embeddings_initializer: Any = "uniform",
        mask_zero: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.sequence_length = sequence_length
        self.embedding_dim = embedding_dim
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.token_embedding = ReversibleEmbedding(
            vocabulary_size,
            embedding_dim,
            tie_weights=tie_weights,
            embeddings_initializer=self.embeddings_initializer,
            mask_zero=mask_zero,
            dtype=self.dtype_policy,
            name="token_embedding",
        )
        self.position_embedding = PositionEmbedding(
            sequence_length,
            initializer=self.embeddings_initializer,
            dtype=self.dtype_policy,
            name="position_embedding",
        )
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Makes the vectors."""
        self.token_embedding.build(input_shape)
        self.position_embedding.build((*input_shape, self.embedding_dim))

    def call(self, inputs: Any, start_index: Any = 0, positions: Any = None) -> Any:
        """Looks the vectors up.

        Args:
            inputs: tokens (B, T).
            start_index: the place of the first; or one for each row (B,).
            positions: the places of all, (T,) or (B, T), instead.
        """
        x = self.token_embedding(inputs)
        places = self.position_embedding(x, start_index=start_index, positions=positions)
        return with_mask(ops.add(x, places), mask_of(x))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """True where a token is no padding; None without ``mask_zero``."""
        return ops.not_equal(inputs, 0) if self.token_embedding.mask_zero else None

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "sequence_length": self.sequence_length,
            "embedding_dim": self.embedding_dim,
            "tie_weights": self.token_embedding.tie_weights,
            "embeddings_initializer": initializers.serialize(self.embeddings_initializer),
            "mask_zero": self.token_embedding.mask_zero,
        }
