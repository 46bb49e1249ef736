"""Sizes that a call decides, as values of a program: constants that a plan fills in."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Dim, SymbolicDim, at_least, is_fixed
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
        grad_none=(0,),
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
    return apply(DIM_VALUE, *operands, dim=dim, dtype=dtype)


def arange_of_dims(start: Any, stop: Any, step: Any, dtype: str) -> Any:
    """Returns ``arange`` for limits that a call decides; the step must be an integer."""
    if current_graph() is None:
        raise TypeError(
            "arange: the size is not known while a model is put together; call it in the `call` of "
            "a layer"
        )
    whole = all(isinstance(x, int | np.integer | SymbolicDim) for x in (start, stop, step))
    if not whole or not is_fixed((step,)) or step == 0:
        raise TypeError(
            "arange: integers are expected beside a size that differs from call to call, and a "
            f"fixed step, got start={start}, stop={stop}, step={step}"
        )
    length = (stop - start + (step - 1)) // step if step > 0 else (start - stop - step - 1) // -step
    size = length if at_least(length, 0) else 0
    return apply(ARANGE, size=size, start=start, step=int(step), dtype=dtype)
