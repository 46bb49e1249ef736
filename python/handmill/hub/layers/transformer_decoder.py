"""A block of a transformer that looks back only."""

from __future__ import annotations

from typing import Any

from handmill.hub.layers.attention_masks import merged_mask
from handmill.hub.layers.transformer_block import TransformerBlock


class TransformerDecoder(TransformerBlock):
    """A block of a transformer: attention to what came before, then two dense layers.

    Called with two sequences, it also has attention to the second one, that of an encoder.

    Args:
        intermediate_dim: the width between the dense layers.
        num_heads: how many heads an attention has; each is as wide as the input divided by it.
        dropout: the share of numbers that training leaves out, of attention weights and of what
            each part gives.
        activation: between the dense layers.
        layer_norm_epsilon: added to variances.
        kernel_initializer: initial values of kernels.
        bias_initializer: initial values of biases.
        normalize_first: whether each part normalizes its input (GPT-2), not its output (BERT).
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, time, width)``, and of the encoder ``(batch, keys, width)``

    Output shape:
        that of the first.

    Raises:
        ValueError: if the heads cannot share the width equally; if the layer was first called with
            another number of sequences; for masks of another rank.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.layers import TransformerDecoder
        >>> TransformerDecoder(16, 2)(np.ones((1, 3, 8), "float32")).shape
        (1, 3, 8)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        shapes = [kwargs.pop(f"{name}_sequence_shape", None) for name in ("decoder", "encoder")]
        super().__init__(*args, **kwargs)
        self._decoder_sequence_shape = self._encoder_sequence_shape = None
        if shapes[0]:
            self.build(*(None if shape is None else tuple(shape) for shape in shapes))

    def build(self, decoder_sequence_shape: Any, encoder_sequence_shape: Any = None) -> None:
        """Makes the layers inside."""
        shape = self._decoder_sequence_shape = decoder_sequence_shape
        self._encoder_sequence_shape = encoder_sequence_shape
        (
            self._self_attention_layer,
            self._self_attention_layer_norm,
            self._self_attention_dropout,
        ) = self._build_attention("self_attention", shape, shape, "self_attention")
        self._cross_attention_layer: Any = None
        if encoder_sequence_shape:
            (
                self._cross_attention_layer,
                self._cross_attention_layer_norm,
                self._cross_attention_dropout,
            ) = self._build_attention(
                "cross_attention", shape, encoder_sequence_shape, "cross_attention"
            )
        self._build_feedforward(shape)
        self._feedforward_layer_norm = self._build_norm("feedforward_layer_norm", shape)

    def call(
        self,
        decoder_sequence: Any,
        encoder_sequence: Any = None,
        decoder_padding_mask: Any = None,
        decoder_attention_mask: Any = None,
        encoder_padding_mask: Any = None,
        encoder_attention_mask: Any = None,
        self_attention_cache: Any = None,
        self_attention_cache_update_index: Any = None,
        cross_attention_cache: Any = None,
        cross_attention_cache_update_index: Any = None,
        use_causal_mask: bool = True,
        training: bool | None = None,
    ) -> Any:
        """Computes the output.

        Args:
            decoder_sequence: the sequence (B, T, C).
            encoder_sequence: what an encoder gave (B, S, C).
            decoder_padding_mask: which entries of the first are real (B, T); default: its mask.
            decoder_attention_mask: which keys each query may look at (B, T, T).
            encoder_padding_mask: which entries of the second are real (B, S); default: its mask.
            encoder_attention_mask: which of them each query may look at (B, T, S).
            self_attention_cache: keys and values of P places of the first: a pair of (B, P, N, H),
                or one (B, 2, P, N, H).
            self_attention_cache_update_index: the place of the first entry in it; or one for each
                row (B,).
            cross_attention_cache: the same of the second.
            cross_attention_cache_update_index: the same; None to use that cache as it is.
            use_causal_mask: whether queries look at no key that stands behind them.
            training: whether numbers are dropped.

        Returns:
            The output; with caches, a tuple of it and the caches.
        """
        self._check_sequences(encoder_sequence, self_attention_cache, cross_attention_cache)
        caches = []
        own_mask = merged_mask(decoder_sequence, decoder_padding_mask, decoder_attention_mask)

        def attend(layer: Any, x: Any, value: Any, cache: Any, **more: Any) -> Any:
            found = layer(x, value, cache=cache, **more)
            if cache is None:
                return found
            caches.append(found[1])
            return found[0]

        x = self._around(
            lambda x: attend(
                self._self_attention_layer,
                x,
                x,
                self_attention_cache,
                cache_update_index=self_attention_cache_update_index,
                attention_mask=own_mask,
                use_causal_mask=use_causal_mask,
            ),
            self._self_attention_layer_norm,
            self._self_attention_dropout,
            decoder_sequence,
        )
        if self._cross_attention_layer is not None:
            mask = merged_mask(encoder_sequence, encoder_padding_mask, encoder_attention_mask)
            x = self._around(
                lambda x: attend(
                    self._cross_attention_layer,
                    x,
                    encoder_sequence,
                    cross_attention_cache,
                    cache_update_index=cross_attention_cache_update_index,
                    attention_mask=mask,
                ),
                self._cross_attention_layer_norm,
                self._cross_attention_dropout,
                x,
            )
        x = self._feedforward(x)
        return (x, *caches) if caches else x

    def _check_sequences(self, encoder_sequence: Any, own_cache: Any, cross_cache: Any) -> None:
        crosses = self._cross_attention_layer is not None
        if crosses != (encoder_sequence is not None):
            raise ValueError(
                f"{self.describe()} was first called {'with' if crosses else 'without'} "
                f"`encoder_sequence` and built for that, and is now called "
                f"{'without' if crosses else 'with'} it. Use one layer for each way."
            )
        if crosses and (own_cache is None) != (cross_cache is None):
            raise ValueError(
                f"{self.describe()}: of `self_attention_cache` and `cross_attention_cache` one is "
                "None. Pass both or neither."
            )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "decoder_sequence_shape": self._decoder_sequence_shape,
            "encoder_sequence_shape": self._encoder_sequence_shape,
        }
