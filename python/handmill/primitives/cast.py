"""Conversion to another dtype, and what only looks at an operand or passes it on."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import same
from handmill.ir.op import Array, Exact, Op, Sample, never_native, register
from handmill.ir.shapes import Spec, convert
from handmill.ir.tile import CONVERT
from handmill.primitives import channels
from handmill.primitives.operands import converted
from handmill.primitives.samples import BENCH, given, integers, uniform


def _cast_spec(x: Spec, *, dtype: str) -> Spec:
    return Spec(x.shape, dtype)


def _cast_reference(x: Array, *, dtype: str) -> Array:
    return convert(x, dtype)


def _cast_vjp(inputs: Any, outputs: Any, dys: Any, *, dtype: str) -> Any:
    return (converted(dys[0], inputs[0].dtype) if inputs[0].spec.is_float else None,)


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
        attribution="midpoint",
        kernel="cast",
        native=lambda specs, attrs: True,
        tile=CONVERT,
    )
)


def _bitcast_spec(x: Spec, *, dtype: str) -> Spec:
    if "bfloat16" in (x.dtype, dtype):
        raise shape_error(
            "view", "the bits of bfloat16 are read outside of programs only", {"x": x}
        )
    had, has = np.dtype(x.dtype).itemsize, np.dtype(dtype).itemsize
    if had == has:
        return Spec(x.shape, dtype)
    if x.rank == 0:
        raise shape_error("view", f"a scalar of {had} bytes is no array of {dtype}", {"x": x})
    last = x.shape[-1] * had // has
    if not same(last * has, x.shape[-1] * had):
        raise shape_error("view", f"rows of {x.shape[-1] * had} bytes hold no {dtype}", {"x": x})
    return Spec((*x.shape[:-1], last), dtype)


def _bitcast_samples() -> Any:
    yield Sample("int32_uint8", integers((3, 4)), {"dtype": "uint8"}, smooth=False)
    yield Sample("uint8_int64", integers((3, 16), dtype="uint8"), {"dtype": "int64"}, smooth=False)


# The same bytes, read as another dtype.
BITCAST = register(
    Op(
        "bitcast",
        infer=_bitcast_spec,
        reference=lambda x, *, dtype: np.ascontiguousarray(x).view(dtype),
        samples=_bitcast_samples,
        bound=Exact(),
        native=never_native,
        grad_none=(0,),
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
        channels=channels.same_axes,
        kernel="view",
        native=lambda specs, attrs: True,
        view=True,
        grad_none=(0,),
    )
)
