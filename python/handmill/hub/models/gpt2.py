"""GPT-2: a transformer that continues a text (Radford et al., 2019)."""

from __future__ import annotations

from functools import partial
from typing import Any

from handmill import activations, initializers, ops
from handmill.hub.layers.activations import gelu_approximate
from handmill.hub.layers.position_embedding import PositionEmbedding
from handmill.hub.layers.transformer_decoder import TransformerDecoder
from handmill.hub.models.backbone import Backbone, block_weights, check_size
from handmill.hub.models.causal_lm import CausalLM
from handmill.layers.core.input_layer import Input
from handmill.layers.core.reversible_embedding import ReversibleEmbedding
from handmill.layers.merging.merge import Add
from handmill.layers.normalization.layer_normalization import LayerNormalization
from handmill.layers.regularization.dropout import Dropout


def _weights(
    vocabulary_size: int,
    num_layers: int,
    hidden_dim: int,
    intermediate_dim: int,
    max_sequence_length: int,
    tables: int,
) -> int:
    """How many weights the blocks of these sizes have."""
    around = tables * vocabulary_size + max_sequence_length + 2
    return num_layers * block_weights(hidden_dim, intermediate_dim) + around * hidden_dim


class GPT2Backbone(Backbone):
    """The blocks of GPT-2: tokens (B, T) -> vectors (B, T, C).

    Args:
        vocabulary_size: how many tokens there are.
        num_layers: how many blocks.
        num_heads: heads of the attention in each.
        hidden_dim: the width C.
        intermediate_dim: the width between the dense layers of a block.
        dropout: the share of numbers that training leaves out.
        max_sequence_length: how many places there are.
        dtype: of all layers.
        layer_norm_epsilon: added to variances. Not an argument of KerasHub.
        activation: between the dense layers; default: GELU by its tanh formula. Not an argument of
            KerasHub.
        tie_word_embeddings: whether logits are products with the vectors of the tokens. Not an
            argument of KerasHub.
        **kwargs: those of a model, such as ``name``.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.models import GPT2Backbone
        >>> model = GPT2Backbone(20, 1, 2, 8, 16, max_sequence_length=12)
        >>> ids = np.array([[3, 1, 4]])
        >>> model({"token_ids": ids, "padding_mask": np.ones_like(ids)}).shape
        (1, 3, 8)
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        dropout: float = 0.1,
        max_sequence_length: int = 1024,
        dtype: Any = None,
        *,
        layer_norm_epsilon: float = 1e-5,
        activation: Any = gelu_approximate,
        tie_word_embeddings: bool = True,
        **kwargs: Any,
    ) -> None:
        check_size(
            type(self).__name__,
            dtype,
            partial(_weights, tables=1 if tie_word_embeddings else 2),
            vocabulary_size=vocabulary_size,
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            intermediate_dim=intermediate_dim,
            max_sequence_length=max_sequence_length,
        )
        normal = initializers.RandomNormal(stddev=0.02)
        token_embedding = ReversibleEmbedding(
            vocabulary_size,
            hidden_dim,
            tie_weights=tie_word_embeddings,
            embeddings_initializer=normal,
            dtype=dtype,
            name="token_embedding",
        )
        position_embedding = PositionEmbedding(
            max_sequence_length, initializer=normal, dtype=dtype, name="position_embedding"
        )
        embeddings_add = Add(dtype=dtype, name="embeddings_add")
        embeddings_dropout = Dropout(dropout, dtype=dtype, name="embeddings_dropout")
        transformer_layers = [
            TransformerDecoder(
                intermediate_dim,
                num_heads,
                dropout=dropout,
                activation=activation,
                layer_norm_epsilon=layer_norm_epsilon,
                kernel_initializer=normal,
                normalize_first=True,
                dtype=dtype,
                name=f"transformer_layer_{i}",
            )
            for i in range(num_layers)
        ]
        layer_norm = LayerNormalization(epsilon=layer_norm_epsilon, dtype=dtype, name="layer_norm")
        token_ids = Input((None,), dtype="int32", name="token_ids")
        padding_mask = Input((None,), dtype="int32", name="padding_mask")
        x = token_embedding(token_ids)
        x = embeddings_dropout(embeddings_add((x, position_embedding(x))))
        for layer in transformer_layers:
            x = layer(x, decoder_padding_mask=padding_mask)
        super().__init__(
            inputs={"token_ids": token_ids, "padding_mask": padding_mask},
            outputs=layer_norm(x),
            dtype=dtype,
            **kwargs,
        )
        self.token_embedding = token_embedding
        self.position_embedding = position_embedding
        self.embeddings_add = embeddings_add
        self.embeddings_dropout = embeddings_dropout
        self.transformer_layers = transformer_layers
        self.layer_norm = layer_norm
        self.vocabulary_size = vocabulary_size
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.dropout = dropout
        self.max_sequence_length = max_sequence_length
        self.layer_norm_epsilon = layer_norm_epsilon
        self.activation = activations.get(activation)
        self.tie_word_embeddings = tie_word_embeddings


class GPT2CausalLM(CausalLM):
    """GPT-2 with logits of the next token: tokens (B, T) -> logits (B, T, V).

    Args:
        backbone: a :class:`GPT2Backbone`.
        preprocessor: what turns strings into tokens, or None.
        **kwargs: those of a model, such as ``name``.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.models import GPT2Backbone, GPT2CausalLM
        >>> model = GPT2CausalLM(GPT2Backbone(20, 1, 2, 8, 16, max_sequence_length=12))
        >>> ids = np.array([[3, 1, 4]])
        >>> model({"token_ids": ids, "padding_mask": np.ones_like(ids)}).shape
        (1, 3, 20)
        >>> logits, hidden, cache = model.call_with_cache(ids, model.make_cache(1, 12), 0)
        >>> logits.shape, len(cache), cache[0][0].shape
        ((1, 3, 20), 1, (1, 12, 2, 4))
    """

    def cache_shapes(self, batch_size: int, length: int) -> list[tuple[int, ...]]:
        """The shape of keys, and of values, of each layer."""
        heads = self.backbone.num_heads
        shape = (batch_size, length, heads, self.backbone.hidden_dim // heads)
        return [shape] * self.backbone.num_layers

    def embed(self, token_ids: Any, start: Any) -> Any:
        """The vectors of tokens, with those of their places added."""
        x = self.backbone.token_embedding(token_ids)
        return ops.add(x, self.backbone.position_embedding(x, start_index=start))
