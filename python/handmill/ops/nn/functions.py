"""Activation functions by the names of ``keras.ops``."""

from __future__ import annotations

import math
from typing import Any

from handmill import config
from handmill.errors import shape_error, warn_caller
from handmill.ir.dims import Shape, SymbolicDim, same_shape
from handmill.ir.graph import Value
from handmill.ir.op import Op
from handmill.ir.shapes import FLOATS
from handmill.ir.trace import apply
from handmill.ops.core import cast
from handmill.ops.numpy.arrange import moveaxis, split
from handmill.ops.numpy.elementwise import (
    absolute,
    add,
    clip,
    divide,
    log,
    log10,
    maximum,
    multiply,
    negative,
    sqrt,
    square,
    subtract,
    tanh,
)
from handmill.ops.numpy.logic import equal, greater, where
from handmill.ops.numpy.movement import expand_dims, reshape, transpose
from handmill.ops.numpy.reductions import max as reduce_max
from handmill.ops.numpy.reductions import mean
from handmill.ops.numpy.reductions import sum as reduce_sum
from handmill.primitives.elementwise import activations, unary
from handmill.primitives.gather import ONE_HOT
from handmill.primitives.loss import (
    SOFTMAX_CROSS_ENTROPY,
    SPARSE_SOFTMAX_CROSS_ENTROPY,
    check_labels,
)
from handmill.primitives.operands import (
    Tensor,
    check_dtype,
    dtype_of,
    normal_axes,
    normal_axis,
    promote_float,
    promote_number,
    rounded,
    shape_of,
    tensor,
)
from handmill.primitives.sizes import steps_to
from handmill.primitives.softmax import LOG_SOFTMAX, SOFTMAX
from handmill.runtime.planned import planned


@planned
def relu(x: Tensor) -> Any:
    """Returns ``max(x, 0)``.

    Example:
        >>> from handmill import ops
        >>> ops.relu([-1.0, 0.0, 2.0])
        array([0., 0., 2.], dtype=float32)
    """
    x = promote_number(x)
    return apply(activations.RELU, x) if dtype_of(x) in FLOATS else maximum(x, 0)


@planned
def relu6(x: Tensor) -> Any:
    """Returns ``min(max(x, 0), 6)``.

    Example:
        >>> from handmill import ops
        >>> ops.relu6([-1.0, 2.0, 8.0])
        array([0., 2., 6.], dtype=float32)
    """
    return apply(activations.RELU6, *promote_float(x))


@planned
def leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Any:
    """Returns ``x`` if it is positive, ``negative_slope * x`` otherwise.

    Example:
        >>> from handmill import ops
        >>> ops.leaky_relu([-1.0, 2.0], negative_slope=0.5)
        array([-0.5,  2. ], dtype=float32)
    """
    (x,) = promote_float(x)
    return apply(activations.LEAKY_RELU, x, negative_slope=rounded(negative_slope, x))


@planned
def elu(x: Tensor, alpha: float = 1.0) -> Any:
    """Returns ``x`` if it is positive, ``alpha * (exp(x) - 1)`` otherwise.

    Example:
        >>> from handmill import ops
        >>> ops.elu([-100.0, 2.0])
        array([-1.,  2.], dtype=float32)
    """
    (x,) = promote_float(x)
    return apply(activations.ELU, x, alpha=rounded(alpha, x))


@planned
def selu(x: Tensor) -> Any:
    """Returns the scaled exponential linear unit, ``1.0507 * elu(x, 1.6733)``.

    Example:
        >>> from handmill import ops
        >>> ops.selu([0.0, 1.0]).round(4)
        array([0.    , 1.0507], dtype=float32)
    """
    return apply(activations.SELU, *promote_float(x))


def celu(x: Tensor, alpha: float = 1.0) -> Any:
    """Returns ``x`` if it is positive, ``alpha * (exp(x / alpha) - 1)`` otherwise.

    Example:
        >>> from handmill import ops
        >>> ops.celu([-100.0, 2.0], alpha=2.0)
        array([-2.,  2.], dtype=float32)
    """
    if alpha == 0:
        raise ValueError("celu: `alpha` must not be 0, got alpha=0; use relu for the limit")
    return multiply(elu(multiply(x, 1 / alpha)), alpha)


@planned
def softplus(x: Tensor) -> Any:
    """Returns ``log(1 + exp(x))`` without overflow.

    Example:
        >>> from handmill import ops
        >>> ops.softplus([-200.0, 100.0])
        array([  0., 100.], dtype=float32)
    """
    return apply(activations.SOFTPLUS, *promote_float(x))


@planned
def softsign(x: Tensor) -> Any:
    """Returns ``x / (1 + |x|)``.

    Example:
        >>> from handmill import ops
        >>> ops.softsign([1.0, -3.0])
        array([ 0.5 , -0.75], dtype=float32)
    """
    return apply(activations.SOFTSIGN, *promote_float(x))


@planned
def silu(x: Tensor) -> Any:
    """Returns ``x * sigmoid(x)``, also called swish.

    Example:
        >>> from handmill import ops
        >>> ops.silu([0.0, 100.0])
        array([  0., 100.], dtype=float32)
    """
    return apply(activations.SILU, *promote_float(x))


swish = silu


def gelu(x: Tensor, approximate: bool = True) -> Any:
    """Returns ``x`` times the probability that a standard normal number is below ``x``.

    Args:
        x: the input.
        approximate: whether to compute the probability with tanh instead of erf.

    Example:
        >>> from handmill import ops
        >>> ops.gelu([0.0, 100.0])
        array([  0., 100.], dtype=float32)

    References:
        - [Hendrycks et al., 2016](https://arxiv.org/abs/1606.08415)
    """
    return apply(activations.GELU_TANH if approximate else activations.GELU, *promote_float(x))


def log_sigmoid(x: Tensor) -> Any:
    """Returns ``log(sigmoid(x))`` without underflow.

    Example:
        >>> from handmill import ops
        >>> ops.log_sigmoid([-100.0, 0.0]).round(4)
        array([-100.    ,   -0.6931], dtype=float32)
    """
    return negative(softplus(negative(x)))


@planned
def hard_sigmoid(x: Tensor) -> Any:
    """Returns ``relu6(x + 3) / 6``.

    Example:
        >>> from handmill import ops
        >>> ops.hard_sigmoid([-5.0, 0.0, 5.0])
        array([0. , 0.5, 1. ], dtype=float32)
    """
    return apply(activations.HARD_SIGMOID, *promote_float(x))


@planned
def hard_silu(x: Tensor) -> Any:
    """Returns ``x * relu6(x + 3) / 6``, also called hard swish.

    Example:
        >>> from handmill import ops
        >>> ops.hard_silu([-5.0, 0.0, 5.0]) + 0
        array([0., 0., 5.], dtype=float32)
    """
    return apply(activations.HARD_SILU, *promote_float(x))


hard_swish = hard_silu


def hard_tanh(x: Tensor) -> Any:
    """Returns ``x`` limited to the interval from -1 to 1.

    Example:
        >>> from handmill import ops
        >>> ops.hard_tanh([-5.0, 0.5])
        array([-1. ,  0.5], dtype=float32)
    """
    return clip(promote_float(x)[0], -1, 1)


def hard_shrink(x: Tensor, threshold: float = 0.5) -> Any:
    """Returns ``x`` where ``|x| > threshold``, else 0.

    Example:
        >>> from handmill import ops
        >>> ops.hard_shrink([-0.5, 1.0])
        array([0., 1.], dtype=float32)
    """
    (x,) = promote_float(x)
    return where(greater(absolute(x), threshold), x, 0.0)


def soft_shrink(x: Tensor, threshold: float = 0.5) -> Any:
    """Moves ``x`` towards 0 by ``threshold``, not past it.

    Example:
        >>> from handmill import ops
        >>> ops.soft_shrink([-0.25, 1.0])
        array([0. , 0.5], dtype=float32)
    """
    (x,) = promote_float(x)
    return subtract(x, clip(x, -threshold, threshold))


def tanh_shrink(x: Tensor) -> Any:
    """Returns ``x - tanh(x)``.

    Example:
        >>> from handmill import ops
        >>> ops.tanh_shrink([0.0, 100.0])
        array([ 0., 99.], dtype=float32)
    """
    (x,) = promote_float(x)
    return subtract(x, tanh(x))


def threshold(x: Tensor, threshold: float, default_value: float) -> Any:
    """Returns ``x`` where it exceeds ``threshold``, else ``default_value``.

    Example:
        >>> from handmill import ops
        >>> ops.threshold([0.5, 2.0], 1.0, 9.0)
        array([9., 2.], dtype=float32)
    """
    (x,) = promote_float(x)
    return where(greater(x, threshold), x, default_value)


def squareplus(x: Tensor, b: float = 4) -> Any:
    """Returns ``(x + sqrt(x^2 + b)) / 2``.

    Example:
        >>> from handmill import ops
        >>> ops.squareplus([0.0, 1.5])
        array([1., 2.], dtype=float32)
    """
    (x,) = promote_float(x)
    return multiply(add(x, sqrt(add(square(x), b))), 0.5)


@planned
def mish(x: Tensor) -> Any:
    """Returns ``x * tanh(softplus(x))``.

    Example:
        >>> from handmill import ops
        >>> ops.mish([0.0, 100.0])
        array([  0., 100.], dtype=float32)
    """
    return apply(activations.MISH, *promote_float(x))


def glu(x: Tensor, axis: int = -1) -> Any:
    """Splits ``x`` into halves ``a`` and ``b`` along an axis and returns ``a * sigmoid(b)``.

    Example:
        >>> from handmill import ops
        >>> ops.glu([4.0, 0.0])
        array([2.], dtype=float32)
    """
    (x,) = promote_float(x)
    a, b = split(x, 2, axis=axis)
    return multiply(a, sigmoid(b))


@planned
def sigmoid(x: Tensor) -> Any:
    """Returns ``1 / (1 + exp(-x))``.

    Example:
        >>> from handmill import ops
        >>> ops.sigmoid([0.0, 100.0])
        array([0.5, 1. ], dtype=float32)
    """
    return apply(unary.SIGMOID, *promote_float(x))


def _along(op: Op, x: Tensor, axis: Any) -> Any:
    """Applies ``op`` along any axes: those that are not last are moved there and back."""
    (x,) = promote_float(x)
    shape = shape_of(x)
    rank = len(shape)
    axes = normal_axes(op.name, axis, rank)
    order = (*(a for a in range(rank) if a not in axes), *axes)
    moved = transpose(x, order)
    kept = tuple(shape[a] for a in order[: rank - len(axes)])
    y = moved if len(axes) == 1 else reshape(moved, (*kept, -1))
    y = apply(op, y, axis=len(kept))
    y = reshape(y, tuple(shape[a] for a in order))
    return transpose(y, tuple(order.index(a) for a in range(rank)))


@planned
def softmax(x: Tensor, axis: Any = -1) -> Any:
    """Returns ``exp(x) / sum(exp(x))``: positive numbers that add up to 1 along the axis.

    Args:
        x: the input.
        axis: the axis, or a tuple of axes. None: all. Along one of size 1 there is a warning.

    Example:
        >>> from handmill import ops
        >>> ops.softmax([[1.0, 1.0], [0.0, 1000.0]])
        array([[0.5, 0.5],
               [0. , 1. ]], dtype=float32)
    """
    shape = shape_of(x)
    if isinstance(axis, int) and -len(shape) <= axis < len(shape) and shape[axis] == 1:
        warn_caller(
            f"softmax over axis {axis} of a tensor of shape {shape}: the axis has size 1, so every "
            "result is 1, whatever the input. Did you mean sigmoid?",
            UserWarning,
        )
    return _along(SOFTMAX, x, axis)


@planned
def log_softmax(x: Tensor, axis: Any = -1) -> Any:
    """Returns the logarithm of softmax without underflow.

    Args:
        x: the input.
        axis: the axis, or a tuple of axes. None: all.

    Example:
        >>> from handmill import ops
        >>> ops.log_softmax([[0.0, 100.0]])
        array([[-100.,    0.]], dtype=float32)
    """
    return _along(LOG_SOFTMAX, x, axis)


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
    rank = len(shape_of(x)) + 1
    if isinstance(num_classes, SymbolicDim):
        y = cast(equal(expand_dims(x, -1), steps_to(num_classes)), "float32")
    else:
        y = apply(ONE_HOT, x, depth=int(num_classes))
    axis = normal_axis("one_hot", axis, rank)
    if axis != rank - 1:
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
    if num_classes is None:
        raise ValueError("`num_classes` must be given")
    y = one_hot(inputs, num_classes, sparse=sparse)
    y = reduce_max(y, axis=min(1, len(shape_of(y)) - 2))
    if axis not in (-1, len(shape_of(y)) - 1):
        y = moveaxis(y, -1, axis)
    return y if dtype is None else cast(y, check_dtype(dtype))


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
    logits = output if from_logits else _made_by(output, unary.SIGMOID)
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
    classes = shape_of(p)[-1]
    if isinstance(classes, SymbolicDim):
        raise shape_error("sparse_categorical_crossentropy", "the classes are the batch", {"p": p})
    labels = check_labels(labels, classes)
    logits = p if from_logits else _made_by(p, SOFTMAX)
    if logits is None:
        logits = log(_inside(divide(p, reduce_sum(p, axis=-1, keepdims=True))))
    return apply(SPARSE_SOFTMAX_CROSS_ENTROPY, logits, labels)[0]


def _inside(p: Any) -> Any:
    """Keeps probabilities away from 0 and 1, as Keras does."""
    return clip(p, config.epsilon(), 1 - config.epsilon())


def _same_shape(op: str, target: Any, output: Any) -> None:
    shapes: dict[str, Shape] = {"target": shape_of(target), "output": shape_of(output)}
    if shapes["target"] != shapes["output"]:
        hint = (
            "each unit needs a target of its own: Dense(1, activation='sigmoid') for one yes-or-no "
            "label a sample; class numbers go with a softmax and 'sparse_categorical_crossentropy'"
            if op == "binary_crossentropy"
            else "for integer labels use the sparse function, 'sparse_categorical_crossentropy', "
            "or make them one-hot rows with utils.to_categorical"
        )
        raise shape_error(op, "target and output must have the same shape", shapes, hint)


def psnr(x1: Tensor, x2: Tensor, max_val: float) -> Any:
    """Returns the peak signal-to-noise ratio of two tensors, in decibels.

    Args:
        x1: the first tensor.
        x2: the second tensor, of the same shape.
        max_val: the largest value that a signal can have.

    Example:
        >>> from handmill import ops
        >>> float(ops.psnr([0.0, 0.0], [0.1, 0.1], 1.0).round(3))
        20.0
    """
    x1, x2 = promote_float(x1, x2)
    if not same_shape(shape_of(x1), shape_of(x2)):
        raise shape_error(
            "psnr", "Input shapes must match", {"x1": shape_of(x1), "x2": shape_of(x2)}
        )
    error = mean(square(subtract(x1, x2)))
    peak = (
        20 * math.log10(max_val)
        if isinstance(max_val, int | float)
        else multiply(log10(max_val), 20.0)
    )
    return subtract(peak, multiply(log10(error), 10.0))
