"""Mean and variance of columns: what a normalization of channels needs, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.op import EPS32, Accumulate, Array, Attrs, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.primitives.emit import broadcast_to
from handmill.primitives.operands import converted, count_along, tensor
from handmill.primitives.samples import BENCH, elements, name_of, uniform


def _infer(x: Spec) -> tuple[Spec, Spec]:
    if len(x.shape) < 2:
        raise shape_error("column_moments", "the input must have rows and columns", {"x": x})
    found = Spec(x.shape[-1:], x.dtype)
    return found, found


def _rows(x: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim - 1))


def _reference(x: Array) -> tuple[Array, Array]:
    axis = _rows(x)
    count = np.asarray(np.prod(x.shape[:-1], dtype=np.int64), x.dtype)
    mean = np.sum(x, axis) / count
    return mean, np.sum(np.square(x - mean), axis) / count


def _vjp(inputs: Any, outputs: Any, dys: Any) -> tuple[Any]:
    (x,), mean = inputs, outputs[0]
    dmean, dvariance = dys
    count = converted(tensor(count_along(x, tuple(range(len(x.shape) - 1)))), x.dtype)
    if dvariance is None:
        return (broadcast_to(dmean / count, x.shape),)
    dx = (x - mean) * (dvariance * 2 / count)
    return (dx if dmean is None else dx + dmean / count,)


def _terms(inputs: Sequence[Array], attrs: Attrs) -> int:
    return int(np.prod(inputs[0].shape[:-1], dtype=np.int64))


def _mean_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return _reference(np.abs(inputs[0]))[0]


def _variance_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    # A mean is off by at most eps * terms * |x|, to which the distances from it add up to nothing
    # over all terms, and to the standard deviation at most over those of a part.
    x = inputs[0]
    variance, size = _reference(x)[1], _mean_magnitude(inputs, attrs)
    spread: Array = variance + size * np.sqrt(variance)
    return spread + EPS32 * _terms(inputs, attrs) * size * size


def _samples() -> Iterable[Sample]:
    for shape in ((1, 5), (7, 3), (127, 33), (3, 5, 7, 4), (600, 1), (70, 130), (40, 9, 16)):
        yield Sample(name_of(shape), uniform(shape), smooth=True)
    yield Sample("far_from_zero", uniform((257, 20), low=1000.0, high=1001.0), smooth=False)
    yield Sample("no_rows", uniform((0, 5)), smooth=False)
    yield Sample("no_columns", uniform((5, 0)), smooth=False)
    yield Sample("bench", uniform(BENCH), smooth=False, bench=True)
    yield Sample("bench_channels", uniform((32, 32, 32, 16)), smooth=False, bench=True)


COLUMN_MOMENTS = register(
    Op(
        "column_moments",
        infer=_infer,
        reference=_reference,
        samples=_samples,
        bound=(
            Accumulate(_terms, _mean_magnitude, extra=4),
            Accumulate(_terms, _variance_magnitude, extra=8),
        ),
        vjp=_vjp,
        attribution="midpoint",
        kernel="column_moments",
        flops=lambda inputs, outputs, attrs: 4 * elements(inputs[0]),
    )
)
