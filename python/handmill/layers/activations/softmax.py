"""Probabilities along an axis, as a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill import activations, ops
from handmill.errors import ShapeError
from handmill.ir.dims import same
from handmill.layers.layer import Layer


class Softmax(Layer):
    """Softmax along an axis.

    Args:
        axis: the axis, or axes, whose values become positive and add up to 1.
        **kwargs: ``name`` and the like.
    """

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Computes the output; 0 where the mask, which must broadcast to the inputs, is False."""
        if mask is None:
            return self._softmax(inputs)
        if ops.dtype(mask) != "bool":
            mask = ops.greater(mask, 0.5)
        self._check_mask(ops.shape(inputs), ops.shape(mask))
        lowest = -3e38 if ops.dtype(inputs) != "float64" else -1e300
        # A second time, for where nothing is kept all the others would share 1.
        return ops.where(mask, self._softmax(ops.where(mask, inputs, lowest)), 0.0)

    def _softmax(self, x: Any) -> Any:
        axes = self.axis if isinstance(self.axis, list | tuple) else (self.axis,)
        if len(axes) == 1:
            return activations.softmax(x, axes[0])
        return ops.exp(x - ops.logsumexp(x, axis=tuple(axes), keepdims=True))

    def _check_mask(self, inputs: Any, mask: Any) -> None:
        pairs = zip(reversed(mask), reversed(inputs), strict=False)
        if len(mask) > len(inputs) or not all(m == 1 or same(m, d) for m, d in pairs):
            raise ShapeError(
                f"{self.name}: `mask` must be broadcastable to the inputs and must not have more "
                "dimensions: each is 1 or that of the inputs, counted from the last. Got inputs of "
                f"shape {inputs} and a mask of shape {mask}"
            )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "axis": self.axis}
