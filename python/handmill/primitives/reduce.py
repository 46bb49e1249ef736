"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import at_least
from handmill.ir.graph import Value
from handmill.ir.op import Accumulate, Array, Attrs, Bound, Exact, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.primitives import channels
from handmill.primitives.emit import broadcast_to, divide, equal, multiply, reduce, reshape, where
from handmill.primitives.operands import converted, count_along, tensor
from handmill.primitives.places import check_places
from handmill.primitives.samples import BENCH, elements, given, name_of, uniform

MOST_SUMMED_COLUMNS = 4096
"""Of a tile program: it keeps sums of them for each block of some rows."""


def reduced_shape(shape: Sequence[Any], axis: tuple[int, ...], keepdims: bool) -> tuple[Any, ...]:
    """Returns what is left of ``shape``."""
    if keepdims:
        return tuple(1 if a in axis else d for a, d in enumerate(shape))
    return tuple(d for a, d in enumerate(shape) if a not in axis)


def _filled(x: Spec, axis: tuple[int, ...]) -> bool:
    return not [a for a in axis if not at_least(x.shape[a], 1)]


def _kept(value: Value, x: Value, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Gives a reduced value its axes of size 1 back, so that it broadcasts against ``x``."""
    return value if keepdims else reshape(value, reduced_shape(x.shape, axis, True))


def _samples(low: float, high: float, smooth: bool = True) -> Callable[[], Iterable[Sample]]:
    def samples() -> Iterable[Sample]:
        cases: list[tuple[tuple[int, ...], tuple[int, ...], bool]] = [
            ((1,), (0,), False),
            ((17,), (0,), False),
            ((300,), (0,), True),
            ((127, 33), (1,), False),
            ((127, 33), (0,), True),
            ((127, 33), (0, 1), False),
            ((3, 5, 7, 4), (1, 2), False),
            ((3, 5, 7, 4), (0, 2), True),
            ((3, 1, 5), (), False),
            ((0, 5), (1,), False),
        ]
        for shape, axis, keepdims in cases:
            attrs = {"axis": axis, "keepdims": keepdims}
            name = f"{name_of(shape)}_{''.join(map(str, axis)) or 'none'}"
            make = uniform(shape, low=low, high=high)
            yield Sample(name, make, attrs, smooth=smooth and 0 not in shape)
        for name, axis in (("bench_rows", (1,)), ("bench_columns", (0,)), ("bench_all", (0, 1))):
            attrs = {"axis": axis, "keepdims": False}
            make = uniform(BENCH, low=low, high=high)
            yield Sample(name, make, attrs, smooth=False, bench=True)

    return samples


def _terms(inputs: Sequence[Array], attrs: Attrs) -> int:
    return int(np.prod([inputs[0].shape[a] for a in attrs["axis"]], dtype=np.int64))


def _sum_of_magnitudes(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return np.asarray(np.sum(np.abs(inputs[0]), **attrs))


def _mean_of_magnitudes(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return np.asarray(np.mean(np.abs(inputs[0]), **attrs))


def _product_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return np.asarray(np.prod(np.abs(inputs[0]), **attrs))


def _native(kind: str) -> Callable[[Sequence[Spec], Attrs], bool]:
    """Extremes of any dtype, sums and products of what cannot overflow soon, means of floats."""
    dtypes = {"float32", "float64"}
    if kind in ("sum", "prod", "max", "min"):
        dtypes |= {"int32", "int64"}
    if kind in ("max", "min"):
        dtypes |= {"int8", "uint8", "bool"}
    return lambda specs, attrs: specs[0].dtype in dtypes


def _sums_columns(specs: Sequence[Spec], attrs: Attrs) -> bool:
    """Of float32, over all axes but the last one, which is not too long for partial sums."""
    *rows, columns = specs[0].shape or (0,)
    return (
        specs[0].dtype == "float32"
        and bool(rows)
        and attrs["axis"] == tuple(range(len(rows)))
        and isinstance(columns, int)
        and 0 < columns <= MOST_SUMMED_COLUMNS
    )


def _reduction(
    name: str,
    kind: str,
    reference: Callable[..., Any],
    derivative: Callable[..., Any],
    samples: Callable[[], Iterable[Sample]],
    bound: Bound,
    attribution: str | None = None,
) -> Op:
    def infer(x: Spec, *, axis: tuple[int, ...], keepdims: bool) -> Spec:
        if kind in ("max", "min") and not _filled(x, axis):
            raise shape_error(name, f"no elements along axis {axis}", {"x": x})
        return Spec(reduced_shape(x.shape, axis, keepdims), x.dtype)

    def vjp(inputs: Any, outputs: Any, dys: Any, *, axis: Any, keepdims: bool) -> tuple[Any]:
        y = _kept(outputs[0], inputs[0], axis, keepdims)
        dy = _kept(dys[0], inputs[0], axis, keepdims)
        return (derivative(inputs[0], y, dy, axis),)

    return register(
        Op(
            name,
            infer=infer,
            reference=reference,
            samples=samples,
            bound=bound,
            vjp=vjp,
            attribution=attribution,
            channels=channels.reduced,
            kernel="reduce",
            kernel_attrs=(("kind", kind),),
            native=_native(kind),
            tile_sum=_sums_columns if kind == "sum" else None,
            flops=lambda inputs, outputs, attrs: elements(inputs[0]),
        )
    )


def _spread(dy: Any, x: Value) -> Any:

    return broadcast_to(dy, x.shape)


def _count(x: Value, axis: tuple[int, ...]) -> Any:
    return converted(tensor(count_along(x, axis)), x.dtype)


def _extreme_derivative(x: Value, y: Any, dy: Any, axis: tuple[int, ...]) -> Any:
    # Elements that tie share the gradient evenly.
    hit = converted(equal(x, y), x.dtype)
    return hit * (dy / reduce("sum", hit, axis, keepdims=True))


def _product_derivative(x: Value, y: Any, dy: Any, axis: tuple[int, ...]) -> Any:
    # d/dx_i prod = prod over j != i. Let p be the product of the elements that are not zero:
    # without zeros p / x_i; with one zero p at the zero and 0 elsewhere; with more 0.
    is_zero = equal(x, 0)
    rest = where(is_zero, 1.0, x)
    p = reduce("prod", rest, axis, keepdims=True)
    zeros = reduce("sum", converted(is_zero, x.dtype), axis, keepdims=True)
    at_zero = where(equal(zeros, 1), p, 0.0)
    return dy * where(is_zero, at_zero, where(equal(zeros, 0), p / rest, 0.0))


def _mean_reference(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    count = np.prod([x.shape[a] for a in axis], dtype=np.int64)
    return np.asarray(np.sum(x, axis=axis, keepdims=keepdims) / np.asarray(count, x.dtype))


# Sums of n terms: whatever the order, each term passes at most n - 1 additions, so the error is
# at most (n - 1) eps sum|x|. NumPy's dtype argument keeps small integers as they are.
SUM_BOUND = Accumulate(_terms, _sum_of_magnitudes)

REDUCE_SUM = _reduction(
    "reduce_sum",
    "sum",
    lambda x, *, axis, keepdims: np.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype),
    lambda x, y, dy, axis: _spread(dy, x),
    _samples(-1.0, 1.0),
    SUM_BOUND,
    "midpoint",
)
REDUCE_MEAN = _reduction(
    "reduce_mean",
    "mean",
    _mean_reference,
    lambda x, y, dy, axis: _spread(divide(dy, _count(x, axis)), x),
    _samples(-1.0, 1.0),
    Accumulate(_terms, _mean_of_magnitudes, extra=2),
    "midpoint",
)
REDUCE_MAX = _reduction(
    "reduce_max", "max", np.max, _extreme_derivative, _samples(-1.0, 1.0), Exact(), "max"
)
REDUCE_MIN = _reduction(
    "reduce_min", "min", np.min, _extreme_derivative, _samples(-1.0, 1.0), Exact(), "min"
)
REDUCE_PROD = _reduction(
    "reduce_prod",
    "prod",
    lambda x, *, axis, keepdims: np.prod(x, axis=axis, keepdims=keepdims, dtype=x.dtype),
    _product_derivative,
    _samples(0.9, 1.1),
    Accumulate(_terms, _product_magnitude),
)


def _all_samples() -> Iterable[Sample]:
    for shape in ((0,), (1,), (17,), (127, 33)):
        yield Sample(name_of(shape), uniform(shape), smooth=0 not in shape)
    yield Sample("bench", uniform(BENCH), smooth=False, bench=True)


SUM_OF_SQUARES = register(
    Op(
        "sum_of_squares",
        infer=lambda x: Spec((), x.dtype),
        reference=lambda x: np.sum(np.square(x), dtype=x.dtype),
        samples=_all_samples,
        bound=Accumulate(
            lambda inputs, attrs: inputs[0].size,
            lambda inputs, attrs: np.asarray(np.sum(np.square(inputs[0]))),
        ),
        vjp=lambda inputs, outputs, dys: (multiply(inputs[0], dys[0] * 2),),
        attribution="midpoint",
        kernel="reduce",
        kernel_attrs=(("kind", "sumsq"),),
        native=_native("sumsq"),
        flops=lambda inputs, outputs, attrs: 2 * elements(inputs[0]),
    )
)


def _arg_samples() -> Iterable[Sample]:
    for shape, axis in [((1,), 0), ((17,), 0), ((127, 33), 1), ((127, 33), 0), ((3, 5, 7), 1)]:
        yield Sample(f"{name_of(shape)}_{axis}", uniform(shape), {"axis": axis}, smooth=False)
    ties = [[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, np.nan, 9.0], [-np.inf, -np.inf, np.inf]]
    yield Sample("ties", given(ties), {"axis": 1}, smooth=False)
    yield Sample("bench", uniform(BENCH), {"axis": 1}, smooth=False, bench=True)


def _arg_reduction(name: str, kind: str, reference: Callable[..., Any]) -> Op:
    def infer(x: Spec, *, axis: int) -> Spec:
        if not _filled(x, (axis,)):
            raise shape_error(name, f"no elements along axis {axis}", {"x": x})
        check_places(name, x, axis)
        return Spec(reduced_shape(x.shape, (axis,), False), "int32")

    return register(
        Op(
            name,
            infer=infer,
            reference=lambda x, *, axis: reference(x, axis=axis).astype(np.int32),
            samples=_arg_samples,
            bound=Exact(),
            kernel="argreduce",
            kernel_attrs=(("kind", kind),),
            native=lambda specs, attrs: specs[0].dtype != "bfloat16",
            grad_none=(0,),
        )
    )


ARGMAX = _arg_reduction("argmax", "max", np.argmax)
ARGMIN = _arg_reduction("argmin", "min", np.argmin)
