"""What ``adapt`` learns from: arrays, and what makes batches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np


def is_array(data: Any) -> bool:
    """Whether ``data`` is an array, a column or a frame."""
    return isinstance(data, np.ndarray) or hasattr(data, "__array__") or hasattr(data, "to_numpy")


def batches_of(data: Any, steps: int | None = None) -> Iterator[Any]:
    """Yields the batches of a data set, a PyDataset, a generator or a list of them.

    Args:
        data: what makes batches.
        steps: how many at most.

    Raises:
        TypeError: for what makes no batches.
    """
    if hasattr(data, "__getitem__") and hasattr(data, "num_batches"):
        count = data.num_batches
        if count is None and steps is None:
            raise ValueError(
                f"`adapt` would never end: {type(data).__name__} has no length. Pass `steps`."
            )
        limit = steps if count is None else count if steps is None else min(count, steps)
        return (data[i] for i in range(int(limit or 0)))
    if not hasattr(data, "__iter__"):
        raise TypeError(
            f"Unsupported data type: {type(data)}. `adapt` takes an array, a data set, a PyDataset "
            "or an iterable of batches."
        )
    return islice(iter(data), steps)
