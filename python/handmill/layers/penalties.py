"""Penalties on what layers give."""

from __future__ import annotations

from typing import Any


def per_sample(penalty: Any, output: Any) -> Any:
    """The penalty on an output divided by the batch size; an empty batch has none."""
    import numpy as np

    from handmill.metrics.reduction import batch_size_of
    from handmill.ops import divide, maximum

    if not len(output.shape):
        return penalty
    size = batch_size_of(output)
    return divide(penalty, max(size, np.float32(1)) if np.isscalar(size) else maximum(size, 1))
