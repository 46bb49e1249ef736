"""Selection of rows by index, and its gradient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.op import Accumulate, Array, Attrs, Exact, Op, Sample, register
from handmill.ir.dims import Dim, same_shape
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.cast import (
    Tensor,
    cast,
    check_dtype,
    normal_axis,
    shape_of,
    tensor,
)
from handmill.primitives.samples import both, given, integers, uniform

INDEX_DTYPES = ("int32", "int64", "uint8", "int8", "float32")


def _native(specs: Sequence[Spec], attrs: Attrs) -> bool:
    return specs[-1].dtype in INDEX_DTYPES and specs[0].dtype in ("float32", *INDEX_DTYPES)


def _check_indices(op: str, indices: Spec) -> None:
    if indices.dtype in ("bool", "bfloat16"):
        raise shape_error(
            op, f"indices must be integers, got {indices.dtype}", {"indices": indices}
        )


def _take_infer(x: Spec, indices: Spec, *, axis: int) -> Spec:
    _check_indices("take", indices)
    if x.rank <= axis:
        raise shape_error("take", f"axis {axis} does not exist", {"x": x, "indices": indices})
    return Spec(x.shape[:axis] + indices.shape + x.shape[axis + 1 :], x.dtype)


def _take_reference(x: Array, indices: Array, *, axis: int) -> Array:
    # Negative indices count from the end. An index out of range gives NaN, in integers 0:
    # nothing is read outside of x.
    rows = x.shape[axis]
    at = indices.astype(np.int64)
    at = np.where(at < 0, at + rows, at)
    valid = (at >= 0) & (at < rows)
    missing = np.nan if x.dtype.kind == "f" else 0
    if rows == 0:
        shape = x.shape[:axis] + indices.shape + x.shape[axis + 1 :]
        return np.full(shape, missing, x.dtype)
    taken = np.take(x, np.where(valid, at, 0), axis=axis)
    mask = valid.reshape((1,) * axis + valid.shape + (1,) * (x.ndim - axis - 1))
    return np.where(mask, taken, np.asarray(missing, x.dtype))


def _take_vjp(inputs: Any, outputs: Any, dys: Any, *, axis: int) -> Any:
    # y[..., k, ...] = x[..., indices[k], ...]: each dy row is added to the row it came from.
    from handmill.primitives.movement import transpose

    x, indices = inputs
    count = len(indices.shape)
    dy = dys[0]
    rank = len(dy.shape)
    if axis:
        moved = (*range(axis, axis + count), *range(axis), *range(axis + count, rank))
        dy = transpose(dy, moved)
    dx = apply(SCATTER_ADD_ROWS, dy, indices, rows=x.shape[axis])
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
    table = both(uniform((30000, 128)), integers((64, 128), high=30000))
    yield Sample("bench", table, {"axis": 0}, smooth=False, bench=True)


TAKE = register(
    Op(
        "take",
        infer=_take_infer,
        reference=_take_reference,
        samples=_take_samples,
        bound=Exact(),
        vjp=_take_vjp,
        kernel="take",
        native=_native,
        grad_none=(1,),
    )
)


def _scatter_infer(dy: Spec, indices: Spec, *, rows: Dim) -> Spec:
    _check_indices("scatter_add_rows", indices)
    if not same_shape(dy.shape[: indices.rank], indices.shape):
        raise shape_error(
            "scatter_add_rows",
            "one row for each index was expected",
            {"dy": dy, "indices": indices},
        )
    return Spec((rows, *dy.shape[indices.rank :]), dy.dtype)


def _scatter_reference(dy: Array, indices: Array, *, rows: int) -> Array:
    y = np.zeros((rows, *dy.shape[indices.ndim :]), dy.dtype)
    at = indices.astype(np.int64).ravel()
    at = np.where(at < 0, at + rows, at)
    valid = (at >= 0) & (at < rows)
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
    bench = both(uniform((8192, 128)), integers((8192,), high=30000))
    yield Sample("bench", bench, {"rows": 30000}, smooth=False, bench=True)


# dy[k] goes to row indices[k]; equal indices add up in the order of k, whatever the threads.
SCATTER_ADD_ROWS = register(
    Op(
        "scatter_add_rows",
        infer=_scatter_infer,
        reference=_scatter_reference,
        samples=_scatter_samples,
        bound=Accumulate(_scatter_terms, _scatter_magnitude),
        vjp=lambda inputs, outputs, dys, *, rows: (apply(TAKE, dys[0], inputs[1], axis=0), None),
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


def take(x: Tensor, indices: Tensor, axis: int | None = None) -> Any:
    """Returns the elements at ``indices`` along an axis.

    Negative indices count from the end. An index out of range gives NaN (in integers
    0); nothing outside of ``x`` is ever read.

    Args:
        x: the input.
        indices: integers of any shape, which takes the place of the axis.
        axis: the axis. Default: the flattened input.

    Example:
        >>> from handmill import ops
        >>> ops.take([10, 20, 30], [2, 0])
        array([30, 10], dtype=int32)
    """
    from handmill.primitives.movement import reshape

    x, indices = tensor(x), tensor(indices)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = normal_axis("take", axis, len(shape_of(x)))
    return apply(TAKE, x, indices, axis=axis)


def one_hot(
    x: Tensor, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> Any:
    """Returns rows of zeros with a one at the place that each integer names.

    Integers out of range give a row of zeros.

    Args:
        x: integers.
        num_classes: the length of the rows.
        axis: where the new axis goes.
        dtype: dtype of the result. Default: float32.
        sparse: not supported; must be False.

    Example:
        >>> from handmill import ops
        >>> ops.one_hot([1, 0], 3)
        array([[0., 1., 0.],
               [1., 0., 0.]], dtype=float32)
    """
    if sparse:
        raise ValueError("sparse tensors are not supported, got sparse=True")
    x = tensor(x)
    y = apply(ONE_HOT, x, depth=int(num_classes))
    rank = len(shape_of(x)) + 1
    axis = normal_axis("one_hot", axis, rank)
    if axis != rank - 1:
        from handmill.primitives.movement import transpose

        y = transpose(y, (*range(axis), rank - 1, *range(axis, rank - 1)))
    return y if dtype is None else cast(y, check_dtype(dtype))


def multi_hot(
    inputs: Tensor,
    num_classes: int | None = None,
    axis: int = -1,
    dtype: Any = None,
    sparse: bool = False,
) -> Any:
    """Returns for each row of integers one row with ones at all places that they name.

    Example:
        >>> from handmill import ops
        >>> ops.multi_hot([[0, 2], [1, 1]], 3)
        array([[1., 0., 1.],
               [0., 1., 0.]], dtype=float32)
    """
    from handmill.primitives.reduce import max as reduce_max

    if num_classes is None:
        raise ValueError("`num_classes` must be given")
    y = reduce_max(one_hot(inputs, num_classes, sparse=sparse), axis=-2)
    if axis not in (-1, len(shape_of(y)) - 1):
        from handmill.ops.numpy.arrange import moveaxis

        y = moveaxis(y, -1, axis)
    return y if dtype is None else cast(y, check_dtype(dtype))


def segment_sum(data: Tensor, segment_ids: Tensor, num_segments: int, sorted: bool = False) -> Any:
    """Adds up the rows of each segment; ids out of range are left out.

    Args:
        data: rows.
        segment_ids: the segment of each row.
        num_segments: the number of segments.
        sorted: whether the ids rise; makes no difference here.

    Example:
        >>> from handmill import ops
        >>> ops.segment_sum([1.0, 2.0, 4.0], [0, 1, 0], num_segments=2)
        array([5., 2.], dtype=float32)
    """
    return apply(SCATTER_ADD_ROWS, tensor(data), tensor(segment_ids), rows=int(num_segments))
