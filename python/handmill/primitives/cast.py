"""Dtypes of operands: conversion, promotion, and what arrays and symbolic tensors share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from handmill.errors import shape_error
from handmill.ir.bfloat16 import converted as to_or_from_bfloat16
from handmill.ir.graph import Value, current_graph
from handmill.ir.op import Array, Exact, Op, Sample, register
from handmill.ir.shapes import DTYPES, FLOATS, Batch, Shape, Spec, numpy_dtype, size_of
from handmill.ir.trace import apply, as_value, recorder, recorders, set_cast
from handmill.primitives.samples import BENCH, given, integers, uniform

Tensor: TypeAlias = Any
"""What public functions take: an array, number, Variable, or symbolic value."""

# NumPy dtypes that a Value cannot have, and the ones that hold their values.
_STAND_INS = {
    "float16": "float32",
    "int16": "int32",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
    "longdouble": "float64",
}
_INTEGERS = ("bool", "uint8", "int8", "int32", "int64")
_RANK = {"bfloat16": 0, "float32": 1, "float64": 2}


def _cast_spec(x: Spec, *, dtype: str) -> Spec:
    return Spec(x.shape, dtype)


def _cast_reference(x: Array, *, dtype: str) -> Array:
    return np.asarray(x).astype(numpy_dtype(dtype))


def _cast_vjp(inputs: Any, outputs: Any, dys: Any, *, dtype: str) -> Any:
    return (cast(dys[0], inputs[0].dtype) if inputs[0].spec.is_float else None,)


def _cast_samples() -> Any:
    float_to_int = uniform((127, 33), low=-100, high=100)
    yield Sample("float32_int32", float_to_int, {"dtype": "int32"}, smooth=False)
    yield Sample("float32_bool", given([0.0, -0.0, 0.5, -3.0]), {"dtype": "bool"}, smooth=False)
    for dtype in ("uint8", "int8", "int32", "int64", "bool"):
        make = integers((17,), high=2, dtype=dtype)
        yield Sample(f"{dtype}_float32", make, {"dtype": "float32"}, smooth=False)
    make = integers(BENCH, high=256, dtype="uint8")
    yield Sample("bench", make, {"dtype": "float32"}, smooth=False, bench=True)


CAST = register(
    Op(
        "cast",
        infer=_cast_spec,
        reference=_cast_reference,
        samples=_cast_samples,
        bound=Exact(),
        vjp=_cast_vjp,
        kernel="cast",
        native=lambda specs, attrs: True,
    )
)

INCREMENT = register(
    Op(
        "increment",
        infer=lambda x: x,
        reference=lambda x: x + np.ones((), x.dtype),
        samples=lambda: [
            Sample("scalar", given(np.array(41, np.int64)), smooth=False),
            Sample("3", integers((3,), dtype="int64"), smooth=False),
        ],
        bound=Exact(),
        kernel="increment",
        native=lambda specs, attrs: specs[0].dtype == "int64",
        alias=((0, 0),),
        grad_none=(0,),
    )
)


def _size_along_samples() -> Any:
    yield Sample("127x33", uniform((127, 33)), {"axis": (0,)}, smooth=False)
    yield Sample("all", uniform((4, 1, 5)), {"axis": (0, 1, 2)}, smooth=False)
    yield Sample("empty", uniform((0, 5)), {"axis": (0,)}, smooth=False)
    yield Sample("bytes", integers((4, 5), dtype="uint8"), {"axis": (0,)}, smooth=False)


SIZE_ALONG = register(
    Op(
        "size_along",
        infer=lambda x, *, axis: Spec((), x.dtype if x.is_float else "float32"),
        reference=lambda x, *, axis: np.asarray(
            np.prod([x.shape[a] for a in axis], dtype=np.int64),
            x.dtype if x.dtype.kind == "f" else np.float32,
        ),
        samples=_size_along_samples,
        bound=Exact(),
        kernel="size_along",
        native=lambda specs, attrs: specs[0].dtype != "float64",  # reads the shape only
        grad_none=(0,),
    )
)

STOP_GRADIENT = register(
    Op(
        "stop_gradient",
        infer=lambda x: x,
        reference=lambda x: x,
        samples=lambda: [Sample("17", uniform((17,)), smooth=False)],
        bound=Exact(),
        vjp=lambda inputs, outputs, dys: (None,),
        kernel="view",
        native=lambda specs, attrs: True,
        view=True,
        grad_none=(0,),
    )
)


def is_symbolic(x: Any) -> bool:
    """Whether ``x`` has a spec but no content that NumPy could read now."""
    return (
        isinstance(x, Value)
        or hasattr(type(x), "apply_symbolically")
        or (hasattr(x, "spec") and hasattr(x, "read"))
    )


def tensor(x: Tensor) -> Any:
    """Returns ``x`` as an operand: symbolic as it is, all else as an array of a known dtype.

    Numbers and lists of them become float32, int32 or bool, as in Keras; arrays keep theirs.
    """
    if recorders and (recording := recorder()) is not None:
        x = recording.enter(x)
    if is_symbolic(x):
        return _read(x)
    is_array = isinstance(x, np.ndarray | np.generic) or hasattr(x, "__array__")
    if not is_array and isinstance(x, list | tuple) and any(is_symbolic(item) for item in x):
        from handmill.ops.numpy.arrange import stack

        return stack(x)
    array = np.asarray(x)
    name = array.dtype.name
    if not is_array or isinstance(x, float):
        name = {"float64": "float32", "int64": "int32"}.get(name, name)
    name = _STAND_INS.get(name, name)
    if name not in DTYPES:
        raise TypeError(f"an array of numbers was expected, got dtype {array.dtype}: {x!r}")
    return array if array.dtype.name == name else array.astype(numpy_dtype(name))


def _read(x: Any) -> Any:
    """A variable of a program being traced as a value: its dtype may depend on the layer."""
    graph = current_graph()
    return as_value(graph, x) if graph is not None and hasattr(x, "read") else x


def widened(x: Any) -> Any:
    """Returns a bfloat16 operand as float32, any other as it is."""
    return _converted(x, "float32") if dtype_of(x) == "bfloat16" else x


def shape_of(x: Tensor) -> Shape:
    """Returns the shape of an operand; symbolic ones may hold Batch dimensions."""
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


def promote(*xs: Tensor) -> list[Any]:
    """Returns operands of one dtype; Python numbers take the dtype of the others."""
    if all(isinstance(x, Value) for x in xs) and len({x.spec.dtype for x in xs}) == 1:
        return list(xs)
    weak = [isinstance(x, bool | int | float) for x in xs]
    operands = [x if w else tensor(x) for x, w in zip(xs, weak, strict=True)]
    strong = [dtype_of(x) for x, w in zip(operands, weak, strict=True) if not w]
    numbers = [x for x, w in zip(xs, weak, strict=True) if w]
    if any(type(x) is not bool and isinstance(x, float) for x in numbers):
        strong = strong if any(d in FLOATS for d in strong) else [*strong, "float32"]
    elif any(type(x) is int for x in numbers):
        strong = strong if any(d != "bool" for d in strong) else [*strong, "int32"]
    dtype = common_dtype(strong) if strong else "bool"
    return [
        np.asarray(x, numpy_dtype(dtype)) if w else _converted(x, dtype)
        for x, w in zip(operands, weak, strict=True)
    ]


def promote_float(*xs: Tensor) -> list[Any]:
    """Like :func:`promote`, but integers become float32."""
    operands = promote(*xs)
    return [x if dtype_of(x) in FLOATS else _converted(x, "float32") for x in operands]


def rounded(value: float, x: Any) -> float:
    """Returns a number as the dtype of ``x`` holds it, so that kernel and reference agree."""
    return float(np.asarray(value, numpy_dtype(dtype_of(x))))


def as_bool(x: Tensor) -> Any:
    """Returns ``x != 0`` unless ``x`` is boolean already."""
    return _converted(tensor(x), "bool")


def _converted(x: Any, dtype: str) -> Any:
    if dtype_of(x) == dtype:
        return x
    if not is_symbolic(x):
        return x.astype(numpy_dtype(dtype))
    if {dtype_of(x), dtype} == {"bfloat16", "float32"}:
        return to_or_from_bfloat16(x, dtype)
    return apply(CAST, x, dtype=dtype)


set_cast(_converted)


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
        raise shape_error(op, f"axis {axis} does not exist in {rank} dimensions")
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
    """Returns the number of elements along ``axes``: an int, or a value if the batch counts."""
    shape = shape_of(x)
    if any(isinstance(shape[a], Batch) for a in axes):
        return apply(SIZE_ALONG, x, axis=tuple(axes))
    return int(np.prod([shape[a] for a in axes], dtype=np.int64))  # type: ignore[arg-type]


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
    return _converted(tensor(x), check_dtype(dtype))


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
    x = tensor(x)
    return x if dtype is None else cast(x, dtype)


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


def ndim(x: Tensor) -> int:
    """Returns the number of dimensions.

    Example:
        >>> from handmill import ops
        >>> ops.ndim([[1, 2]])
        2
    """
    return len(shape_of(x))


def size(x: Tensor) -> Any:
    """Returns the number of elements.

    Example:
        >>> from handmill import ops
        >>> ops.size([[1, 2, 3]])
        3
    """
    return size_of(shape_of(x))


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
