"""Attention in several heads at once."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Any

from handmill import ops
from handmill.layers.attention.projected import ProjectedAttention


class MultiHeadAttention(ProjectedAttention):
    """Projects queries, keys and values to heads, attends in each, and projects what comes out.

    A query whose keys are all masked gets zeros from its heads. No matrix of scores is kept,
    unless ``return_attention_scores`` asks for it or ``attention_axes`` are several.

    Args:
        num_heads: the number of heads.
        key_dim: the width of a head's queries and keys.
        value_dim: the width of a head's values; default: ``key_dim``.
        dropout: the fraction of weights left out while training.
        use_bias: whether projections have biases.
        output_shape: the shape of an output's features; default: the width of the query.
        attention_axes: the axes attended over; default: all but batch and features.
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

    Call arguments:
        query: ``(batch, Tq, width)``.
        value: ``(batch, Tv, width)``.
        key: default: ``value``.
        query_mask: bool ``(batch, Tq)``; default: the mask of the query, as for the next two.
        value_mask: bool ``(batch, Tv)``.
        key_mask: bool ``(batch, Tv)``.
        attention_mask: bool ``(batch, Tq, Tv)``, True where a query sees a key.
        return_attention_scores: whether the weights, before the dropout, are returned too.
        training: whether dropout acts.
        use_causal_mask: hides keys behind the place of the query.

    Raises:
        ValueError: for sizes that are not positive integers, or shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import MultiHeadAttention
        >>> x = np.ones((2, 5, 16), "float32")
        >>> MultiHeadAttention(num_heads=4, key_dim=4)(x, x, use_causal_mask=True).shape
        (2, 5, 16)

    Source:
        Vaswani et al., "Attention is all you need", 2017.
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
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
        for name, size in (("num_heads", num_heads), ("key_dim", key_dim)):
            if not isinstance(size, int) or size <= 0:
                raise ValueError(
                    f"Received an invalid value for argument `{name}`, expected a positive "
                    f"integer. Received: {name}={size}"
                )
        if value_dim is not None and (not isinstance(value_dim, int) or value_dim <= 0):
            raise ValueError(
                "Received an invalid value for argument `value_dim`, expected a positive integer "
                f"or `None`. Received: value_dim={value_dim}"
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
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.value_dim = value_dim or key_dim
        self.attention_axes = _axes_argument(attention_axes)
        self._output_sizes = _sizes_argument(output_shape)
        self._scale = 1.0 / math.sqrt(key_dim)

    @property
    def dropout(self) -> float:
        """The fraction of weights left out while training."""
        return self._rate

    @property
    def use_bias(self) -> bool:
        """Whether projections have biases."""
        return self._biased

    # Keras keeps the projections under these names too; files know them by the others.
    _query_dense = property(lambda self: self.query_dense)
    _key_dense = property(lambda self: self.key_dense)
    _gate_dense = property(lambda self: self.gate_dense)
    _value_dense = property(lambda self: self.value_dense)
    _output_dense = property(lambda self: self.output_dense)

    def build(  # type: ignore[override]  # as in Keras
        self, query_shape: Any, value_shape: Any, key_shape: Any = None
    ) -> None:
        """Makes the projections."""
        key_shape = self._note_shapes(query_shape, value_shape, key_shape)
        self.query_dense = self._to_heads("query", query_shape, self.key_dim)
        self.key_dense = self._to_heads("key", key_shape, self.key_dim)
        if self._gated:
            self.gate_dense = self._to_heads("gate", query_shape, self.value_dim, "sigmoid")
        self.value_dense = self._to_heads("value", value_shape, self.value_dim)
        rank = len(query_shape) + 1
        if self.attention_axes is None:
            self.attention_axes = tuple(range(1, rank - 2))
        else:
            self.attention_axes = tuple(a if a >= 0 else rank - 1 + a for a in self.attention_axes)
        self._scores_equation, self._combine_equation = _equations(rank, self.attention_axes)
        self._build_weights(tuple(range(-len(self.attention_axes), 0)))
        sizes = self._output_sizes or (query_shape[-1],)
        equation, bias_axes = _projection_equation(len(query_shape) - 1, 2, len(sizes))
        free = [None] * (len(query_shape) - 2)
        self.output_dense = self._projection(
            "attention_output", equation, (*free, *sizes), bias_axes
        )
        self.output_dense.build((*query_shape[:-1], self.num_heads, self.value_dim))

    def _to_heads(self, name: str, shape: Any, width: int, activation: Any = None) -> Any:
        equation, bias_axes = _projection_equation(len(shape) - 1, 1, 2)
        sizes = (*[None] * (len(shape) - 2), self.num_heads, width)
        layer = self._projection(name, equation, sizes, bias_axes, activation)
        layer.build(shape)
        return layer

    def _raw_scores(self, query: Any, key: Any) -> Any:
        return ops.einsum(self._scores_equation, key, query)

    def _combine(self, weights: Any, value: Any) -> Any:
        return ops.einsum(self._combine_equation, weights, value)

    def compute_output_shape(  # type: ignore[override]
        self, query_shape: Any, value_shape: Any, key_shape: Any = None
    ) -> tuple[Any, ...]:
        """The shape of the query, with the features of the output."""
        own = value_shape if key_shape is None else key_shape
        if tuple(value_shape[1:-1]) != tuple(own[1:-1]):
            raise ValueError(
                "All dimensions of `value` and `key`, except the last one, must be equal. "
                f"Received: value_shape={value_shape} and key_shape={own}"
            )
        sizes = self._output_sizes
        return tuple(query_shape) if sizes is None else (*query_shape[:-1], *sizes)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **self._shared_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "output_shape": self._output_sizes,
            "attention_axes": self.attention_axes,
        }


def _axes_argument(axes: Any) -> tuple[int, ...] | None:
    if isinstance(axes, int):
        return (axes,)
    if axes and not isinstance(axes, list | tuple):
        raise ValueError(
            f"`attention_axes` must be an int, list, or tuple.Received: attention_axes={axes}"
        )
    return tuple(axes) if axes else None


def _sizes_argument(sizes: Any) -> tuple[int, ...] | None:
    if not sizes:
        return None
    if isinstance(sizes, int):
        return (sizes,)
    try:
        return tuple(sizes)
    except TypeError:
        raise ValueError(
            f"Invalid `output_shape`: {sizes}. When specified, the `output_shape` should be of "
            "type tuple, list, or int."
        ) from None


def _projection_equation(free: int, bound: int, outputs: int) -> tuple[str, str]:
    """The equation of a projection, and the letters of its biases."""
    letters = string.ascii_lowercase
    kept, summed = letters[:free], letters[free : free + bound]
    made = letters[free + bound : free + bound + outputs]
    return f"{kept}{summed},{summed}{made}->{kept}{made}", made


def _equations(rank: int, axes: tuple[int, ...]) -> tuple[str, str]:
    """The equations of the scores (of key and query) and of the averages (of weights and values).

    Queries, keys and values are of one rank: batch, other axes, heads, width.
    """
    target = string.ascii_lowercase[:rank]
    others = iter(string.ascii_lowercase[rank:])
    source = "".join(next(others) if a in axes else target[a] for a in range(rank))
    batch = "".join(target[a] for a in range(rank - 1) if a not in axes)
    product = batch + "".join(target[a] for a in axes) + "".join(source[a] for a in axes)
    return f"{source},{target}->{product}", f"{product},{source}->{target}"
