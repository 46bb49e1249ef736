"""Attention that remembers the keys and values of what came before."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.hub.layers.key_value_cache import keys_and_values, rows_of, starts_of
from handmill.hub.layers.places import causal_mask
from handmill.layers.attention.multi_head_attention import MultiHeadAttention
from handmill.ops.nn.attention import attend, rows_taken
from handmill.primitives.operands import shape_of


class CachedMultiHeadAttention(MultiHeadAttention):
    """A MultiHeadAttention whose keys and values may come from a cache.

    Its arguments are those of :class:`handmill.layers.MultiHeadAttention`.

    Input shape:
        query ``(batch, time, width)``, value ``(batch, keys, width)``

    Output shape:
        that of the query.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.layers import CachedMultiHeadAttention
        >>> x = np.ones((1, 3, 4), "float32")
        >>> cache = (np.zeros((1, 8, 2, 2), "float32"),) * 2
        >>> y, cache = CachedMultiHeadAttention(2, 2)(x, x, cache=cache, cache_update_index=0)
        >>> y.shape, cache[0].shape
        ((1, 3, 4), (1, 8, 2, 2))
    """

    def call(  # type: ignore[override]
        self,
        query: Any,
        value: Any,
        key: Any = None,
        attention_mask: Any = None,
        cache: Any = None,
        cache_update_index: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """Computes the output.

        Args:
            query: what asks (B, T, C).
            value: what answers (B, S, C); with a cache, what is new in it.
            key: what is asked; default: ``value``.
            attention_mask: which keys each query may look at, (B, T, S) or (B, 1, S).
            cache: keys and values of S places: a pair of (B, S, N, H), or one (B, 2, S, N, H); or
                a pair and, as a third, the row in which each place of each row lies (B, S).
            cache_update_index: the place that the first of the new keys takes, one for all rows
                or one for each; None takes keys and values from the cache as they are.
            return_attention_scores: whether the weights (B, N, T, S) are returned, too.
            training: whether weights are dropped.
            use_causal_mask: whether queries look at no key that stands behind them.

        Returns:
            The output; then the weights, if asked for; then the cache, if there is one.

        Raises:
            ValueError: for a place without a cache.
        """
        key = value if key is None else key
        queries = self._query_dense(query)
        keys, values, cache = keys_and_values(
            lambda: (self._key_dense(key), self._value_dense(value)), cache, cache_update_index
        )
        mask = attention_mask if attention_mask is None else ops.cast(attention_mask, "bool")
        if return_attention_scores:
            if (rows := rows_of(cache)) is not None:
                keys, values = rows_taken(keys, rows), rows_taken(values, rows)
            if use_causal_mask:
                start = 0 if cache_update_index is None else cache_update_index
                causal = causal_mask(shape_of(query)[1], shape_of(keys)[1], start)
                mask = causal if mask is None else ops.logical_and(mask, causal)
            found, weights = self._compute_attention(queries, keys, values, mask, training)
        else:
            found = attend(
                queries,
                keys,
                values,
                mask=None if mask is None else ops.expand_dims(mask, 1),
                causal=use_causal_mask,
                start=starts_of(cache_update_index, queries),
                rows=rows_of(cache),
                window=self._window,
                scale=self._scale,
                dropout=self._rate,
                seed=self._dropout_layer.seed_generator if self._rate > 0 else None,
                training=bool(training),
            )
        if self._gated:
            found = ops.multiply(found, self._gate_dense(query))
        outputs = self._output_dense(found)
        more = ([weights] if return_attention_scores else []) + ([] if cache is None else [cache])
        return (outputs, *more) if more else outputs
