"""Activations that text models name."""

from __future__ import annotations

from typing import Any

from handmill import ops


def gelu_approximate(x: Any) -> Any:
    """The Gaussian error linear unit with its tanh approximation, as GPT-2 was trained with.

    Args:
        x: a tensor.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.layers import gelu_approximate
        >>> gelu_approximate(np.array([1.0], "float32"))
        array([0.841192], dtype=float32)
    """
    return ops.gelu(x, approximate=True)
