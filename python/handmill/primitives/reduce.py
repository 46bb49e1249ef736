"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.graph import Value
from handmill.ir.op import Accumulate, Array, Attrs, Bound, Exact, Op, Sample, register
from handmill.ir.dims import at_least
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.cast import (
    Tensor,
    as_bool,
    cast,
    count_along,
    dtype_of,
    normal_axes,
    normal_axis,
    promote_float,
    shape_of,
    tensor,
)
from handmill.primitives.elementwise.arithmetic import divide, maximum, minimum, multiply
from handmill.primitives.elementwise.logic import equal, where
from handmill.primitives.samples import BENCH, elements, given, name_of, uniform

Axis = Any  # None, an int, or a sequence of ints


def reduced_shape(shape: Sequence[Any], axis: tuple[int, ...], keepdims: bool) -> tuple[Any, ...]:
    """Returns what is left of ``shape``."""
    if keepdims:
        return tuple(1 if a in axis else d for a, d in enumerate(shape))
    return tuple(d for a, d in enumerate(shape) if a not in axis)


def _filled(x: Spec, axis: tuple[int, ...]) -> bool:
    return not [a for a in axis if not at_least(x.shape[a], 1)]


def _kept(value: Value, x: Value, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Gives a reduced value its axes of size 1 back, so that it broadcasts against ``x``."""
    from handmill.primitives.movement import reshape

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


def _reduction(
    name: str,
    kind: str,
    reference: Callable[..., Any],
    derivative: Callable[..., Any],
    samples: Callable[[], Iterable[Sample]],
    bound: Bound,
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
            kernel="reduce",
            kernel_attrs=(("kind", kind),),
            flops=lambda inputs, outputs, attrs: elements(inputs[0]),
        )
    )


def _spread(dy: Any, x: Value) -> Any:
    from handmill.primitives.movement import broadcast_to

    return broadcast_to(dy, x.shape)


def _extreme_derivative(x: Value, y: Any, dy: Any, axis: tuple[int, ...]) -> Any:
    # Elements that tie share the gradient evenly.
    hit = cast(equal(x, y), x.dtype)
    return hit * (dy / sum(hit, axis=axis, keepdims=True))


def _product_derivative(x: Value, y: Any, dy: Any, axis: tuple[int, ...]) -> Any:
    # d/dx_i prod = prod over j != i. Let p be the product of the elements that are not zero:
    # without zeros p / x_i; with one zero p at the zero and 0 elsewhere; with more 0.
    is_zero = equal(x, 0)
    rest = where(is_zero, 1.0, x)
    p = prod(rest, axis=axis, keepdims=True)
    zeros = sum(cast(is_zero, x.dtype), axis=axis, keepdims=True)
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
)
REDUCE_MEAN = _reduction(
    "reduce_mean",
    "mean",
    _mean_reference,
    lambda x, y, dy, axis: _spread(divide(dy, cast(count_along(x, axis), x.dtype)), x),
    _samples(-1.0, 1.0),
    Accumulate(_terms, _mean_of_magnitudes, extra=2),
)
REDUCE_MAX = _reduction(
    "reduce_max", "max", np.max, _extreme_derivative, _samples(-1.0, 1.0), Exact()
)
REDUCE_MIN = _reduction(
    "reduce_min", "min", np.min, _extreme_derivative, _samples(-1.0, 1.0), Exact()
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
        kernel="reduce",
        kernel_attrs=(("kind", "sumsq"),),
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
            grad_none=(0,),
        )
    )


ARGMAX = _arg_reduction("argmax", "max", np.argmax)
ARGMIN = _arg_reduction("argmin", "min", np.argmin)


def _reduce(op: Op, x: Tensor, axis: Axis, keepdims: bool) -> Any:
    x = tensor(x)
    axes = normal_axes(op.name, axis, len(shape_of(x)))
    return apply(op, x, axis=axes, keepdims=bool(keepdims))


def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Adds up along axes.

    Args:
        x: the input; bool counts as int32.
        axis: an axis or several. Default: all.
        keepdims: whether reduced axes stay, with size 1.

    Example:
        >>> from handmill import ops
        >>> ops.sum([[1.0, 2.0], [3.0, 4.0]], axis=0)
        array([4., 6.], dtype=float32)
    """
    x = tensor(x)
    x = cast(x, "int32") if dtype_of(x) in ("bool", "int8", "uint8") else x
    return _reduce(REDUCE_SUM, x, axis, keepdims)


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Averages along axes; integers become float32 before.

    Args:
        x: the input.
        axis: an axis or several. Default: all.
        keepdims: whether reduced axes stay, with size 1.

    Example:
        >>> from handmill import ops
        >>> ops.mean([[1.0, 2.0], [3.0, 4.0]], axis=1)
        array([1.5, 3.5], dtype=float32)
    """
    return _reduce(REDUCE_MEAN, promote_float(x)[0], axis, keepdims)


def max(x: Tensor, axis: Axis = None, keepdims: bool = False, initial: Any = None) -> Any:
    """Returns the largest element along axes; NaN if there is one.

    Args:
        x: the input.
        axis: an axis or several. Default: all.
        keepdims: whether reduced axes stay, with size 1.
        initial: a lower limit of the result.

    Example:
        >>> from handmill import ops
        >>> ops.max([[1.0, 5.0], [3.0, 4.0]], axis=1)
        array([5., 4.], dtype=float32)
    """
    y = _reduce(REDUCE_MAX, x, axis, keepdims)
    return y if initial is None else maximum(y, initial)


def min(x: Tensor, axis: Axis = None, keepdims: bool = False, initial: Any = None) -> Any:
    """Returns the smallest element along axes; NaN if there is one.

    Args:
        x: the input.
        axis: an axis or several. Default: all.
        keepdims: whether reduced axes stay, with size 1.
        initial: an upper limit of the result.

    Example:
        >>> from handmill import ops
        >>> ops.min([[1.0, 5.0], [3.0, 4.0]], axis=1)
        array([1., 3.], dtype=float32)
    """
    y = _reduce(REDUCE_MIN, x, axis, keepdims)
    return y if initial is None else minimum(y, initial)


def amax(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the largest element along axes, as :func:`max` does.

    Example:
        >>> from handmill import ops
        >>> ops.amax([[1.0, 5.0], [3.0, 4.0]], axis=1)
        array([5., 4.], dtype=float32)
    """
    return max(x, axis, keepdims)


def amin(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the smallest element along axes, as :func:`min` does.

    Example:
        >>> from handmill import ops
        >>> ops.amin([[1.0, 5.0], [3.0, 4.0]], axis=1)
        array([1., 3.], dtype=float32)
    """
    return min(x, axis, keepdims)


def prod(x: Tensor, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Any:
    """Multiplies along axes.

    Example:
        >>> from handmill import ops
        >>> float(ops.prod([2.0, 3.0, 4.0]))
        24.0
    """
    return _reduce(REDUCE_PROD, x if dtype is None else cast(x, dtype), axis, keepdims)


def all(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns whether every element along axes is true.

    Example:
        >>> from handmill import ops
        >>> ops.all([[True, False], [True, True]], axis=1)
        array([False,  True])
    """
    return cast(min(cast(as_bool(x), "float32"), axis, keepdims), "bool")


def any(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns whether an element along axes is true.

    Example:
        >>> from handmill import ops
        >>> ops.any([[True, False], [False, False]], axis=1)
        array([ True, False])
    """
    return cast(max(cast(as_bool(x), "float32"), axis, keepdims), "bool")


def count_nonzero(x: Tensor, axis: Axis = None) -> Any:
    """Counts the elements that are not zero.

    Example:
        >>> from handmill import ops
        >>> int(ops.count_nonzero([0.0, 2.0, 3.0]))
        2
    """
    return sum(as_bool(x), axis=axis)


def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Any:
    """Returns the index of the largest element, the first of several; int32.

    Args:
        x: the input.
        axis: the axis along which to look. Default: the flattened input.
        keepdims: whether the axis stays, with size 1.

    Example:
        >>> from handmill import ops
        >>> ops.argmax([[1.0, 5.0], [3.0, 3.0]], axis=1)
        array([1, 0], dtype=int32)
    """
    return _arg_reduce(ARGMAX, x, axis, keepdims)


def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Any:
    """Returns the index of the smallest element, the first of several; int32.

    Args:
        x: the input.
        axis: the axis along which to look. Default: the flattened input.
        keepdims: whether the axis stays, with size 1.

    Example:
        >>> from handmill import ops
        >>> ops.argmin([[1.0, 5.0], [3.0, 3.0]], axis=1)
        array([0, 0], dtype=int32)
    """
    return _arg_reduce(ARGMIN, x, axis, keepdims)


def _arg_reduce(op: Op, x: Tensor, axis: int | None, keepdims: bool) -> Any:
    from handmill.primitives.movement import reshape

    x = tensor(x)
    shape = shape_of(x)
    if axis is None:
        y = apply(op, reshape(x, (-1,)), axis=0)
        return reshape(y, (1,) * len(shape)) if keepdims else y
    axis = normal_axis(op.name, axis, len(shape))
    y = apply(op, x, axis=axis)
    return reshape(y, reduced_shape(shape, (axis,), True)) if keepdims else y
