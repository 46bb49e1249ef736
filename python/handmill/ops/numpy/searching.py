"""Choice, places of elements, and what is equal to what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.ir.trace import apply
from handmill.ops.core import cast
from handmill.ops.numpy.arrange import flip
from handmill.ops.numpy.division import floor_divide, mod
from handmill.ops.numpy.elementwise import clip, subtract
from handmill.ops.numpy.logic import less, logical_not, where
from handmill.ops.numpy.sorting import argsort, take
from handmill.primitives.operands import (
    Tensor,
    dtype_of,
    is_symbolic,
    promote,
    promote_number,
    shape_of,
    tensor,
)
from handmill.primitives.places import as_places
from handmill.primitives.search import ISIN, SEARCHSORTED


def select(condlist: Sequence[Tensor], choicelist: Sequence[Tensor], default: Tensor = 0) -> Any:
    """Takes each element from the first choice whose condition holds.

    Args:
        condlist: conditions.
        choicelist: a tensor for each of them.
        default: taken where none holds.

    Example:
        >>> from handmill import ops
        >>> ops.select([[True, False, False], [True, True, False]], [[1, 2, 3], [4, 5, 6]], 9)
        array([1, 5, 9], dtype=int32)
    """
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ValueError(
            "select: a choice for each condition was expected, and one at least; got "
            f"{len(condlist)} conditions and {len(choicelist)} choices"
        )
    *choices, found = promote(*choicelist, default)
    for condition, choice in zip(reversed(condlist), reversed(choices), strict=True):
        found = where(condition, choice, found)
    return found


def searchsorted(sorted_sequence: Tensor, values: Tensor, side: str = "left") -> Any:
    """Returns where values have to stand in a sorted row; int32.

    Args:
        sorted_sequence: a vector that rises.
        values: what to look for.
        side: ``"left"`` for the place before equal elements, ``"right"`` for the one behind them.

    Example:
        >>> from handmill import ops
        >>> ops.searchsorted([1, 3, 5], [0, 3, 9])
        array([0, 1, 3], dtype=int32)
    """
    if side not in ("left", "right"):
        raise ValueError(f"searchsorted: `side` must be left or right, got side={side!r}")
    return apply(SEARCHSORTED, *promote(sorted_sequence, values), right=side == "right")


def digitize(x: Tensor, bins: Tensor) -> Any:
    """Returns the number of the bin of each element; int32.

    Args:
        x: the input.
        bins: the edges, rising (``bins[i - 1] <= x < bins[i]`` is bin i) or falling
            (``bins[i - 1] > x >= bins[i]``).

    Example:
        >>> from handmill import ops
        >>> ops.digitize([0.5, 1.0, 9.0], [1.0, 2.0])
        array([0, 1, 2], dtype=int32)
    """
    x, bins = promote(x, bins)
    rising = searchsorted(bins, x, side="right")
    size = shape_of(bins)[0]
    if isinstance(size, int) and size < 2:
        return rising
    falling = subtract(size, searchsorted(flip(bins), x, side="right"))
    return where(less(take(bins, -1), take(bins, 0)), falling, rising)


def isin(x1: Tensor, x2: Tensor, assume_unique: bool = False, invert: bool = False) -> Any:
    """Returns which elements of ``x1`` are among those of ``x2``.

    Args:
        x1: the elements to look for.
        x2: the elements to look among.
        assume_unique: whether neither holds an element twice; makes no difference here.
        invert: whether to return which are not.

    Example:
        >>> from handmill import ops
        >>> ops.isin([1, 2, 3], [3, 1])
        array([ True, False,  True])
    """
    found = apply(ISIN, *promote(x1, x2))
    return logical_not(found) if invert else found


def argpartition(x: Tensor, kth: int, axis: int | None = -1) -> Any:
    """Returns the indices of a partition: none before ``kth`` is larger, none behind it smaller.

    Args:
        x: the input.
        kth: the position whose element is that of the sorted row.
        axis: the axis. None: the flattened input.

    Example:
        >>> from handmill import ops
        >>> ops.argpartition([5.0, 1.0, 3.0], 1)
        array([1, 2, 0], dtype=int32)
    """
    x = tensor(x)
    size = shape_of(x)[axis] if axis is not None and shape_of(x) else None
    if isinstance(size, int) and not -size <= kth < size:
        raise ValueError(f"argpartition: `kth` {kth} is out of range of {size} elements")
    return argsort(x, axis)  # a sorted row is a partition at each position


def unravel_index(indices: Tensor, shape: Sequence[int]) -> tuple[Any, ...]:
    """Returns the coordinates of positions in the flattened array.

    Negative positions count from the end; those out of range are moved to the nearest end.

    Args:
        indices: positions.
        shape: the shape of the array.

    Example:
        >>> from handmill import ops
        >>> [i.tolist() for i in ops.unravel_index([5, 2], (2, 3))]
        [[1, 0], [2, 2]]
    """
    indices = promote_number(indices)
    dtype = dtype_of(indices)
    rest = cast(indices, "int32") if dtype in ("uint8", "int8") else indices
    total = int(np.prod(shape, dtype=np.int64))
    rest = clip(rest, -total, total - 1)
    rest = where(less(rest, 0), rest + total, rest)
    found = []
    for size in reversed(shape):
        found.append(cast(mod(rest, size), dtype))
        rest = floor_divide(rest, size)
    return tuple(reversed(found))


def nonzero(x: Tensor) -> tuple[Any, ...]:
    """Returns the indices of the elements that are not zero, an array for each axis; int32.

    Their number depends on the elements, so it cannot be part of a program.

    Raises:
        TypeError: inside of programs.

    Example:
        >>> from handmill import ops
        >>> ops.nonzero([0, 5, 7])
        (array([1, 2], dtype=int32),)
    """
    if is_symbolic(x):
        raise _unknown_size("nonzero", "use ops.where(condition, x1, x2) to choose by a condition")
    return tuple(as_places("nonzero", i) for i in np.nonzero(tensor(x)))


def unique(
    x: Tensor,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Returns the different elements.

    Their number depends on the elements, so it cannot be part of a program.

    Args:
        x: the input.
        sorted: whether they rise; they always do here.
        return_index: whether to return where each of them stands first.
        return_inverse: whether to return, for each element, which of them it is.
        return_counts: whether to return how often each of them occurs.
        axis: the axis whose slices are compared. Default: the flattened input.
        size: how many to return. Default: as many as there are.
        fill_value: what stands behind them if there are fewer than ``size``. Default: the least.

    Raises:
        TypeError: inside of programs.

    Example:
        >>> from handmill import ops
        >>> ops.unique([3, 1, 3])
        array([1, 3], dtype=int32)
    """
    if is_symbolic(x):
        raise _unknown_size("unique", "look for different values before, outside of the program")
    found = list(np.unique(tensor(x), True, True, True, axis=axis, equal_nan=False))
    place = 0 if axis is None else axis
    if size is not None:
        found = _resized(found, size, fill_value, place)
    wanted = [True, return_index, return_inverse, return_counts]
    found[1:] = [as_places("unique", i) for i in found[1:]]
    kept = [a for a, w in zip(found, wanted, strict=True) if w]
    return kept[0] if len(kept) == 1 else tuple(kept)


def _resized(found: list[Any], size: int, fill_value: Any, axis: int) -> list[Any]:
    values, index, inverse, counts = found
    have = values.shape[axis]
    first = np.take(values, [0], axis=axis)
    if have >= size:
        return [np.take(values, range(size), axis=axis), index[:size], inverse, counts[:size]]
    filler = first if fill_value is None else np.full_like(first, fill_value)
    more = size - have
    return [
        np.concatenate([values, np.repeat(filler, more, axis=axis)], axis=axis),
        np.concatenate([index, np.full(more, index[0])]),
        inverse,
        np.concatenate([counts, np.zeros(more, counts.dtype)]),
    ]


def _unknown_size(op: str, hint: str) -> TypeError:
    return TypeError(
        f"{op}: the size of the result depends on the elements, so it cannot be part of a "
        f"program; {hint}"
    )
