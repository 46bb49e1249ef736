"""Llama: a transformer that continues a text (Touvron et al., 2023)."""

from __future__ import annotations

from functools import partial
from typing import Any

from handmill import initializers
from handmill.hub.models.backbone import Backbone, check_size
from handmill.hub.models.causal_lm import CausalLM
from handmill.hub.models.llama_layers import LlamaLayerNorm, LlamaTransformerDecoder
from handmill.layers.core.input_layer import Input
from handmill.layers.core.reversible_embedding import ReversibleEmbedding


def _weights(
    vocabulary_size: int,
    num_layers: int,
    num_query_heads: int,
    hidden_dim: int,
    intermediate_dim: int,
    num_key_value_heads: int,
    head_dim: int | None,
    tables: int,
) -> int:
    """How many weights the blocks of these sizes have."""
    width = head_dim or hidden_dim // max(num_query_heads, 1)
    attention = 2 * (num_query_heads + num_key_value_heads) * width
    block = hidden_dim * (attention + 3 * intermediate_dim + 2)
    return num_layers * block + (tables * vocabulary_size + 1) * hidden_dim


class LlamaBackbone(Backbone):
    """The blocks of Llama: tokens (B, T) -> vectors (B, T, C).

    RMS normalization before each part, rotary positions, dense layers with a gate, fewer heads of
    keys and values than of queries, no biases.

    Args:
        vocabulary_size: how many tokens there are.
        num_layers: how many blocks.
        num_query_heads: heads of queries in each.
        hidden_dim: the width C.
        intermediate_dim: the width between the dense layers of a block.
        num_key_value_heads: heads of keys and values in each.
        rope_max_wavelength: the longest wave of the positions, divided by ``2 pi``.
        rope_position_scaling_factor: positions are divided by it.
        rope_frequency_adjustment_factor: by how much long waves are stretched (Llama 3.1).
        rope_low_freq_factor: says which waves are long.
        rope_high_freq_factor: says which waves are short.
        rope_pretraining_sequence_length: how long the first texts were.
        layer_norm_epsilon: added to mean squares.
        dropout: the share of the attention's output that training leaves out.
        dtype: of all layers.
        tie_word_embeddings: whether logits are products with the vectors of the tokens.
        head_dim: the width of a head; default: ``hidden_dim / num_query_heads``. Not an argument
            of KerasHub.
        max_sequence_length: how many places a text may have; None for any number. Not an argument
            of KerasHub.
        **kwargs: those of a model, such as ``name``.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.models import LlamaBackbone
        >>> model = LlamaBackbone(20, 1, 4, 16, 32, 2)
        >>> ids = np.array([[3, 1, 4]])
        >>> model({"token_ids": ids, "padding_mask": np.ones_like(ids)}).shape
        (1, 3, 16)
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_query_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        num_key_value_heads: int,
        rope_max_wavelength: float = 10000,
        rope_position_scaling_factor: float = 1.0,
        rope_frequency_adjustment_factor: float | None = None,
        rope_low_freq_factor: float | None = None,
        rope_high_freq_factor: float | None = None,
        rope_pretraining_sequence_length: int | None = None,
        layer_norm_epsilon: float = 1e-6,
        dropout: float = 0,
        dtype: Any = None,
        tie_word_embeddings: bool = False,
        *,
        head_dim: int | None = None,
        max_sequence_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_size(
            type(self).__name__,
            dtype,
            partial(_weights, head_dim=head_dim, tables=1 if tie_word_embeddings else 2),
            vocabulary_size=vocabulary_size,
            num_layers=num_layers,
            num_query_heads=num_query_heads,
            hidden_dim=hidden_dim,
            intermediate_dim=intermediate_dim,
            num_key_value_heads=num_key_value_heads,
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
        rotary = {
            "max_wavelength": rope_max_wavelength,
            "position_scaling_factor": rope_position_scaling_factor,
            "frequency_adjustment_factor": rope_frequency_adjustment_factor,
            "low_freq_factor": rope_low_freq_factor,
            "high_freq_factor": rope_high_freq_factor,
            "pretraining_sequence_length": rope_pretraining_sequence_length,
        }
        transformer_layers = [
            LlamaTransformerDecoder(
                intermediate_dim,
                num_query_heads,
                num_key_value_heads,
                rotary,
                layer_norm_epsilon=layer_norm_epsilon,
                kernel_initializer=normal,
                dropout=dropout,
                head_dim=head_dim,
                dtype=dtype,
                name=f"transformer_layer_{i}",
            )
            for i in range(num_layers)
        ]
        layer_norm = LlamaLayerNorm(
            epsilon=layer_norm_epsilon, dtype=dtype, name="sequence_output_layernorm"
        )
        token_ids = Input((None,), dtype="int32", name="token_ids")
        padding_mask = Input((None,), dtype="int32", name="padding_mask")
        x = token_embedding(token_ids)
        for layer in transformer_layers:
            x = layer(x, decoder_padding_mask=padding_mask)
        super().__init__(
            inputs={"token_ids": token_ids, "padding_mask": padding_mask},
            outputs=layer_norm(x),
            dtype=dtype,
            **kwargs,
        )
        self.token_embedding = token_embedding
        self.transformer_layers = transformer_layers
        self.layer_norm = layer_norm
        self.vocabulary_size = vocabulary_size
        self.num_layers = num_layers
        self.num_query_heads = num_query_heads
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.num_key_value_heads = num_key_value_heads
        self.rope_max_wavelength = rope_max_wavelength
        self.rope_position_scaling_factor = rope_position_scaling_factor
        self.rope_frequency_adjustment_factor = rope_frequency_adjustment_factor
        self.rope_low_freq_factor = rope_low_freq_factor
        self.rope_high_freq_factor = rope_high_freq_factor
        self.rope_pretraining_sequence_length = rope_pretraining_sequence_length
        self.layer_norm_epsilon = layer_norm_epsilon
        self.dropout = dropout
        self.tie_word_embeddings = tie_word_embeddings
        self.head_dim = head_dim or hidden_dim // num_query_heads
        self.max_sequence_length = max_sequence_length


class LlamaCausalLM(CausalLM):
    """Llama with logits of the next token: tokens (B, T) -> logits (B, T, V).

    Args:
        backbone: a :class:`LlamaBackbone`.
        preprocessor: what turns strings into tokens, or None.
        **kwargs: those of a model, such as ``name``.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.models import LlamaBackbone, LlamaCausalLM
        >>> model = LlamaCausalLM(LlamaBackbone(20, 1, 4, 16, 32, 2))
        >>> ids = np.array([[3, 1, 4]])
        >>> model({"token_ids": ids, "padding_mask": np.ones_like(ids)}).shape
        (1, 3, 20)
    """

    def cache_shapes(self, batch_size: int, length: int) -> list[tuple[int, ...]]:
        """The shape of keys, and of values, of each layer."""
        backbone = self.backbone
        shape = (batch_size, length, backbone.num_key_value_heads, backbone.head_dim)
        return [shape] * backbone.num_layers

    def embed(self, token_ids: Any, start: Any) -> Any:
        """The vectors of tokens; places are told to the attention."""
        return self.backbone.token_embedding(token_ids)
