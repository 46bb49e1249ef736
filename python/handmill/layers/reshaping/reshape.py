"""The same elements in another shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from handmill import ops
from handmill.errors import ShapeError
from handmill.ir.dims import same
from handmill.ir.shapes import size_of
from handmill.layers.layer import Layer


class Reshape(Layer):
    """Gives each sample another shape.

    Args:
        target_shape: the new shape without the batch size; one entry may be -1.
        **kwargs: ``name`` and the like.

    Example:
        >>> from handmill.layers import Input, Reshape
        >>> Reshape((3, -1))(Input((6,))).shape
        (None, 3, 2)
    """

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        target = (target_shape,) if isinstance(target_shape, int) else tuple(target_shape)
        if any(d < -1 for d in target):
            raise ValueError(
                "Each dimension in `target_shape` must be a non-negative integer, or `-1` for a "
                f"single unknown dimension. Received: target_shape={target}."
            )
        if sum(d == -1 for d in target) > 1:
            raise ValueError(
                "There must be at most one unknown dimension in `target_shape`. "
                f"Received: target_shape={target}."
            )
        self.target_shape = target
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        if not len(inputs.shape):
            raise ShapeError("reshape: expected a batch of samples. Received: input_shape=()")
        size = size_of(tuple(inputs.shape[1:]))
        known = math.prod(d for d in self.target_shape if d != -1)
        divided = known and -1 in self.target_shape
        fits = same(size // known * known, size) if divided else same(size, known)
        if not fits:
            raise ShapeError(
                "reshape: The total size of the tensor must be unchanged. Received: "
                f"input_shape={tuple(inputs.shape[1:])}, target_shape={self.target_shape}"
            )
        target = tuple(size // known if d == -1 else d for d in self.target_shape)
        return ops.reshape(inputs, (inputs.shape[0], *target))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "target_shape": list(self.target_shape)}
