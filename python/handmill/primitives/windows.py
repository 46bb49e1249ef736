"""Windows that slide over the spatial axes of (batch, *spatial, channels): sizes and parts.

Convolution and pooling share them. A window has a size for each spatial axis; it begins every
``strides`` elements of the padded input, and its elements lie ``dilation`` apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Dim, Shape, SymbolicDim, at_least
from handmill.ir.op import Array

Pairs: TypeAlias = "tuple[tuple[Dim, Dim], ...]"
"""Elements added before and after each spatial axis."""

MOST_AXES = 3
MOST_PLACES = 2**40
"""Places of one padded image: what a kernel copies of it has to be counted in 64 bits."""


def window_counts(
    op: str,
    sizes: Shape,
    window: Shape,
    strides: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    operands: Mapping[str, object],
) -> Shape:
    """Returns how many windows there are along each spatial axis.

    Args:
        op: the operator's name, for messages.
        sizes: of the spatial axes.
        window: the size of a window.
        strides: from one window to the next.
        padding: see :data:`Pairs`.
        dilation: from one element of a window to the next.
        operands: what messages show.

    Raises:
        ShapeError: if the arguments do not fit, or a window does not.
    """
    count = len(sizes)
    if not 1 <= count <= MOST_AXES:
        problem = f"1 to {MOST_AXES} spatial axes between batch and channels were expected"
        raise shape_error(op, f"{problem}, got {count}", operands)
    arguments: dict[str, Any] = {
        "window": window, "strides": strides, "padding": padding, "dilation": dilation,
    }  # fmt: skip
    for name, value in arguments.items():
        if len(value) != count:
            problem = f"{name} {value} was expected to have an entry for each of {count} axes"
            raise shape_error(op, problem, operands)
    for name in ("window", "strides", "dilation"):
        if any(isinstance(n, SymbolicDim) or n < 1 for n in arguments[name]):
            problem = f"{name} must hold fixed integers of at least 1, got {arguments[name]}"
            raise shape_error(op, problem, operands)
    if any(not isinstance(n, SymbolicDim) and n < 0 for pair in padding for n in pair):
        raise shape_error(op, f"padding must not be negative, got {padding}", operands)
    whole = [size + low + high for size, (low, high) in zip(sizes, padding, strict=True)]
    if math.prod(n for n in whole if not isinstance(n, SymbolicDim)) > MOST_PLACES:
        problem = f"an image padded to {tuple(whole)} places is too large, padding is {padding}"
        raise shape_error(op, problem, operands)
    found = []
    for axis, (size, (low, high)) in enumerate(zip(sizes, padding, strict=True)):
        extent = reach(window[axis], dilation[axis])
        if not at_least(size + low + high, extent):
            problem = (
                f"a window that spans {extent} does not fit into {size} elements along axis "
                f"{axis + 1} (with padding {low} and {high}): the output would be empty"
            )
            raise shape_error(op, problem, operands)
        found.append((size + low + high - extent) // strides[axis] + 1)
    return tuple(found)


def reach(window: Any, dilation: int) -> Any:
    """Returns the distance from the first element of a window to behind its last one."""
    return (window - 1) * dilation + 1


def padded(x: Array, padding: Sequence[Sequence[int]], value: float = 0) -> Array:
    """Returns ``x`` with its spatial axes padded."""
    if not any(n for pair in padding for n in pair):
        return x
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def unpadded(x: Array, padding: Sequence[Sequence[int]]) -> Array:
    """Returns the part of ``x`` that :func:`padded` was given."""
    pairs = zip(padding, x.shape[1:-1], strict=True)
    inside = [slice(None), *(slice(low, n - high) for (low, high), n in pairs)]
    return x[tuple(inside)]


def parts(
    counts: Sequence[int], window: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> Iterator[tuple[slice, ...]]:
    """Yields, for each place in a window in row-major order, the slices of what lies there.

    Args:
        counts: see :func:`window_counts`.
        window: the size of a window.
        strides: from one window to the next.
        dilation: from one element of a window to the next.
    """
    axes = list(zip(counts, strides, dilation, strict=True))
    for place in itertools.product(*map(range, window)):
        first = (i * apart for i, (_, _, apart) in zip(place, axes, strict=True))
        yield (
            slice(None),
            *(
                slice(i, i + (count - 1) * step + 1, step)
                for i, (count, step, _) in zip(first, axes, strict=True)
            ),
        )
