"""Attention in which several heads of queries share one head of keys and values."""

from __future__ import annotations

import math
from typing import Any

from handmill import ops
from handmill.layers.attention.projected import ProjectedAttention
from handmill.naming import auto_name


class GroupQueryAttention(ProjectedAttention):
    """Multi-head attention with fewer heads of keys and values than of queries.

    Head n of the queries reads head ``n // (num_query_heads // num_key_value_heads)`` of keys and
    values, which are never repeated in memory unless scores are asked for.

    Args:
        head_dim: the width of a head.
        num_query_heads: the number of heads of queries.
        num_key_value_heads: the number of heads of keys and values; divides that of queries.
        dropout: the fraction of weights left out while training.
        use_bias: whether projections have biases.
        sliding_window: how far a key may be off its query, counted with its own place.
        flash_attention: see ``ops.dot_product_attention``.
        kernel_initializer: initial values of the kernels.
        bias_initializer: initial values of the biases.
        kernel_regularizer: penalty on the kernels.
        bias_regularizer: penalty on the biases.
        activity_regularizer: penalty on the outputs of projections.
        kernel_constraint: condition on the kernels.
        bias_constraint: condition on the biases.
        use_gate: whether a projection of the query, through a sigmoid, multiplies what heads found.
        seed: of the dropout.
        **kwargs: ``name`` and the like.

    Call arguments are those of :class:`MultiHeadAttention`.

    Raises:
        ValueError: if the number of heads of keys does not divide that of queries, or shapes do
            not fit.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import GroupQueryAttention
        >>> x = np.ones((2, 5, 16), "float32")
        >>> GroupQueryAttention(4, num_query_heads=4, num_key_value_heads=2)(x, x).shape
        (2, 5, 16)

    Source:
        Ainslie et al., "GQA: training generalized multi-query transformer models from multi-head
        checkpoints", 2023.
    """

    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("name") is None:  # Keras's class is called so
            kwargs["name"] = auto_name("GroupedQueryAttention")
        sizes = {
            "head_dim": head_dim,
            "num_query_heads": num_query_heads,
            "num_key_value_heads": num_key_value_heads,
        }
        for name, size in sizes.items():
            if not isinstance(size, int) or size <= 0:
                raise ValueError(f"`{name}` must be a positive integer. Received: {name}={size}")
        if num_query_heads % num_key_value_heads != 0:
            raise ValueError(
                "`num_query_heads` must be divisible by `num_key_value_heads`. Received: "
                f"num_query_heads={num_query_heads}, num_key_value_heads={num_key_value_heads}"
            )
        super().__init__(
            dropout=dropout,
            use_bias=use_bias,
            sliding_window=sliding_window,
            flash_attention=flash_attention,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            use_gate=use_gate,
            seed=seed,
            **kwargs,
        )
        self.activity_regularizer = self._penalty  # Keras's acts on the output too
        self.head_dim = head_dim
        self.num_query_heads = num_query_heads
        self.num_key_value_heads = num_key_value_heads
        self.num_repeats = self._repeats = num_query_heads // num_key_value_heads
        self.dropout = dropout
        self.use_bias = use_bias
        self.use_gate = use_gate
        self.sliding_window = sliding_window
        self._scale = 1.0 / math.sqrt(head_dim)

    def build(  # type: ignore[override]  # as in Keras
        self, query_shape: Any, value_shape: Any, key_shape: Any = None
    ) -> None:
        """Makes the projections."""
        key_shape = self._note_shapes(query_shape, value_shape, key_shape)
        queries, keys = self.num_query_heads, self.num_key_value_heads
        self._query_dense = self._to_heads("query", query_shape, queries)
        self._key_dense = self._to_heads("key", key_shape, keys)
        if self.use_gate:
            self._gate_dense = self._to_heads("gate", query_shape, queries, "sigmoid")
        self._value_dense = self._to_heads("value", value_shape, keys)
        self._build_weights((-1,))
        self.feature_dim = query_shape[-1]
        self._output_dense = self._projection(
            "attention_output", "bquh,uhm->bqm", (None, self.feature_dim), "m"
        )
        self._output_dense.build((None, None, queries, self.head_dim))

    def _to_heads(self, name: str, shape: Any, heads: int, activation: Any = None) -> Any:
        layer = self._projection(
            name, "bqm,muh->bquh", (None, heads, self.head_dim), "uh", activation
        )
        layer.build(shape)
        return layer

    def _raw_scores(self, query: Any, key: Any) -> Any:
        return ops.einsum("bquh,bkuh->buqk", query, key)

    def _combine(self, weights: Any, value: Any) -> Any:
        return ops.einsum("buqk,bkuh->bquh", weights, value)

    def compute_output_shape(  # type: ignore[override]
        self, query_shape: Any, value_shape: Any, key_shape: Any = None
    ) -> tuple[Any, ...]:
        """The shape of the query."""
        if query_shape[-1] != value_shape[-1]:
            raise ValueError(
                "The last dimension of `query_shape` and `value_shape` must be equal, but are "
                f"{query_shape[-1]}, {value_shape[-1]}. Received: query_shape={query_shape}, "
                f"value_shape={value_shape}"
            )
        own = value_shape if key_shape is None else key_shape
        if tuple(value_shape[1:-1]) != tuple(own[1:-1]):
            raise ValueError(
                "All dimensions of `value` and `key`, except the last one, must be equal. "
                f"Received: value_shape={value_shape} and key_shape={own}"
            )
        return tuple(query_shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **self._shared_config(),
            "head_dim": self.head_dim,
            "num_query_heads": self.num_query_heads,
            "num_key_value_heads": self.num_key_value_heads,
        }
