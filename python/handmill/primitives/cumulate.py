"""Running sums, and running products, which run in NumPy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.op import REGISTRY, Accumulate, Array, Op, Sample, never_native, register
from handmill.ir.trace import apply
from handmill.primitives.emit import pad_axis, slice_axis
from handmill.primitives.samples import given, integers, name_of, uniform

NATIVE = frozenset({"float32", "float64", "int32", "int64"})


def _reference(x: Array, *, axis: int, reverse: bool) -> Array:
    if reverse:
        x = np.flip(x, axis)
    y = np.cumsum(x, axis=axis, dtype=x.dtype)
    return np.asarray(np.flip(y, axis) if reverse else y)


def _samples() -> Iterable[Sample]:
    for shape, axis, reverse in (
        ((17,), 0, False),
        ((1, 1), 1, True),
        ((5, 33), 1, True),
        ((33, 5), 0, False),
        ((4, 7, 19), 1, True),
        ((0, 3), 1, False),
        ((3, 0), 1, False),
    ):
        name = f"{name_of(shape)}_axis{axis}" + ("_reverse" if reverse else "")
        yield Sample(name, uniform(shape), {"axis": axis, "reverse": reverse})
    whole = {"axis": 1, "reverse": False}
    yield Sample("integers", integers((9, 21), high=2**31 - 1), whole, smooth=False)
    yield Sample("bench_1024", uniform((1024, 1024)), {"axis": 1, "reverse": False}, bench=True)
    yield Sample(
        "bench_1024_axis0", uniform((1024, 1024)), {"axis": 0, "reverse": False}, bench=True
    )


CUMSUM: Op = register(
    Op(
        "cumsum",
        infer=lambda x, *, axis, reverse: x,
        reference=_reference,
        samples=_samples,
        bound=Accumulate(
            lambda inputs, attrs: inputs[0].shape[attrs["axis"]],
            lambda inputs, attrs: _reference(np.abs(inputs[0]), **attrs),
        ),
        # y_j = sum of x_i for i <= j, so dx_i = sum of dy_j for j >= i.
        vjp=lambda inputs, outputs, dys, *, axis, reverse: (
            apply(CUMSUM, dys[0], axis=axis, reverse=not reverse),
        ),
        attribution="midpoint",
        kernel="cumsum",
        native=lambda specs, attrs: specs[0].dtype in NATIVE,
        alias=((0, 0),),
    )
)


def _product(x: Array, *, axis: int) -> Array:
    return np.asarray(np.cumprod(x, axis=axis, dtype=x.dtype))


def _product_vjp(inputs: Any, outputs: Any, dys: Any, *, axis: int) -> tuple[Any]:
    # dx_i = (x_0 ... x_(i-1)) r_i, r_i = dy_i + x_(i+1) r_(i+1): nothing is divided by x, so that
    # zeros are right, too. After k steps of doubling r_i reaches 2^k places ahead.
    (x,), (dy,) = inputs, dys
    size = x.shape[axis]
    if not isinstance(size, int):
        raise shape_error(
            "cumprod", f"the gradient along axis {axis} needs a fixed size", {"x": x.spec}
        )
    if size < 2:
        return (dy,)
    rest, factor = dy, _ahead(x, axis, 1)
    reach = 1
    while reach < size:
        rest = rest + factor * _ahead(rest, axis, reach)
        factor = factor * _ahead(factor, axis, reach)
        reach *= 2
    paddings = tuple(n for a in range(len(x.shape)) for n in (int(a == axis), 0))
    before = slice_axis(x, axis, 0, size - 1)
    before = apply(REGISTRY["pad"], before, paddings=paddings, value=1.0)
    return (apply(CUMPROD, before, axis=axis) * rest,)


def _ahead(x: Any, axis: int, places: int) -> Any:
    """Element ``i + places`` at place i, 0 beyond the end."""
    return pad_axis(slice_axis(x, axis, places, x.shape[axis]), axis, 0, places)


def _product_samples() -> Iterable[Sample]:
    for shape, axis in (((17,), 0), ((5, 33), 1), ((33, 5), 0), ((0, 3), 1), ((3, 0), 1)):
        yield Sample(name_of(shape), uniform(shape, low=-1.5, high=1.5), {"axis": axis})
    yield Sample("zeros", given([2.0, 0.0, 3.0, 0.0, 5.0]), {"axis": 0})
    yield Sample("integers", integers((9, 21), high=2**31 - 1), {"axis": 1}, smooth=False)


# A factor more is a rounding more, of a product whose size is that of the result.
CUMPROD: Op = register(
    Op(
        "cumprod",
        infer=lambda x, *, axis: x,
        reference=_product,
        samples=_product_samples,
        bound=Accumulate(
            lambda inputs, attrs: inputs[0].shape[attrs["axis"]],
            lambda inputs, attrs: _product(np.abs(inputs[0]), **attrs),
        ),
        vjp=_product_vjp,
        native=never_native,
    )
)
