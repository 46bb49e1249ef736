"""Cross entropies: fused with softmax where they are given logits, or can find them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill import config
from handmill.errors import RowError, shape_error
from handmill.ir.graph import Value
from handmill.ir.op import Accumulate, Array, Attrs, Exact, Op, Sample, register
from handmill.ir.shapes import Batch, Shape, Spec
from handmill.ir.trace import apply
from handmill.primitives.cast import (
    Tensor,
    cast,
    dtype_of,
    normal_axis,
    promote_float,
    shape_of,
    tensor,
)
from handmill.primitives.elementwise.arithmetic import add, divide, multiply, negative, subtract
from handmill.primitives.elementwise.unary import SIGMOID, clip, log
from handmill.primitives.gather import INDEX_DTYPES
from handmill.primitives.movement import expand_dims, reshape, transpose
from handmill.primitives.reduce import sum as reduce_sum
from handmill.primitives.samples import both, elements, given, integers, name_of, uniform
from handmill.primitives.softmax import (
    SOFTMAX,
    SOFTMAX_GRAD,
    TINY,
    log_softmax,
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


# --- labels as integers --------------------------------------------------------------------------


def _sparse_infer(logits: Spec, labels: Spec) -> tuple[Spec, Spec]:
    if not logits.is_float or logits.rank == 0 or labels.shape != logits.shape[:-1]:
        raise shape_error(
            "sparse_softmax_cross_entropy",
            "logits (..., classes) and labels (...) were expected",
            {"logits": logits, "labels": labels},
        )
    return Spec(labels.shape, logits.dtype), logits


def _hit(labels: Array, classes: int, dtype: Any) -> Array:
    """The labels as rows of zeros with one 1."""
    return np.asarray(labels.astype(np.int64)[..., None] == np.arange(classes), dtype)


def _sparse_reference(logits: Array, labels: Array) -> tuple[Array, Array]:
    at = labels.astype(np.int64)[..., None]
    valid = (at >= 0) & (at < logits.shape[-1])
    picked = np.take_along_axis(
        log_softmax_reference(logits, axis=-1), np.where(valid, at, 0), axis=-1
    )
    loss = -np.where(valid, picked, np.asarray(np.nan, logits.dtype))[..., 0]
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
    if dloss.shape != labels.shape or labels.shape != probabilities.shape[:-1]:
        raise shape_error(
            "sparse_softmax_cross_entropy_grad",
            "dloss and labels (...) and probabilities (..., classes) were expected",
            {"dloss": dloss, "probabilities": probabilities, "labels": labels},
        )
    return probabilities


def _sparse_grad_reference(dloss: Array, probabilities: Array, labels: Array) -> Array:
    classes = probabilities.shape[-1]
    at = labels.astype(np.int64)
    weight = np.where((at >= 0) & (at < classes), dloss, np.asarray(np.nan, dloss.dtype))
    hit = _hit(labels, classes, probabilities.dtype)
    return np.asarray(weight[..., None] * (probabilities - hit))


def _dirichlet(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
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
    from handmill.ops import ones_like

    (dloss, p, labels), (d,) = inputs, dys
    slope = apply(SPARSE_SOFTMAX_CROSS_ENTROPY_GRAD, ones_like(dloss), p, labels)
    return reduce_sum(d * slope, axis=-1), d * expand_dims(dloss, -1), None


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
    if not logits.is_float or logits.rank == 0 or targets != logits:
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
    return dx, negative(expand_dims(dloss, -1) * log_softmax(inputs[0]))


def _dense_samples() -> Iterable[Sample]:
    for shape in ((1, 1), (15, 10), (127, 33), (4, 7, 300), (0, 10)):

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
    if targets != probabilities or dloss.shape != targets.shape[:-1]:
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
    from handmill.ops import ones_like

    (dloss, p, t), (d,) = inputs, dys
    slope = apply(SOFTMAX_CROSS_ENTROPY_GRAD, ones_like(dloss), p, t)
    through = d * expand_dims(dloss, -1)
    dp = through * reduce_sum(t, axis=-1, keepdims=True)
    dt = reduce_sum(through * p, axis=-1, keepdims=True) - through
    return reduce_sum(d * slope, axis=-1), dp, dt


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


def _check_reference(labels: Array, *, num_classes: int) -> Array:
    flat = labels.ravel()
    wrong = (flat < 0) | (flat >= num_classes) | (flat != np.floor(flat))
    if np.any(wrong):
        index = int(np.argmax(wrong))
        row = index * len(labels) // flat.size if labels.ndim else 0
        raise RowError(f"label {flat[index]} is not an integer from 0 to {num_classes - 1}", row)
    return labels


CHECK_LABELS = register(
    Op(
        "check_labels",
        infer=lambda labels, *, num_classes: labels,
        reference=_check_reference,
        samples=lambda: [
            Sample("int32", integers((17,)), {"num_classes": 10}, smooth=False),
            Sample("uint8", integers((4, 3), dtype="uint8"), {"num_classes": 10}, smooth=False),
            Sample("float32", integers((9,), dtype="float32"), {"num_classes": 10}, smooth=False),
            Sample("empty", integers((0,)), {"num_classes": 1}, smooth=False),
        ],
        bound=Exact(),
        kernel="check_labels",
        native=lambda specs, attrs: specs[0].dtype in INDEX_DTYPES,
        guard=True,
        grad_none=(0,),
    )
)

# --- public functions ----------------------------------------------------------------------------


def check_labels(labels: Tensor, num_classes: int) -> Any:
    """Returns the labels, after it has refused those that are not classes.

    Raises:
        ValueError: if a label is not an integer from 0 to ``num_classes - 1``. In a training
            step nothing is written before.

    Example:
        >>> from handmill.primitives import loss
        >>> loss.check_labels([0, 2], num_classes=3)
        array([0, 2], dtype=int32)
    """
    return apply(CHECK_LABELS, tensor(labels), num_classes=int(num_classes))


def _made_by(x: Any, op: Op) -> Any:
    """The operand of ``op`` if ``x`` is its result, else None."""
    if isinstance(x, Value) and x.node is not None and x.node.op is op:
        return x.node.inputs[0]
    return None


def _last(x: Any, axis: int) -> Any:
    """Moves an axis to the end."""
    rank = len(shape_of(x))
    axis = normal_axis("crossentropy", axis, rank)
    return transpose(x, (*(a for a in range(rank) if a != axis), axis))


def binary_crossentropy(target: Tensor, output: Tensor, from_logits: bool = False) -> Any:
    """Returns ``-(t log p + (1 - t) log(1 - p))``, element by element.

    Args:
        target: 0, 1, or a probability.
        output: the probabilities p, or with ``from_logits`` what sigmoid makes them of. The
            result of a sigmoid counts as logits: its operand is used.
        from_logits: whether ``output`` holds logits.

    Example:
        >>> from handmill import ops
        >>> ops.binary_crossentropy([1.0, 0.0], [0.5, 0.5]).round(4)
        array([0.6931, 0.6931], dtype=float32)
    """
    from handmill.ops.nn import softplus

    logits = output if from_logits else _made_by(output, SIGMOID)
    if logits is not None:
        # log sigmoid(x) = -softplus(-x), log(1 - sigmoid(x)) = -softplus(x): nothing cancels.
        t, x = promote_float(target, logits)
        _same_shape("binary_crossentropy", t, x)
        return add(multiply(t, softplus(negative(x))), multiply(subtract(1.0, t), softplus(x)))
    t, p = promote_float(target, output)
    _same_shape("binary_crossentropy", t, p)
    p = _inside(p)
    logs = add(multiply(t, log(p)), multiply(subtract(1.0, t), log(subtract(1.0, p))))
    return negative(logs)


def categorical_crossentropy(
    target: Tensor, output: Tensor, from_logits: bool = False, axis: int = -1
) -> Any:
    """Returns ``-sum(t log p)`` along an axis of classes.

    Args:
        target: probabilities of the classes, of the shape of ``output``.
        output: the probabilities p, or with ``from_logits`` what softmax makes them of. The
            result of a softmax counts as logits: its operand is used.
        from_logits: whether ``output`` holds logits.
        axis: the axis of the classes.

    Example:
        >>> from handmill import ops
        >>> ops.categorical_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).round(4)
        array([0.6931], dtype=float32)
    """
    target, output = promote_float(target, output)
    _same_shape("categorical_crossentropy", target, output)
    t, p = _last(target, axis), _last(output, axis)
    logits = p if from_logits else _made_by(p, SOFTMAX)
    if logits is not None:
        return apply(SOFTMAX_CROSS_ENTROPY, logits, t)[0]
    p = divide(p, reduce_sum(p, axis=-1, keepdims=True))
    return negative(reduce_sum(multiply(t, log(_inside(p))), axis=-1))


def sparse_categorical_crossentropy(
    target: Tensor, output: Tensor, from_logits: bool = False, axis: int = -1
) -> Any:
    """Returns ``-log p[label]`` along an axis of classes.

    Args:
        target: the labels, integers of the shape of ``output`` without ``axis``, or with
            size 1 there.
        output: the probabilities p, or with ``from_logits`` what softmax makes them of. The
            result of a softmax counts as logits: its operand is used.
        from_logits: whether ``output`` holds logits.
        axis: the axis of the classes.

    Raises:
        ValueError: if a label is not a class.

    Example:
        >>> from handmill import ops
        >>> ops.sparse_categorical_crossentropy([1], [[0.25, 0.75]]).round(4)
        array([0.2877], dtype=float32)
    """
    labels = tensor(target)
    (output,) = promote_float(output)
    p = _last(output, axis)
    if len(shape_of(labels)) == len(shape_of(output)) and shape_of(labels)[axis] == 1:
        labels = reshape(_last(labels, axis), shape_of(p)[:-1])
    if dtype_of(labels) not in INDEX_DTYPES:
        labels = cast(labels, "int32")
    classes = shape_of(p)[-1]
    if isinstance(classes, Batch):
        raise shape_error("sparse_categorical_crossentropy", "the classes are the batch", {"p": p})
    labels = check_labels(labels, classes)
    logits = p if from_logits else _made_by(p, SOFTMAX)
    if logits is None:
        logits = log(_inside(p))
    return apply(SPARSE_SOFTMAX_CROSS_ENTROPY, logits, labels)[0]


def _inside(p: Any) -> Any:
    """Keeps probabilities away from 0 and 1, as Keras does."""
    return clip(p, config.epsilon(), 1 - config.epsilon())


def _same_shape(op: str, target: Any, output: Any) -> None:
    shapes: dict[str, Shape] = {"target": shape_of(target), "output": shape_of(output)}
    if shapes["target"] != shapes["output"]:
        hint = "" if op == "binary_crossentropy" else "for integer labels use the sparse function"
        raise shape_error(op, "target and output must have one shape", shapes, hint)
