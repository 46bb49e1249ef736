"""Which tokens stood at masked places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handmill import activations, initializers, ops
from handmill.layers.core.dense import Dense
from handmill.layers.layer import Layer
from handmill.layers.normalization.layer_normalization import LayerNormalization
from handmill.primitives.loss import check_labels
from handmill.primitives.operands import shape_of
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


class MaskedLMHead(Layer):
    """Scores of all tokens for chosen places of a sequence.

    The vectors of these places go through a dense layer and a normalization; then they are
    multiplied with the vectors of the tokens.

    Args:
        vocabulary_size: how many tokens there are; with ``token_embedding`` it knows that.
        token_embedding: a ReversibleEmbedding whose vectors are used; without one, the layer has a
            matrix of its own.
        intermediate_activation: of the dense layer.
        activation: of the scores; None gives logits.
        layer_norm_epsilon: added to variances.
        kernel_initializer: initial values of kernels.
        bias_initializer: initial values of biases.
        **kwargs: ``name`` and the like.

    Input shape:
        vectors ``(batch, time, width)`` and places ``(batch, masks)``

    Output shape:
        ``(batch, masks, vocabulary_size)``

    Raises:
        ValueError: if neither or two different sizes of the vocabulary are given; for a place
            beyond the sequence.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.layers import MaskedLMHead
        >>> x = np.zeros((2, 5, 4), "float32")
        >>> MaskedLMHead(vocabulary_size=7)(x, np.array([[0, 2, 4], [1, 2, 0]])).shape
        (2, 3, 7)
    """

    def __init__(
        self,
        vocabulary_size: int | None = None,
        token_embedding: Any = None,
        intermediate_activation: Any = "relu",
        activation: Any = None,
        layer_norm_epsilon: float = 1e-5,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if token_embedding is None and vocabulary_size is None:
            raise ValueError(
                "One of `vocabulary_size` or `token_embedding` must be set. "
                "Received: `vocabulary_size=None`, `token_embedding=None`"
            )
        if token_embedding is not None and vocabulary_size not in (None, token_embedding.input_dim):
            raise ValueError(
                "`vocabulary_size` must be that of `token_embedding`. Received: "
                f"vocabulary_size={vocabulary_size}, "
                f"token_embedding.input_dim={token_embedding.input_dim}"
            )
        self.token_embedding = token_embedding
        self.vocabulary_size: Any = (
            vocabulary_size if token_embedding is None else token_embedding.input_dim
        )
        self.intermediate_activation = activations.get(intermediate_activation)
        self.activation = activations.get(activation)
        self.layer_norm_epsilon = layer_norm_epsilon
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)

    def build(self, inputs_shape: Any, mask_positions_shape: Any = None) -> None:
        """Makes the layers inside, and the weights."""
        own = self.token_embedding is None
        width = inputs_shape[-1] if own else self.token_embedding.output_dim
        self._intermediate_dense = Dense(
            width,
            self.intermediate_activation,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            dtype=self.dtype_policy,
            name="intermediate_dense",
        )
        self._intermediate_layer_norm = LayerNormalization(
            epsilon=self.layer_norm_epsilon,
            dtype=self.dtype_policy,
            name="intermediate_layer_norm",
        )
        self._intermediate_dense.build((None, None, inputs_shape[-1]))
        self._intermediate_layer_norm.build((None, None, width))
        if own:
            self._kernel = self.add_weight(
                name="output_kernel",
                shape=(width, self.vocabulary_size),
                initializer=self.kernel_initializer,
            )
        self._bias = self.add_weight(
            name="output_bias", shape=(self.vocabulary_size,), initializer=self.bias_initializer
        )

    def call(self, inputs: Any, mask_positions: Any) -> Any:
        """Computes the scores.

        Args:
            inputs: vectors (B, T, C).
            mask_positions: places (B, M), integers from 0 to T - 1.
        """
        at = ops.cast(mask_positions, "int32")
        length = shape_of(inputs)[1]
        if isinstance(length, int):
            at = check_labels(at, length, "place in the sequence")
        else:  # known when the model is called
            behind = ops.subtract(at, ops.cast(length - 1, "int32"))
            far = ops.maximum(ops.maximum(ops.negative(at), behind), 0)
            at = ops.subtract(at, check_labels(far, 1, "distance of a place from the sequence"))
        x = ops.take_along_axis(inputs, ops.expand_dims(at, 2), axis=1)
        x = self._intermediate_layer_norm(self._intermediate_dense(x))
        if self.token_embedding is None:
            scores = ops.matmul(x, self._kernel)
        else:
            scores = self.token_embedding(x, reverse=True)
        scores = ops.add(ops.cast(scores, self.compute_dtype), self._bias)
        return scores if self.activation is None else self.activation(scores)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a layer from its config."""
        embedding = deserialize_keras_object(config.get("token_embedding"), kind="layer")
        return super().from_config({**config, "token_embedding": embedding})

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "token_embedding": serialize_keras_object(self.token_embedding),
            "intermediate_activation": activations.serialize(self.intermediate_activation),
            "activation": activations.serialize(self.activation),
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
        }
