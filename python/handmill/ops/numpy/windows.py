"""Window functions of signal processing, by their length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from handmill import config
from handmill.ir.op import Array
from handmill.ir.shapes import numpy_dtype
from handmill.primitives.operands import Tensor, is_symbolic, tensor


def _window(op: str, x: Tensor, make: Callable[[int], Array]) -> Any:
    if is_symbolic(x):
        raise TypeError(f"{op}: the length is the shape of the result, so it must be a number")
    length = tensor(x)
    if length.size != 1 or float(length.reshape(())) % 1:
        raise TypeError(f"{op}: the length must be one whole number, got {x!r}")
    return make(int(length.reshape(()))).astype(numpy_dtype(config.floatx()))


def bartlett(x: Tensor) -> Any:
    """Returns a triangle that is 0 at both ends.

    Args:
        x: the number of points.

    Example:
        >>> from handmill import ops
        >>> ops.bartlett(5)
        array([0. , 0.5, 1. , 0.5, 0. ], dtype=float32)
    """
    return _window("bartlett", x, np.bartlett)


def blackman(x: Tensor) -> Any:
    """Returns the Blackman window.

    Args:
        x: the number of points.

    Example:
        >>> from handmill import ops
        >>> abs(ops.blackman(5).round(2))
        array([0.  , 0.34, 1.  , 0.34, 0.  ], dtype=float32)
    """
    return _window("blackman", x, np.blackman)


def hamming(x: Tensor) -> Any:
    """Returns the Hamming window.

    Args:
        x: the number of points.

    Example:
        >>> from handmill import ops
        >>> ops.hamming(5).round(2)
        array([0.08, 0.54, 1.  , 0.54, 0.08], dtype=float32)
    """
    return _window("hamming", x, np.hamming)


def hanning(x: Tensor) -> Any:
    """Returns the Hann window.

    Args:
        x: the number of points.

    Example:
        >>> from handmill import ops
        >>> ops.hanning(5).round(2)
        array([0. , 0.5, 1. , 0.5, 0. ], dtype=float32)
    """
    return _window("hanning", x, np.hanning)


def kaiser(x: Tensor, beta: float) -> Any:
    """Returns the Kaiser window.

    Args:
        x: the number of points.
        beta: how narrow it is.

    Example:
        >>> from handmill import ops
        >>> ops.kaiser(5, 2.0).round(2)
        array([0.44, 0.83, 1.  , 0.83, 0.44], dtype=float32)
    """
    return _window("kaiser", x, lambda length: np.kaiser(length, float(beta)))
