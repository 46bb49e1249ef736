"""A layer that finds out which steps of a sequence count."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.ir.trace import with_mask
from handmill.layers.layer import Layer


class Masking(Layer):
    """Masks the steps of a sequence whose features all equal a value, and sets them to 0.

    Layers behind it, losses and metrics leave masked steps out.

    Args:
        mask_value: the value of padded steps.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, time, features)``, any number of axes before the last.

    Output shape:
        The same.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import Masking
        >>> x = np.array([[[1.0, 2.0], [9.0, 9.0]]], "float32")
        >>> Masking(mask_value=9.0)(x)
        array([[[1., 2.],
                [0., 0.]]], dtype=float32)
    """

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_value = mask_value
        self.supports_masking = True
        self._build_at_init()

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """True for each step with a feature that is not the mask value."""
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        mask = self.compute_mask(inputs)
        kept = ops.where(ops.expand_dims(mask, -1), inputs, ops.zeros_like(inputs))
        return with_mask(kept, mask)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "mask_value": self.mask_value}
