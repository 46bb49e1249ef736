"""Attention by a sum instead of a product."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.layers.attention.attention import Attention


class AdditiveAttention(Attention):
    """Averages values, weighted by the softmax of ``sum(scale * tanh(q + k))`` (Bahdanau et al.).

    Args:
        use_scale: whether each feature has a factor that is learned.
        dropout: the fraction of weights left out while training.
        **kwargs: ``seed``, ``name`` and the like.

    Call arguments and errors are those of :class:`Attention`.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import AdditiveAttention
        >>> q, v = np.ones((2, 3, 8), "float32"), np.ones((2, 5, 8), "float32")
        >>> AdditiveAttention()([q, v]).shape
        (2, 3, 8)

    Source:
        Bahdanau, Cho and Bengio, "Neural machine translation by jointly learning to align and
        translate", 2015.
    """

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape: Any) -> None:
        """Makes the factors of the features."""
        self._check_inputs(input_shape)
        if self.use_scale:
            self.scale = self.add_weight(
                name="scale", shape=(input_shape[0][-1],), initializer="glorot_uniform"
            )

    def _calculate_scores(self, query: Any, key: Any) -> Any:
        """The scores of each query and key, of shape (batch, Tq, Tv)."""
        found = ops.tanh(ops.add(ops.expand_dims(query, -2), ops.expand_dims(key, -3)))
        return ops.sum(found if self.scale is None else ops.multiply(found, self.scale), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        del config["score_mode"]
        return config
