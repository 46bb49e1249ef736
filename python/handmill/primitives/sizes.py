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


def _arange_reference(*, size: int, start: int, step: int, dtype: str) -> Array:
    return (start + step * np.arange(size)).astype(numpy_dtype(dtype))


def _arange_infer(*, size: Dim, start: Dim, step: Dim, dtype: str) -> Spec:
    if not at_least(size, 0):
        raise shape_error("arange", f"the size {size} is negative", {})
    return Spec((size,), dtype)


# start, start + step, ...: `size` integers.
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
    )
)


def steps_to(size: Dim, step: int = 1) -> Any:
    """Returns 0, ``step``, 2 ``step``, ...: as many int32 numbers as ``size`` says.

    Raises:
        TypeError: if a call decides the size, and nothing is traced that could be called.
    """
    if isinstance(size, int):
        return np.arange(size, dtype=np.int32) * np.int32(step)
    if current_graph() is None:
        raise TypeError(
            f"the size {size} is not known while a model is put together; compute with it in the "
            "`call` of a layer"
        )
    return apply(ARANGE, size=size, start=0, step=step, dtype="int32")
