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
from handmill.runtime.whole_calls import kept_whole

F = TypeVar("F", bound=Callable[..., Any])

_SCALARS = frozenset((int, float, bool, np.float32, np.int32, np.int64))
_MOST_SCALARS = 64
"""Of each function; those that were used first are forgotten together."""


def planned(function: F) -> F:
    """Wraps a function of one or two tensors, whose result depends on nothing else."""
    native: Any = None
    with_scalars: dict[Any, Any] = {}  # None after the first call, whose program may never be used
    whole = kept_whole(function)

    @functools.wraps(whole)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal native
        if kwargs or type(args[0]) is not np.ndarray or type(args[-1]) is not np.ndarray:
            if kwargs or len(args) != 2 or type(args[1]) not in _SCALARS:
                return whole(*args, **kwargs)
            return _with_scalar(whole, args[0], args[1], with_scalars)
        if recorders or not config.is_native():
            return function(*args)
        if native is None:
            native = _traced(function)
        return native(*args)

    return call  # type: ignore[return-value]


def reads_turned(function: F) -> F:
    """Marks a function, below :func:`planned`, that need not copy operands such as ``x.T``."""
    function.reads_turned = True  # type: ignore[attr-defined]
    return function


def _traced(function: Callable[..., Any], name: str = "") -> Any:
    from handmill.runtime.function import TracedFunction
    from handmill.runtime.turned import TurnedFunction

    kind = TurnedFunction if hasattr(function, "reads_turned") else TracedFunction
    return kind(function, name or function.__name__, batched=False).native


def _with_scalar(function: Any, x: Any, scalar: Any, known: dict[Any, Any]) -> Any:
    """Calls ``function(x, scalar)``; from the second time on by a program for this scalar."""
    if type(x) is not np.ndarray or recorders or not config.is_native():
        return function(x, scalar)
    key = type(scalar), scalar if scalar else str(scalar)  # -0.0 is not 0.0
    native = known.get(key)
    if native is None:
        if key not in known:
            found = function(x, scalar)
            if len(known) >= _MOST_SCALARS:
                known.clear()
            known[key] = None
            return found
        native = known[key] = _traced(lambda x: function(x, scalar), function.__name__)
    return native(x)
