"""``keras.backend``: names of the backend, of dtypes and of the session that scripts ask for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from handmill.config import (
    backend,
    epsilon,
    floatx,
    image_data_format,
    set_epsilon,
    set_floatx,
    set_image_data_format,
)
from handmill.ir.shapes import DTYPES, name_of_dtype
from handmill.layers.symbolic import is_keras_tensor
from handmill.lazy import plain_module
from handmill.primitives.operands import common_dtype
from handmill.session import clear_session

_uids: Counter[str] = Counter()


def get_uid(prefix: str = "") -> int:
    """Returns how often it was called with ``prefix``: 1 at first."""
    _uids[prefix] += 1
    return _uids[prefix]


def standardize_dtype(dtype: Any) -> str:
    """Returns the name of a dtype that may be given in any form.

    Args:
        dtype: a name, a dtype of NumPy or torch, ``float``, ``int``, ``bool``; None stands for
            ``floatx()``.

    Raises:
        ValueError: for what is no dtype here.

    Example:
        >>> import numpy as np
        >>> standardize_dtype(np.float64), standardize_dtype(int), standardize_dtype(None)
        ('float64', 'int32', 'float32')
    """
    if dtype is None or dtype is float:
        return floatx()
    if dtype is int or dtype is bool:
        return {int: "int32", bool: "bool"}[dtype]
    try:
        name = dtype if isinstance(dtype, str) else name_of_dtype(np.dtype(dtype))
    except TypeError:
        name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"Invalid dtype: {dtype!r}. Known: {', '.join(sorted(DTYPES))}")
    return name


def is_float_dtype(dtype: Any) -> bool:
    """Whether ``dtype`` is a floating dtype."""
    return standardize_dtype(dtype).startswith(("float", "bfloat"))


def is_int_dtype(dtype: Any) -> bool:
    """Whether ``dtype`` is an integer dtype."""
    return standardize_dtype(dtype).startswith(("int", "uint"))


def result_type(*dtypes: Any) -> str:
    """Returns the dtype that an operator gives for operands of these dtypes.

    Example:
        >>> result_type("int32", "float32"), result_type("uint8", "bool")
        ('float32', 'uint8')
    """
    return common_dtype([standardize_dtype(dtype) for dtype in dtypes or (None,)])


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
