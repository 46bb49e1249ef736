"""The functions of ``keras.ops`` about tensors as such: conversion and dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.ir.dims import Shape, SymbolicDim
from handmill.ir.graph import Value
from handmill.ir.op import Array
from handmill.ir.trace import apply
from handmill.primitives.cast import STOP_GRADIENT
from handmill.primitives.operands import (
    Tensor,
    check_dtype,
    converted,
    dtype_of,
    is_symbolic,
    shape_of,
    tensor,
    value_of_dim,
)

__all__ = [
    "cast",
    "convert_to_numpy",
    "convert_to_tensor",
    "dtype",
    "is_tensor",
    "shape",
    "stop_gradient",
]


def cast(x: Tensor, dtype: Any) -> Any:
    """Converts to another dtype.

    Floats lose their fraction on the way to integers; to bool, everything but zero is True.

    Args:
        x: the input.
        dtype: the name of the new dtype.

    Example:
        >>> from handmill import ops
        >>> ops.cast([1.7, -1.7], "int32")
        array([ 1, -1], dtype=int32)
    """
    if isinstance(x, SymbolicDim):
        return value_of_dim(x, check_dtype(dtype))
    return converted(tensor(x), check_dtype(dtype))


def convert_to_tensor(
    x: Tensor, dtype: Any = None, sparse: bool | None = None, ragged: bool | None = None
) -> Any:
    """Returns ``x`` as an array; numbers and lists become float32, int32 or bool.

    Args:
        x: anything that NumPy can read, or a symbolic value.
        dtype: the dtype wanted. Default: that of ``x``.
        sparse: not supported; must be None or False.
        ragged: not supported; must be None or False.

    Example:
        >>> from handmill import ops
        >>> ops.convert_to_tensor([1.0, 2.0]).dtype
        dtype('float32')
    """
    if sparse or ragged:
        raise ValueError(f"only dense tensors are supported, got {sparse=}, {ragged=}")
    x = tensor(x)
    return x if dtype is None else cast(x, dtype)


def convert_to_numpy(x: Tensor) -> Array:
    """Returns ``x`` as a NumPy array.

    Example:
        >>> from handmill import ops
        >>> ops.convert_to_numpy([1, 2])
        array([1, 2], dtype=int32)
    """
    if hasattr(x, "numpy"):
        x = x.numpy()
    return np.asarray(x if isinstance(x, Value) else tensor(x))


def is_tensor(x: Any) -> bool:
    """Returns whether ``x`` is an array, a Variable or a symbolic value.

    Example:
        >>> from handmill import ops
        >>> ops.is_tensor(ops.ones(2)), ops.is_tensor([1.0, 1.0])
        (True, False)
    """
    return isinstance(x, np.ndarray) or is_symbolic(x)


def shape(x: Tensor) -> Shape:
    """Returns the shape as a tuple.

    Example:
        >>> from handmill import ops
        >>> ops.shape(ops.zeros((8, 12)))
        (8, 12)
    """
    return shape_of(x)


def dtype(x: Tensor) -> str:
    """Returns the name of the dtype.

    Example:
        >>> from handmill import ops
        >>> ops.dtype([1.5])
        'float32'
    """
    return dtype_of(tensor(x))


def stop_gradient(variable: Tensor) -> Any:
    """Returns the input, through which no gradient flows.

    Example:
        >>> from handmill import ops
        >>> ops.stop_gradient([1.0])
        array([1.], dtype=float32)
    """
    return apply(STOP_GRADIENT, tensor(variable))
