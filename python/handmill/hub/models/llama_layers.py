"""What a block of Llama is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handmill import activations, initializers, ops
from handmill.hub.layers.attention_masks import merged_mask
from handmill.hub.layers.key_value_cache import keys_and_values, rows_of, starts_of
from handmill.hub.models.llama_rotary import LlamaRotaryEmbedding
from handmill.layers.arguments import positive_integer
from handmill.layers.core.dense import Dense
from handmill.layers.core.einsum_dense import EinsumDense
from handmill.layers.layer import Layer
from handmill.layers.normalization.rms_normalization import RMSNormalization
from handmill.layers.regularization.dropout import Dropout
from handmill.ops.nn.attention import attend


class LlamaLayerNorm(RMSNormalization):
    """Normalization by the root mean square, under the name that files of KerasHub have for it.

    Its arguments are those of :class:`handmill.layers.RMSNormalization`.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.models.llama_layers import LlamaLayerNorm
        >>> LlamaLayerNorm(epsilon=0.0)(np.array([[1.0, 7.0]], "float32"))
        array([[0.2, 1.4]], dtype=float32)
    """


class LlamaAttention(Layer):
    """Attention to what came before, of turned vectors, with fewer heads of keys than of queries.

    Args:
        num_query_heads: how many heads ask.
        num_key_value_heads: how many answer; each serves as many of the others.
        rotary: arguments of :class:`LlamaRotaryEmbedding`.
        kernel_initializer: initial values of kernels.
        dropout: the share of the output that training leaves out.
        head_dim: the width of a head; default: that of the input divided by ``num_query_heads``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if the numbers of heads do not divide each other and the width.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.models.llama_layers import LlamaAttention
        >>> LlamaAttention(4, 2)(np.ones((1, 3, 16), "float32")).shape
        (1, 3, 16)
    """

    def __init__(
        self,
        num_query_heads: int,
        num_key_value_heads: int,
        rotary: Mapping[str, Any] | None = None,
        kernel_initializer: Any = "glorot_uniform",
        dropout: float = 0,
        head_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        positive_integer("num_query_heads", num_query_heads)
        positive_integer("num_key_value_heads", num_key_value_heads)
        if num_query_heads % num_key_value_heads:
            raise ValueError(
                "`num_key_value_heads` must divide `num_query_heads`. Received: "
                f"num_query_heads={num_query_heads}, num_key_value_heads={num_key_value_heads}"
            )
        self.num_query_heads = num_query_heads
        self.num_key_value_heads = num_key_value_heads
        self.rotary = dict(rotary or {})
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.dropout = dropout
        self.head_dim = head_dim
        self.supports_masking = True

    def build(self, inputs_shape: Any) -> None:
        """Makes the projections."""
        width = inputs_shape[-1]
        if self.head_dim is None and width % self.num_query_heads:
            raise ValueError(
                f"{self.describe()}: its input is {width} numbers wide, which "
                f"{self.num_query_heads} heads cannot share equally"
            )
        size = self.head_dim or width // self.num_query_heads

        def heads(name: str, count: int) -> EinsumDense:
            return self._dense(name, "abc,cde->abde", (None, count, size), inputs_shape)

        self._query_dense = heads("query", self.num_query_heads)
        self._key_dense = heads("key", self.num_key_value_heads)
        self._value_dense = heads("value", self.num_key_value_heads)
        shape = (None, None, self.num_query_heads, size)
        self._output_dense = self._dense("attention_output", "abcd,cde->abe", (None, width), shape)
        self._dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy)
        self.rotary_embedding_layer = LlamaRotaryEmbedding(**self.rotary, dtype=self.dtype_policy)

    def _dense(self, name: str, equation: str, output_shape: Any, shape: Any) -> EinsumDense:
        made = EinsumDense(
            equation,
            output_shape,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name=name,
        )
        made.build(shape)
        return made

    def call(
        self,
        hidden_states: Any,
        attention_mask: Any = None,
        cache: Any = None,
        cache_update_index: Any = None,
        training: bool | None = None,
    ) -> Any:
        """Computes the output; with a cache, the output and the cache.

        Args:
            hidden_states: the sequence (B, T, C).
            attention_mask: which keys each query may look at, (B, T, S) or (B, 1, S).
            cache: keys and values of S places: a pair of (B, S, K, H), or one (B, 2, S, K, H).
            cache_update_index: the place of the first entry in it; or one for each row (B,).
            training: whether numbers are dropped.
        """
        start = 0 if cache_update_index is None else cache_update_index

        def turned(x: Any) -> Any:
            return self.rotary_embedding_layer(x, start_index=start)

        queries = turned(self._query_dense(hidden_states))
        keys, values, cache = keys_and_values(
            lambda: (turned(self._key_dense(hidden_states)), self._value_dense(hidden_states)),
            cache,
            cache_update_index,
        )
        found = attend(
            queries,
            keys,
            values,
            mask=None if attention_mask is None else ops.expand_dims(attention_mask, 1),
            causal=True,
            start=starts_of(cache_update_index, queries),
            rows=rows_of(cache),
        )
        outputs = self._output_dense(self._dropout_layer(found, training=training))
        return outputs if cache is None else (outputs, cache)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "num_query_heads": self.num_query_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "rotary": self.rotary,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "dropout": self.dropout,
            "head_dim": self.head_dim,
        }


class LlamaTransformerDecoder(Layer):
    """A block of Llama: attention to what came before, then dense layers with a gate (SwiGLU).

    Args:
        intermediate_dim: the width between the dense layers.
        num_query_heads: how many heads ask.
        num_key_value_heads: how many answer; each serves as many of the others.
        rotary: arguments of :class:`LlamaRotaryEmbedding`.
        activation: of the gate.
        layer_norm_epsilon: added to mean squares.
        kernel_initializer: initial values of kernels.
        dropout: the share of the attention's output that training leaves out.
        head_dim: the width of a head; default: that of the input divided by ``num_query_heads``.
        **kwargs: ``name`` and the like.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.models.llama_layers import LlamaTransformerDecoder
        >>> LlamaTransformerDecoder(32, 4, 2)(np.ones((1, 3, 16), "float32")).shape
        (1, 3, 16)
    """

    def __init__(
        self,
        intermediate_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        rotary: Mapping[str, Any] | None = None,
        activation: Any = "silu",
        layer_norm_epsilon: float = 1e-5,
        kernel_initializer: Any = "glorot_uniform",
        dropout: float = 0,
        head_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.intermediate_dim = positive_integer("intermediate_dim", intermediate_dim)
        self.num_query_heads = positive_integer("num_query_heads", num_query_heads)
        self.num_key_value_heads = positive_integer("num_key_value_heads", num_key_value_heads)
        self.rotary = dict(rotary or {})
        self.activation = activations.get(activation)
        self.layer_norm_epsilon = layer_norm_epsilon
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.dropout = dropout
        self.head_dim = head_dim
        self.supports_masking = True

    def build(self, decoder_sequence_shape: Any) -> None:
        """Makes the layers inside."""
        shape = decoder_sequence_shape
        self._self_attention_layer = LlamaAttention(
            self.num_query_heads,
            self.num_key_value_heads,
            self.rotary,
            kernel_initializer=self.kernel_initializer,
            dropout=self.dropout,
            head_dim=self.head_dim,
            dtype=self.dtype_policy,
            name="self_attention",
        )
        self._self_attention_layer.build(shape)
        self._self_attention_layernorm = self._norm("self_attention_layernorm", shape)
        self._self_attention_dropout = Dropout(
            self.dropout, dtype=self.dtype_policy, name="self_attention_dropout"
        )
        inner = (*shape[:-1], self.intermediate_dim)
        self._feedforward_intermediate_dense = self._dense(
            "feedforward_intermediate_dense", self.intermediate_dim, shape
        )
        self._feedforward_gate_dense = self._dense(
            "feedforward_gate_dense", self.intermediate_dim, shape
        )
        self._feedforward_output_dense = self._dense("feedforward_output_dense", shape[-1], inner)
        self._feedforward_layernorm = self._norm("feedforward_layernorm", shape)

    def _norm(self, name: str, shape: Any) -> LlamaLayerNorm:
        norm = LlamaLayerNorm(epsilon=self.layer_norm_epsilon, dtype=self.dtype_policy, name=name)
        norm.build(shape)
        return norm

    def _dense(self, name: str, units: int, shape: Any) -> Dense:
        made = Dense(
            units,
            use_bias=False,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name=name,
        )
        made.build(shape)
        return made

    def call(
        self,
        decoder_sequence: Any,
        decoder_padding_mask: Any = None,
        decoder_attention_mask: Any = None,
        self_attention_cache: Any = None,
        self_attention_cache_update_index: Any = None,
        training: bool | None = None,
    ) -> Any:
        """Computes the output; with a cache, the output and the cache.

        Args:
            decoder_sequence: the sequence (B, T, C).
            decoder_padding_mask: which of its entries are real (B, T); default: its mask.
            decoder_attention_mask: which keys each query may look at (B, T, T).
            self_attention_cache: keys and values of S places: a pair of (B, S, K, H), or one
                (B, 2, S, K, H).
            self_attention_cache_update_index: the place of the first entry in it; or one for each
                row (B,).
            training: whether numbers are dropped.
        """
        x = decoder_sequence
        found = self._self_attention_layer(
            self._self_attention_layernorm(x),
            attention_mask=merged_mask(x, decoder_padding_mask, decoder_attention_mask),
            cache=self_attention_cache,
            cache_update_index=self_attention_cache_update_index,
        )
        cache = None
        if self_attention_cache is not None:
            found, cache = found
        x = ops.add(self._self_attention_dropout(found), x)
        y = self._feedforward_layernorm(x)
        gate = self.activation(self._feedforward_gate_dense(y))
        y = ops.multiply(self._feedforward_intermediate_dense(y), gate)
        x = ops.add(self._feedforward_output_dense(y), x)
        return x if cache is None else (x, cache)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "num_query_heads": self.num_query_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "rotary": self.rotary,
            "activation": activations.serialize(self.activation),
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "dropout": self.dropout,
            "head_dim": self.head_dim,
        }
