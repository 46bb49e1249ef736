"""Running sums."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from handmill.ir.op import Accumulate, Array, Op, Sample, register
from handmill.ir.trace import apply
from handmill.primitives.samples import integers, name_of, uniform

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
        kernel="cumsum",
        native=lambda specs, attrs: specs[0].dtype in NATIVE,
        alias=((0, 0),),
    )
)
