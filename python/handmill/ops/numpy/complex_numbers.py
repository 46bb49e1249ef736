"""Complex numbers, as NumPy's arrays: no complex dtype has kernels, so programs hold pairs.

These functions take arrays of complex numbers; all others take real numbers alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from handmill.errors import ShapeError
from handmill.ir.dims import as_none
from handmill.ir.op import Array
from handmill.ops.core import cast, stop_gradient
from handmill.ops.numpy.arrange import stack
from handmill.ops.numpy.create import full_like, zeros_like
from handmill.ops.numpy.elementwise import multiply
from handmill.ops.numpy.floating import signbit
from handmill.ops.numpy.logic import isnan, where
from handmill.primitives.operands import (
    Tensor,
    dtype_of,
    is_symbolic,
    promote_float,
    shape_of,
    tensor,
)


def _complex_of(x: Any) -> Array | None:
    """Returns ``x`` as an array, if it holds complex numbers."""
    if is_symbolic(x):
        return None
    if isinstance(x, list | tuple | complex):
        try:
            array = np.asarray(x)
        except (TypeError, ValueError):  # of which `tensor` says what is wrong
            return None
        return array.astype(np.complex64) if array.dtype.kind == "c" else None
    if getattr(getattr(x, "dtype", None), "kind", "") == "c":
        return np.asarray(x)
    return None


def view_as_complex(x: Tensor) -> Array:
    """Returns complex numbers made of real and imaginary parts, which stand on the last axis.

    Args:
        x: an array of real numbers of shape ``(..., 2)``.

    Returns:
        A new array of shape ``(...)``, complex64, or complex128 of float64.

    Raises:
        ShapeError: if the last axis is not 2.
        TypeError: for symbolic tensors: complex numbers exist as arrays only.

    Example:
        >>> from handmill import ops
        >>> ops.view_as_complex([[1.0, 2.0], [3.0, 4.0]])
        array([1.+2.j, 3.+4.j], dtype=complex64)
    """
    (x,) = promote_float(x)
    if is_symbolic(x):
        raise TypeError(
            "complex numbers exist as arrays only, a program cannot hold them\n"
            "  hint: keep real and imaginary parts as a pair of tensors, as ops.fft does"
        )
    shape = as_none(shape_of(x))
    if not shape or shape[-1] != 2:
        raise ShapeError(
            "view_as_complex: the last axis holds real and imaginary parts, so it must be 2. "
            f"Received shape: {shape}"
        )
    joined = np.empty(shape[:-1], np.complex128 if x.dtype == np.float64 else np.complex64)
    joined.real, joined.imag = x[..., 0], x[..., 1]
    return joined


def view_as_real(x: Tensor) -> Any:
    """Returns real and imaginary parts of complex numbers, on a new last axis.

    Args:
        x: an array of any shape; real numbers get imaginary parts of 0.

    Returns:
        A tensor of shape ``(..., 2)``.

    Example:
        >>> import numpy as np
        >>> from handmill import ops
        >>> ops.view_as_real(np.array([1 + 2j, 3 + 4j], "complex64"))
        array([[1., 2.],
               [3., 4.]], dtype=float32)
    """
    return stack([real(x), imag(x)], axis=-1)


def real(x: Tensor) -> Any:
    """Returns the real part; real numbers as they are.

    Example:
        >>> from handmill import ops
        >>> ops.real([1.0, 2.0])
        array([1., 2.], dtype=float32)
    """
    array = _complex_of(x)
    return tensor(x) if array is None else array.real.copy()


def imag(x: Tensor) -> Any:
    """Returns the imaginary part: zeros of real numbers.

    Example:
        >>> from handmill import ops
        >>> ops.imag([1.0, 2.0])
        array([0., 0.], dtype=float32)
    """
    array = _complex_of(x)
    return zeros_like(x) if array is None else array.imag.copy()


def conj(x: Tensor) -> Any:
    """Returns the complex conjugate; real numbers as they are.

    Example:
        >>> from handmill import ops
        >>> ops.conj([1.0, 2.0])
        array([1., 2.], dtype=float32)
    """
    array = _complex_of(x)
    return tensor(x) if array is None else np.conj(array)


def conjugate(x: Tensor) -> Any:
    """Returns the complex conjugate, as :func:`conj` does.

    Example:
        >>> from handmill import ops
        >>> ops.conjugate([1.0, 2.0])
        array([1., 2.], dtype=float32)
    """
    return conj(x)


def isreal(x: Tensor) -> Any:
    """Returns whether the imaginary part of each element is 0: always, of real numbers.

    Example:
        >>> from handmill import ops
        >>> ops.isreal([1.0, 2.0])
        array([ True,  True])
    """
    array = _complex_of(x)
    return full_like(x, True, "bool") if array is None else np.isreal(array)


def angle(x: Tensor) -> Any:
    """Returns the angle in the complex plane: 0 of positive numbers, pi of negative ones.

    Example:
        >>> from handmill import ops
        >>> ops.angle([1.0, -1.0]).round(4)
        array([0.    , 3.1416], dtype=float32)
    """
    array = _complex_of(x)
    if array is not None:
        return np.angle(array)
    (x,) = promote_float(x)
    x = stop_gradient(x)
    return where(isnan(x), x, multiply(cast(signbit(x), dtype_of(x)), math.pi))
