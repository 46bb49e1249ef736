"""What metrics count: matches, and sums that stay exact over millions of examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import same_shape
from handmill.ir.op import Array, Exact, Op, Sample, Ulp, register
from handmill.ir.shapes import Spec, broadcasts_to
from handmill.ir.trace import apply
from handmill.primitives.gather import INDEX_DTYPES
from handmill.primitives.operands import Tensor, promote_float, tensor
from handmill.primitives.samples import both, given, integers, uniform


def _sparse_infer(labels: Spec, predictions: Spec) -> Spec:
    if predictions.rank == 0 or not same_shape(labels.shape, predictions.shape[:-1]):
        problem = "labels (...) and predictions (..., classes) were expected"
        raise shape_error("sparse_match", problem, {"labels": labels, "predictions": predictions})
    if predictions.shape[-1] == 0:
        raise shape_error("sparse_match", "no classes", {"predictions": predictions})
    return Spec(labels.shape, "float32")


def _sparse_reference(labels: Array, predictions: Array) -> Array:
    return np.asarray(np.argmax(predictions, axis=-1) == labels, np.float32)


def _sparse_samples() -> Iterable[Sample]:
    for rows, classes in ((1, 1), (17, 10), (127, 33)):
        make = both(integers((rows,), high=classes), uniform((rows, classes)))
        yield Sample(f"{rows}x{classes}", make, smooth=False)
    for dtype in ("int64", "uint8", "int8", "float32"):
        make = both(integers((19,), high=3, dtype=dtype), uniform((19, 3)))
        yield Sample(dtype, make, smooth=False)
    ties = both(given([0, 1], dtype="int32"), given([[1.0, 1.0], [1.0, 1.0]]))
    yield Sample("ties", ties, smooth=False)
    yield Sample("empty", both(integers((0,)), uniform((0, 4))), smooth=False)
    make = both(integers((8192,)), uniform((8192, 10)))
    yield Sample("bench", make, smooth=False, bench=True)


SPARSE_MATCH = register(
    Op(
        "sparse_match",
        infer=_sparse_infer,
        reference=_sparse_reference,
        samples=_sparse_samples,
        bound=Exact(),
        kernel="sparse_match",
        native=lambda specs, attrs: specs[0].dtype in INDEX_DTYPES and specs[1].dtype == "float32",
        grad_none=(0, 1),
    )
)


def _dense_infer(targets: Spec, predictions: Spec) -> Spec:
    if not targets.same(predictions) or predictions.rank == 0:
        problem = "targets and predictions of one shape were expected"
        raise shape_error("dense_match", problem, {"targets": targets, "predictions": predictions})
    if predictions.shape[-1] == 0:
        raise shape_error("dense_match", "no classes", {"predictions": predictions})
    return Spec(predictions.shape[:-1], "float32")


def _dense_reference(targets: Array, predictions: Array) -> Array:
    hit = np.argmax(targets, axis=-1) == np.argmax(predictions, axis=-1)
    return np.asarray(hit, np.float32)


DENSE_MATCH = register(
    Op(
        "dense_match",
        infer=_dense_infer,
        reference=_dense_reference,
        samples=lambda: [
            Sample("1x1", uniform((1, 1), (1, 1)), smooth=False),
            Sample("127x3", uniform((127, 3), (127, 3)), smooth=False),
            Sample("5x17x33", uniform((5, 17, 33), (5, 17, 33)), smooth=False),
            Sample("empty", uniform((0, 4), (0, 4)), smooth=False),
            Sample("bench", uniform((8192, 10), (8192, 10)), smooth=False, bench=True),
        ],
        bound=Exact(),
        kernel="dense_match",
        grad_none=(0, 1),
    )
)


def _accumulate_infer(total: Spec, count: Spec, values: Spec, weights: Spec) -> tuple[Spec, Spec]:
    operands = {"total": total, "count": count, "values": values, "weights": weights}
    if not broadcasts_to(weights.shape, values.shape):
        raise shape_error("accumulate_mean", "weights do not broadcast to values", operands)
    if total != Spec((), "float64") or count != total:
        raise shape_error("accumulate_mean", "total and count must be float64 scalars", operands)
    return total, count


def _accumulate_reference(
    total: Array, count: Array, values: Array, weights: Array
) -> tuple[Array, Array]:
    values = values.astype(np.float64)
    weights = np.broadcast_to(weights.astype(np.float64), values.shape)
    return np.asarray(total + np.sum(values * weights)), np.asarray(count + np.sum(weights))


def _accumulate_samples() -> Iterable[Sample]:
    start = given(np.array(1.5), np.array(2.0))
    for values, weights in (
        ((0,), ()),
        ((1,), ()),
        ((17,), (17,)),
        ((127, 33), (127, 1)),
        ((5,), ()),
    ):
        make = both(start, uniform(values, weights, low=0.1, high=1.0))
        yield Sample(f"{values}_{weights}".replace(" ", ""), make, smooth=False)


# total += sum(values weights), count += sum(weights), in float64 and a fixed order. Sums of n
# terms in float64 keep n eps64 of their size: far below half a unit of float32.
ACCUMULATE_MEAN = register(
    Op(
        "accumulate_mean",
        infer=_accumulate_infer,
        reference=_accumulate_reference,
        samples=_accumulate_samples,
        bound=(Ulp(0.001), Ulp(0.001)),
        kernel="accumulate_mean",
        native=lambda specs, attrs: all(s.dtype == "float32" for s in specs[2:]),
        alias=((0, 0), (1, 1)),
        grad_none=(0, 1, 2, 3),
    )
)


def sparse_match(labels: Tensor, predictions: Tensor) -> Any:
    """Returns 1 where the largest prediction is the label's, else 0.

    Args:
        labels: integers ``(...)``.
        predictions: ``(..., classes)``.

    Example:
        >>> from handmill.primitives import metrics
        >>> metrics.sparse_match([1, 1], [[0.1, 0.9], [0.8, 0.2]])
        array([1., 0.], dtype=float32)
    """
    return apply(SPARSE_MATCH, tensor(labels), *promote_float(predictions))


def dense_match(targets: Tensor, predictions: Tensor) -> Any:
    """Returns 1 where targets and predictions are largest at the same place, else 0.

    Args:
        targets: ``(..., classes)``.
        predictions: ``(..., classes)``.

    Example:
        >>> from handmill.primitives import metrics
        >>> metrics.dense_match([[0.0, 1.0], [0.0, 1.0]], [[0.1, 0.9], [0.8, 0.2]])
        array([1., 0.], dtype=float32)
    """
    return apply(DENSE_MATCH, *promote_float(targets, predictions))


def accumulate_mean(total: Tensor, count: Tensor, values: Tensor, weights: Tensor) -> Any:
    """Returns ``total + sum(values * weights)`` and ``count + sum(weights)`` in float64.

    Args:
        total: float64 scalar.
        count: float64 scalar.
        values: any shape.
        weights: broadcasts to ``values``.
    """
    values, weights = promote_float(values, weights)
    return apply(ACCUMULATE_MEAN, tensor(total), tensor(count), values, weights)
