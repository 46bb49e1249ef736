"""Sizes that a call decides, as values of a program: constants that a plan fills in."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Dim, at_least
from handmill.ir.graph import current_graph
from handmill.ir.op import Array, Exact, Op, Sample, register
from handmill.ir.shapes import Spec, numpy_dtype
from handmill.ir.trace import apply
from handmill.primitives.emit import add, reshape


def _no_operands(rng: np.random.Generator) -> tuple[Array, ...]:
    return ()


def _any_dtype(specs: Any, attrs: Any) -> bool:
    return True


# The operand, if there is one, says only of which tensor of the functional API the size is.
DIM_VALUE = register(
    Op(
        "dim_value",
        infer=lambda *like, dim, dtype: Spec((), dtype),
        reference=lambda *like, dim, dtype: np.asarray(dim, numpy_dtype(dtype)),
        samples=lambda: [
            Sample(dtype, _no_operands, {"dim": 37, "dtype": dtype}, smooth=False)
            for dtype in ("int32", "int64", "float32")
        ],
        bound=Exact(),
        kernel="dim_value",
        native=_any_dtype,
        vjp=lambda inputs, outputs, dys, *, dim, dtype: (None,) * len(inputs),
    )
)


def _arange_reference(*like: Array, size: int, start: int, step: int, dtype: str) -> Array:
    return (start + step * np.arange(size)).astype(numpy_dtype(dtype))


def _arange_infer(*like: Spec, size: Dim, start: Dim, step: Dim, dtype: str) -> Spec:
    if not at_least(size, 0):
        raise shape_error("arange", f"the size {size} is negative", {})
    return Spec((size,), dtype)


# start, start + step, ...: `size` integers; the operand as above.
ARANGE = register(
    Op(
        "arange",
        infer=_arange_infer,
        reference=_arange_reference,
        samples=lambda: [
            Sample(
                f"{dtype}_{size}",
                _no_operands,
                {"size": size, "start": start, "step": step, "dtype": dtype},
                smooth=False,
            )
            for dtype, size, start, step in (
                ("int32", 17, 0, 1),
                ("int64", 33, 5, -3),
                ("float32", 1000, -4, 2),
                ("int32", 0, 3, 1),
            )
        ],
        bound=Exact(),
        kernel="arange",
        native=lambda specs, attrs: attrs["dtype"] in ("int32", "int64", "float32", "float64"),
        vjp=lambda inputs, outputs, dys, **attrs: (None,) * len(inputs),
    )
)


def numbers_from(
    start: Dim, size: Dim, step: int = 1, dtype: str = "int32", like: Any = None
) -> Any:
    """Returns ``start``, ``start + step``, ...: as many integers as ``size`` says, as a value.

    Args:
        start: the first.
        size: how many.
        step: the distance.
        dtype: the dtype's name.
        like: a tensor whose sizes these are; one of the functional API makes a layer of it.

    Raises:
        TypeError: if nothing is traced that could be called, and ``like`` does not stand for it.
    """
    operands: tuple[Any, ...] = ()
    if current_graph() is None:
        if not hasattr(type(like), "apply_symbolically"):
            raise TypeError(
                f"arange: the size {size} is not known while a model is put together; compute with "
                "it in the `call` of a layer"
            )
        operands = (like,)
    return apply(ARANGE, *operands, size=size, start=start, step=step, dtype=dtype)


def steps_to(size: Dim, step: int = 1, like: Any = None) -> Any:
    """Returns 0, ``step``, 2 ``step``, ...: as many int32 numbers as ``size`` says.

    Args:
        size: how many.
        step: the distance.
        like: see :func:`numbers_from`, which this is where a call decides the size.
    """
    if isinstance(size, int):
        return np.arange(size, dtype=np.int32) * np.int32(step)
    return numbers_from(0, size, step, like=like)


def places(rows: Dim, columns: Dim, k: int = 0, like: Any = None) -> tuple[Any, Any]:
    """Returns the number of each row, and of each column less ``k``, so that they broadcast.

    Args:
        rows: how many rows a matrix has.
        columns: how many columns.
        k: subtracted from the numbers of columns.
        like: see :func:`numbers_from`.
    """
    numbers = steps_to(columns, like=like)
    row = reshape(steps_to(rows, like=like), (rows, 1))
    return row, add(numbers, np.int32(-k)) if k else numbers
