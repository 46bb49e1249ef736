"""Attention of one sequence to another, without weights of its own."""

from __future__ import annotations

from typing import Any

from handmill import ops, random
from handmill.layers.arguments import checked_fraction
from handmill.layers.layer import Layer
from handmill.ops.nn.attention import attend, masked_softmax
from handmill.random import SeedGenerator


class Attention(Layer):
    """Averages values, weighted by the softmax of scores of queries and keys (Luong et al., 2015).

    Scores are not divided by the root of the width, unlike those of :class:`MultiHeadAttention`.
    A query whose keys are all masked gives zeros.

    Args:
        use_scale: whether scores have a factor that is learned.
        score_mode: ``"dot"`` for the dot product, ``"concat"`` for the sum of ``tanh(q + k)`` times
            a weight that is learned.
        dropout: the fraction of weights left out while training.
        seed: of the dropout.
        **kwargs: ``name`` and the like.

    Call arguments:
        inputs: ``[query, value]`` or ``[query, value, key]``, each ``(batch, time, width)``.
        mask: ``[query_mask, value_mask]``, each bool ``(batch, time)`` or None; what is False is 0.
        return_attention_scores: whether the weights, after the dropout, are returned too.
        training: whether dropout acts.
        use_causal_mask: hides values behind the place of the query.

    Raises:
        ValueError: for another ``score_mode``, or inputs that are no such list.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import Attention
        >>> q, v = np.ones((2, 3, 8), "float32"), np.ones((2, 5, 8), "float32")
        >>> Attention()([q, v]).shape
        (2, 3, 8)
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if score_mode not in ("dot", "concat"):
            raise ValueError(
                "Invalid value for argument score_mode. Expected one of {'dot', 'concat'}. "
                f"Received: score_mode={score_mode}"
            )
        self.use_scale = use_scale
        self.score_mode = score_mode
        self.dropout = checked_fraction("dropout", dropout)
        self.seed = seed
        self.scale: Any = None
        self.concat_score_weight: Any = None
        self.supports_masking = True
        if self.dropout > 0:
            self.seed_generator = SeedGenerator(seed)

    def build(self, input_shape: Any) -> None:
        """Makes the factors that the options ask for."""
        self._check_inputs(input_shape)
        if self.use_scale:
            self.scale = self.add_weight(name="scale", shape=(), initializer="ones")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight(
                name="concat_score_weight", shape=(), initializer="ones"
            )

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        """Computes the output, and the weights if they are asked for."""
        self._check_inputs(inputs, mask)
        query, value = inputs[:2]
        key = inputs[2] if len(inputs) > 2 else value
        query_mask, value_mask = (None, None) if mask is None else mask[:2]
        hidden = None if value_mask is None else ops.expand_dims(ops.cast(value_mask, "bool"), -2)
        if self._is_plain(query) and not return_attention_scores:
            outputs = self._fused(query, key, value, hidden, training, use_causal_mask)
            weights = None
        else:
            allowed = _allowed(query, value, hidden, use_causal_mask)
            if hidden is not None:
                seen = ops.expand_dims(ops.cast(value_mask, "bool"), -1)
                key, value = (ops.where(seen, x, 0.0) for x in (key, value))
            weights = masked_softmax(self._calculate_scores(query, key), allowed)
            if training and self.dropout > 0:
                weights = random.dropout(weights, self.dropout, seed=self.seed_generator)
            outputs = ops.matmul(weights, value)
        if query_mask is not None:
            rows = ops.expand_dims(ops.cast(query_mask, "bool"), -1)
            outputs = ops.where(rows, outputs, 0.0)
        return (outputs, weights) if return_attention_scores else outputs

    def _is_plain(self, query: Any) -> bool:
        """Whether scores are what the operator of attention computes."""
        own = type(self)._calculate_scores is Attention._calculate_scores
        return own and self.score_mode == "dot" and len(query.shape) == 3

    def _fused(
        self, query: Any, key: Any, value: Any, hidden: Any, training: bool, causal: bool
    ) -> Any:
        if self.scale is not None:
            query = ops.multiply(query, self.scale)
        found = attend(
            *(ops.expand_dims(x, 2) for x in (query, key, value)),
            mask=None if hidden is None else ops.expand_dims(hidden, 1),
            causal=causal,
            scale=1.0,
            dropout=self.dropout,
            seed=self.seed_generator if self.dropout > 0 else None,
            training=training,
        )
        return ops.squeeze(found, 2)

    def _calculate_scores(self, query: Any, key: Any) -> Any:
        """The scores of each query and key, of shape (batch, Tq, Tv); subclasses may replace it."""
        if self.score_mode == "dot":
            scores = ops.matmul(query, ops.swapaxes(key, -2, -1))
            return scores if self.scale is None else ops.multiply(scores, self.scale)
        sums = ops.add(ops.expand_dims(query, -2), ops.expand_dims(key, -3))
        if self.scale is not None:
            sums = ops.multiply(sums, self.scale)
        return ops.multiply(ops.sum(ops.tanh(sums), axis=-1), self.concat_score_weight)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask of the query."""
        self._check_inputs(inputs, mask)
        return None if mask is None else mask[0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the query, with the width of the values."""
        return (*input_shape[0][:-1], input_shape[1][-1])

    def _check_inputs(self, inputs: Any, mask: Any = None) -> None:
        name = type(self).__name__
        wanted = "namely [query, value] or [query, value, key]"
        if not isinstance(inputs, list):
            raise ValueError(
                f"{name} layer must be called on a list of inputs, {wanted}. "
                f"Received: inputs={inputs}."
            )
        if len(inputs) not in (2, 3):
            raise ValueError(
                f"{name} layer accepts inputs list of length 2 or 3, {wanted}. "
                f"Received length: {len(inputs)}."
            )
        if mask is not None and not isinstance(mask, list):
            raise ValueError(
                f"{name} layer mask must be a list, namely [query_mask, value_mask]. "
                f"Received: mask={mask}."
            )
        if mask is not None and len(mask) not in (2, 3):
            raise ValueError(
                f"{name} layer accepts mask list of length 2 or 3. "
                f"Received: inputs={inputs}, mask={mask}."
            )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "use_scale": self.use_scale,
            "score_mode": self.score_mode,
            "dropout": self.dropout,
            "seed": self.seed,
        }


def _allowed(query: Any, value: Any, hidden: Any, causal: bool) -> Any:
    """Which query sees which value, broadcasting to (batch, Tq, Tv); None where each sees all."""
    if not causal:
        return hidden
    rows, columns = ops.arange(ops.shape(query)[-2]), ops.arange(ops.shape(value)[-2])
    past = ops.expand_dims(ops.greater_equal(ops.expand_dims(rows, 1), columns), 0)
    return past if hidden is None else ops.logical_and(past, hidden)
