"""Several kinds of input of which some may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from handmill import ops, random
from handmill.errors import ShapeError
from handmill.layers.arguments import checked_fraction
from handmill.layers.layer import Layer
from handmill.primitives.loss import check_labels
from handmill.primitives.operands import dtype_of, shape_of


class ModalityDropout(Layer):
    """Replaces the features of whole modalities by a learned vector: at random, or where missing.

    A network with several kinds of input (image, sound, text) tends to look at the easiest alone,
    and fails where that one is missing. Here each row loses each modality with probability ``rate``
    while training, but never all of those that it has. What stands there instead is a vector of
    weights, one for each modality, so that "missing" is told from "zero".

    Args:
        rate: how often a modality is dropped while training, from 0 to below 1.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Call arguments:
        inputs: a list of features, ``(batch, width)`` each; widths may differ.
        present: which of them a row has, a bool tensor ``(batch, modalities)``; None: all.
        training: whether modalities are dropped.

    Output shape:
        a list of the shapes of the inputs

    Raises:
        ValueError: for a rate outside [0, 1), fewer than two inputs, or rows without any modality.
        ShapeError: for inputs or a ``present`` of another shape.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import ModalityDropout
        >>> layer = ModalityDropout(0.2)
        >>> present = np.array([[True, True], [True, False]])
        >>> image, sound = layer([np.ones((2, 3)), np.ones((2, 2))], present=present)
        >>> sound
        array([[1., 1.],
               [0., 0.]], dtype=float32)
    """

    def __init__(self, rate: float = 0.2, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = checked_fraction("rate", rate)
        if self.rate >= 1:
            raise ValueError(f"`rate` must be below 1: rows need a modality. Received: rate={rate}")
        self.seed = seed
        self.generator = random.SeedGenerator(seed)

    def build(self, input_shape: Any) -> None:
        """Makes a vector for each modality that may be missing."""
        if (
            not isinstance(input_shape, Sequence)
            or len(input_shape) < 2
            or not all(isinstance(shape, Sequence) and len(shape) == 2 for shape in input_shape)
        ):
            raise ShapeError(
                f"{self.describe()}: a list of two or more feature tensors of shape (batch, width) "
                f"was expected, received shapes {input_shape}"
            )
        self.missing = [
            self.add_weight(name=f"missing_{i}", shape=(shape[-1],), initializer="zeros")
            for i, shape in enumerate(input_shape)
        ]
        self.built = True

    def call(self, inputs: Any, present: Any = None, training: bool = False) -> list[Any]:
        """Computes the outputs."""
        count, rows = len(inputs), cast(Any, shape_of(inputs[0])[0])
        if present is None:
            kept = ops.ones((rows, count), "bool")
        else:
            kept = self._checked(present, rows, count)
        if training and self.rate > 0:
            drawn = random.uniform((rows, count), seed=self.generator)
            # Of what is there, one always stays: that with the largest number.
            held = ops.where(kept, drawn, -1.0)
            last = ops.equal(held, ops.max(held, axis=1, keepdims=True))
            stays = ops.logical_or(ops.greater_equal(drawn, self.rate), last)
            kept = ops.logical_and(kept, stays)
        outputs = []
        for i, features in enumerate(inputs):
            missing = ops.cast(self.missing[i], dtype_of(features))
            outputs.append(ops.where(kept[:, i : i + 1], features, missing))
        return outputs

    def _checked(self, present: Any, rows: Any, count: int) -> Any:
        shape = shape_of(present)
        if len(shape) != 2 or shape[1] != count:
            raise ShapeError(
                f"{self.describe()}: `present` of shape (batch, {count}) was expected, received "
                f"{tuple(shape)}"
            )
        absent = ops.sum(ops.cast(ops.logical_not(ops.cast(present, "bool")), "int32"), axis=1)
        absent = check_labels(absent, count, "number of absent modalities")
        kept = ops.cast(present, "bool")
        # Refused rows have no result: what is checked must be read.
        return ops.logical_and(kept, ops.less(ops.expand_dims(absent, 1), count))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shapes of the outputs: those of the inputs."""
        return [tuple(shape) for shape in input_shape]

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
