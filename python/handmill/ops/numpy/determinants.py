"""Determinants of matrices by their logarithms."""

from __future__ import annotations

from typing import Any

from handmill.ir.trace import apply
from handmill.ops.core import cast
from handmill.primitives.linalg import SLOGDET
from handmill.primitives.operands import Tensor, dtype_of, promote_float, widened


def slogdet(x: Tensor) -> tuple[Any, Any]:
    """Returns the signs of determinants and the logarithms of their absolute values.

    Args:
        x: matrices ``(..., N, N)``.

    Returns:
        ``(sign, logabsdet)``, each with a number for each matrix: -1 or 1, for a singular one 0 and
        minus infinity. The gradient is that of the logarithm; the sign is constant.

    Raises:
        ShapeError: if the matrices are not square.

    Example:
        >>> from handmill import ops
        >>> sign, size = ops.slogdet([[1.0, 2.0], [3.0, 4.0]])
        >>> float(sign), round(float(size), 4)
        (-1.0, 0.6931)
    """
    (x,) = promote_float(x)
    sign, size = apply(SLOGDET, widened(x))
    return cast(sign, dtype_of(x)), cast(size, dtype_of(x))
