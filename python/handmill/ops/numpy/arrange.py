"""Rearrangements composed of reshape, transpose, slice, broadcast, concatenate and take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.graph import Value
from handmill.ir.shapes import Batch, Dim
from handmill.ir.trace import apply
from handmill.ops.numpy.logic import where
from handmill.ops.numpy.movement import broadcast_to, concatenate, expand_dims, reshape, transpose
from handmill.ops.numpy.sorting import take
from handmill.primitives.emit import slice_axis
from handmill.primitives.movement import PAD, SLICE
from handmill.primitives.operands import (
    Tensor,
    is_symbolic,
    normal_axes,
    normal_axis,
    promote,
    rounded,
    shape_of,
    tensor,
)

__all__ = [
    "diag",
    "flip",
    "meshgrid",
    "moveaxis",
    "pad",
    "ravel",
    "repeat",
    "roll",
    "split",
    "stack",
    "swapaxes",
    "tile",
    "tril",
    "triu",
]


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
    if isinstance(size, Batch):
        raise shape_error("split", "the batch dimension cannot be split", {"x": shape_of(x)})
    if isinstance(indices_or_sections, int):
        if size % indices_or_sections:
            raise shape_error("split", f"size {size} is not {indices_or_sections} equal parts")
        part = size // indices_or_sections
        cuts = [part * i for i in range(1, indices_or_sections)]
    else:
        cuts = [min(int(i), size) if i >= 0 else max(size + int(i), 0) for i in indices_or_sections]
    ends = [0, *cuts, size]
    return [slice_axis(x, axis, a, max(a, b)) for a, b in pairwise(ends)]


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
    pairs = np.broadcast_to(np.asarray(pad_width, dtype=np.int64), (rank, 2)).tolist()
    if mode == "constant":
        value = 0.0 if constant_values is None else rounded(constant_values, x)
        flat = tuple(n for pair in pairs for n in pair)
        return apply(PAD, x, paddings=flat, value=value) if any(flat) else x
    if constant_values is not None:
        raise ValueError(f"`constant_values` needs mode='constant', got mode={mode!r}")
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            indices = np.pad(np.arange(shape_of(x)[axis]), (before, after), mode=mode)  # type: ignore[arg-type,call-overload]
            x = take(x, indices.astype(np.int32), axis=axis)
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
    perm = list(range(len(shape_of(x))))
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
        x = take(x, np.arange(_fixed(x, a, "flip"), dtype=np.int32)[::-1].copy(), axis=a)
    return x


def roll(x: Tensor, shift: int, axis: int | None = None) -> Any:
    """Moves elements along an axis; those that leave at one end enter at the other.

    Example:
        >>> from handmill import ops
        >>> ops.roll([1, 2, 3], 1)
        array([3, 1, 2], dtype=int32)
    """
    x = tensor(x)
    if axis is None:
        return reshape(roll(ravel(x), shift, axis=0), shape_of(x))
    axis = normal_axis("roll", axis, len(shape_of(x)))
    size = _fixed(x, axis, "roll")
    cut = -shift % size if size else 0
    parts = [slice_axis(x, axis, cut, size), slice_axis(x, axis, 0, cut)]
    return concatenate(parts, axis=axis) if cut else x


def tile(x: Tensor, repeats: int | Sequence[int]) -> Any:
    """Repeats the whole input along each axis.

    Example:
        >>> from handmill import ops
        >>> ops.tile([1, 2], 2)
        array([1, 2, 1, 2], dtype=int32)
    """
    x = tensor(x)
    counts = [repeats] if isinstance(repeats, int) else list(repeats)
    rank = max(len(counts), len(shape_of(x)))
    counts = [1] * (rank - len(counts)) + counts
    shape = (1,) * (rank - len(shape_of(x))) + shape_of(x)
    narrow = tuple(d for dim in shape for d in (1, dim))
    wide = tuple(d for dim, n in zip(shape, counts, strict=True) for d in (n, dim))
    result = tuple(dim * n for dim, n in zip(shape, counts, strict=True))
    return reshape(broadcast_to(reshape(x, narrow), wide), result)


def repeat(x: Tensor, repeats: int, axis: int | None = None) -> Any:
    """Repeats each element along an axis.

    Args:
        x: the input.
        repeats: how often.
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
    wide = (*shape[: axis + 1], int(repeats), *shape[axis + 1 :])
    result = (*shape[:axis], shape[axis] * int(repeats), *shape[axis + 1 :])
    return reshape(broadcast_to(expand_dims(x, axis + 1), wide), result)


def tril(x: Tensor, k: int = 0) -> Any:
    """Returns the lower triangle of matrices; zeros above diagonal ``k``.

    Example:
        >>> from handmill import ops
        >>> ops.tril([[1, 2], [3, 4]])
        array([[1, 0],
               [3, 4]], dtype=int32)
    """
    x = tensor(x)
    rows, columns = _fixed(x, -2, "tril"), _fixed(x, -1, "tril")
    return where(np.tri(rows, columns, k, dtype=bool), x, 0)


def triu(x: Tensor, k: int = 0) -> Any:
    """Returns the upper triangle of matrices; zeros below diagonal ``k``.

    Example:
        >>> from handmill import ops
        >>> ops.triu([[1, 2], [3, 4]])
        array([[1, 2],
               [0, 4]], dtype=int32)
    """
    x = tensor(x)
    rows, columns = _fixed(x, -2, "triu"), _fixed(x, -1, "triu")
    return where(np.tri(rows, columns, k - 1, dtype=bool), 0, x)


def diag(x: Tensor, k: int = 0) -> Any:
    """Returns the diagonal of a matrix, or a matrix with this diagonal.

    Example:
        >>> from handmill import ops
        >>> ops.diag([1, 2])
        array([[1, 0],
               [0, 2]], dtype=int32)
    """
    x = tensor(x)
    if len(shape_of(x)) == 1:
        n = _fixed(x, 0, "diag")
        place = np.diag(np.arange(1, n + 1), k).astype(np.int32)
        return where(place == 0, 0, take(x, np.maximum(place - 1, 0), axis=0))
    rows, columns = _fixed(x, 0, "diag"), _fixed(x, 1, "diag")
    at = np.diag(np.arange(rows * columns).reshape(rows, columns), k).astype(np.int32)
    return take(ravel(x), at, axis=0)


def meshgrid(*x: Tensor, indexing: str = "xy") -> list[Any]:
    """Returns the coordinates of a grid.

    Example:
        >>> from handmill import ops
        >>> [m.tolist() for m in ops.meshgrid([1, 2], [3, 4])]
        [[[1, 2], [1, 2]], [[3, 3], [4, 4]]]
    """
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
    if isinstance(size, Batch):
        raise shape_error(op, "the batch dimension has no fixed size", {"x": shape_of(x)})
    return size


def getitem(x: Tensor, key: Any) -> Any:
    """Returns ``x[key]``: ints, slices, None, Ellipsis, and one array of row numbers.

    The batch dimension of a symbolic value can only be taken whole.

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
        start, stop, step = 0, size, 1
        if isinstance(k, slice):
            if k.step is not None and k.step < 0:
                indices = np.arange(_fixed(x, axis, "getitem"), dtype=np.int32)[k]
                arrays.append((axis, indices.copy()))
            elif k != slice(None):
                start, stop, step = k.indices(_fixed(x, axis, "getitem"))
                stop = max(start, stop)
        elif isinstance(k, int | np.integer) and not isinstance(k, bool):
            fixed = _fixed(x, axis, "getitem")
            if not -fixed <= k < fixed:
                raise shape_error("getitem", f"index {k} is out of range of {fixed} elements")
            start = int(k) % fixed
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
    getitem=getitem,
)
