"""Places in sorted numbers, and membership; they run in NumPy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.op import Array, Exact, Op, Sample, never_native, register
from handmill.ir.shapes import Spec
from handmill.primitives.places import check_places
from handmill.primitives.samples import both, given, integers, uniform


def _same_dtypes(name: str, x: Spec, y: Spec) -> None:
    if x.dtype != y.dtype:
        raise shape_error(name, f"dtypes differ: {x.dtype} and {y.dtype}", {"x": x, "y": y})


def _searchsorted_infer(row: Spec, values: Spec, *, right: bool) -> Spec:
    _same_dtypes("searchsorted", row, values)
    if row.rank != 1:
        raise shape_error(
            "searchsorted",
            "one sorted row was expected",
            {"sorted_sequence": row, "values": values},
            "use ops.vectorized_map for several rows",
        )
    check_places("searchsorted", row, 0)
    return Spec(values.shape, "int32")


def _searchsorted(row: Array, values: Array, *, right: bool) -> Array:
    return np.asarray(np.searchsorted(row, values, "right" if right else "left"), np.int32)


def _searchsorted_samples() -> Iterable[Sample]:
    row = [-np.inf, -1.0, 0.0, 0.0, 2.5, 7.0]
    values = [[-2.0, 0.0, 7.0], [8.0, np.inf, np.nan]]
    for right in (False, True):
        attrs = {"right": right}
        yield Sample(f"right_{right}", given(row, values), attrs, smooth=False)
    yield Sample("none", given([], values), {"right": False}, smooth=False)
    whole = given([1, 3, 3, 9], [[0, 3], [4, 10]], dtype="int32")
    yield Sample("integers", whole, {"right": False}, smooth=False)


# The number of elements that are less than each value (right: at most the value). NaN is the
# largest, as where NumPy sorts.
SEARCHSORTED = register(
    Op(
        "searchsorted",
        infer=_searchsorted_infer,
        reference=_searchsorted,
        samples=_searchsorted_samples,
        bound=Exact(),
        native=never_native,
        grad_none=(0, 1),
    )
)


def _isin_infer(x: Spec, y: Spec) -> Spec:
    _same_dtypes("isin", x, y)
    return Spec(x.shape, "bool")


def _isin_samples() -> Iterable[Sample]:
    yield Sample("integers", integers((5, 7), (9,), high=12), smooth=False)
    yield Sample(
        "floats", given([0.0, -0.0, np.nan, 1.5], [[0.0, np.nan], [2.0, 1.5]]), smooth=False
    )
    yield Sample("none", both(uniform((3,)), given([])), smooth=False)


def _isin(x: Array, y: Array) -> Any:
    return np.isin(x, y)


ISIN = register(
    Op(
        "isin",
        infer=_isin_infer,
        reference=_isin,
        samples=_isin_samples,
        bound=Exact(),
        native=never_native,
        grad_none=(0, 1),
    )
)
