"""Scores of attention that fall with the distance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from handmill import ops
from handmill.errors import ShapeError
from handmill.hub.layers.places import known_size
from handmill.layers.layer import Layer
from handmill.primitives.operands import shape_of


class AlibiBias(Layer):
    """Adds to scores of attention what falls linearly with the distance (Press et al., 2021).

    Head ``h`` of ``n``, for ``n`` a power of two, subtracts ``2^(-alibi_bias_max * (h + 1) / n)``
    for each place between a key and the last key; of other numbers of heads, those that exceed the
    power of two below have the slopes between.

    Args:
        alibi_bias_max: minus the logarithm to base two of the last head's slope.
        **kwargs: ``name`` and the like.

    Input shape:
        scores ``(batch, heads, queries, keys)``

    Output shape:
        the same.

    Raises:
        ShapeError: for scores of another rank.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.layers import AlibiBias
        >>> AlibiBias()(np.zeros((1, 1, 1, 3), "float32"))
        array([[[[-0.0078125 , -0.00390625,  0.        ]]]], dtype=float32)
    """

    def __init__(self, alibi_bias_max: float = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alibi_bias_max = alibi_bias_max
        self.built = True

    def call(self, attention_scores: Any) -> Any:
        """Adds the bias."""
        shape = shape_of(attention_scores)
        if len(shape) != 4:
            raise ShapeError(
                f"{self.describe()}: expected scores of shape (batch, heads, queries, keys). "
                f"Received: {shape}"
            )
        heads = known_size(self, shape[1], "the number of heads")
        slopes = np.array(self._slopes(heads), "float32").reshape(1, -1, 1, 1)
        keys = ops.cast(ops.arange(shape[3], dtype="int32"), "float32")
        distance = ops.subtract(keys, ops.cast(shape[3] - 1, "float32"))
        bias = ops.multiply(slopes, distance)
        return ops.add(attention_scores, ops.cast(bias, self.compute_dtype))

    def _slopes(self, heads: int) -> list[float]:
        power: int = 2 ** math.floor(math.log2(heads))
        slopes = [2.0 ** (-self.alibi_bias_max * (h + 1) / power) for h in range(power)]
        return slopes if power == heads else slopes + self._slopes(2 * power)[::2][: heads - power]

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "alibi_bias_max": self.alibi_bias_max}
