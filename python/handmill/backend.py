"""``keras.backend``: names of the backend, of dtypes and of the session that scripts ask for."""

from __future__ import annotations

from collections import Counter
from typing import Any

from handmill.config import (
    backend,
    epsilon,
    floatx,
    image_data_format,
    set_epsilon,
    set_floatx,
    set_image_data_format,
)
from handmill.ir.shapes import DTYPES
from handmill.ir.shapes import standardize_dtype as name_of_any
from handmill.layers.symbolic import is_keras_tensor
from handmill.lazy import plain_module
from handmill.primitives.operands import dtype_with_numbers
from handmill.session import clear_session

_uids: Counter[str] = Counter()
_NUMBERS = {"int": int, "float": float}


def get_uid(prefix: str = "") -> int:
    """Returns how often it was called with ``prefix``: 1 at first."""
    _uids[prefix] += 1
    return _uids[prefix]


def standardize_dtype(dtype: Any) -> str:
    """Returns the name of a dtype that may be given in any form.

    Args:
        dtype: a name, a dtype of NumPy or PyTorch, ``float``, ``int``, ``bool``; None stands for
            ``floatx()``.

    Raises:
        ValueError: for what is no dtype here.

    Example:
        >>> import numpy as np
        >>> standardize_dtype(np.float64), standardize_dtype(int), standardize_dtype(None)
        ('float64', 'int32', 'float32')
    """
    return floatx() if dtype is None else name_of_any(dtype)


def is_float_dtype(dtype: Any) -> bool:
    """Whether ``dtype`` is a floating dtype."""
    return standardize_dtype(dtype).startswith(("float", "bfloat"))


def is_int_dtype(dtype: Any) -> bool:
    """Whether ``dtype`` is an integer dtype."""
    return standardize_dtype(dtype).startswith(("int", "uint"))


def result_type(*dtypes: Any) -> str:
    """Returns the dtype that an operator gives for operands of these dtypes.

    Args:
        *dtypes: dtypes; ``int`` and ``float`` stand for numbers of Python, which take the dtype
            of what they meet.

    Raises:
        ValueError: for what is no dtype that handmill computes in.

    Example:
        >>> result_type("int32", "float32"), result_type("uint8", "bool")
        ('float32', 'uint8')
        >>> result_type("bfloat16", float), result_type("int8", float)
        ('bfloat16', 'float32')
    """
    numbers = {name for name in ("int", "float") for d in dtypes if d in (name, _NUMBERS[name])}
    typed = [d for d in dtypes or (None,) if d not in ("int", "float", int, float)]
    named = [standardize_dtype(dtype) for dtype in typed]
    for name in named:
        if name not in DTYPES:
            raise ValueError(f"Invalid dtype: {name!r}. handmill computes in {', '.join(DTYPES)}.")
    return dtype_with_numbers(named, "float" in numbers, "int" in numbers)


__all__ = [
    "backend",
    "clear_session",
    "epsilon",
    "floatx",
    "get_uid",
    "image_data_format",
    "is_float_dtype",
    "is_int_dtype",
    "is_keras_tensor",
    "result_type",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "standardize_dtype",
]
__getattr__ = plain_module(__name__)
