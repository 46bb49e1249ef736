"""Calls of public functions on tensors of the functional API, which are kept whole.

A model that is put together from ``ops.mean(x)`` holds one operation "mean", as in Keras, however
many operators compute it: its layers then lie in Keras's order, and its file is Keras's file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_tensor_types: list[type] = []
"""The class of those tensors; empty as long as nobody has imported it."""


def keep_calls_on(tensor_type: type) -> None:
    """Lets ``tensor_type.record_call`` see the calls that tensors of this type are given to."""
    _tensor_types.append(tensor_type)


def kept_whole(function: Callable[..., Any], name: str | None = None) -> Callable[..., Any]:
    """Wraps a public function so that a call on symbolic tensors becomes one operation.

    Args:
        function: takes tensors, or lists of them.
        name: under which the function is public; default: its own name.
    """
    if hasattr(function, "public_name"):
        return function
    public_name = name or function.__name__

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for tensor_type in _tensor_types:
            if _holds(args, tensor_type) or (kwargs and _holds(kwargs.values(), tensor_type)):
                return tensor_type.record_call(function, public_name, args, kwargs)  # type: ignore[attr-defined]
        return function(*args, **kwargs)

    call.public_name = public_name  # type: ignore[attr-defined]
    return call


def _holds(arguments: Any, tensor_type: type) -> bool:
    for x in arguments:
        kind = type(x)
        if kind is tensor_type:
            return True
        if (kind is list or kind is tuple) and _holds(x, tensor_type):
            return True
    return False
