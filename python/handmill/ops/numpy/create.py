"""New tensors: constants, ranges, and arrays like others."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import SymbolicDim, at_least, is_fixed
from handmill.ir.graph import current_graph
from handmill.ir.shapes import numpy_dtype
from handmill.ops.core import cast, convert_to_tensor
from handmill.ops.numpy.logic import equal, greater_equal, where
from handmill.ops.numpy.movement import broadcast_to
from handmill.primitives.operands import (
    Tensor,
    check_dtype,
    common_dtype,
    dtype_of,
    number_as,
    shape_of,
    tensor,
)
from handmill.primitives.sizes import numbers_from, places


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    """Returns a tensor of equal elements.

    Args:
        shape: an int or a tuple.
        fill_value: the value, or a tensor that broadcasts to the shape.
        dtype: the dtype. Default: float32, as in Keras.

    Example:
        >>> from handmill import ops
        >>> ops.full((2, 2), 7.0)
        array([[7., 7.],
               [7., 7.]], dtype=float32)
    """
    value = cast(fill_value, dtype or "float32")
    dims = (shape,) if isinstance(shape, int | np.integer | SymbolicDim) else tuple(shape)
    if isinstance(value, np.ndarray) and is_fixed(dims):
        return np.full(dims, value)
    return broadcast_to(value, dims)


def zeros(shape: Any, dtype: Any = None) -> Any:
    """Returns a tensor of zeros.

    Example:
        >>> from handmill import ops
        >>> ops.zeros((2,))
        array([0., 0.], dtype=float32)
    """
    return full(shape, 0, dtype or "float32")


def ones(shape: Any, dtype: Any = None) -> Any:
    """Returns a tensor of ones.

    Example:
        >>> from handmill import ops
        >>> ops.ones((2,))
        array([1., 1.], dtype=float32)
    """
    return full(shape, 1, dtype or "float32")


def full_like(x: Tensor, fill_value: Any, dtype: Any = None) -> Any:
    """Returns a tensor of equal elements with the shape and dtype of another.

    Example:
        >>> from handmill import ops
        >>> ops.full_like([1.0, 2.0], 5)
        array([5., 5.], dtype=float32)
    """
    x = tensor(x)
    dtype = dtype or dtype_of(x)
    if current_graph() is None and not is_fixed(shape_of(x)):
        # While a model is put together nothing but the tensor itself knows its sizes.
        value = cast(fill_value, dtype)
        return where(equal(x, 0), value, value)
    return full(shape_of(x), fill_value, dtype)


def zeros_like(x: Tensor, dtype: Any = None) -> Any:
    """Returns zeros with the shape and dtype of another tensor.

    Example:
        >>> from handmill import ops
        >>> ops.zeros_like([1.0, 2.0])
        array([0., 0.], dtype=float32)
    """
    return full_like(x, 0, dtype)


def ones_like(x: Tensor, dtype: Any = None) -> Any:
    """Returns ones with the shape and dtype of another tensor.

    Example:
        >>> from handmill import ops
        >>> ops.ones_like([1.0, 2.0])
        array([1., 1.], dtype=float32)
    """
    return full_like(x, 1, dtype)


def array(x: Tensor, dtype: Any = None) -> Any:
    """Returns ``x`` as an array; numbers and lists become float32, int32 or bool.

    Args:
        x: anything that NumPy can read, or a symbolic value.
        dtype: the dtype wanted. Default: that of ``x``.

    Example:
        >>> from handmill import ops
        >>> ops.array([1, 2])
        array([1, 2], dtype=int32)
    """
    return convert_to_tensor(x, dtype)


def copy(x: Tensor) -> Any:
    """Returns a copy.

    Example:
        >>> from handmill import ops
        >>> ops.copy([1.0, 2.0])
        array([1., 2.], dtype=float32)
    """
    x = tensor(x)
    return x.copy() if isinstance(x, np.ndarray) else x  # nobody can change a symbolic value


def empty(shape: Any, dtype: Any = None) -> Any:
    """Returns a tensor whose elements are yet to be set: zeros.

    Example:
        >>> from handmill import ops
        >>> ops.empty((2, 3)).shape
        (2, 3)
    """
    return zeros(shape, dtype)


def empty_like(x: Tensor, dtype: Any = None) -> Any:
    """Returns a tensor of the shape and dtype of another, whose elements are yet to be set: zeros.

    Example:
        >>> from handmill import ops
        >>> ops.empty_like([1.0, 2.0]).shape
        (2,)
    """
    return zeros_like(x, dtype)


def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Any:
    """Returns evenly spaced numbers, as Python's ``range`` does.

    Args:
        start: the first number; the end, if ``stop`` is missing.
        stop: the end, which is left out.
        step: the distance. Default: 1.
        dtype: the dtype. Default: int32, or float32 if an argument is a float; that of an array.

    Example:
        >>> from handmill import ops
        >>> ops.arange(3)
        array([0, 1, 2], dtype=int32)
    """
    limits = (0, start) if stop is None else (start, stop)
    step = 1 if step is None else step
    if not is_fixed((*limits, step)):
        return _arange_of_dims(limits[0], limits[1], step, check_dtype(dtype or "int32"))
    if step == 0:
        raise ValueError("arange: `step` must not be 0, got step=0")
    if dtype is None:
        given = (start, stop, step)
        typed = [dtype_of(tensor(v)) for v in given if isinstance(v, np.generic | np.ndarray)]
        if any(isinstance(v, float) and not isinstance(v, np.generic) for v in given):
            typed.append("float32")
        dtype = common_dtype(typed) if typed else "int32"
    found = np.arange(limits[0], limits[1], step)
    if dtype == "int32" and found.dtype.kind in "iu":
        for end in found[:1].tolist() + found[-1:].tolist():
            number_as(end, "int32")  # refuses what does not fit
    return found.astype(numpy_dtype(check_dtype(dtype)))


def _arange_of_dims(start: Any, stop: Any, step: Any, dtype: str) -> Any:
    """Returns ``arange`` for limits that a call decides; the step must be an integer."""
    whole = all(isinstance(x, int | np.integer | SymbolicDim) for x in (start, stop, step))
    if not whole or not is_fixed((step,)) or step == 0:
        raise TypeError(
            "arange: integers are expected beside a size that differs from call to call, and a "
            f"fixed step, got start={start}, stop={stop}, step={step}"
        )
    length = (stop - start + (step - 1)) // step if step > 0 else (start - stop - step - 1) // -step
    size = length if at_least(length, 0) else 0
    return numbers_from(start, size, int(step), dtype)


def eye(N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> Any:
    """Returns a matrix with ones on a diagonal and zeros elsewhere.

    Example:
        >>> from handmill import ops
        >>> ops.eye(2)
        array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    if not is_fixed((N, M)):
        return cast(equal(*places(N, N if M is None else M, k)), check_dtype(dtype or "float32"))
    _check_sizes("eye", N, M)
    return np.eye(N, M, k, dtype=numpy_dtype(check_dtype(dtype or "float32")))


def identity(n: Any, dtype: Any = None) -> Any:
    """Returns the identity matrix.

    Example:
        >>> from handmill import ops
        >>> ops.identity(2)
        array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    return eye(n, dtype=dtype)


def tri(N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> Any:
    """Returns a matrix with ones on and below a diagonal and zeros above.

    Example:
        >>> from handmill import ops
        >>> ops.tri(2)
        array([[1., 0.],
               [1., 1.]], dtype=float32)
    """
    if not is_fixed((N, M)):
        found = greater_equal(*places(N, N if M is None else M, k))
        return cast(found, check_dtype(dtype or "float32"))
    _check_sizes("tri", N, M)
    return np.tri(N, M, k, dtype=numpy_dtype(check_dtype(dtype or "float32")))


def _check_sizes(op: str, *sizes: int | None) -> None:
    if any(size is not None and size < 0 for size in sizes):
        raise shape_error(op, f"a size is negative: {sizes}")
