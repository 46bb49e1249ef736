"""Order, which runs in NumPy without a kernel; selection along an axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Dim, same_shape
from handmill.ir.op import Accumulate, Array, Attrs, Exact, Op, Sample, never_native, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.gather import INDEX_DTYPES, valid_rows
from handmill.primitives.places import check_places
from handmill.primitives.samples import both, given, integers, uniform


def _argsort_infer(x: Spec, *, axis: int, descending: bool) -> Spec:
    if not 0 <= axis < x.rank:
        raise shape_error("argsort", f"axis {axis} is out of bounds", {"x": x})
    check_places("argsort", x, axis)
    return Spec(x.shape, "int32")


def _argsort_reference(x: Array, *, axis: int, descending: bool) -> Array:
    # Stable in both directions: equal elements keep their order.
    if not descending:
        return np.asarray(np.argsort(x, axis=axis, kind="stable"), np.int32)
    last = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return np.asarray(np.flip(x.shape[axis] - 1 - last, axis), np.int32)


ARGSORT = register(
    Op(
        "argsort",
        infer=_argsort_infer,
        reference=_argsort_reference,
        samples=lambda: [
            Sample("17", uniform((17,)), {"axis": 0, "descending": False}, smooth=False),
            Sample("5x33", uniform((5, 33)), {"axis": 1, "descending": True}, smooth=False),
            Sample("ties", given([2, 1, 2, 1]), {"axis": 0, "descending": True}, smooth=False),
        ],
        bound=Exact(),
        native=never_native,
        grad_none=(0,),
    )
)


def _along_infer(x: Spec, indices: Spec, *, axis: int, zeros: bool = False) -> Spec:
    operands = {"x": x, "indices": indices}
    if indices.is_float or indices.dtype == "bool":
        raise shape_error("take_along", f"indices must be integers, not {indices.dtype}", operands)
    others = [s.shape[:axis] + s.shape[axis + 1 :] for s in (x, indices)]
    if x.rank != indices.rank or not same_shape(*others):
        raise shape_error("take_along", f"shapes differ, not only along axis {axis}", operands)
    return Spec(indices.shape, x.dtype)


def _along_samples() -> Iterable[Sample]:
    make = both(uniform((5, 17)), integers((5, 3), high=17))
    yield Sample("5x17_3", make, {"axis": 1})
    yield Sample("4x3_axis0", both(uniform((4, 3)), integers((9, 3), high=4)), {"axis": 0})
    outside = both(uniform((4, 3)), integers((9, 3), low=-9, high=9))
    yield Sample("outside", outside, {"axis": 0}, smooth=False)
    yield Sample("outside_zeros", outside, {"axis": 0, "zeros": True}, smooth=False)
    yield Sample("3x4x5_axis1", both(uniform((3, 4, 5)), integers((3, 7, 5), high=4)), {"axis": 1})
    yield Sample("1000x9_1", both(uniform((1000, 9)), integers((1000, 1), high=9)), {"axis": 1})
    for dtype in ("uint8", "bool", "int64", "float64"):
        make = both(integers((5, 3), high=2, dtype=dtype), integers((5, 2), low=-4, high=4))
        yield Sample(f"outside_{dtype}", make, {"axis": 1}, smooth=False)
    yield Sample("none", both(uniform((3, 0)), integers((3, 2))), {"axis": 1}, smooth=False)


def _take_along(x: Array, indices: Array, *, axis: int, zeros: bool = False) -> Array:
    # As take: an index out of range gives NaN, in integers 0, and where zeros is set in floats too.
    at, valid = valid_rows(indices, x.shape[axis])
    missing = np.asarray(np.nan if x.dtype.kind == "f" and not zeros else 0, x.dtype)
    if x.shape[axis] == 0:
        return np.full(indices.shape, missing)
    return np.where(valid, np.take_along_axis(x, np.where(valid, at, 0), axis=axis), missing)


TAKE_ALONG = register(
    Op(
        "take_along",
        infer=_along_infer,
        reference=_take_along,
        samples=_along_samples,
        bound=Exact(),
        vjp=lambda inputs, outputs, dys, *, axis, zeros=False: (
            apply(ADD_ALONG, dys[0], inputs[1], axis=axis, size=inputs[0].shape[axis]),
            None,
        ),
        attribution="midpoint",
        kernel="take_along",
        native=lambda specs, attrs: specs[1].dtype in INDEX_DTYPES,
        grad_none=(1,),
    )
)


def _add_along_infer(dy: Spec, indices: Spec, *, axis: int, size: Dim) -> Spec:
    return Spec((*dy.shape[:axis], size, *dy.shape[axis + 1 :]), dy.dtype)


def _add_along(dy: Array, indices: Array, *, axis: int, size: int) -> Array:
    y = np.zeros((*dy.shape[:axis], size, *dy.shape[axis + 1 :]), dy.dtype)
    at, valid = valid_rows(indices, size)
    grid: Any = np.indices(dy.shape)
    place: list[Any] = [i[valid] for i in grid]
    place[axis] = at[valid]
    np.add.at(y, tuple(place), dy[valid])
    return y


def _adds_natively(specs: Sequence[Spec], attrs: Attrs) -> bool:
    return specs[0].dtype == "float32" and specs[1].dtype in INDEX_DTYPES


# The transpose of take_along: elements that were taken several times get the sum.
ADD_ALONG: Op = register(
    Op(
        "add_along",
        attribution="midpoint",
        infer=_add_along_infer,
        reference=_add_along,
        samples=lambda: [
            Sample(
                "5x3_17",
                both(uniform((5, 3)), integers((5, 3), high=17)),
                {"axis": 1, "size": 17},
            ),
            Sample(
                "9x4x3_axis1",
                both(uniform((9, 4, 3)), integers((9, 4, 3), low=-7, high=7)),
                {"axis": 1, "size": 5},
                smooth=False,
            ),
            Sample(
                "none",
                both(uniform((3, 0)), integers((3, 0))),
                {"axis": 1, "size": 2},
                smooth=False,
            ),
        ],
        bound=Accumulate(
            lambda inputs, attrs: inputs[0].shape[attrs["axis"]],
            lambda inputs, attrs: _add_along(np.abs(inputs[0]), inputs[1], **attrs),
        ),
        vjp=lambda inputs, outputs, dys, *, axis, size: (
            apply(TAKE_ALONG, dys[0], inputs[1], axis=axis, zeros=True),
            None,
        ),
        kernel="add_along",
        native=_adds_natively,
        grad_none=(1,),
    )
)
