"""The rectifier whose slope below zero is learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill import constraints, initializers, ops, regularizers
from handmill.errors import ShapeError
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer


class PReLU(Layer):
    """Parametric rectified linear unit: ``x`` above zero, a learned ``alpha * x`` below.

    Args:
        alpha_initializer: initial values of ``alpha``.
        alpha_regularizer: penalty on ``alpha``.
        alpha_constraint: condition on ``alpha``.
        shared_axes: axes, counted from 1, along which ``alpha`` is the same, such as ``[1, 2]``
            for one value a channel of images.
        **kwargs: ``name`` and the like.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import PReLU
        >>> PReLU(alpha_initializer="ones")(np.array([[-1.0, 2.0]], "float32"))
        array([[-1.,  2.]], dtype=float32)
    """

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alpha_initializer = initializers.get(alpha_initializer)
        self.alpha_regularizer = regularizers.get(alpha_regularizer)
        self.alpha_constraint = constraints.get(alpha_constraint)
        axes = [shared_axes] if isinstance(shared_axes, int) else shared_axes
        self.shared_axes = None if axes is None else list(axes)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Makes alpha."""
        rank = len(input_shape)
        shape = list(input_shape)
        for axis in self.shared_axes or ():
            if not 1 <= axis < rank:
                raise ShapeError(
                    f"{self.describe()}: there is no axis {axis} to share alpha along. Received: "
                    f"shared_axes={self.shared_axes}, input_shape={tuple(input_shape)}"
                )
            shape[axis] = 1
        if None in shape[1:]:
            raise ShapeError(
                f"{self.describe()}: an axis of its input of shape {tuple(input_shape)} has no "
                "fixed size, which its weight needs\n  hint: name that axis in `shared_axes`"
            )
        self.alpha = self.add_weight(
            name="alpha",
            shape=shape[1:],
            initializer=self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
        )
        shared = self.shared_axes or range(rank)
        axes = {i: input_shape[i] for i in range(1, rank) if i not in shared}
        self.input_spec = InputSpec(ndim=rank, axes=axes)

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        below = ops.multiply(ops.negative(self.alpha), ops.relu(ops.negative(inputs)))
        return ops.add(ops.relu(inputs), below)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "alpha_initializer": initializers.serialize(self.alpha_initializer),
            "alpha_regularizer": regularizers.serialize(self.alpha_regularizer),
            "alpha_constraint": constraints.serialize(self.alpha_constraint),
            "shared_axes": self.shared_axes,
        }
