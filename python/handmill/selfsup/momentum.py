"""Targets that follow a network slowly, as part of the training step."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.arguments import finite_number
from handmill.layers.layer import Layer
from handmill.models.cloning import clone_model
from handmill.models.model import Model


class MomentumCopy(Layer):
    """A copy of a layer whose weights follow those of the original, and learn nothing themselves.

    ``copy = momentum * copy + (1 - momentum) * original``, for all weights that are floats, the
    moving statistics of BatchNormalization among them; the copy always computes as in inference.
    :meth:`follow` in a step after the optimizer is part of the program of that step.

    Args:
        original: a layer or model that can be made anew from its config.
        momentum: from 0 to 1.
        name: default: ``momentum_copy``, numbered.

    Raises:
        ValueError: for a momentum out of range.

    Example:
        >>> import numpy as np
        >>> from handmill import layers, selfsup
        >>> x = np.ones((1, 2), "float32")
        >>> dense = layers.Dense(1, kernel_initializer="ones")
        >>> dense(x)
        array([[2.]], dtype=float32)
        >>> copy = selfsup.MomentumCopy(dense, momentum=0.75)
        >>> copy.start(dense, x.shape)
        >>> _ = dense.kernel.assign(np.zeros((2, 1)))
        >>> copy.follow(dense)
        >>> copy(x)
        array([[1.5]], dtype=float32)
    """

    def __init__(self, original: Any, momentum: float = 0.99, name: Any = None) -> None:
        super().__init__(name=name)
        self.momentum = finite_number("MomentumCopy: `momentum`", momentum)
        if not 0 <= self.momentum <= 1:
            raise ValueError(
                f"MomentumCopy: `momentum` must be from 0 to 1. Received: {momentum!r}"
            )
        self.copy = (
            clone_model(original)
            if isinstance(original, Model)
            else type(original).from_config(original.get_config())
        )
        self.copy.trainable = False

    def start(self, original: Any, input_shape: Any) -> None:
        """Gives the copy the weights of the original, which is built.

        Args:
            original: the layer.
            input_shape: the shape of what both are called on.
        """
        self.copy.compute_output_shape(tuple(input_shape))
        if not self.copy.built:
            self.copy.build(tuple(input_shape))
        self.copy.set_weights(original.get_weights())
        self.built = True

    def call(self, inputs: Any) -> Any:
        """What the copy gives, in inference mode; no gradient goes through it."""
        return ops.stop_gradient(self.copy(inputs, training=False))

    def follow(self, original: Any) -> None:
        """Moves the copy a step towards the original.

        Args:
            original: the layer that the copy was started from.
        """
        for slow, fast in zip(self.copy.weights, original.weights, strict=True):
            if str(slow.dtype).startswith(("float", "bfloat")):
                slow.assign(slow * self.momentum + fast * (1 - self.momentum))
