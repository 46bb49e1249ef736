"""Operands of operators: conversion, promotion, axes; what arrays and symbolic values share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from handmill.errors import shape_error
from handmill.ir.arrays import array_of, check_readable
from handmill.ir.bfloat16 import converted as to_or_from_bfloat16
from handmill.ir.dims import Shape, SymbolicDim, is_fixed
from handmill.ir.graph import Value, current_graph
from handmill.ir.op import REGISTRY, Array
from handmill.ir.shapes import DTYPES, FLOATS, convert, held, numpy_dtype
from handmill.ir.trace import apply, as_value, recorder, recorders, set_cast

Tensor: TypeAlias = Any
"""What public functions take: an array, number, Variable, or symbolic value."""


_INTEGERS = ("bool", "uint8", "int8", "int32", "int64")


_RANK = {"bfloat16": 0, "float32": 1, "float64": 2}


def is_symbolic(x: Any) -> bool:
    """Whether ``x`` has a spec but no content that NumPy could read now."""
    return (
        isinstance(x, Value)
        or hasattr(type(x), "apply_symbolically")
        or (hasattr(x, "spec") and hasattr(x, "read"))
    )


# Tuples that exist: isinstance makes a union anew each time, which costs as much as the question.
_ARRAYS = (np.ndarray, np.generic)
_WEAK = (bool, int, float, SymbolicDim)


def tensor(x: Tensor) -> Any:
    """Returns ``x`` as an operand: symbolic as it is, all else as an array of a known dtype.

    Numbers and lists of them become float32, int32 or bool, as in Keras; arrays keep theirs.
    """
    if type(x) is Value and (not recorders or current_graph() is not None):
        return x  # as most are while a program is traced
    if isinstance(x, SymbolicDim):
        return value_of_dim(x, "int32")
    if isinstance(x, np.ndarray) and type(x) is not np.ndarray:
        check_readable(x)  # before a recording makes a plain array of it
    if recorders and (recording := recorder()) is not None:
        x = recording.enter(x)
    if is_symbolic(x):
        return _read(x)
    is_array = isinstance(x, _ARRAYS) or hasattr(x, "__array__")
    if not is_array and isinstance(x, list | tuple) and any(map(_holds_symbolic, x)):
        return _stacked(x)
    array = array_of(x)
    if is_array and not isinstance(x, float):
        return held(array)
    return array_of_numbers(array, x)


def numbers(x: Tensor, dtype: str) -> Any:
    """Returns ``x`` as an operand like :func:`tensor`, then in another dtype.

    Python integers go there directly, so that float32 and int64 hold what int32 cannot.
    """
    items = x if isinstance(x, list | tuple) else ()
    if isinstance(x, int | list | tuple) and not any(map(_holds_symbolic, items)):
        array = array_of(x)
        if array.dtype.kind in "iu" and dtype in (*FLOATS, "int64"):
            return held(array).astype(numpy_dtype(dtype))
    return converted(tensor(x), dtype)


def array_of_numbers(array: Array, x: Any) -> Array:
    """Returns ``array``, made of the Python numbers ``x``, as float32, int32 or bool."""
    if array.dtype.kind == "O" and array.size and all(isinstance(v, int) for v in array.flat):
        raise _does_not_fit(max(array.flat, key=abs), "int32")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"an array of numbers was expected, got dtype {array.dtype}: {x!r}")
    if array.dtype.kind in "iu":
        for value in (array.min(), array.max()) if array.size else ():
            if not -(1 << 31) <= value < 1 << 31:
                raise _does_not_fit(int(value), "int32")
        return array.astype(np.int32)
    return array if array.dtype.kind == "b" else array.astype(np.float32)


def _does_not_fit(value: int, dtype: str) -> OverflowError:
    return OverflowError(
        f"the Python integer {value} does not fit into {dtype}, the dtype that it takes here; "
        "give an array of a dtype that holds it, e.g. numpy.asarray(x, 'int64')"
    )


def number_as(x: float, dtype: str) -> Array:
    """Returns a Python number in the dtype that it takes beside other operands.

    Raises:
        OverflowError: for an integer that the dtype cannot hold.
    """
    if type(x) is int and dtype in _INTEGERS:
        info = np.iinfo(dtype) if dtype != "bool" else None
        if info is not None and not info.min <= x <= info.max:
            raise _does_not_fit(x, dtype)
    try:
        return np.asarray(x, numpy_dtype(dtype))
    except OverflowError:
        raise _does_not_fit(int(x), dtype) from None


def _holds_symbolic(x: Any) -> bool:
    return is_symbolic(x) or isinstance(x, SymbolicDim)


def value_of_dim(dim: SymbolicDim, dtype: str, like: Any = None) -> Any:
    """Returns a size that a call decides as a scalar of ``dtype``.

    Args:
        dim: the size.
        dtype: the dtype's name.
        like: a tensor of the functional API that the size belongs to, if there is one.
    """
    if current_graph() is None and like is None:
        raise TypeError(
            f"the size {dim} has no value while a model is put together; compute with it in the "
            "`call` of a layer, or together with a tensor"
        )
    operands = () if current_graph() is not None else (like,)
    return apply(REGISTRY["dim_value"], *operands, dim=dim, dtype=dtype)


def _stacked(items: Sequence[Any]) -> Any:
    """A list of symbolic values as one value, as NumPy makes one array of a list of arrays."""
    rows = [apply(REGISTRY["reshape"], x, shape=(1, *shape_of(x))) for x in promote(*items)]
    return rows[0] if len(rows) == 1 else apply(REGISTRY["concatenate"], *rows, axis=0)


def _read(x: Any) -> Any:
    """A variable of a program being traced as a value: its dtype may depend on the layer."""
    graph = current_graph()
    return as_value(graph, x) if graph is not None and hasattr(x, "read") else x


def widened(x: Any) -> Any:
    """Returns a bfloat16 operand as float32, any other as it is."""
    return converted(x, "float32") if dtype_of(x) == "bfloat16" else x


def shape_of(x: Tensor) -> Shape:
    """Returns the shape of an operand; symbolic ones may hold symbolic dimensions."""
    spec = getattr(x, "spec", None)
    return tuple(spec.shape) if spec is not None else np.shape(x)


def dtype_of(x: Tensor) -> str:
    """Returns the dtype of an operand that :func:`tensor` has seen."""
    spec = getattr(x, "spec", None)
    return str(spec.dtype) if spec is not None else str(x.dtype.name)


def common_dtype(dtypes: Sequence[str]) -> str:
    """Returns the dtype in which operands of these dtypes meet.

    A float wins over integers; otherwise the smallest dtype that holds both.

    Example:
        >>> common_dtype(["int64", "float32"]), common_dtype(["uint8", "int8"])
        ('float32', 'int32')
    """
    floats = [d for d in dtypes if d in FLOATS]
    if floats:
        return max(floats, key=_RANK.__getitem__)
    if {"uint8", "int8"} <= set(dtypes):
        dtypes = [*dtypes, "int32"]
    return max(dtypes, key=_INTEGERS.index)


def _meeting(xs: Sequence[Tensor]) -> tuple[list[Any], list[bool], str]:
    """The operands, which of them are Python numbers, and the dtype in which all meet."""
    weak = [isinstance(x, _WEAK) for x in xs]
    operands = [x if w else tensor(x) for x, w in zip(xs, weak, strict=True)]
    strong = [dtype_of(x) for x, w in zip(operands, weak, strict=True) if not w]
    numbers = [x for x, w in zip(xs, weak, strict=True) if w]
    with_float = any(type(x) is not bool and isinstance(x, float) for x in numbers)
    with_int = any(type(x) is int or isinstance(x, SymbolicDim) for x in numbers)
    return operands, weak, dtype_with_numbers(strong, with_float, with_int)


def dtype_with_numbers(dtypes: Sequence[str], with_float: bool, with_int: bool) -> str:
    """Returns the dtype in which operands of ``dtypes`` meet Python floats or integers."""
    if with_float and not any(d in FLOATS for d in dtypes):
        dtypes = [*dtypes, "float32"]
    elif with_int and not any(d != "bool" for d in dtypes):
        dtypes = [*dtypes, "int32"]
    return common_dtype(dtypes) if dtypes else "bool"


def _met(operands: Sequence[Any], weak: Sequence[bool], dtype: str) -> list[Any]:
    """The operands in one dtype."""
    like = next((x for x in operands if hasattr(type(x), "apply_symbolically")), None)
    return [
        value_of_dim(x, dtype, like)
        if isinstance(x, SymbolicDim)
        else number_as(x, dtype)
        if w
        else converted(x, dtype)
        for x, w in zip(operands, weak, strict=True)
    ]


def promote(*xs: Tensor) -> list[Any]:
    """Returns operands of one dtype; Python numbers take the dtype of the others.

    Raises:
        OverflowError: if that dtype cannot hold a Python integer.
    """
    if current_graph() is not None:
        xs = tuple([x if type(x) is Value or isinstance(x, _WEAK) else tensor(x) for x in xs])
        if type(xs[0]) is Value:
            dtype = xs[0].spec.dtype
            if all([type(x) is Value and x.spec.dtype == dtype for x in xs]):
                return list(xs)
    return _met(*_meeting(xs))


def promote_float(*xs: Tensor) -> list[Any]:
    """Like :func:`promote`, but integers become float32."""
    operands, weak, dtype = _meeting(xs)
    return _met(operands, weak, dtype if dtype in FLOATS else "float32")


def is_bool(x: Tensor) -> bool:
    """Whether an operand is of dtype bool."""
    return isinstance(x, bool) or (not isinstance(x, int | float) and dtype_of(tensor(x)) == "bool")


def promote_number(x: Tensor) -> Any:
    """Returns an operand for arithmetic: bool becomes int32."""
    (operand,) = promote(x)
    return converted(operand, "int32") if dtype_of(operand) == "bool" else operand


def comparable(x1: Tensor, x2: Tensor) -> list[Any]:
    """Like :func:`promote`, but a Python integer may lie outside of the other operand's dtype."""
    operands, weak, dtype = _meeting((x1, x2))
    outside = [
        w
        and type(x) is int
        and dtype in _INTEGERS
        and dtype != "bool"
        and not np.iinfo(dtype).min <= x <= np.iinfo(dtype).max
        for x, w in zip(operands, weak, strict=True)
    ]
    if not any(outside) or all(weak):
        return promote(x1, x2)
    value = operands[outside.index(True)]
    if -(1 << 63) <= value < 1 << 63:
        return _met(operands, weak, "int64")
    # Beyond every integer: what counts is on which side of all of them it lies.
    side = np.asarray(1 if value > 0 else -1, np.int32)
    return [
        side if w else apply(REGISTRY["multiply"], converted(x, "int32"), np.asarray(0, np.int32))
        for x, w in zip(operands, weak, strict=True)
    ]


def rounded(value: float, x: Any) -> float:
    """Returns a number as the dtype of ``x`` holds it, so that kernel and reference agree."""
    return float(np.asarray(value, numpy_dtype(dtype_of(x))))


def as_bool(x: Tensor) -> Any:
    """Returns ``x != 0`` unless ``x`` is boolean already."""
    if isinstance(x, int | float):
        return np.asarray(bool(x))
    return converted(tensor(x), "bool")


def converted(x: Any, dtype: str) -> Any:
    """Returns an operand in a dtype that exists; nothing is done if it has it."""
    if dtype_of(x) == dtype:
        return x
    if not is_symbolic(x):
        with np.errstate(invalid="ignore", over="ignore"):
            return convert(x, dtype)
    if {dtype_of(x), dtype} == {"bfloat16", "float32"}:
        return to_or_from_bfloat16(x, dtype)
    return apply(REGISTRY["cast"], x, dtype=dtype)


set_cast(converted)


def check_dtype(dtype: Any) -> str:
    """Returns the name of ``dtype``.

    Raises:
        ValueError: if no Value can have it.
    """
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name in ("float", "int"):
        name += "32"
    if name not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got dtype={dtype!r}")
    return name


def normal_axis(op: str, axis: int, rank: int) -> int:
    """Returns ``axis`` counted from the front.

    Raises:
        ShapeError: if it does not exist.
    """
    if not -rank <= axis < rank:
        raise shape_error(op, f"axis {axis} is out of bounds for an array of {rank} dimensions")
    return int(axis) % rank


def normal_axes(op: str, axis: Any, rank: int) -> tuple[int, ...]:
    """Returns the axes named by ``axis`` (None: all), non-negative and sorted.

    Raises:
        ShapeError: if one does not exist or is named twice.
    """
    if axis is None:
        return tuple(range(rank))
    axes = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    found = sorted(normal_axis(op, int(a), rank) for a in axes)
    if len(set(found)) != len(found):
        raise shape_error(op, f"axes must differ, got axis={axis}")
    return tuple(found)


def count_along(x: Tensor, axes: Sequence[int]) -> Any:
    """Returns the number of elements along ``axes``: an int, or a value if a call decides it."""
    shape = shape_of(x)
    if not is_fixed([shape[a] for a in axes]):
        return apply(REGISTRY["size_along"], x, axis=tuple(axes))
    return int(np.prod([shape[a] for a in axes], dtype=np.int64))  # type: ignore[arg-type]


Axis = Any  # None, an int, or a sequence of ints
