"""Places told by turning pairs of numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from handmill import ops
from handmill.arguments import real_number
from handmill.hub.layers.places import known_size, places_of
from handmill.ir.op import Array
from handmill.layers.layer import Layer
from handmill.primitives.operands import shape_of

_TYPES = ("linear", "dynamic")


class RotaryEmbedding(Layer):
    """Turns pairs of numbers of each vector by angles that grow with its place.

    Number ``i`` of the first half of a vector at place ``p`` and number ``i`` of its second half
    are turned by ``p / max_wavelength^(2i / width)``, as in GPT-NeoX and Llama. Products of two
    turned vectors depend on the distance of their places (Su et al., 2021).

    Args:
        max_wavelength: the longest wave, divided by ``2 pi``.
        scaling_factor: places are divided by it ("linear"); or the angles are made smaller so that
            longer texts fit ("dynamic").
        rope_type: "linear" or "dynamic".
        sequence_axis: the axis of places.
        feature_axis: the axis of numbers.
        **kwargs: ``name`` and the like.

    Input shape:
        any with these axes, such as ``(batch, time, heads, width)``

    Output shape:
        the same.

    Raises:
        ValueError: for an odd width, an axis that is none, another type, or a wavelength or factor
            that is not above 0.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.layers import RotaryEmbedding
        >>> RotaryEmbedding()(np.array([[[1.0, 0.0], [1.0, 0.0]]], "float32")).round(3)
        array([[[1.   , 0.   ],
                [0.54 , 0.841]]], dtype=float32)
    """

    def __init__(
        self,
        max_wavelength: float = 10000,
        scaling_factor: float = 1.0,
        rope_type: str = "linear",
        sequence_axis: int = 1,
        feature_axis: int = -1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if rope_type not in _TYPES:
            raise ValueError(
                f"`rope_type` must be one of {_TYPES}. Received: rope_type={rope_type!r}"
            )
        for name, value in (("max_wavelength", max_wavelength), ("scaling_factor", scaling_factor)):
            if not 0 < real_number(name, value) < math.inf:
                raise ValueError(f"`{name}` must be a finite number above 0. Received: {value!r}")
        self.max_wavelength = max_wavelength
        self.scaling_factor = scaling_factor
        self.rope_type = rope_type
        self.sequence_axis = sequence_axis
        self.feature_axis = feature_axis
        self.supports_masking = True
        self.built = True

    def _rates(self, width: int) -> Array:
        """The angle between two neighbours, for each number of half a vector."""
        steps = np.arange(0, width, 2, dtype="float32") / np.float32(width)
        rates = np.float32(1.0) / np.float32(self.max_wavelength) ** steps
        power = 1.0 if self.rope_type == "linear" else width / max(1, width - 2)
        made: Array = rates / np.float32(self.scaling_factor**power)
        return made

    def call(self, inputs: Any, start_index: Any = 0, positions: Any = None) -> Any:
        """Turns the vectors.

        Args:
            inputs: the vectors.
            start_index: the place of the first; or one for each row (B,).
            positions: the places of all, (T,) or (B, T), instead.
        """
        rank = len(shape_of(inputs))
        time, last = (self._axis(n, rank) for n in ("sequence_axis", "feature_axis"))
        if time == last:
            raise ValueError(f"{self.describe()}: both axes are axis {time} of the input")
        width = known_size(self, shape_of(inputs)[last], f"axis {last} of its input")
        if width % 2:
            raise ValueError(
                f"{self.describe()}: pairs of numbers are turned, so there must be an even number "
                f"of them along axis {last}. Received: {width}"
            )
        x = inputs if (time, last) == (1, rank - 1) else ops.moveaxis(inputs, (last, time), (-1, 1))
        places = ops.cast(places_of(shape_of(x)[1], start_index, positions), "float32")
        angles = ops.multiply(ops.expand_dims(places, 2), self._rates(width))
        between = tuple(range(2, rank - 1))
        angles = ops.expand_dims(angles, between) if between else angles
        cos, sin = (ops.cast(f(angles), self.compute_dtype) for f in (ops.cos, ops.sin))
        a, b = ops.split(x, 2, axis=-1)
        turned = ops.concatenate(
            (
                ops.subtract(ops.multiply(a, cos), ops.multiply(b, sin)),
                ops.add(ops.multiply(b, cos), ops.multiply(a, sin)),
            ),
            axis=-1,
        )
        return turned if x is inputs else ops.moveaxis(turned, (-1, 1), (last, time))

    def _axis(self, name: str, rank: int) -> int:
        axis = getattr(self, name)
        if not -rank <= axis < rank:
            raise ValueError(f"{self.describe()}: {name}={axis}, but the input has {rank} axes")
        return int(axis % rank)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "max_wavelength": self.max_wavelength,
            "scaling_factor": self.scaling_factor,
            "rope_type": self.rope_type,
            "sequence_axis": self.sequence_axis,
            "feature_axis": self.feature_axis,
        }
