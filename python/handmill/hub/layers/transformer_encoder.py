"""A block of a transformer that looks at a whole sequence."""

from __future__ import annotations

from typing import Any

from handmill.hub.layers.attention_masks import merged_mask
from handmill.hub.layers.transformer_block import TransformerBlock


class TransformerEncoder(TransformerBlock):
    """A block of a transformer: attention to the whole sequence, then two dense layers.

    Args:
        intermediate_dim: the width between the dense layers.
        num_heads: how many heads the attention has; each is as wide as the input divided by it.
        dropout: the share of numbers that training leaves out, of attention weights and of what
            each part gives.
        activation: between the dense layers.
        layer_norm_epsilon: added to variances.
        kernel_initializer: initial values of kernels.
        bias_initializer: initial values of biases.
        normalize_first: whether each part normalizes its input (GPT-2), not its output (BERT).
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, time, width)``

    Output shape:
        the same.

    Raises:
        ValueError: if the heads cannot share the width equally; for masks of another rank.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.layers import TransformerEncoder
        >>> TransformerEncoder(16, 2)(np.ones((1, 3, 8), "float32")).shape
        (1, 3, 8)
    """

    def build(self, inputs_shape: Any) -> None:
        """Makes the layers inside."""
        (
            self._self_attention_layer,
            self._self_attention_layer_norm,
            self._self_attention_dropout,
        ) = self._build_attention(
            "self_attention", inputs_shape, inputs_shape, "self_attention_layer"
        )
        self._feedforward_layer_norm = self._build_norm("feedforward_layer_norm", inputs_shape)
        self._build_feedforward(inputs_shape)

    def call(
        self,
        inputs: Any,
        padding_mask: Any = None,
        attention_mask: Any = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
    ) -> Any:
        """Computes the output.

        Args:
            inputs: the sequence (B, T, C).
            padding_mask: which of its entries are real (B, T); default: its mask.
            attention_mask: which keys each query may look at (B, T, T).
            training: whether numbers are dropped.
            return_attention_scores: whether the weights (B, N, T, T) are returned, too.
        """
        mask = merged_mask(inputs, padding_mask, attention_mask)
        weights = []

        def attention(x: Any) -> Any:
            found = self._self_attention_layer(
                x,
                x,
                attention_mask=mask,
                return_attention_scores=return_attention_scores,
            )
            if return_attention_scores:
                found, scores = found
                weights.append(scores)
            return found

        x = self._around(
            attention, self._self_attention_layer_norm, self._self_attention_dropout, inputs
        )
        x = self._feedforward(x)
        return (x, *weights) if return_attention_scores else x
