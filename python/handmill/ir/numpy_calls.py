"""NumPy called on what has no numbers yet: its operators are left to us, its functions refused.

The error names the function of the user that called, and the one of ``handmill.ops`` to call.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from handmill.errors import TracedValueError

# The operators of Python that an array on the left hands to its ufuncs -> what they mean on the
# right.
_REFLECTED = {
    "add": "__radd__",
    "subtract": "__rsub__",
    "multiply": "__rmul__",
    "divide": "__rtruediv__",
    "floor_divide": "__rfloordiv__",
    "remainder": "__rmod__",
    "divmod": "__rdivmod__",
    "power": "__rpow__",
    "matmul": "__rmatmul__",
    "bitwise_and": "__rand__",
    "bitwise_or": "__ror__",
    "bitwise_xor": "__rxor__",
    "less": "__gt__",
    "less_equal": "__ge__",
    "greater": "__lt__",
    "greater_equal": "__le__",
    "equal": "__eq__",
    "not_equal": "__ne__",
}

_REDUCTIONS = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_and": "all",
    "logical_or": "any",
}

_NAMED_OTHERWISE = {
    "fabs": "absolute",
    "float_power": "power",
    "remainder": "mod",
    "rint": "round",
}
"""Functions of NumPy that ``handmill.ops`` has under another name."""


class NumpyOperand:
    """How tensors without numbers stand beside NumPy's arrays.

    Operators with an array on the left are those of the tensor; every function is refused.
    """

    __slots__ = ()

    __array_priority__ = 1000

    _numpy_error: type[Exception] = TracedValueError
    _numpy_subject = "a symbolic value"
    _numpy_reason = ""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        is_call = method == "__call__" and not kwargs
        name = _REFLECTED.get(ufunc.__name__)
        if is_call and name is not None and isinstance(inputs[0], np.ndarray | np.generic):
            found = getattr(type(self), name, _not_there)(self, inputs[0])
            if found is NotImplemented and name in ("__eq__", "__ne__"):
                return name == "__ne__"
            return found
        name = ufunc.__name__
        if method == "reduce":
            raise self._refused(f"{_dotted(ufunc)}.reduce", _REDUCTIONS.get(name, name))
        raise self._refused(_dotted(ufunc), name)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in (np.shape, np.ndim):  # which read attributes
            return getattr(args[0], func.__name__)
        raise self._refused(f"{func.__module__}.{func.__name__}", func.__name__)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise self._numpy_error(
            f"{user_function()} made a NumPy array of {self._numpy_subject}; compute with "
            f"functions of handmill.ops, and leave numpy.asarray out{self._numpy_reason}"
        )

    def _refused(self, function: str, name: str) -> Exception:
        return self._numpy_error(
            called_numpy(function, name, self._numpy_subject) + self._numpy_reason
        )


def called_numpy(function: str, name: str, subject: str) -> str:
    """Says who called a function of NumPy, and what to call instead.

    Args:
        function: as users write it: ``numpy.mean``.
        name: under which ``handmill.ops`` is searched for it.
        subject: what it was called on.
    """
    from handmill import ops

    name = _NAMED_OTHERWISE.get(name, name)
    if getattr(ops, name, None) is not None:
        remedy = f"use handmill.ops.{name}"
    else:
        remedy = f"handmill.ops has no {name}: compute with functions that it has"
    return f"{user_function()} called {function} on {subject}; {remedy}"


def user_function() -> str:
    """The name of the nearest function outside handmill and NumPy that is being executed."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "").partition(".")[0]
        if module not in ("handmill", "numpy"):
            break
        frame = frame.f_back
    name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
    name = name.rpartition("<locals>.")[2]
    return {"<module>": "the script", "<lambda>": "a lambda"}.get(name, name)


def _dotted(ufunc: Any) -> str:
    name: str = ufunc.__name__
    return f"numpy.{name}" if getattr(np, name, None) is ufunc else name


def _not_there(*operands: Any) -> Any:
    return NotImplemented
