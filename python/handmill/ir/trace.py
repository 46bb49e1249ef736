"""Calling an operator: on symbolic values it is recorded, on arrays it is run."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from handmill.ir.graph import Graph, Value, current_graph
from handmill.ir.op import Op
from handmill.ir.shapes import FLOATS


class _Autocast(threading.local):
    dtype: str | None = None


class _Loops(threading.local):
    opened = 0


_AUTOCAST = _Autocast()
_LOOPS = _Loops()
recorders: dict[int, Any] = {}
"""By thread: what the open GradientTapes keep of operators called on arrays."""

_cast: Callable[[Value, str], Value] | None = None
_eager: Callable[[Op, tuple[Any, ...], dict[str, Any]], Any] | None = None


def set_eager(run: Callable[[Op, tuple[Any, ...], dict[str, Any]], Any]) -> None:
    """Says how operators run on arrays; called once, by the floor that owns the executors."""
    global _eager
    _eager = run


def set_cast(cast: Callable[[Value, str], Value]) -> None:
    """Says how values are converted; called once, by the floor that owns the operators."""
    global _cast
    _cast = cast


@contextmanager
def autocast_scope(dtype: str | None) -> Iterator[None]:
    """Lets programs that are traced inside read float variables in ``dtype``; None: their own."""
    before = _AUTOCAST.dtype
    _AUTOCAST.dtype = dtype
    try:
        yield
    finally:
        _AUTOCAST.dtype = before


@contextmanager
def opened_loops(most: int) -> Iterator[None]:
    """Lets programs that are traced inside hold scans of that many steps at most as their steps."""
    before, _LOOPS.opened = _LOOPS.opened, most
    try:
        yield
    finally:
        _LOOPS.opened = before


def opens(steps: Any) -> bool:
    """Whether a scan of so many steps is traced step by step, not as a loop."""
    return isinstance(steps, int) and 0 < steps <= _LOOPS.opened


def read(graph: Graph, state: Any) -> Value:
    """Returns the content of a variable at this point, in the dtype of the autocast scope."""
    value = graph.read(state)
    dtype = dtype_read(state)
    return value if value.dtype == dtype or _cast is None else _cast(value, dtype)


def dtype_read(state: Any) -> str:
    """The dtype in which :func:`read` gives the content of a variable."""
    own: str = state.spec.dtype
    scope = _AUTOCAST.dtype
    return scope if scope is not None and state.autocast and own in FLOATS else own


array_masks: dict[int, tuple[weakref.ref[Any], Any]] = {}
"""The masks of arrays, by identity, each with its array, whose end removes it."""


def _forgetting(key: int, forget: Callable[..., Any] = array_masks.pop) -> Callable[[Any], None]:
    return lambda _: forget(key, None)


def mask_of(x: Any) -> Any:
    """The mask attached to a value, symbolic tensor or array; None if none is."""
    if isinstance(x, Value) or hasattr(type(x), "apply_symbolically"):
        return x.mask
    known = array_masks.get(id(x)) if array_masks else None
    return None if known is None else known[1]


def with_mask(x: Any, mask: Any) -> Any:
    """Attaches a mask to a value, and returns the value.

    Arrays have no room for one: theirs are kept beside them, in :data:`array_masks`.
    """
    if mask is None:
        return x
    if isinstance(x, Value) or hasattr(type(x), "apply_symbolically"):
        x.mask = mask
    elif isinstance(x, np.ndarray) and not isinstance(mask, Value):
        key = id(x)  # the memory is another's only after the end has been told
        array_masks[key] = weakref.ref(x, _forgetting(key)), mask
    return x


def apply(op: Op, *operands: Any, **attrs: Any) -> Any:
    """Applies ``op``.

    While a graph is traced, arrays and Python numbers among the operands become constants,
    variables are read, and a node is appended. Outside, operands that know how to be called
    symbolically (Keras-style tensors of the functional API) decide; otherwise the operator
    runs at once on arrays.

    Returns:
        One Value or array, or a tuple if the operator has several outputs.
    """
    graph = current_graph()
    if graph is not None:
        values = [
            x if type(x) is Value and x.graph is graph else as_value(graph, x) for x in operands
        ]
        return graph.emit(op, values, attrs)
    for operand in operands:
        symbolic = getattr(type(operand), "apply_symbolically", None)
        if symbolic is not None:
            return symbolic(op, operands, attrs)
    recording = recorder() if recorders else None
    if recording is not None and recording.concerns(operands):
        return recording.apply(op, operands, attrs)
    return run(op, operands, attrs)


def run(op: Op, operands: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
    """Runs ``op`` on arrays."""
    if _eager is None:
        import handmill.runtime.eager  # noqa: F401  (installs the executors)
    assert _eager is not None  # noqa: S101
    return _eager(op, operands, attrs)


def recorder() -> Any:
    """What records the operators that this thread calls on arrays now, or None."""
    found = recorders.get(threading.get_ident())
    return found if found is not None and found.active and current_graph() is None else None


_BOOLS = (bool, np.bool_)


def as_value(graph: Graph, operand: Any, dtype: str | None = None) -> Value:
    """Returns ``operand`` as a value of ``graph``.

    Args:
        graph: the graph being traced.
        operand: a Value of the graph, a Variable, what a tape recorded, an array or a number.
        dtype: for arrays and numbers; Python floats default to float32, ints to int32.
    """
    if isinstance(operand, Value):
        return operand if operand.graph is graph else graph.capture(operand)
    if hasattr(operand, "spec") and hasattr(operand, "read"):
        return read(graph, operand)
    if hasattr(type(operand), "value_in"):
        found: Value = operand.value_in(graph)
        return found
    if dtype is None:
        if isinstance(operand, _BOOLS):
            dtype = "bool"
        elif isinstance(operand, int):
            dtype = "int32"
        elif isinstance(operand, float):
            dtype = "float32"
    return graph.constant(operand, dtype)


def dtype_of(operand: Any) -> str | None:
    """The dtype of a Value, Variable or array; None for Python numbers, which have none."""
    if isinstance(operand, bool | int | float):
        return None
    dtype = getattr(operand, "dtype", None)
    if dtype is None:
        dtype = np.asarray(operand).dtype
    return str(np.dtype(dtype)) if not isinstance(dtype, str) else dtype


def is_float(dtype: str | None) -> bool:
    """Whether ``dtype`` is a floating dtype."""
    return dtype in FLOATS
