"""What layers of attention with projections share: arguments, masks, the call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handmill import config, constraints, initializers, ops, regularizers
from handmill.errors import ShapeError
from handmill.ir.dims import as_none, same
from handmill.ir.shapes import FLOATS
from handmill.layers.activations.softmax import Softmax
from handmill.layers.arguments import checked_fraction
from handmill.layers.core.einsum_dense import EinsumDense
from handmill.layers.layer import Layer
from handmill.layers.regularization.dropout import Dropout
from handmill.ops.nn.attention import attend
from handmill.primitives.loss import check_labels

_MEANING = (
    "attention_mask is True or 1 where a query sees a key (what is added to scores is the `bias` "
    "of ops.dot_product_attention):"
)


class ProjectedAttention(Layer):
    """Projects queries, keys and values to heads, attends in each, and projects what comes out.

    A subclass makes the projections in ``build`` (``_query_dense``, ``_key_dense``,
    ``_value_dense``, ``_gate_dense``, ``_output_dense``) and calls ``_build_weights``.
    """

    _query_dense: Any
    _key_dense: Any
    _gate_dense: Any
    _value_dense: Any
    _output_dense: Any
    _scale: float  # of the scores
    _repeats = 1  # how many heads of queries each head of keys serves

    def __init__(
        self,
        *,
        dropout: float,
        use_bias: bool,
        sliding_window: int | None,
        flash_attention: bool | None,
        kernel_initializer: Any,
        bias_initializer: Any,
        kernel_regularizer: Any,
        bias_regularizer: Any,
        activity_regularizer: Any,
        kernel_constraint: Any,
        bias_constraint: Any,
        use_gate: bool,
        seed: int | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if sliding_window is not None and (
            not isinstance(sliding_window, int) or sliding_window <= 0
        ):
            raise ValueError(
                "`sliding_window` must be `None` or a positive integer. "
                f"Received: sliding_window={sliding_window}"
            )
        self.supports_masking = True
        self._rate = checked_fraction("dropout", dropout)
        self._biased = use_bias
        self._gated = use_gate
        self._window = sliding_window
        self._flash_attention = flash_attention or config.is_flash_attention_enabled()
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self._penalty = regularizers.get(activity_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.seed = seed
        self._shapes: dict[str, Any] | None = None
        if self._flash_attention and self._rate > 0.0 and config.strict_keras():
            raise ValueError(
                "Dropout is not supported when flash attention is enabled. Please set dropout to "
                "0.0 to use flash attention."
            )

    def _projection(
        self, name: str, equation: str, output_shape: Any, bias_axes: str, activation: Any = None
    ) -> EinsumDense:
        """A layer with the weights of one projection; its initializers are its own."""
        layer = EinsumDense(
            equation,
            output_shape=output_shape,
            activation=activation,
            bias_axes=bias_axes if self._biased else None,
            kernel_initializer=_own(self.kernel_initializer),
            bias_initializer=_own(self.bias_initializer),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            activity_regularizer=self._penalty,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self.dtype_policy,
            name=name,
        )
        layer.supports_masking = True  # masks are this layer's business
        return layer

    def _build_weights(self, axes: tuple[int, ...]) -> None:
        """Makes what turns scores into weights, along the last axes of the scores."""
        self._softmax = Softmax(axis=axes, dtype=self.dtype_policy)
        self._dropout_layer = Dropout(rate=self._rate, dtype=self.dtype_policy, seed=self.seed)

    def _note_shapes(self, query: Any, value: Any, key: Any) -> Any:
        """Keeps the shapes that the layer is built for; returns that of the key."""
        own = value if key is None else key
        if tuple(value[1:-1]) != tuple(own[1:-1]):
            raise ValueError(
                "All dimensions of `value` and `key`, except the last one, must be equal. "
                f"Received: value_shape={value} and key_shape={own}"
            )
        self._shapes = {"query_shape": query, "value_shape": value, "key_shape": own}
        return own

    def get_build_config(self) -> dict[str, Any] | None:
        """The shapes that the layer was built for."""
        return None if self._shapes is None else {"shapes_dict": self._shapes}

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Builds the layer for the shapes stored in ``config``."""
        shapes = config.get("shapes_dict")
        if shapes is None:  # saved as one shape: self-attention
            shapes = {name: config["input_shape"] for name in ("query_shape", "value_shape")}
        if not self.built:
            self.build(**{name: tuple(shape) for name, shape in shapes.items()})
            self.built = True

    def call(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """Computes the output, and the weights (before the dropout) if they are asked for."""
        self._check_scores(return_attention_scores)
        key = value if key is None else key
        hook = type(self)._compute_attention is not ProjectedAttention._compute_attention
        masks = {"query_mask": query_mask, "value_mask": value_mask, "key_mask": key_mask}
        # What the operator knows by itself is no mask for it; a subclass of the user's gets all.
        whole = hook or return_attention_scores
        mask = self._compute_attention_mask(
            query,
            value,
            **masks,
            attention_mask=self._pairs_mask(attention_mask, query, value),
            use_causal_mask=use_causal_mask and whole,
            use_sliding_window=whole,
        )
        gate = self._gate_dense(query) if self._gated else None
        query, key, value = self._query_dense(query), self._key_dense(key), self._value_dense(value)
        scores = None
        if not whole and len(query.shape) == 4:
            outputs = self._fused(query, key, value, mask, bool(training), use_causal_mask)
        else:
            if not whole:  # attention over several axes
                mask = self._compute_attention_mask(
                    query,
                    value,
                    attention_mask=mask,
                    use_causal_mask=use_causal_mask,
                )
            query = _without(query, query_mask)
            for hidden in (value_mask, key_mask):
                key, value = _without(key, hidden), _without(value, hidden)
            if self._repeats > 1:
                key, value = (ops.repeat(x, self._repeats, axis=2) for x in (key, value))
            asked = {"return_attention_scores": True} if return_attention_scores else {}
            outputs, scores = self._compute_attention(query, key, value, mask, training, **asked)
        outputs = self._output_dense(outputs if gate is None else ops.multiply(outputs, gate))
        return (outputs, scores) if return_attention_scores else outputs

    def _fused(
        self, query: Any, key: Any, value: Any, mask: Any, training: bool, causal: bool
    ) -> Any:
        if mask is not None:
            for _ in range(4 - len(mask.shape)):
                mask = ops.expand_dims(mask, -3)
        return attend(
            query,
            key,
            value,
            mask=mask,
            causal=causal,
            window=self._window,
            scale=self._scale,
            dropout=self._rate,
            seed=self._dropout_layer.seed_generator if self._rate > 0 else None,
            training=training,
        )

    def _compute_attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> tuple[Any, Any]:
        """Attends in each head; a subclass may replace it.

        The call passes the last two on only as far as its mask does not say it already.

        Args:
            query: ``(batch, Tq, heads, width)``.
            key: ``(batch, Tv, heads, width)``.
            value: ``(batch, Tv, heads, width)``.
            attention_mask: bool, ``(batch, Tq, Tv)`` or what broadcasts to it; None for all True.
            training: whether dropout acts.
            return_attention_scores: whether the weights are asked for; they are returned anyhow.
            use_causal_mask: hides keys behind the place of the query, beside the mask.

        Returns:
            What the heads found, and the weights of shape ``(batch, heads, Tq, Tv)``.
        """
        self._check_scores(return_attention_scores)
        if use_causal_mask:
            attention_mask = self._compute_attention_mask(
                query,
                value,
                attention_mask=attention_mask,
                use_causal_mask=True,
                use_sliding_window=False,
            )
        query = ops.multiply(query, self._scale)
        scores = self._masked_softmax(self._raw_scores(query, key), attention_mask)
        weights = self._dropout_layer(scores, training=training) if self._rate > 0 else scores
        return self._combine(weights, value), scores

    def _pairs_mask(self, mask: Any, query: Any, value: Any) -> Any:
        """The argument ``attention_mask`` as bool, after a look at what it may mean."""
        if mask is None:
            return None
        pairs = ops.shape(query)[1], ops.shape(value)[1]
        sizes = ops.shape(mask)
        if (
            len(sizes) == 2
            and len(ops.shape(query)) == 3
            and not all(
                same(size, 1) or same(size, wanted)
                for size, wanted in zip(sizes, pairs, strict=True)
                if isinstance(size, int) and isinstance(wanted, int)
            )
        ):
            raise ShapeError(
                f"{self.describe()}: attention_mask of two axes is (Tq, Tv) = {as_none(pairs)}, "
                f"the same for all rows. Received: {as_none(tuple(sizes))}. A mask (batch, Tv) of "
                "keys is passed as value_mask, or as mask[:, None, :]"
            )
        if ops.dtype(mask) in FLOATS:  # zeros and ones, which only their values tell
            mask = check_labels(mask, 2, _MEANING)
        return ops.cast(mask, "bool")

    def _check_scores(self, asked: bool) -> None:
        if asked and self._flash_attention:
            raise ValueError(
                "Returning attention scores is not supported when flash attention is enabled. "
                "Please disable flash attention to access attention scores."
            )

    def _raw_scores(self, query: Any, key: Any) -> Any:
        raise NotImplementedError

    def _combine(self, weights: Any, value: Any) -> Any:
        raise NotImplementedError

    def _masked_softmax(self, attention_scores: Any, attention_mask: Any = None) -> Any:
        """Weights of scores; 0 where the mask is False."""
        if attention_mask is not None:
            axes: Any = self._softmax.axis
            place = -2 * len(axes) - 1
            for _ in range(len(attention_scores.shape) - len(attention_mask.shape)):
                attention_mask = ops.expand_dims(attention_mask, place)
        return self._softmax(attention_scores, mask=attention_mask)

    def _compute_attention_mask(
        self,
        query: Any,
        value: Any,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        use_causal_mask: bool = False,
        use_sliding_window: bool = True,
    ) -> Any:
        """All masks as one, which broadcasts to (batch, Tq, Tv); None if there is none."""
        found = attention_mask
        axes = ((query_mask, -1), (value_mask, -2), (key_mask, -2))
        parts = [ops.expand_dims(ops.cast(m, "bool"), axis) for m, axis in axes if m is not None]
        if use_causal_mask or (use_sliding_window and self._window is not None):
            rows = ops.expand_dims(ops.arange(ops.shape(query)[1]), 1)
            ahead = ops.expand_dims(ops.subtract(ops.arange(ops.shape(value)[1]), rows), 0)
            if use_causal_mask:
                parts.append(ops.less(ahead, 1))
            if use_sliding_window and self._window is not None:
                parts.append(ops.less(ops.abs(ahead), self._window))
        for part in parts:
            found = part if found is None else ops.logical_and(found, part)
        return found

    def _shared_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dropout": self._rate,
            "use_bias": self._biased,
            "use_gate": self._gated,
            "sliding_window": self._window,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": regularizers.serialize(self._penalty),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
            "seed": self.seed,
        }


def _own(initializer: Any) -> Any:
    """An initializer that draws for itself: one that is shared would give equal weights."""
    if not hasattr(initializer, "get_config"):
        return initializer
    return type(initializer).from_config(initializer.get_config())


def _without(x: Any, mask: Any) -> Any:
    """Heads with zeros in the steps that a mask hides: what stands there may be NaN."""
    if mask is None:
        return x
    mask = ops.cast(mask, "bool")
    for _ in range(len(x.shape) - len(mask.shape)):
        mask = ops.expand_dims(mask, -1)
    return ops.where(mask, x, 0.0)
