"""Each sample several times."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer


class RepeatVector(Layer):
    """Makes of each vector a sequence that holds it ``n`` times.

    Args:
        n: how often.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, features)``

    Output shape:
        ``(batch, n, features)``

    Raises:
        TypeError: if ``n`` is not an integer.
        ValueError: if it is not positive.

    Example:
        >>> from handmill.layers import Input, RepeatVector
        >>> RepeatVector(3)(Input((32,))).shape
        (None, 3, 32)
    """

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(n, bool) or not isinstance(n, int | np.integer):
            raise TypeError(f"Expected an integer value for `n`. Received: n={n!r} ({type(n)})")
        if n <= 0:
            raise ValueError(f"Argument `n` should be a positive integer. Received: n={n}")
        self.n = int(n)
        self.input_spec = InputSpec(ndim=2)

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return ops.repeat(ops.expand_dims(inputs, 1), self.n, axis=1)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "n": self.n}
