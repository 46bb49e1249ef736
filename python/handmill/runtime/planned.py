"""The short way from an operator function called on arrays to its kernel.

A public function converts, promotes and checks its operands in Python, which costs many times
the kernel of a small array. Called on plain arrays alone it is therefore traced once for each
dtype and shape; from then on the call is a cache look-up in C++.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from handmill import config
from handmill.ir.trace import recorders

F = TypeVar("F", bound=Callable[..., Any])


def planned(function: F) -> F:
    """Wraps a function of one or two tensors, whose result depends on nothing else."""
    native: Any = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal native
        if kwargs or type(args[0]) is not np.ndarray or type(args[-1]) is not np.ndarray:
            return function(*args, **kwargs)
        if recorders or not config.is_native():
            return function(*args)
        if native is None:
            from handmill.runtime.function import TracedFunction

            native = TracedFunction(function, function.__name__, batched=False).native
        return native(*args)

    return call  # type: ignore[return-value]
