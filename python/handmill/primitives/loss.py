"""Cross entropies: fused with softmax where they are given logits, or can find them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import RowError, shape_error
from handmill.ir.dims import same_shape
from handmill.ir.graph import Value
from handmill.ir.op import Accumulate, Array, Attrs, Exact, Op, Sample, register
from handmill.ir.shapes import FLOATS, Spec
from handmill.ir.trace import apply
from handmill.primitives.cast import CAST
from handmill.primitives.emit import add, broadcast_to, negative, reduce, reshape
from handmill.primitives.gather import INDEX_DTYPES, as_rows
from handmill.primitives.operands import (
    Tensor,
    converted,
    dtype_of,
    tensor,
)
from handmill.primitives.samples import both, elements, given, integers, name_of, uniform
from handmill.primitives.softmax import (
    LOG_SOFTMAX,
    SOFTMAX_GRAD,
    TINY,
    log_softmax_reference,
    softmax_reference,
)


def _softmax_attrs(specs: Sequence[Spec]) -> Attrs:
    return {"axis": specs[0].rank - 1}


def _row_terms(inputs: Sequence[Array], attrs: Attrs) -> int:
    return int(inputs[0].shape[-1]) + 6


def _probability_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    # As softmax: exp turns the rounding of x - max into |x - max| units.
    x = inputs[0]
    if x.size == 0:
        return np.zeros(x.shape)
    spread = np.max(x, axis=-1, keepdims=True) - x
    return np.asarray(softmax_reference(x, axis=-1) * (1 + spread) + TINY)


def _spread_of_row(x: Array) -> Array:
    if x.shape[-1] == 0:
        return np.zeros(x.shape[:-1])
    return np.asarray(np.max(x, axis=-1) - np.min(x, axis=-1) + 2 * np.log1p(x.shape[-1]))


def _row_sum(x: Any) -> Any:
    return reduce("sum", x, (x.ndim - 1,))


def _column(x: Any) -> Any:
    """``x`` with a last axis of one element."""
    return reshape(x, (*x.shape, 1))


# --- labels as integers --------------------------------------------------------------------------


def _sparse_infer(logits: Spec, labels: Spec) -> tuple[Spec, Spec]:
    if not logits.is_float or logits.rank == 0 or not same_shape(labels.shape, logits.shape[:-1]):
        raise shape_error(
            "sparse_softmax_cross_entropy",
            "logits (..., classes) and labels (...) were expected",
            {"logits": logits, "labels": labels},
        )
    return Spec(labels.shape, logits.dtype), logits


def _hit(labels: Array, classes: int, dtype: Any) -> Array:
    """The labels as rows of zeros with one 1."""
    return np.asarray(as_rows(labels)[..., None] == np.arange(classes), dtype)


def _sparse_reference(logits: Array, labels: Array) -> tuple[Array, Array]:
    nan = np.asarray(np.nan, logits.dtype)
    if logits.shape[-1] == 0:  # no label is one of no classes
        return np.full(labels.shape, nan), np.array(logits)
    at = as_rows(labels)[..., None]
    valid = (at >= 0) & (at < logits.shape[-1])
    picked = np.take_along_axis(
        log_softmax_reference(logits, axis=-1), np.where(valid, at, 0), axis=-1
    )
    loss = -np.where(valid, picked, nan)[..., 0]
    return loss, softmax_reference(logits, axis=-1)


def _sparse_vjp(inputs: Any, outputs: Any, dys: Any) -> Any:
    dloss, dprobabilities = dys
    dx = None
    if dloss is not None:
        dx = apply(SPARSE_SOFTMAX_CROSS_ENTROPY_GRAD, dloss, outputs[1], inputs[1])
    if dprobabilities is not None:
        through = apply(SOFTMAX_GRAD, dprobabilities, outputs[1], axis=len(outputs[1].shape) - 1)
        dx = through if dx is None else add(dx, through)
    return dx, None


def _labels(shape: tuple[int, ...], classes: int, dtype: str = "int32") -> Any:
    return both(
        uniform((*shape, classes), low=-5, high=5), integers(shape, high=classes, dtype=dtype)
    )


def _sparse_samples() -> Iterable[Sample]:
    for shape, classes in (((1,), 1), ((15,), 10), ((127,), 33), ((4, 7), 300), ((0,), 10)):
        make = _labels(shape, classes)
        yield Sample(f"{name_of(shape)}_{classes}", make, smooth=0 not in shape)
    for dtype in ("int64", "uint8", "int8", "float32"):
        yield Sample(dtype, _labels((9,), 10, dtype), smooth=False)
    far = given(np.array([[100, -100, 0], [0, 0, 1e4]], np.float32), np.array([1, 2], np.int32))
    yield Sample("far", far, smooth=False)
    no_classes = both(uniform((5, 0)), given([0, 1, -1, 2, 0], dtype="int32"))
    yield Sample("no_classes", no_classes, smooth=False)
    outside = given([0.0, 2.5, -1.0, 9.0, np.nan, 1e10])
    yield Sample("outside", both(uniform((6, 3)), outside), smooth=False)
    yield Sample("bench", _labels((8192,), 10), smooth=False, bench=True)


# loss = log sum e^x - x[label]; output 1 is softmax(x), which the gradient needs.
SPARSE_SOFTMAX_CROSS_ENTROPY = register(
    Op(
        "sparse_softmax_cross_entropy",
        infer=_sparse_infer,
        reference=_sparse_reference,
        samples=_sparse_samples,
        bound=(
            Accumulate(_row_terms, lambda inputs, attrs: _spread_of_row(inputs[0])),
            Accumulate(_row_terms, _probability_magnitude),
        ),
        vjp=_sparse_vjp,
        kernel="sparse_softmax_cross_entropy",
        native=lambda specs, attrs: specs[0].dtype == "float32" and specs[1].dtype in INDEX_DTYPES,
        flops=lambda inputs, outputs, attrs: 10 * elements(inputs[0]),
        grad_none=(1,),
        also=((1, "softmax", (0,)),),
        also_attrs=_softmax_attrs,
    )
)


def _sparse_grad_infer(dloss: Spec, probabilities: Spec, labels: Spec) -> Spec:
    shapes = (dloss.shape, labels.shape, probabilities.shape[:-1])
    if not (same_shape(*shapes[:2]) and same_shape(*shapes[1:])):
        raise shape_error(
            "sparse_softmax_cross_entropy_grad",
            "dloss and labels (...) and probabilities (..., classes) were expected",
            {"dloss": dloss, "probabilities": probabilities, "labels": labels},
        )
    return probabilities


def _sparse_grad_reference(dloss: Array, probabilities: Array, labels: Array) -> Array:
    classes = probabilities.shape[-1]
    at = as_rows(labels)
    weight = np.where((at >= 0) & (at < classes), dloss, np.asarray(np.nan, dloss.dtype))
    hit = _hit(labels, classes, probabilities.dtype)
    return np.asarray(weight[..., None] * (probabilities - hit))


def _dirichlet(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    if shape[-1] == 0:
        return np.zeros(shape, np.float32)
    drawn = rng.dirichlet(np.ones(shape[-1]), shape[:-1])
    return drawn.astype(np.float32).reshape(shape)


def _sparse_grad_samples() -> Iterable[Sample]:
    for rows, classes in ((1, 1), (15, 10), (127, 33), (0, 4), (2, 300)):

        def make(rng: np.random.Generator, shape: tuple[int, ...] = (rows, classes)) -> Any:
            dloss = rng.normal(size=shape[0]).astype(np.float32)
            labels = rng.integers(0, shape[1], shape[0]).astype(np.int32)
            return dloss, _dirichlet(rng, shape), labels

        yield Sample(f"{rows}x{classes}", make, smooth=rows > 0)


def _one_rounding_of_dloss(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return np.abs(inputs[0])[..., None] * np.ones(inputs[1].shape[-1])


def _sparse_grad_vjp(inputs: Any, outputs: Any, dys: Any) -> Any:
    (dloss, p, labels), (d,) = inputs, dys
    slope = apply(
        SPARSE_SOFTMAX_CROSS_ENTROPY_GRAD,
        broadcast_to(np.ones((), dloss.dtype), dloss.shape),
        p,
        labels,
    )
    return _row_sum(d * slope), d * _column(dloss), None


# d loss / d x_n = p_n - [n = label]: one rounding of a number up to 1, one of the product.
SPARSE_SOFTMAX_CROSS_ENTROPY_GRAD = register(
    Op(
        "sparse_softmax_cross_entropy_grad",
        infer=_sparse_grad_infer,
        reference=_sparse_grad_reference,
        samples=_sparse_grad_samples,
        bound=Accumulate(lambda inputs, attrs: 1, _one_rounding_of_dloss),
        vjp=_sparse_grad_vjp,
        kernel="sparse_softmax_cross_entropy_grad",
        native=lambda specs, attrs: specs[1].dtype == "float32" and specs[2].dtype in INDEX_DTYPES,
        alias=((0, 1),),
        grad_none=(2,),
    )
)

# --- targets as probabilities --------------------------------------------------------------------


def _dense_infer(logits: Spec, targets: Spec) -> tuple[Spec, Spec]:
    if not logits.is_float or logits.rank == 0 or not targets.same(logits):
        raise shape_error(
            "softmax_cross_entropy",
            "logits and targets of one shape (..., classes) were expected",
            {"logits": logits, "targets": targets},
        )
    return Spec(logits.shape[:-1], logits.dtype), logits


def _dense_reference(logits: Array, targets: Array) -> tuple[Array, Array]:
    loss = -np.sum(targets * log_softmax_reference(logits, axis=-1), axis=-1)
    return np.asarray(loss), softmax_reference(logits, axis=-1)


def _dense_vjp(inputs: Any, outputs: Any, dys: Any) -> Any:
    dloss, dprobabilities = dys
    dx = None
    if dloss is not None:
        dx = apply(SOFTMAX_CROSS_ENTROPY_GRAD, dloss, outputs[1], inputs[1])
    if dprobabilities is not None:
        through = apply(SOFTMAX_GRAD, dprobabilities, outputs[1], axis=len(outputs[1].shape) - 1)
        dx = through if dx is None else add(dx, through)
    if dloss is None:
        return dx, None
    return dx, negative(_column(dloss) * apply(LOG_SOFTMAX, inputs[0], axis=inputs[0].ndim - 1))


def _dense_samples() -> Iterable[Sample]:
    for shape in ((1, 1), (15, 10), (127, 33), (4, 7, 300), (0, 10), (9, 0)):

        def make(rng: np.random.Generator, shape: tuple[int, ...] = shape) -> Any:
            return rng.uniform(-5, 5, shape).astype(np.float32), _dirichlet(rng, shape)

        yield Sample(name_of(shape), make, smooth=0 not in shape)


def _dense_loss_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    mass = np.sum(np.abs(inputs[1]), axis=-1)
    return np.asarray(_spread_of_row(inputs[0]) * mass)


# loss = -sum t log softmax(x): d loss / d t = -log softmax(x).
SOFTMAX_CROSS_ENTROPY = register(
    Op(
        "softmax_cross_entropy",
        infer=_dense_infer,
        reference=_dense_reference,
        samples=_dense_samples,
        bound=(
            Accumulate(lambda inputs, attrs: 2 * _row_terms(inputs, attrs), _dense_loss_magnitude),
            Accumulate(_row_terms, _probability_magnitude),
        ),
        vjp=_dense_vjp,
        kernel="softmax_cross_entropy",
        flops=lambda inputs, outputs, attrs: 12 * elements(inputs[0]),
        also=((1, "softmax", (0,)),),
        also_attrs=_softmax_attrs,
    )
)


def _dense_grad_infer(dloss: Spec, probabilities: Spec, targets: Spec) -> Spec:
    if not targets.same(probabilities) or not same_shape(dloss.shape, targets.shape[:-1]):
        raise shape_error(
            "softmax_cross_entropy_grad",
            "dloss (...) and probabilities and targets (..., classes) were expected",
            {"dloss": dloss, "probabilities": probabilities, "targets": targets},
        )
    return probabilities


def _dense_grad_reference(dloss: Array, probabilities: Array, targets: Array) -> Array:
    mass = np.sum(targets, axis=-1, keepdims=True)
    return np.asarray(dloss[..., None] * (probabilities * mass - targets))


def _dense_grad_samples() -> Iterable[Sample]:
    for shape in ((1, 1), (15, 10), (127, 33), (0, 4), (2, 300)):

        def make(rng: np.random.Generator, shape: tuple[int, ...] = shape) -> Any:
            dloss = rng.normal(size=shape[:-1]).astype(np.float32)
            return dloss, _dirichlet(rng, shape), _dirichlet(rng, shape)

        yield Sample(name_of(shape), make, smooth=0 not in shape)


def _dense_grad_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    dloss, p, t = (np.abs(x) for x in inputs)
    return np.asarray(dloss[..., None] * (p * np.sum(t, axis=-1, keepdims=True) + t))


def _dense_grad_vjp(inputs: Any, outputs: Any, dys: Any) -> Any:
    (dloss, p, t), (d,) = inputs, dys
    slope = apply(
        SOFTMAX_CROSS_ENTROPY_GRAD, broadcast_to(np.ones((), dloss.dtype), dloss.shape), p, t
    )
    through = d * _column(dloss)
    dp = through * _column(_row_sum(t))
    dt = _column(_row_sum(through * p)) - through
    return _row_sum(d * slope), dp, dt


# d loss / d x_n = p_n sum t - t_n.
SOFTMAX_CROSS_ENTROPY_GRAD = register(
    Op(
        "softmax_cross_entropy_grad",
        infer=_dense_grad_infer,
        reference=_dense_grad_reference,
        samples=_dense_grad_samples,
        bound=Accumulate(lambda inputs, attrs: inputs[1].shape[-1] + 2, _dense_grad_magnitude),
        vjp=_dense_grad_vjp,
        kernel="softmax_cross_entropy_grad",
        alias=((0, 1),),
    )
)

# --- the guard -----------------------------------------------------------------------------------


def _check_reference(labels: Array, *, num_classes: int, what: str = "label") -> Array:
    flat = labels.ravel()
    whole = flat.dtype.kind in "iub"
    if whole and flat.size and flat.min() >= 0 and flat.max() < num_classes:
        return labels
    wrong = (flat < 0) | (flat >= num_classes) | (flat != np.floor(flat))
    if np.any(wrong):
        index = int(np.argmax(wrong))
        row = index * len(labels) // flat.size if labels.ndim else 0
        problem = f"{what} {flat[index]} is not an integer from 0 to {num_classes - 1}"
        if labels.ndim > 1 and math.prod(labels.shape[1:]) > 1:
            place = np.unravel_index(index, labels.shape)[1:]
            problem += f", at place {', '.join(map(str, place))} of its row"
        raise RowError(problem, row)
    return labels


CHECK_LABELS = register(
    Op(
        "check_labels",
        infer=lambda labels, *, num_classes, what="label": labels,
        reference=_check_reference,
        samples=lambda: [
            Sample("int32", integers((17,)), {"num_classes": 10}, smooth=False),
            Sample("uint8", integers((4, 3), dtype="uint8"), {"num_classes": 10}, smooth=False),
            Sample("float32", integers((9,), dtype="float32"), {"num_classes": 10}, smooth=False),
            Sample("empty", integers((0,)), {"num_classes": 1}, smooth=False),
            Sample("rows", integers((9,)), {"num_classes": 10, "what": "row"}, smooth=False),
        ],
        bound=Exact(),
        kernel="check_labels",
        native=lambda specs, attrs: specs[0].dtype in INDEX_DTYPES,
        guard=True,
        grad_none=(0,),
    )
)

# --- public functions ----------------------------------------------------------------------------


def check_labels(labels: Tensor, num_classes: int, what: str = "label") -> Any:
    """Returns the labels as indices, after it has refused those that are not classes.

    Args:
        labels: whole numbers, of any dtype: they are looked at as they were given.
        num_classes: how many classes there are.
        what: what the numbers are called in the error.

    Raises:
        ValueError: if a label is not an integer from 0 to ``num_classes - 1``. In a training
            step nothing is written before.

    Example:
        >>> from handmill.primitives import loss
        >>> loss.check_labels([0, 2], num_classes=3)
        array([0, 2], dtype=int32)
    """
    named = {} if what == "label" else {"what": what}
    labels = tensor(labels)
    if dtype_of(labels) not in (*INDEX_DTYPES, *FLOATS):  # small integers
        labels = converted(labels, "int32")
    labels = apply(CHECK_LABELS, labels, num_classes=int(num_classes), **named)
    return labels if dtype_of(labels) in INDEX_DTYPES else converted(labels, "int32")


WHOLE = ("int8", "uint8", "int32", "int64")
"""Dtypes of whole numbers, from which :func:`uncast` gets them all back."""


def uncast(x: Tensor, dtypes: Sequence[str]) -> Any:
    """Returns what ``x`` was converted from, as far as that had one of these dtypes."""
    while isinstance(x, Value) and x.node is not None and x.node.op is CAST:
        if x.node.inputs[0].dtype not in dtypes:
            break
        x = x.node.inputs[0]
    return x
