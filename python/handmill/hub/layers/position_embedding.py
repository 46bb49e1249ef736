"""A vector for each place, which is learned."""

from __future__ import annotations

from typing import Any

from handmill import initializers, ops
from handmill.errors import ShapeError
from handmill.hub.layers.places import places_of
from handmill.ir.bfloat16 import unrounded
from handmill.layers.arguments import positive_integer
from handmill.layers.layer import Layer
from handmill.primitives.loss import check_labels
from handmill.primitives.operands import dtype_of, shape_of, tensor


class PositionEmbedding(Layer):
    """A learned vector for each place of a sequence.

    Args:
        sequence_length: how many places there are at most.
        initializer: initial values of the vectors.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, time, width)``

    Output shape:
        that of the input: the vectors alone, which are usually added to it.

    Raises:
        ValueError: if ``sequence_length`` is not a positive integer; for a place beyond it.
        ShapeError: for a sequence that is longer.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.layers import PositionEmbedding
        >>> PositionEmbedding(8, initializer="ones")(np.zeros((1, 3, 2), "float32")).shape
        (1, 3, 2)
    """

    def __init__(
        self, sequence_length: int, initializer: Any = "glorot_uniform", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.sequence_length = positive_integer("sequence_length", sequence_length)
        self.initializer = initializers.get(initializer)
        self.supports_masking = True

    def build(self, inputs_shape: Any) -> None:
        """Makes the vectors."""
        self.position_embeddings = self.add_weight(
            name="embeddings",
            shape=(self.sequence_length, inputs_shape[-1]),
            initializer=self.initializer,
        )

    def call(self, inputs: Any, start_index: Any = 0, positions: Any = None) -> Any:
        """Looks the vectors up.

        Args:
            inputs: the sequence (B, T, C), whose shape counts.
            start_index: the place of its first entry; or one for each row (B,).
            positions: the places of all entries, (T,) or (B, T), instead.
        """
        shape = shape_of(inputs)
        length, width = shape[-2:]
        if isinstance(length, int) and length > self.sequence_length:
            raise ShapeError(
                f"{self.describe()}: a sequence of {length} entries is longer than the "
                f"{self.sequence_length} places that have vectors. Cut the sequence, or make the "
                "model with more places."
            )
        if positions is None and isinstance(start_index, int) and start_index == 0:
            rows = ops.slice(self.position_embeddings, (0, 0), (length, width))
        else:
            places = places_of(length, start_index, positions)
            places = check_labels(places, self.sequence_length, "place in the sequence")
            table = tensor(self.position_embeddings)
            rows = ops.cast(ops.take(unrounded(table), places, axis=0), dtype_of(table))
        return ops.broadcast_to(rows, shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "sequence_length": self.sequence_length,
            "initializer": initializers.serialize(self.initializer),
        }
