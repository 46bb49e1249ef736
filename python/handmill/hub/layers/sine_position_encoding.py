"""A fixed vector for each place, made of waves."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops
from handmill.hub.layers.places import known_size, places_of
from handmill.layers.layer import Layer
from handmill.primitives.operands import shape_of


class SinePositionEncoding(Layer):
    """Sines (even columns) and cosines (odd ones) of the place, of growing wavelengths.

    Columns ``2i`` and ``2i + 1`` of place ``p`` are the sine and cosine of
    ``p / max_wavelength^(2i / width)`` (Vaswani et al., 2017).

    Args:
        max_wavelength: the longest wave, divided by ``2 pi``.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, time, width)``

    Output shape:
        that of the input: the waves alone, which are usually added to it.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.layers import SinePositionEncoding
        >>> SinePositionEncoding()(np.zeros((1, 2, 2), "float32")).round(3)
        array([[[0.   , 1.   ],
                [0.841, 0.54 ]]], dtype=float32)
    """

    def __init__(self, max_wavelength: float = 10000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_wavelength = max_wavelength
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any, start_index: Any = 0, positions: Any = None) -> Any:
        """Computes the waves.

        Args:
            inputs: the sequence (B, T, C), whose shape counts.
            start_index: the place of its first entry; or one for each row (B,).
            positions: the places of all entries, (T,) or (B, T), instead.
        """
        shape = shape_of(inputs)
        length = shape[-2]
        width = known_size(self, shape[-1], "the width of its input")
        columns = np.arange(width)
        rates = np.float32(1 / self.max_wavelength) ** (2 * (columns // 2) / width)
        places = ops.cast(places_of(length, start_index, positions), "float32")
        angles = ops.multiply(ops.expand_dims(places, 2), rates.astype("float32"))
        waves = ops.where(columns % 2 == 0, ops.sin(angles), ops.cos(angles))
        return ops.broadcast_to(ops.cast(waves, self.compute_dtype), shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "max_wavelength": self.max_wavelength}
