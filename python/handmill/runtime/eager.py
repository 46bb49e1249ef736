"""Operators that are called on arrays run at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import config
from handmill.ir import trace
from handmill.ir.bfloat16 import run_reference
from handmill.ir.dims import holds_dims
from handmill.ir.op import Op
from handmill.ir.shapes import Spec, numpy_dtype
from handmill.runtime.function import TracedFunction, as_array
from handmill.runtime.variable import Variable

_FUNCTIONS: dict[Any, TracedFunction] = {}
_MOST_FUNCTIONS = 4096


def run_eagerly(op: Op, operands: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
    """Runs ``op`` on arrays, variables and numbers."""
    arrays = [_operand(x) for x in operands]
    if config.backend() != "native":
        _check_sizes(op, attrs)
        return _run_reference(op, arrays, attrs)
    key = (op, *attrs.items()) if attrs else op
    function = _FUNCTIONS.get(key)
    if function is None:
        _check_sizes(op, attrs)
        if len(_FUNCTIONS) >= _MOST_FUNCTIONS:
            _FUNCTIONS.clear()
        function = _FUNCTIONS[key] = TracedFunction(
            lambda *values: trace.apply(op, *values, **attrs), op.name, batched=False
        )
    return function.native(*arrays)


def _check_sizes(op: Op, attrs: dict[str, Any]) -> None:
    """Refuses sizes of a symbolic tensor where no tensor among the operands will tell them."""
    if any(map(holds_dims, attrs.values())):
        raise TypeError(
            f"{op.name}: the size is not known while a model is put together; call it in the "
            "`call` of a layer, or make it from a tensor, as ops.zeros_like does"
        )


def _operand(x: Any) -> Any:
    if type(x) is np.ndarray:
        return x
    if isinstance(x, Variable):
        return x.read()
    if isinstance(x, bool):
        return np.asarray(x)
    if isinstance(x, int):
        return np.asarray(x, np.int32)
    if isinstance(x, float):
        return np.asarray(x, np.float32)
    return as_array(x)


def _run_reference(op: Op, operands: Sequence[Any], attrs: dict[str, Any]) -> Any:
    arrays = [as_array(x) for x in operands]
    specs = op.specs([Spec(a.shape, a.dtype.name) for a in arrays], attrs)
    with np.errstate(all="ignore"):
        results = run_reference(op, arrays, attrs)
    wanted = specs if isinstance(specs, tuple) else (specs,)
    found = tuple(np.asarray(r, numpy_dtype(s.dtype)) for r, s in zip(results, wanted, strict=True))
    return found if isinstance(specs, tuple) else found[0]


trace.set_eager(run_eagerly)
