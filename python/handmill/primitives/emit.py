"""Operators by short calls on values: what gradients and composites are written with.

Each call finds its record in the registry when it runs, so that no family imports another one for
the sake of a derivative. Users call the functions of :mod:`handmill.ops`, which convert and check.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from handmill.ir.dims import Dim, Shape
from handmill.ir.op import REGISTRY
from handmill.ir.trace import apply
from handmill.primitives.operands import promote, shape_of


def _elementwise(name: str) -> Callable[..., Any]:
    def call(*operands: Any) -> Any:
        return apply(REGISTRY[name], *promote(*operands))

    return call


add = _elementwise("add")
multiply = _elementwise("multiply")
divide = _elementwise("divide")
power = _elementwise("power")
negative = _elementwise("negative")
absolute = _elementwise("absolute")
square = _elementwise("square")
exp = _elementwise("exp")
log = _elementwise("log")
tanh = _elementwise("tanh")
sin = _elementwise("sin")
cos = _elementwise("cos")
sign = _elementwise("sign")
equal = _elementwise("equal")
less = _elementwise("less")
greater = _elementwise("greater")
greater_equal = _elementwise("greater_equal")
less_equal = _elementwise("less_equal")


def where(condition: Any, x: Any, y: Any) -> Any:
    """Takes ``x`` where the condition holds and ``y`` elsewhere."""
    return apply(REGISTRY["where"], condition, *promote(x, y))


def reshape(x: Any, shape: Shape) -> Any:
    """Gives the same elements another shape; one dimension may be -1."""
    return x if shape == shape_of(x) else apply(REGISTRY["reshape"], x, shape=shape)


def transpose(x: Any, perm: tuple[int, ...]) -> Any:
    """Axis ``a`` of the result is axis ``perm[a]`` of ``x``."""
    return x if perm == tuple(range(len(perm))) else apply(REGISTRY["transpose"], x, perm=perm)


def broadcast_to(x: Any, shape: Shape) -> Any:
    """Repeats along axes of size 1 and new leading axes."""
    return x if shape == shape_of(x) else apply(REGISTRY["broadcast_to"], x, shape=shape)


def reduce(kind: str, x: Any, axis: tuple[int, ...], keepdims: bool = False) -> Any:
    """Applies ``reduce_sum``, ``reduce_prod`` and so on along non-negative axes."""
    return apply(REGISTRY[f"reduce_{kind}"], x, axis=axis, keepdims=keepdims)


def slice_axis(x: Any, axis: int, start: Dim, stop: Dim) -> Any:
    """Returns ``x[..., start:stop, ...]`` along one axis."""
    rank = len(shape_of(x))
    return apply(
        REGISTRY["slice"],
        x,
        start=tuple(start if a == axis else 0 for a in range(rank)),
        stop=tuple(stop if a == axis else d for a, d in enumerate(shape_of(x))),
        step=(1,) * rank,
    )


def pad_axis(x: Any, axis: int, before: int, after: int) -> Any:
    """Puts zeros at both ends of an axis."""
    pairs = [(before, after) if a == axis else (0, 0) for a in range(len(shape_of(x)))]
    paddings = tuple(n for pair in pairs for n in pair)
    return apply(REGISTRY["pad"], x, paddings=paddings, value=0.0)


def unbroadcast(dy: Any, shape: Shape) -> Any:
    """Sums ``dy`` over the axes along which an operand of ``shape`` was broadcast."""
    if dy.shape == shape:
        return dy
    added = len(dy.shape) - len(shape)
    axes = tuple(
        axis
        for axis, dim in enumerate(dy.shape)
        if axis < added or (shape[axis - added] == 1 and dim != 1)
    )
    return reshape(reduce("sum", dy, axes) if axes else dy, shape)


def matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    """Multiplies matrices, or stacks of as many matrices."""
    return apply(REGISTRY["matmul"], a, b, transpose_a=transpose_a, transpose_b=transpose_b)


def swap_last(x: Any) -> Any:
    """Transposes matrices."""
    rank = len(shape_of(x))
    return transpose(x, (*range(rank - 2), rank - 1, rank - 2))
