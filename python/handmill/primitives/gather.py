"""Selection of rows by index, and its gradient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Dim, same_shape
from handmill.ir.op import Accumulate, Array, Attrs, Exact, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives import channels
from handmill.primitives.emit import transpose
from handmill.primitives.samples import both, given, integers, uniform

INDEX_DTYPES = ("int32", "int64", "uint8", "int8", "float32")


def _native(specs: Sequence[Spec], attrs: Attrs) -> bool:
    return specs[-1].dtype in INDEX_DTYPES


def as_rows(indices: Array) -> Array:
    """Returns indices as int64; a float that is not an integer of at most 2^24 is out of range."""
    if indices.dtype.kind != "f":
        return indices.astype(np.int64)
    with np.errstate(invalid="ignore"):
        whole = (np.abs(indices) <= 2.0**24) & (np.floor(indices) == indices)
    return np.where(whole, indices, -(2.0**62)).astype(np.int64)


def valid_rows(indices: Array, rows: int, from_end: bool = True) -> tuple[Array, Array]:
    """The rows that indices name, and where they do name one."""
    at = as_rows(indices)
    if from_end:
        at = np.where(at < 0, at + rows, at)
    return at, (at >= 0) & (at < rows)


def check_indices(op: str, indices: Spec) -> None:
    """Refuses dtypes that name no rows."""
    if indices.dtype in ("bool", "bfloat16"):
        raise shape_error(
            op, f"indices must be integers, got {indices.dtype}", {"indices": indices}
        )


def _take_infer(x: Spec, indices: Spec, *, axis: int, **options: bool) -> Spec:
    check_indices("take", indices)
    if x.rank <= axis:
        raise shape_error("take", f"axis {axis} is out of bounds", {"x": x, "indices": indices})
    return Spec(x.shape[:axis] + indices.shape + x.shape[axis + 1 :], x.dtype)


def _take_reference(
    x: Array, indices: Array, *, axis: int, from_end: bool = True, zeros: bool = False
) -> Array:
    # An index out of range gives NaN, in integers 0: nothing is read outside of x.
    rows = x.shape[axis]
    at, valid = valid_rows(indices, rows, from_end)
    missing = np.nan if x.dtype.kind == "f" and not zeros else 0
    if rows == 0:
        shape = x.shape[:axis] + indices.shape + x.shape[axis + 1 :]
        return np.full(shape, missing, x.dtype)
    taken = np.take(x, np.where(valid, at, 0), axis=axis)
    mask = valid.reshape((1,) * axis + valid.shape + (1,) * (x.ndim - axis - 1))
    return np.where(mask, taken, np.asarray(missing, x.dtype))


def _take_vjp(
    inputs: Any, outputs: Any, dys: Any, *, axis: int, from_end: bool = True, zeros: bool = False
) -> Any:
    # y[..., k, ...] = x[..., indices[k], ...]: each dy row is added to the row it came from.
    x, indices = inputs
    count = len(indices.shape)
    dy = dys[0]
    rank = len(dy.shape)
    if axis:
        moved = (*range(axis, axis + count), *range(axis), *range(axis + count, rank))
        dy = transpose(dy, moved)
    dx = apply(SCATTER_ADD_ROWS, dy, indices, rows=x.shape[axis], **_counting(from_end))
    if axis:
        dx = transpose(dx, (*range(1, axis + 1), 0, *range(axis + 1, len(x.shape))))
    return dx, None


def _take_samples() -> Iterable[Sample]:
    cases: list[tuple[str, tuple[int, ...], tuple[int, ...], int]] = [
        ("19x5_17", (19, 5), (17,), 0),
        ("7x33_4x3", (7, 33), (4, 3), 0),
        ("9_scalar", (9,), (), 0),
        ("5x7x3_axis1", (5, 7, 3), (4,), 1),
        ("none", (5, 2), (0,), 0),
    ]
    for name, x, indices, axis in cases:
        make = both(uniform(x), integers(indices, high=x[axis]))
        yield Sample(name, make, {"axis": axis}, smooth=0 not in indices)
    outside = both(uniform((4, 3)), given([0, -1, 4, -5, 3], dtype="int64"))
    yield Sample("outside", outside, {"axis": 0}, smooth=False)
    zeros = {"axis": 0, "from_end": False, "zeros": True}
    yield Sample("outside_zeros", outside, zeros, smooth=False)
    floats = both(uniform((4, 3)), given([0.0, 1.5, 3.0, np.nan, np.inf, -2.0, 1e9]))
    yield Sample("floats", floats, {"axis": 0}, smooth=False)
    for dtype in ("uint8", "int8", "int32", "int64", "bool", "float64"):
        make = both(integers((5, 3), high=2, dtype=dtype), given([4, 9, -7, -1], dtype="int32"))
        yield Sample(f"outside_{dtype}", make, {"axis": 0}, smooth=False)
    table = both(uniform((30000, 128)), integers((64, 128), high=30000))
    yield Sample("bench", table, {"axis": 0}, smooth=False, bench=True)


def _counting(from_end: bool) -> dict[str, bool]:
    return {} if from_end else {"from_end": False}


# from_end: negative indices count from the end; otherwise they are out of range. zeros: what is out
# of range gives 0 in floats too.
TAKE = register(
    Op(
        "take",
        infer=_take_infer,
        reference=_take_reference,
        samples=_take_samples,
        bound=Exact(),
        vjp=_take_vjp,
        attribution="midpoint",
        channels=channels.taken,
        kernel="take",
        native=_native,
        grad_none=(1,),
    )
)


def _scatter_infer(dy: Spec, indices: Spec, *, rows: Dim, **options: bool) -> Spec:
    check_indices("scatter_add_rows", indices)
    if not same_shape(dy.shape[: indices.rank], indices.shape):
        raise shape_error(
            "scatter_add_rows",
            "one row for each index was expected",
            {"dy": dy, "indices": indices},
        )
    return Spec((rows, *dy.shape[indices.rank :]), dy.dtype)


def _scatter_reference(dy: Array, indices: Array, *, rows: int, from_end: bool = True) -> Array:
    y = np.zeros((rows, *dy.shape[indices.ndim :]), dy.dtype)
    at, valid = valid_rows(indices.ravel(), rows, from_end)
    flat = dy.reshape((at.size, *dy.shape[indices.ndim :]))
    np.add.at(y, at[valid], flat[valid])
    return y


def _scatter_terms(inputs: Sequence[Array], attrs: Attrs) -> int:
    return max(int(inputs[1].size), 1)


def _scatter_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return _scatter_reference(np.abs(inputs[0]), inputs[1], **attrs)


def _scatter_samples() -> Iterable[Sample]:
    cases: list[tuple[str, tuple[int, ...], tuple[int, ...], int]] = [
        ("17x5_9", (17,), (5,), 9),
        ("4x3x33_7", (4, 3), (33,), 7),
        ("rows", (12,), (), 5),
        ("none", (0,), (3,), 4),
    ]
    for name, indices, row, rows in cases:
        make = both(uniform(indices + row), integers(indices, high=rows))
        yield Sample(name, make, {"rows": rows}, smooth=0 not in indices)
    outside = both(uniform((5, 3)), given([0, -1, 4, -5, 3], dtype="int64"))
    yield Sample("outside", outside, {"rows": 4}, smooth=False)
    yield Sample("segments", outside, {"rows": 4, "from_end": False}, smooth=False)
    bench = both(uniform((8192, 128)), integers((8192,), high=30000))
    yield Sample("bench", bench, {"rows": 30000}, smooth=False, bench=True)


def _scatter_vjp(inputs: Any, outputs: Any, dys: Any, *, rows: Dim, from_end: bool = True) -> Any:
    # A row that was left out has no part in y: its gradient is 0.
    options = {"zeros": True, **_counting(from_end)}
    return apply(TAKE, dys[0], inputs[1], axis=0, **options), None


SCATTER_BOUND = Accumulate(_scatter_terms, _scatter_magnitude)

# dy[k] goes to row indices[k]; equal indices add up in the order of k, whatever the threads.
SCATTER_ADD_ROWS = register(
    Op(
        "scatter_add_rows",
        infer=_scatter_infer,
        reference=_scatter_reference,
        samples=_scatter_samples,
        bound=SCATTER_BOUND,
        vjp=_scatter_vjp,
        attribution="midpoint",
        kernel="scatter_add",
        native=lambda specs, attrs: specs[0].dtype == "float32" and _native(specs, attrs),
        grad_none=(1,),
    )
)


def _one_hot_reference(indices: Array, *, depth: int) -> Array:
    return np.asarray(indices[..., None] == np.arange(depth), np.float32)


ONE_HOT = register(
    Op(
        "one_hot",
        infer=lambda indices, *, depth: Spec((*indices.shape, depth), "float32"),
        reference=_one_hot_reference,
        samples=lambda: [
            Sample("17", integers((17,)), {"depth": 10}, smooth=False),
            Sample("5x3_outside", integers((5, 3), low=-2, high=9), {"depth": 7}, smooth=False),
            Sample("uint8", integers((33,), dtype="uint8"), {"depth": 10}, smooth=False),
            Sample("none", integers((0,)), {"depth": 3}, smooth=False),
            Sample("bench", integers((65536,)), {"depth": 10}, smooth=False, bench=True),
        ],
        bound=Exact(),
        kernel="one_hot",
        native=lambda specs, attrs: specs[0].dtype in INDEX_DTYPES,
        grad_none=(0,),
    )
)
