"""Conversion, dtypes, and gradients that a user defines."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill import config, tree
from handmill.ir.dims import Shape, SymbolicDim
from handmill.ir.graph import Graph, Value, current_graph
from handmill.ir.op import REGISTRY, Array
from handmill.ir.shapes import FLOATS, numpy_dtype
from handmill.ir.trace import apply, recorder
from handmill.primitives.cast import STOP_GRADIENT
from handmill.primitives.custom_gradient import CUSTOM_GRADIENT, Rule
from handmill.primitives.operands import (
    Tensor,
    check_dtype,
    converted,
    dtype_of,
    is_symbolic,
    numbers,
    shape_of,
    tensor,
    value_of_dim,
)


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
    return numbers(x, check_dtype(dtype))


def saturate_cast(x: Tensor, dtype: Any) -> Any:
    """Converts to another dtype; what it cannot hold becomes its least or largest number.

    Args:
        x: the input.
        dtype: the name of the new dtype; None for ``config.floatx()``.

    Example:
        >>> from handmill import ops
        >>> ops.saturate_cast([-1.0, 3.0, 1000.0], "uint8")
        array([  0,   3, 255], dtype=uint8)
    """
    dtype = check_dtype(config.floatx() if dtype is None else dtype)
    x = tensor(x)
    given = dtype_of(x)
    if given == "bool" or given == dtype:
        return converted(x, dtype)
    least, largest = _held_by_both(given, dtype)
    return converted(
        apply(REGISTRY["minimum"], apply(REGISTRY["maximum"], x, least), largest), dtype
    )


def _held_by_both(given: str, wanted: str) -> tuple[Array, Array]:
    """The least and the largest number that two dtypes can hold, in the first."""
    ends = []
    for i, (a, b) in enumerate(zip(_range_of(given), _range_of(wanted), strict=True)):
        end = (max, min)[i](a, b)
        held = np.asarray(end, numpy_dtype(given))
        # A float32 cannot hold 2^31 - 1, and rounds it to 2^31, which int32 cannot hold.
        if abs(float(held)) > abs(end) and given in FLOATS:
            held = np.nextafter(held, np.zeros_like(held))
        ends.append(held)
    return ends[0], ends[1]


def _range_of(dtype: str) -> tuple[float, float]:
    if dtype == "bool":
        return 0, 1
    if dtype in FLOATS:
        largest = _LARGEST_BFLOAT16 if dtype == "bfloat16" else float(np.finfo(dtype).max)
        return -largest, largest
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


_LARGEST_BFLOAT16 = (2.0 - 2.0**-7) * 2.0**127


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
    return tensor(x) if dtype is None else cast(x, dtype)


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


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a function a gradient of its own, as a decorator.

    Args:
        f: takes tensors (keyword arguments are passed as they are) and returns ``(results,
            gradient)``, where ``gradient`` takes a tensor for each result, the gradient of what
            follows it, and returns one for each argument of ``f``.

    Returns:
        A function that returns the results. Everything it needs must be among its arguments: no
        gradient flows to what it reads otherwise, and trainable variables are refused.

    Example:
        >>> import handmill
        >>> import numpy as np
        >>> from handmill import ops
        >>> @handmill.custom_gradient
        ... def log1pexp(x):
        ...     e = ops.exp(x)
        ...     def gradient(upstream):
        ...         return upstream * (1.0 - 1.0 / (1.0 + e))
        ...     return ops.log(1.0 + e), gradient
        >>> float(handmill.grad(log1pexp)(np.float32(100.0)))
        1.0
    """

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        flat = [convert_to_tensor(x) for x in tree.flatten(list(args))]
        given = tree.pack_sequence_as(list(args), flat)
        recording = recorder()
        graph = recording.graph if recording is not None else current_graph()
        start = len(graph.nodes) if graph is not None else 0
        found = f(*given, **kwargs)
        if not isinstance(found, tuple) or len(found) != 2 or not callable(found[1]):
            raise TypeError(
                "a function with a custom gradient must return (results, gradient function), "
                f"got {type(found).__name__}"
            )
        results, gradient = found
        if graph is None or not any(map(is_symbolic, flat)):
            return results
        _refuse_variables(graph, start, flat)
        leaves = tree.flatten(results)
        operands = [*leaves, *flat]
        if recording is None:  # what a tape recorded is not copied
            operands += _in_reach(graph, start, gradient)
        values = [x if isinstance(x, Value) else None for x in operands]
        rule = Rule(gradient, len(flat), values)
        made = apply(CUSTOM_GRADIENT, *operands, results=len(leaves), rule=rule)
        return tree.pack_sequence_as(results, list(made))

    return call


def _in_reach(graph: Graph, start: int, gradient: Callable[..., Any]) -> list[Value]:
    """What a gradient function may use: all since the graph had so many nodes, what it encloses."""
    found = {v: None for node in graph.nodes[start:] for v in (*node.inputs, *node.outputs)}
    for cell in getattr(gradient, "__closure__", None) or ():
        try:
            enclosed = [x for x in tree.flatten(cell.cell_contents) if isinstance(x, Value)]
            found.update((x, None) for x in enclosed if graph.capture(x) is not None)
        except ValueError:  # not assigned yet, or of a trace that has ended
            continue
    return list(found)


def _refuse_variables(graph: Graph, start: int, arguments: Sequence[Any]) -> None:
    known = {id(getattr(x, "symbol", x)) for x in arguments}
    for node in graph.nodes[start:]:
        for value in node.inputs:
            v = value.origin
            if getattr(v, "trainable", False) and id(value) not in known:
                raise ValueError(
                    f"a function with a custom gradient reads the variable {v.path!r}, which "
                    "would get no gradient; make it an argument of the function"
                )
