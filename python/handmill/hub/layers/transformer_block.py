"""What encoders and decoders of transformers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from handmill import activations, initializers, ops
from handmill.hub.layers.cached_multi_head_attention import CachedMultiHeadAttention
from handmill.layers.arguments import positive_integer
from handmill.layers.core.dense import Dense
from handmill.layers.layer import Layer
from handmill.layers.normalization.layer_normalization import LayerNormalization
from handmill.layers.regularization.dropout import Dropout


class TransformerBlock(Layer):
    """Attention and two dense layers, each with what goes around it: a sum and a normalization.

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
    """

    _feedforward_layer_norm: LayerNormalization

    def __init__(
        self,
        intermediate_dim: int,
        num_heads: int,
        dropout: float = 0,
        activation: Any = "relu",
        layer_norm_epsilon: float = 1e-5,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        normalize_first: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.intermediate_dim = positive_integer("intermediate_dim", intermediate_dim)
        self.num_heads = positive_integer("num_heads", num_heads)
        self.dropout = dropout
        self.activation = activations.get(activation)
        self.layer_norm_epsilon = layer_norm_epsilon
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.normalize_first = normalize_first
        self.supports_masking = True

    def _initial(self) -> dict[str, Any]:
        return {
            "kernel_initializer": self.kernel_initializer,
            "bias_initializer": self.bias_initializer,
            "dtype": self.dtype_policy,
        }

    def _build_attention(
        self, role: str, shape: Any, value_shape: Any, name: str
    ) -> tuple[CachedMultiHeadAttention, LayerNormalization, Dropout]:
        width = shape[-1]
        if width % self.num_heads:
            raise ValueError(
                f"{self.describe()}: its input is {width} numbers wide, which {self.num_heads} "
                "heads cannot share equally. Choose a `num_heads` that divides the width."
            )
        attention = CachedMultiHeadAttention(
            self.num_heads,
            width // self.num_heads,
            dropout=self.dropout,
            name=name,
            **self._initial(),
        )
        attention.build(shape, value_shape)
        return attention, self._build_norm(f"{role}_layer_norm", shape), self._dropout_of(role)

    def _build_norm(self, name: str, shape: Any) -> LayerNormalization:
        norm = LayerNormalization(
            epsilon=self.layer_norm_epsilon, dtype=self.dtype_policy, name=name
        )
        norm.build(shape)
        return norm

    def _dropout_of(self, role: str) -> Dropout:
        return Dropout(self.dropout, dtype=self.dtype_policy, name=f"{role}_dropout")

    def _build_feedforward(self, shape: Any) -> None:
        self._feedforward_intermediate_dense = Dense(
            self.intermediate_dim,
            self.activation,
            name="feedforward_intermediate_dense",
            **self._initial(),
        )
        self._feedforward_intermediate_dense.build(shape)
        self._feedforward_output_dense = Dense(
            shape[-1], name="feedforward_output_dense", **self._initial()
        )
        self._feedforward_output_dense.build((*shape[:-1], self.intermediate_dim))
        self._feedforward_dropout = self._dropout_of("feedforward")

    def _around(self, part: Callable[[Any], Any], norm: Any, dropout: Any, x: Any) -> Any:
        """A part of the block, dropped out, added to its input, normalized before or behind."""
        made = ops.add(dropout(part(norm(x) if self.normalize_first else x)), x)
        return made if self.normalize_first else norm(made)

    def _feedforward(self, x: Any) -> Any:
        return self._around(
            lambda x: self._feedforward_output_dense(self._feedforward_intermediate_dense(x)),
            self._feedforward_layer_norm,
            self._feedforward_dropout,
            x,
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "activation": activations.serialize(self.activation),
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "normalize_first": self.normalize_first,
        }
