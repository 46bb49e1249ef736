"""Sums, extremes and averages along axes."""

from __future__ import annotations

from typing import Any

from handmill.ir.graph import Value
from handmill.ir.op import Op
from handmill.ir.trace import apply
from handmill.ops.core import cast
from handmill.ops.numpy.elementwise import (
    divide,
    maximum,
    minimum,
    multiply,
    sqrt,
    square,
    subtract,
)
from handmill.ops.numpy.movement import broadcast_to, reshape
from handmill.primitives.elementwise.arithmetic import MULTIPLY
from handmill.primitives.elementwise.unary import SQUARE
from handmill.primitives.operands import (
    Axis,
    Tensor,
    as_bool,
    dtype_of,
    is_bool,
    normal_axes,
    normal_axis,
    promote,
    promote_float,
    shape_of,
    tensor,
)
from handmill.primitives.reduce import (
    ARGMAX,
    ARGMIN,
    REDUCE_MAX,
    REDUCE_MEAN,
    REDUCE_MIN,
    REDUCE_PROD,
    REDUCE_SUM,
    SUM_OF_SQUARES,
    reduced_shape,
)


def _reduce(op: Op, x: Tensor, axis: Axis, keepdims: bool) -> Any:
    x = tensor(x)
    axes = normal_axes(op.name, axis, len(shape_of(x)))
    return apply(op, x, axis=axes, keepdims=bool(keepdims))


def _is_empty(x: Tensor, axis: Axis) -> bool:
    """Whether there is nothing along the axes, whatever the batch size."""
    shape = shape_of(tensor(x))
    return 0 in [shape[a] for a in normal_axes("reduce", axis, len(shape))]


def _filled(x: Tensor, value: Any, axis: Axis, keepdims: bool) -> Any:
    x = tensor(x)
    axes = normal_axes("reduce", axis, len(shape_of(x)))
    (x, value) = promote(x, value)
    return broadcast_to(value, reduced_shape(shape_of(x), axes, keepdims))


def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Adds up along axes.

    Args:
        x: the input; bool and small integers count as int32.
        axis: an axis or several. Default: all.
        keepdims: whether reduced axes stay, with size 1.

    Example:
        >>> from handmill import ops
        >>> ops.sum([[1.0, 2.0], [3.0, 4.0]], axis=0)
        array([4., 6.], dtype=float32)
    """
    x = tensor(x)
    x = cast(x, "int32") if dtype_of(x) in ("bool", "int8", "uint8") else x
    if axis is None and not keepdims and (weight := _squared_weight(x)) is not None:
        return apply(SUM_OF_SQUARES, weight)
    return _reduce(REDUCE_SUM, x, axis, keepdims)


def _squared_weight(x: Tensor) -> Value | None:
    """What a trace reads, a weight mostly, if ``x`` is its square.

    A penalty of a user's own is then what ``regularizers.L2`` computes: one pass over the weights,
    and a gradient that the update of the weights takes in.
    """
    node = x.node if isinstance(x, Value) else None
    if node is None or x.dtype != "float32" or node.op not in (SQUARE, MULTIPLY):
        return None
    first, last = node.inputs[0], node.inputs[-1]
    return first if first is last and first.node is None else None


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
    if initial is None:
        return _reduce(REDUCE_MAX, x, axis, keepdims)
    initial = as_bool(initial) if is_bool(x) else initial
    if _is_empty(x, axis):
        return _filled(x, initial, axis, keepdims)
    return maximum(_reduce(REDUCE_MAX, x, axis, keepdims), initial)


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
    if initial is None:
        return _reduce(REDUCE_MIN, x, axis, keepdims)
    initial = as_bool(initial) if is_bool(x) else initial
    if _is_empty(x, axis):
        return _filled(x, initial, axis, keepdims)
    return minimum(_reduce(REDUCE_MIN, x, axis, keepdims), initial)


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

    Args:
        x: the input; bool and small integers count as int32.
        axis: an axis or several. Default: all.
        keepdims: whether reduced axes stay, with size 1.
        dtype: the dtype to multiply in.

    Example:
        >>> from handmill import ops
        >>> float(ops.prod([2.0, 3.0, 4.0]))
        24.0
    """
    x = tensor(x) if dtype is None else cast(x, dtype)
    if dtype is None and dtype_of(x) in ("bool", "int8", "uint8"):
        x = cast(x, "int32")
    return _reduce(REDUCE_PROD, x, axis, keepdims)


def all(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns whether every element along axes is true.

    Example:
        >>> from handmill import ops
        >>> ops.all([[True, False], [True, True]], axis=1)
        array([False,  True])
    """
    x = as_bool(x)
    if _is_empty(x, axis):
        return _filled(x, True, axis, keepdims)
    return _reduce(REDUCE_MIN, x, axis, keepdims)


def any(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns whether an element along axes is true.

    Example:
        >>> from handmill import ops
        >>> ops.any([[True, False], [False, False]], axis=1)
        array([ True, False])
    """
    x = as_bool(x)
    if _is_empty(x, axis):
        return _filled(x, False, axis, keepdims)
    return _reduce(REDUCE_MAX, x, axis, keepdims)


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
    x = tensor(x)
    shape = shape_of(x)
    if axis is None:
        y = apply(op, reshape(x, (-1,)), axis=0)
        return reshape(y, (1,) * len(shape)) if keepdims else y
    axis = normal_axis(op.name, axis, len(shape))
    y = apply(op, x, axis=axis)
    return reshape(y, reduced_shape(shape, (axis,), True)) if keepdims else y


def var(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the variance along axes, divided by the number of elements.

    Example:
        >>> from handmill import ops
        >>> float(ops.var([1.0, 3.0]))
        1.0
    """
    (x,) = promote_float(x)
    return mean(square(subtract(x, mean(x, axis, keepdims=True))), axis, keepdims)


def std(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the standard deviation along axes.

    Example:
        >>> from handmill import ops
        >>> float(ops.std([1.0, 5.0]))
        2.0
    """
    return sqrt(var(x, axis, keepdims))


def average(x: Tensor, axis: Axis = None, weights: Tensor = None) -> Any:
    """Returns the weighted average along axes.

    Example:
        >>> from handmill import ops
        >>> float(ops.average([1.0, 4.0], weights=[2.0, 1.0]))
        2.0
    """
    if weights is None:
        return mean(x, axis)
    x, weights = promote_float(x, weights)
    if len(shape_of(weights)) == 1 and len(shape_of(x)) > 1 and isinstance(axis, int):
        axis = normal_axis("average", axis, len(shape_of(x)))
        weights = reshape(weights, tuple(-1 if a == axis else 1 for a in range(len(shape_of(x)))))
    total = sum(broadcast_to(weights, shape_of(x)), axis)
    return divide(sum(multiply(x, weights), axis), total)
