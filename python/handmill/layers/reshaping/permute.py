"""The axes of each sample in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill import ops
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer


class Permute(Layer):
    """Orders the axes of each sample anew.

    Args:
        dims: for each axis of the output which axis of the input it is, counted from 1; the batch
            stays where it is.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if ``dims`` are not the numbers from 1 on, in some order.

    Example:
        >>> from handmill.layers import Input, Permute
        >>> Permute((2, 1))(Input((10, 64))).shape
        (None, 64, 10)
    """

    def __init__(self, dims: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                "Invalid permutation `dims` of a Permute layer: it must be the axes from 1 on, in "
                f"some order; the batch is none of them. Received: dims={dims}"
            )
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return ops.transpose(inputs, (0, *self.dims))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "dims": self.dims}
