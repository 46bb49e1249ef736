"""Tables of which a step uses few rows: the gradient of these rows, and their update alone.

The gradient of a look-up (``take``) is a whole table, nearly all of it zeros, and so is the way of
an optimizer through its slots. Here a gradient is a row for each row of the table that was used,
and the update leaves the others as they are, with their slots: momentum does not move them and
means do not decay (the rule, with its source, is in :mod:`handmill.optimizers.sparse_rows`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import same_shape
from handmill.ir.op import (
    REGISTRY,
    Accumulate,
    Array,
    Attrs,
    Exact,
    Op,
    Sample,
    Tolerance,
    register,
)
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.elementwise.arithmetic import ADD
from handmill.primitives.gather import INDEX_DTYPES, SCATTER_ADD_ROWS, check_indices, valid_rows
from handmill.primitives.optimizer import UPDATES
from handmill.primitives.samples import both, elements, given, integers, uniform

if TYPE_CHECKING:
    from handmill.ir.graph import Value


def _sum_infer(dy: Spec, indices: Spec, *, rows: int, **options: bool) -> tuple[Spec, Spec]:
    check_indices("sum_rows", indices)
    if not same_shape(dy.shape[: indices.rank], indices.shape):
        problem = "one row for each index was expected"
        raise shape_error("sum_rows", problem, {"dy": dy, "indices": indices})
    count = math.prod(indices.shape)
    return Spec((count, *dy.shape[indices.rank :]), dy.dtype), Spec((count,), "int64")


def _sum_reference(
    dy: Array, indices: Array, *, rows: int, from_end: bool = True
) -> tuple[Array, Array]:
    named, valid = valid_rows(indices.ravel(), rows, from_end)
    dys = dy.reshape((named.size, *dy.shape[indices.ndim :]))
    found, place = np.unique(named[valid], return_inverse=True)
    sums, at = np.zeros_like(dys), np.full(named.size, -1, np.int64)
    np.add.at(sums, place, dys[valid])
    at[: found.size] = found
    return sums, at


def _sum_terms(inputs: Sequence[Array], attrs: Attrs) -> int:
    return max(int(inputs[1].size), 1)


def _sum_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return _sum_reference(np.abs(inputs[0]), inputs[1], **attrs)[0]


def _sum_samples() -> Iterable[Sample]:
    cases: list[tuple[str, tuple[int, ...], tuple[int, ...], int]] = [
        ("17x5_9", (17,), (5,), 9),
        ("4x3x33_7", (4, 3), (33,), 7),
        ("300x2_1", (300,), (2,), 1),
        ("300x7_5000000", (300,), (7,), 5_000_000),  # three digits
        ("40x2x3_2048", (40,), (2, 3), 2048),
        ("numbers", (12,), (), 5),
        ("none", (0,), (3,), 4),
    ]
    for name, indices, row, rows in cases:
        make = both(uniform(indices + row), integers(indices, high=rows))
        yield Sample(name, make, {"rows": rows}, smooth=False)
    outside = both(uniform((5, 3)), given([0, -1, 4, -5, 3], dtype="int64"))
    yield Sample("outside", outside, {"rows": 4}, smooth=False)
    yield Sample("segments", outside, {"rows": 4, "from_end": False}, smooth=False)
    for dtype in ("uint8", "int8", "float32"):
        make = both(uniform((50, 3)), integers((50,), high=9, dtype=dtype))
        yield Sample(dtype, make, {"rows": 7}, smooth=False)
    bench = both(uniform((8192, 128)), integers((8192,), high=30000))
    yield Sample("bench", bench, {"rows": 30000}, smooth=False, bench=True)


# (dy, indices) -> (sums, at): the rows dy[k] with equal indices added up, in the order of k; at[u]
# is the row that sums[u] belongs to. These ascend; what is left over are zeros, with at = -1.
SUM_ROWS = register(
    Op(
        "sum_rows",
        infer=_sum_infer,
        reference=_sum_reference,
        samples=_sum_samples,
        bound=(Accumulate(_sum_terms, _sum_magnitude), Exact()),
        kernel="sum_rows",
        native=lambda specs, attrs: specs[0].dtype == "float32" and specs[1].dtype in INDEX_DTYPES,
        flops=lambda inputs, outs, attrs: elements(inputs[0]),
        grad_none=(1,),
    )
)


def looked_up(gradient: Value, rows: int) -> tuple[Value, Value] | None:
    """The gradient of a table as rows, ``(sums, at)``, if it comes from look-ups alone.

    Args:
        gradient: of the table, as wide as the table.
        rows: of the table.

    Returns:
        None if something else has a part in it, such as a penalty on the table.
    """
    parts = _parts(gradient)
    if parts is None:
        return None
    found = [apply(SUM_ROWS, dy, indices, **attrs) for dy, indices, attrs in parts]
    if len(found) == 1:
        sums, at = found[0]
        return sums, at
    # Several look-ups share the table: the sums of each are added up, as whole tables would be.
    join = REGISTRY["concatenate"]
    sums, at = (apply(join, *each, axis=0) for each in zip(*found, strict=True))
    sums, at = apply(SUM_ROWS, sums, at, rows=rows, from_end=False)
    return sums, at


def _parts(gradient: Value) -> list[tuple[Value, Value, Attrs]] | None:
    node = gradient.node
    if node is None:
        return None
    if node.op is SCATTER_ADD_ROWS:
        return [(node.inputs[0], node.inputs[1], node.attrs)]
    if node.op is not ADD or any(v.spec != gradient.spec for v in node.inputs):
        return None
    found: list[tuple[Value, Value, Attrs]] = []
    for value in node.inputs:
        part = _parts(value)
        if part is None:
            return None
        found += part
    return found


@dataclass(frozen=True)
class _OfRows:
    """A function of an update's operands, of the rows that ``at`` names.

    Attributes:
        of: the function.
        arrays: the number of arrays that the update writes.
    """

    of: Callable[..., Any]
    arrays: int

    def operands(self, inputs: Sequence[Array]) -> tuple[Array, tuple[Array, ...]]:
        """Returns the rows, and the operands of the update of these."""
        g, at, *rest = inputs
        arrays, scalars = rest[: self.arrays], rest[self.arrays :]
        inside = (at >= 0) & (at < len(arrays[0]))
        rows = at[inside]
        return rows, (*(a[rows] for a in arrays), g[inside], *scalars)


class _Reference(_OfRows):
    """The reference."""

    def __call__(self, *inputs: Array, **attrs: Any) -> Any:
        rows, operands = self.operands(inputs)
        found = self.of(*operands, **attrs)
        found = found if isinstance(found, tuple) else (found,)
        outputs = tuple(a.copy() for a in inputs[2 : 2 + self.arrays])
        for output, result in zip(outputs, found, strict=True):
            output[rows] = result
        return outputs if len(outputs) > 1 else outputs[0]


@dataclass(frozen=True)
class _Bound:
    """The bound of one result: that of the update, and nothing for the other rows."""

    rows: _OfRows
    own: Tolerance

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        """Returns the largest absolute error allowed for each element."""
        rows, operands = self.rows.operands(inputs)
        allowed = np.zeros(np.shape(want))
        allowed[rows] = self.own.tolerance(want[rows], operands, attrs)
        return allowed


def _infer(update: Op, arrays: int) -> Callable[..., Any]:
    def infer(*specs: Spec, **attrs: Any) -> Any:
        g, at, *rest = specs
        table = rest[0]
        if (
            table.rank == 0
            or at.dtype != "int64"
            or at.rank != 1
            or not same_shape(g.shape, (*at.shape, *table.shape[1:]))
        ):
            problem = "one gradient for each row, and its int64 number, were expected"
            raise shape_error(f"rows_{update.name}", problem, {"g": g, "at": at, "table": table})
        return update.infer(*rest[:arrays], table, *rest[arrays:], **attrs)

    return infer


def _places(count: int, rows: int) -> Callable[[np.random.Generator], tuple[Array, ...]]:
    def make(rng: np.random.Generator) -> tuple[Array, ...]:
        """Different rows, and some that there are not."""
        at = rng.permutation(max(rows, count))[:count].astype(np.int64)
        at[at >= rows] = -1
        at[count // 3 : count // 3 + 1] = -1
        return (at,)

    return make


def _samples(update: Op) -> Iterable[Sample]:
    cases: list[tuple[int, int, tuple[int, ...]]] = [(5, 9, (33,)), (40, 100, (2, 8))]
    edges: list[tuple[int, int, tuple[int, ...]]] = [(3, 0, (2,)), (2, 3, (0,)), (300, 700, ())]
    for draws in UPDATES[update.name]:
        if draws.attrs.get("penalty"):
            continue
        for count, rows, row in cases if draws.label else [*cases, (0, 4, (3,)), *edges]:
            make = both(
                uniform((count, *row)),
                _places(count, rows),
                draws.arrays((rows, *row)),
                draws.numbers(),
            )
            name = "_".join(filter(None, (f"{count}of{rows}", draws.label)))
            yield Sample(name, make, draws.attrs, smooth=False)
    draws = UPDATES[update.name][0]
    table = (30000, 32)
    make = both(uniform((2048, 32)), _places(2048, 30000), draws.arrays(table), draws.numbers())
    yield Sample("bench", make, draws.attrs, smooth=False, bench=True)


def _of_rows(update: Op) -> Op:
    bounds = update.bound if isinstance(update.bound, tuple) else (update.bound,)
    arrays = len(bounds)
    rows = _OfRows(update.reference, arrays)
    found = tuple(_Bound(rows, own) for own in bounds)
    return register(
        Op(
            f"rows_{update.name}",
            infer=_infer(update, arrays),
            reference=_Reference(update.reference, arrays),
            samples=lambda: _samples(update),
            bound=found if arrays > 1 else found[0],
            kernel="update_rows",
            kernel_attrs=update.kernel_attrs,
            native=lambda specs, attrs: all(
                spec.dtype == "float32" for i, spec in enumerate(specs) if i != 1
            ),
            alias=tuple((i, i + 2) for i in range(arrays)),
            flops=lambda inputs, outs, attrs: 4 * arrays * elements(inputs[0]),
            grad_none=(1,),
        )
    )


ROWS_UPDATES = {name: _of_rows(REGISTRY[name]) for name in UPDATES}
"""(g, at, p, slots..., scalars...) -> (p, slots...): of each update, by its name, the one that
writes row at[u] by the gradient g[u], and leaves all other rows. An at[u] that is no row is left
out; no two may be the same row."""
