"""Rows that are put elsewhere or combined by segment. The latter run in NumPy: no kernels.

Sums of rows have a kernel (:mod:`handmill.primitives.gather`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Dim, same_shape
from handmill.ir.op import (
    REGISTRY,
    Accumulate,
    Array,
    Bound,
    Exact,
    Op,
    Sample,
    never_native,
    register,
)
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.emit import broadcast_to, equal, reshape, where
from handmill.primitives.gather import SCATTER_ADD_ROWS, TAKE, check_indices, valid_rows
from handmill.primitives.operands import converted
from handmill.primitives.samples import both, given, integers, uniform
from handmill.primitives.sizes import steps_to

_OUTSIDE = [0, -1, 4, -5, 3]


def _rows_of(x: Any, indices: Any) -> Any:
    """The rows of ``x`` that indices name; zeros for those out of range."""
    return apply(TAKE, x, indices, axis=0, from_end=False, zeros=True)


def _for_rows(factors: Any, rows: Any) -> Any:
    """A factor for each index as one that broadcasts over its row."""
    return reshape(factors, (*factors.shape, *(1,) * (len(rows.shape) - len(factors.shape))))


def _put_infer(x: Spec, indices: Spec, updates: Spec) -> Spec:
    operands = {"x": x, "indices": indices, "updates": updates}
    check_indices("put_rows", indices)
    if x.dtype != updates.dtype or not x.rank:
        raise shape_error("put_rows", "rows of one dtype were expected", operands)
    if not same_shape(updates.shape, (*indices.shape, *x.shape[1:])):
        raise shape_error("put_rows", "one row for each index was expected", operands)
    return x


def _put_reference(x: Array, indices: Array, updates: Array) -> Array:
    y: Array = x.copy()
    at, valid = valid_rows(indices.ravel(), x.shape[0], from_end=False)
    # Where an index is repeated, NumPy keeps what is assigned last.
    y[at[valid]] = updates.reshape((at.size, *x.shape[1:]))[valid]
    return y


def _put_vjp(inputs: Any, outputs: Any, dys: Any) -> Any:
    x, indices, updates = inputs
    dx = apply(PUT_ROWS, dys[0], indices, updates * 0)
    # Of updates of the same row, the last one counts.
    count: Dim = 1
    for size in indices.shape:
        count = count * size
    numbers = reshape(steps_to(count), indices.shape)
    none = broadcast_to(np.asarray(-1, np.int32), x.shape[:1])
    last = equal(_rows_of(apply(PUT_ROWS, none, indices, numbers), indices), numbers)
    return dx, None, _rows_of(dys[0], indices) * _for_rows(converted(last, x.dtype), updates)


def _put_samples() -> Iterable[Sample]:
    make = both(uniform((9, 3)), given([4, 0, 7], dtype="int32"), uniform((3, 3)))
    yield Sample("9x3_3", make)
    repeated = both(uniform((4, 3)), given([1, 3, 1, 1], dtype="int32"), uniform((4, 3)))
    yield Sample("repeated", repeated)
    outside = both(uniform((4, 3)), given(_OUTSIDE, dtype="int64"), uniform((5, 3)))
    yield Sample("outside", outside)
    grid = both(uniform((5,)), integers((2, 3), high=5), uniform((2, 3)))
    yield Sample("grid", grid)
    yield Sample("none", both(uniform((4,)), integers((0,)), uniform((0,))), smooth=False)


# Row indices[k] is replaced by updates[k]; indices out of range are left out.
PUT_ROWS: Op = register(
    Op(
        "put_rows",
        infer=_put_infer,
        reference=_put_reference,
        samples=_put_samples,
        bound=Exact(),
        vjp=_put_vjp,
        attribution="midpoint",
        kernel="put_rows",
        native=lambda specs, attrs: True,
        alias=((0, 0),),
        grad_none=(1,),
    )
)


def _least(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.kind == "f" else dtype.kind != "b" and np.iinfo(dtype).min


def _largest(dtype: np.dtype[Any]) -> Any:
    return np.inf if dtype.kind == "f" else dtype.kind == "b" or np.iinfo(dtype).max


def _segment_op(
    name: str,
    ufunc: np.ufunc,
    empty: Callable[[np.dtype[Any]], Any],
    bound: Bound,
    vjp: Callable[..., Any],
) -> Op:
    """``ufunc`` over the rows of each segment; ``empty`` is what a segment without rows gives."""

    def infer(data: Spec, segment_ids: Spec, *, rows: Dim) -> Spec:
        check_indices(name, segment_ids)
        if not same_shape(data.shape[: segment_ids.rank], segment_ids.shape):
            operands = {"data": data, "segment_ids": segment_ids}
            raise shape_error(name, "one row for each id was expected", operands)
        return Spec((rows, *data.shape[segment_ids.rank :]), data.dtype)

    def reference(data: Array, segment_ids: Array, *, rows: int) -> Array:
        rest = data.shape[segment_ids.ndim :]
        y = np.full((rows, *rest), empty(data.dtype), data.dtype)
        at, valid = valid_rows(segment_ids.ravel(), rows, from_end=False)
        ufunc.at(y, at[valid], data.reshape((at.size, *rest))[valid])
        return y

    def samples() -> Iterable[Sample]:
        make = both(uniform((17, 3), kinks=(0.0,)), integers((17,), high=5))
        yield Sample("17x3_5", make, {"rows": 5})
        outside = both(uniform((5, 2), kinks=(0.0,)), given(_OUTSIDE, dtype="int64"))
        yield Sample("outside", outside, {"rows": 4}, smooth=False)
        whole = both(integers((9,), low=-3, high=3), integers((9,), high=4))
        yield Sample("integers", whole, {"rows": 5}, smooth=False)
        yield Sample("none", both(uniform((0, 3)), integers((0,))), {"rows": 2}, smooth=False)

    def gradient(inputs: Any, outputs: Any, dys: Any, *, rows: Dim) -> Any:
        return vjp(inputs[0], inputs[1], outputs[0], dys[0], rows), None

    return register(
        Op(
            name,
            infer=infer,
            reference=reference,
            samples=samples,
            bound=bound,
            vjp=gradient,
            native=never_native,
            grad_none=(1,),
        )
    )


def _sum_of(x: Any, ids: Any, rows: Dim) -> Any:
    return apply(SCATTER_ADD_ROWS, x, ids, rows=rows, from_end=False)


def _extreme_vjp(data: Any, ids: Any, y: Any, dy: Any, rows: Dim) -> Any:
    # Rows that tie share the gradient evenly.
    hit = converted(equal(data, _rows_of(y, ids)), data.dtype)
    count = _sum_of(hit, ids, rows)
    return hit * _rows_of(dy / where(equal(count, 0), 1.0, count), ids)


def _product_vjp(data: Any, ids: Any, y: Any, dy: Any, rows: Dim) -> Any:
    # The product of the others, as for reduce_prod: it is not 0 at the only 0 of a segment.
    is_zero = equal(data, 0)
    rest = where(is_zero, 1.0, data)
    p = _rows_of(apply(SEGMENT_PROD, rest, ids, rows=rows), ids)
    zeros = _rows_of(_sum_of(converted(is_zero, data.dtype), ids, rows), ids)
    at_zero = where(equal(zeros, 1), p, 0.0)
    return _rows_of(dy, ids) * where(is_zero, at_zero, where(equal(zeros, 0), p / rest, 0.0))


SEGMENT_MAX = _segment_op("segment_max", np.maximum, _least, Exact(), _extreme_vjp)
SEGMENT_MIN = _segment_op("segment_min", np.minimum, _largest, Exact(), _extreme_vjp)
SEGMENT_PROD = _segment_op(
    "segment_prod",
    np.multiply,
    lambda dtype: 1,
    # One rounding for each factor.
    Accumulate(
        lambda inputs, attrs: max(int(inputs[1].size), 1),
        lambda inputs, attrs: REGISTRY["segment_prod"].reference(
            np.abs(inputs[0]), inputs[1], **attrs
        ),
    ),
    _product_vjp,
)
