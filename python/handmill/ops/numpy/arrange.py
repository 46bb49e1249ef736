"""Rearrangements composed of reshape, transpose, slice, broadcast, concatenate and take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Dim, SymbolicDim, at_least, is_fixed, same
from handmill.ir.graph import Value
from handmill.ir.shapes import numpy_dtype
from handmill.ir.trace import apply
from handmill.ops.numpy.create import tri
from handmill.ops.numpy.logic import greater_equal, where
from handmill.ops.numpy.movement import broadcast_to, concatenate, expand_dims, reshape, transpose
from handmill.ops.numpy.sorting import take
from handmill.primitives.emit import slice_axis
from handmill.primitives.movement import PAD, SLICE
from handmill.primitives.operands import (
    Tensor,
    dtype_of,
    is_symbolic,
    normal_axes,
    normal_axis,
    promote,
    rounded,
    shape_of,
    tensor,
)
from handmill.primitives.places import dtype_of_places
from handmill.primitives.sizes import numbers_from, places


def stack(x: Sequence[Tensor], axis: int = 0) -> Any:
    """Joins along a new axis.

    Args:
        x: tensors of equal shapes.
        axis: the position of the new axis.

    Example:
        >>> from handmill import ops
        >>> ops.stack([[1, 2], [3, 4]], axis=1)
        array([[1, 3],
               [2, 4]], dtype=int32)
    """
    return concatenate([expand_dims(item, axis) for item in promote(*x)], axis=axis)


def split(x: Tensor, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """Cuts along an axis.

    Args:
        x: the input.
        indices_or_sections: the number of equal parts, or the positions of the cuts.
        axis: the axis to cut.

    Example:
        >>> from handmill import ops
        >>> ops.split([1, 2, 3, 4], 2)
        [array([1, 2], dtype=int32), array([3, 4], dtype=int32)]
    """
    x = tensor(x)
    axis = normal_axis("split", axis, len(shape_of(x)))
    size = shape_of(x)[axis]
    if isinstance(indices_or_sections, int):
        if indices_or_sections < 1:
            raise shape_error("split", f"parts must be 1 or more, got {indices_or_sections}")
        part = size // indices_or_sections
        if not same(part * indices_or_sections, size):
            raise shape_error("split", f"size {size} is not {indices_or_sections} equal parts")
        cuts = [part * i for i in range(1, indices_or_sections)]
    else:
        cuts = [_place_of(i, size) for i in indices_or_sections]
    ends = [0, *cuts, size]
    return [slice_axis(x, axis, a, b if at_least(b, a) else a) for a, b in pairwise(ends)]


def pad(
    x: Tensor, pad_width: Any, mode: str = "constant", constant_values: float | None = None
) -> Any:
    """Adds elements around the input.

    Args:
        x: the input.
        pad_width: ``(before, after)`` for each axis, or one pair or int for all.
        mode: ``"constant"``, or ``"reflect"``, ``"symmetric"``, ``"edge"``, ``"wrap"`` as in NumPy.
        constant_values: the constant. Default: 0.

    Example:
        >>> from handmill import ops
        >>> ops.pad([1, 2], (1, 0))
        array([0, 1, 2], dtype=int32)
    """
    x = tensor(x)
    rank = len(shape_of(x))
    pairs = np.broadcast_to(np.asarray(pad_width, dtype=object), (rank, 2)).tolist()
    pairs = [[n if isinstance(n, SymbolicDim) else int(n) for n in pair] for pair in pairs]
    if mode == "constant":
        value = 0.0 if constant_values is None else rounded(constant_values, x)
        flat = tuple(n for pair in pairs for n in pair)
        return x if flat == (0,) * len(flat) else apply(PAD, x, paddings=flat, value=value)
    if constant_values is not None:
        raise ValueError(
            "Argument `constant_values` can only be provided when `mode == 'constant'`. Received: "
            f"mode={mode!r}, constant_values={constant_values!r}"
        )
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            indices = np.pad(np.arange(_fixed(x, axis, "pad")), (before, after), mode=mode)  # type: ignore[call-overload]
            x = take(x, indices.astype(dtype_of_places(shape_of(x)[axis])), axis=axis)
    return x


def moveaxis(x: Tensor, source: Any, destination: Any) -> Any:
    """Moves axes to other positions; the others keep their order.

    Example:
        >>> from handmill import ops
        >>> ops.moveaxis(ops.zeros((2, 3, 4)), 0, -1).shape
        (3, 4, 2)
    """
    rank = len(shape_of(x))
    sources = [source] if isinstance(source, int) else list(source)
    targets = [destination] if isinstance(destination, int) else list(destination)
    sources = [normal_axis("moveaxis", a, rank) for a in sources]
    targets = [normal_axis("moveaxis", a, rank) for a in targets]
    perm = [a for a in range(rank) if a not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        perm.insert(target, origin)
    return transpose(x, perm)


def swapaxes(x: Tensor, axis1: int, axis2: int) -> Any:
    """Exchanges two axes.

    Example:
        >>> from handmill import ops
        >>> ops.swapaxes(ops.zeros((2, 3, 4)), 0, 2).shape
        (4, 3, 2)
    """
    rank = len(shape_of(x))
    axis1, axis2 = (normal_axis("swapaxes", a, rank) for a in (axis1, axis2))
    perm = list(range(rank))
    perm[axis1], perm[axis2] = perm[axis2], perm[axis1]
    return transpose(x, perm)


def ravel(x: Tensor) -> Any:
    """Returns the elements in one dimension.

    Example:
        >>> from handmill import ops
        >>> ops.ravel([[1, 2], [3, 4]])
        array([1, 2, 3, 4], dtype=int32)
    """
    return reshape(x, (-1,))


def flip(x: Tensor, axis: int | Sequence[int] | None = None) -> Any:
    """Reverses the order along axes.

    Example:
        >>> from handmill import ops
        >>> ops.flip([1, 2, 3])
        array([3, 2, 1], dtype=int32)
    """
    x = tensor(x)
    for a in normal_axes("flip", axis, len(shape_of(x))):
        x = take(x, _backwards(slice(None, None, -1), x, a), axis=a)
    return x


def roll(x: Tensor, shift: Any, axis: Any = None) -> Any:
    """Moves elements along axes; those that leave at one end enter at the other.

    Args:
        x: the input.
        shift: how far, or how far along each axis.
        axis: the axis, or several. Default: the flattened input.

    Example:
        >>> from handmill import ops
        >>> ops.roll([1, 2, 3], 1)
        array([3, 1, 2], dtype=int32)
    """
    x = tensor(x)
    if axis is None:
        return reshape(roll(ravel(x), shift, axis=0), shape_of(x))
    if not isinstance(shift, int | SymbolicDim) or not isinstance(axis, int):
        for one, along in np.broadcast(np.asarray(shift), np.asarray(axis)):
            x = roll(x, int(one), int(along))
        return x
    axis = normal_axis("roll", axis, len(shape_of(x)))
    size = shape_of(x)[axis]
    if isinstance(size, SymbolicDim) or isinstance(shift, SymbolicDim):
        # A shift of less than the size is assumed.
        cut: Dim = size - shift if at_least(shift, 0) else -shift
    else:
        cut = -shift % size if size else 0
    parts = [slice_axis(x, axis, cut, size), slice_axis(x, axis, 0, cut)]
    return x if shift == 0 or cut == 0 else concatenate(parts, axis=axis)


def tile(x: Tensor, repeats: int | Sequence[int]) -> Any:
    """Repeats the whole input along each axis.

    Example:
        >>> from handmill import ops
        >>> ops.tile([1, 2], 2)
        array([1, 2, 1, 2], dtype=int32)
    """
    x = tensor(x)
    counts = [repeats] if isinstance(repeats, int | SymbolicDim) else list(repeats)
    rank = max(len(counts), len(shape_of(x)))
    counts = [1] * (rank - len(counts)) + counts
    shape = (1,) * (rank - len(shape_of(x))) + shape_of(x)
    narrow = tuple(d for dim in shape for d in (1, dim))
    wide = tuple(d for dim, n in zip(shape, counts, strict=True) for d in (n, dim))
    result = tuple(dim * n for dim, n in zip(shape, counts, strict=True))
    return reshape(broadcast_to(reshape(x, narrow), wide), result)


def repeat(x: Tensor, repeats: Any, axis: int | None = None) -> Any:
    """Repeats each element along an axis.

    Args:
        x: the input.
        repeats: how often, or how often each of them.
        axis: the axis. Default: the flattened input.

    Example:
        >>> from handmill import ops
        >>> ops.repeat([1, 2], 2)
        array([1, 1, 2, 2], dtype=int32)
    """
    if axis is None:
        return repeat(ravel(x), repeats, axis=0)
    x = tensor(x)
    axis = normal_axis("repeat", axis, len(shape_of(x)))
    shape = shape_of(x)
    if isinstance(repeats, SymbolicDim):
        return _each_repeated(x, repeats, axis)
    counts = np.asarray(repeats)
    if counts.size != 1:
        size = shape[axis]
        if counts.ndim != 1 or not (isinstance(size, SymbolicDim) or counts.size == size):
            raise shape_error("repeat", f"{counts.shape} counts for {size} elements")
        if isinstance(size, SymbolicDim):  # there must be as many as counts
            size = counts.size
            x = reshape(x, (*shape[:axis], size, *shape[axis + 1 :]))
        places = np.arange(size, dtype=dtype_of_places(size))
        return take(x, np.repeat(places, counts), axis=axis)
    return _each_repeated(x, int(counts.reshape(())), axis)


def _each_repeated(x: Any, count: Dim, axis: int) -> Any:
    shape = shape_of(x)
    wide = (*shape[: axis + 1], count, *shape[axis + 1 :])
    result = (*shape[:axis], shape[axis] * count, *shape[axis + 1 :])
    return reshape(broadcast_to(expand_dims(x, axis + 1), wide), result)


def _zero(x: Any) -> Any:
    return np.zeros((), numpy_dtype(dtype_of(x)))


def tril(x: Tensor, k: int = 0) -> Any:
    """Returns the lower triangle of matrices; zeros above diagonal ``k``.

    Example:
        >>> from handmill import ops
        >>> ops.tril([[1, 2], [3, 4]])
        array([[1, 0],
               [3, 4]], dtype=int32)
    """
    x = tensor(x)
    return where(_triangle("tril", x, k), x, _zero(x))


def triu(x: Tensor, k: int = 0) -> Any:
    """Returns the upper triangle of matrices; zeros below diagonal ``k``.

    Example:
        >>> from handmill import ops
        >>> ops.triu([[1, 2], [3, 4]])
        array([[1, 2],
               [0, 4]], dtype=int32)
    """
    x = tensor(x)
    return where(_triangle("triu", x, k - 1), _zero(x), x)


def _triangle(op: str, x: Any, k: int) -> Any:
    shape = shape_of(x)
    if len(shape) < 2:
        raise shape_error(op, "a matrix was expected", {"x": shape})
    if is_fixed(shape[-2:]):
        return tri(shape[-2], shape[-1], k, "bool")
    return greater_equal(*places(shape[-2], shape[-1], k, like=x))


def meshgrid(*x: Tensor, indexing: str = "xy") -> list[Any]:
    """Returns the coordinates of a grid.

    Example:
        >>> from handmill import ops
        >>> [m.tolist() for m in ops.meshgrid([1, 2], [3, 4])]
        [[[1, 2], [1, 2]], [[3, 3], [4, 4]]]
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: `indexing` must be 'xy' or 'ij', got indexing={indexing!r}")
    vectors = [ravel(v) for v in x]
    order = list(range(len(vectors)))
    if indexing == "xy" and len(order) > 1:
        order[:2] = [1, 0]
    shape = tuple(shape_of(vectors[i])[0] for i in order)
    return [
        broadcast_to(reshape(v, tuple(-1 if i == j else 1 for j in order)), shape)
        for i, v in enumerate(vectors)
    ]


def _fixed(x: Any, axis: int, op: str) -> int:
    size = shape_of(x)[axis]
    if isinstance(size, SymbolicDim):
        raise shape_error(op, f"axis {axis} has no fixed size", {"x": shape_of(x)})
    return size


def _place_of(position: Dim, size: Dim) -> Dim:
    """Returns where ``position`` lies in an axis: negative ones count from the end, as in slices.

    Positions beyond an end lie there. In an axis whose size a call decides, they are assumed not
    to be.
    """
    if isinstance(position, SymbolicDim) or isinstance(size, SymbolicDim):
        if not isinstance(position, SymbolicDim) and position < 0:
            position = size + position
        inside = at_least(position, 0) and at_least(size, position)
        if inside:
            return position
        return size if at_least(position, size) else 0
    position = int(position)
    return min(position, size) if position >= 0 else max(size + position, 0)


def _span(key: slice, size: Dim) -> tuple[Dim, Dim, int]:
    """The start, end and step of a slice that goes forward."""
    start = 0 if key.start is None else _place_of(key.start, size)
    stop = size if key.stop is None else _place_of(key.stop, size)
    return start, stop if at_least(stop, start) else start, int(key.step or 1)


def _backwards(key: slice, x: Any, axis: int) -> Any:
    """The places that a slice with a negative step takes along an axis."""
    size = shape_of(x)[axis]
    if not isinstance(size, SymbolicDim):
        return np.arange(size, dtype=dtype_of_places(size))[key].copy()
    first = size - 1 if key.start is None else _place_of(key.start, size)
    last = -1 if key.stop is None else _place_of(key.stop, size)
    length = (first - last - key.step - 1) // -key.step
    return numbers_from(first, length if at_least(length, 0) else 0, key.step, like=x)


def _getitem(x: Tensor, key: Any) -> Any:
    """Returns ``x[key]``: ints, slices, None, Ellipsis, and one array of row numbers.

    In an axis whose size a call decides, positions are assumed to lie inside; a call in which they
    do not is traced for its own sizes.

    Raises:
        TypeError: if the key is of another kind.
        ShapeError: if an index is out of range.
    """
    keys = list(key) if isinstance(key, tuple) else [key]
    rank = len(shape_of(x))
    named = sum(1 for k in keys if k is not None and k is not Ellipsis)
    if named > rank:
        raise shape_error("getitem", f"{named} indices for {rank} dimensions")
    at = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
    keys[at : at + 1] = [slice(None)] * (rank - named)

    dropped: list[int] = []
    added: list[int] = []
    arrays: list[tuple[int, Any]] = []
    starts: list[Dim] = []
    stops: list[Dim] = []
    steps: list[int] = []
    for k in keys:
        axis = len(starts)
        if k is None:
            added.append(axis + len(added))
            continue
        size = shape_of(x)[axis]
        start: Dim = 0
        stop, step = size, 1
        if isinstance(k, slice):
            if k.step is not None and k.step < 0:
                arrays.append((axis, _backwards(k, x, axis)))
            elif isinstance(size, SymbolicDim):
                start, stop, step = _span(k, size)
            elif k != slice(None):
                start, stop, step = k.indices(size)
                stop = max(start, stop)
        elif isinstance(k, int | np.integer) and not isinstance(k, bool):
            start = int(k) if k >= 0 else size + int(k)
            if not at_least(start, 0) or not at_least(size, start + 1):
                raise shape_error("getitem", f"index {k} is out of range of {size} elements")
            stop = start + 1
            dropped.append(axis)
        elif is_symbolic(k) or (isinstance(k, np.ndarray | list) and np.asarray(k).dtype != bool):
            arrays.append((axis, k))
        else:
            raise TypeError(f"a symbolic value cannot be indexed with {k!r}; use ops.where")
        starts.append(start)
        stops.append(stop)
        steps.append(step)
    if len(arrays) > 1 and any(np.ndim(a) for _, a in arrays if not is_symbolic(a)):
        raise TypeError("a symbolic value can be indexed with one array only")
    whole = all(
        a == 0 and b == d and c == 1
        for a, b, c, d in zip(starts, stops, steps, shape_of(x), strict=True)
    )
    if not whole:
        x = apply(SLICE, x, start=tuple(starts), stop=tuple(stops), step=tuple(steps))
    for axis, indices in arrays:
        x = take(x, indices, axis=axis)
    if dropped:
        kept = [d for a, d in enumerate(shape_of(x)) if a not in dropped]
        x = reshape(x, tuple(kept))
    # None keys: their places count in the result, after dropped axes have gone.
    places = [a - sum(1 for d in dropped if d + sum(1 for b in added if b <= d) < a) for a in added]
    for place in places:
        x = expand_dims(x, place)
    return x


Value.operators.update(
    getitem=_getitem,
)
