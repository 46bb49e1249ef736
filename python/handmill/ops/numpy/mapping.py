"""Functions over elements, and what looks at an array in another way."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from handmill import tree
from handmill.ir.dims import Dim, Shape
from handmill.ir.graph import Value
from handmill.ir.shapes import broadcast_shapes, numpy_dtype, size_of
from handmill.ir.trace import apply
from handmill.ops.core import vectorized_map
from handmill.ops.numpy.movement import broadcast_to, reshape
from handmill.primitives.cast import BITCAST
from handmill.primitives.operands import Tensor, check_dtype, is_symbolic, shape_of, tensor


def get_item(x: Tensor, key: Any) -> Any:
    """Returns ``x[key]``.

    Args:
        x: the input.
        key: integers, slices, None, Ellipsis or an array of row numbers.

    Example:
        >>> from handmill import ops
        >>> ops.get_item([[1, 2], [3, 4]], (slice(None), 1))
        array([2, 4], dtype=int32)
    """
    x = tensor(x)
    return Value.operators["getitem"](x, key) if is_symbolic(x) else x[key]


def view(x: Tensor, dtype: Any = None) -> Any:
    """Returns the bytes of ``x`` read as another dtype.

    Args:
        x: the input. Where the new dtype is of another size, the last axis grows or shrinks.
        dtype: the new dtype. Default: that of ``x``.

    Example:
        >>> from handmill import ops
        >>> ops.view([1.0], "int32")
        array([1065353216], dtype=int32)
    """
    x = tensor(x)
    if dtype is None:
        return x
    name = check_dtype(dtype)
    if is_symbolic(x):
        return apply(BITCAST, x, dtype=name)
    return np.ascontiguousarray(x).view(numpy_dtype(name)).copy()


def vectorize(
    pyfunc: Callable[..., Any], *, excluded: Any = None, signature: str | None = None
) -> Callable[..., Any]:
    """Returns a function over arrays, made of one over their elements.

    Args:
        pyfunc: takes elements, or what ``signature`` says, and returns one tensor or several.
        excluded: positions and names of arguments that are handed on as they are.
        signature: the core shapes of operands and results, such as ``"(n),(n)->()"``; other axes
            are broadcast. Default: all are elements.

    Example:
        >>> from handmill import ops
        >>> larger = ops.vectorize(lambda a, b: ops.maximum(a, b))
        >>> larger([1, 5], 3)
        array([3, 5], dtype=int32)
    """
    fixed = set(excluded or ())
    names = None if signature is None else _names_of(signature)

    @functools.wraps(pyfunc)
    def call(*args: Any, **kwargs: Any) -> Any:
        mapped = [i for i in range(len(args)) if i not in fixed]
        others = [k for k in kwargs if k not in fixed]
        if others and names is not None:
            raise TypeError(f"vectorize: arguments by name must be excluded, got {others}")
        operands = [tensor(args[i]) for i in mapped] + [tensor(kwargs[k]) for k in others]
        if names is not None and len(names) != len(operands):
            raise ValueError(
                f"vectorize: signature={signature!r} names {len(names)} operands, "
                f"got {len(operands)}"
            )

        def apply_to(rows: Any) -> Any:
            at = dict(zip(mapped, rows, strict=False))
            named = dict(zip(others, rows[len(mapped) :], strict=True))
            positional = [at.get(i, a) for i, a in enumerate(args)]
            return pyfunc(*positional, **{**kwargs, **named})

        return _mapped(apply_to, operands, [len(n) for n in names] if names else None)

    return call


def _mapped(function: Callable[[Any], Any], operands: list[Any], ranks: list[int] | None) -> Any:
    ranks = [0] * len(operands) if ranks is None else ranks
    loops: list[Shape] = []
    cores: list[Shape] = []
    for x, rank in zip(operands, ranks, strict=True):
        shape = shape_of(x)
        if len(shape) < rank:
            raise ValueError(f"vectorize: {rank} dimensions were expected, got shape {shape}")
        loops.append(shape[: len(shape) - rank])
        cores.append(shape[len(shape) - rank :])
    loop = broadcast_shapes(*loops)
    if not loop:
        return function(operands)
    count: Dim = size_of(loop)
    rows = [
        reshape(broadcast_to(x, (*loop, *core)), (count, *core))
        for x, core in zip(operands, cores, strict=True)
    ]
    found = vectorized_map(function, rows)
    return tree.map_structure(lambda y: reshape(y, (*loop, *shape_of(y)[1:])), found)


def _names_of(signature: str) -> list[list[str]]:
    """The names of the core axes of each operand."""
    core = r"\((?:\w+(?:,\w+)*)?\)"
    text = signature.replace(" ", "")
    if re.fullmatch(f"{core}(?:,{core})*->{core}(?:,{core})*", text) is None:
        raise ValueError(
            f"vectorize: `signature` must look like '(n),(n)->()', got signature={signature!r}"
        )
    operands = re.findall(core, text.partition("->")[0])
    return [[n for n in found.strip("()").split(",") if n] for found in operands]
