"""Parts of tensors, taken out or written by position."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.errors import ShapeError, shape_error
from handmill.ir.dims import Dim, Shape, SymbolicDim, at_least
from handmill.ir.op import REGISTRY
from handmill.ir.trace import apply
from handmill.primitives.emit import (
    add,
    broadcast_to,
    greater_equal,
    less,
    multiply,
    negative,
    reshape,
    slice_axis,
    where,
)
from handmill.primitives.gather import SCATTER_ADD_ROWS, TAKE
from handmill.primitives.operands import (
    Tensor,
    converted,
    dtype_of,
    is_symbolic,
    normal_axis,
    shape_of,
    tensor,
)
from handmill.primitives.scatter import PUT_ROWS, SEGMENT_MAX, SEGMENT_MIN, SEGMENT_PROD
from handmill.primitives.sizes import steps_to


def slice(inputs: Tensor, start_indices: Any, shape: Any) -> Any:
    """Returns a block of a tensor.

    Args:
        inputs: the tensor.
        start_indices: where the block begins, an integer for each axis; or a tensor of them,
            which may be known only when a program runs. Negative ones count from the end. A block
            that would leave the tensor is moved back into it.
        shape: the size of the block along each axis. -1: to the end, where the start is a number.

    Raises:
        ValueError: if there is not one start and one size for each axis.

    Example:
        >>> from handmill import ops
        >>> ops.slice([[1, 2, 3], [4, 5, 6]], (0, 1), (2, 2))
        array([[2, 3],
               [5, 6]], dtype=int32)
    """
    x = tensor(inputs)
    starts = _starts("slice", start_indices, x)
    own = shape_of(x)
    sizes = shape.tolist() if isinstance(shape, np.ndarray) else list(shape)
    if len(sizes) != len(own):
        raise ValueError(
            "The number of dimensions in `inputs` must match the number of dimensions in `shape`. "
            f"Received: inputs.shape={own}, shape={tuple(sizes)}"
        )
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        if isinstance(start, int) and start < 0 and isinstance(own[axis], int):
            start = max(0, start + own[axis])
        if isinstance(size, int) and size == -1:
            if not isinstance(start, int | SymbolicDim):
                raise ValueError(
                    "slice: a size of -1 needs a start that is a number, for it decides the shape "
                    f"of the result; along axis {axis} it is a tensor"
                )
            size = own[axis] - start
        x = _block(x, axis, start, size)
    return x


def _block(x: Any, axis: int, start: Any, size: Dim) -> Any:
    """``size`` elements along an axis from a start, which is moved into range."""
    length = shape_of(x)[axis]
    if not at_least(length, size):
        raise shape_error("slice", f"{size} elements do not fit along axis {axis}", {"x": x.shape})
    if isinstance(start, int | SymbolicDim):
        if isinstance(start, int) and isinstance(length, int) and isinstance(size, int):
            start = _moved(start, length, size)
        return x if start == 0 and size == length else slice_axis(x, axis, start, start + size)
    if size == length:
        return x
    return apply(TAKE, x, add(_first(start, length, size), steps_to(size, like=x)), axis=axis)


def _moved(start: int, length: int, size: int) -> int:
    """A start counted from the front, so that a block of ``size`` fits."""
    return max(0, min(start + length if start < 0 else start, length - size))


def _first(start: Any, length: Dim, size: Dim) -> Any:
    """The same, of a start that is a tensor."""
    start = converted(start, "int32")
    return _clamped(where(less(start, 0), add(start, length), start), length - size)


def _clamped(place: Any, last: Dim) -> Any:
    place = where(less(place, 0), 0, place)
    return where(less(place, last), place, last)


def _starts(name: str, start_indices: Any, x: Any) -> list[Any]:
    """The start along each axis: numbers where they are known."""
    rank = len(shape_of(x))
    if is_symbolic(start_indices):
        found = _entries(tensor(start_indices))
    else:
        found = [_number(start) for start in start_indices]
    if len(found) != rank:
        raise ValueError(
            "The number of dimensions in `start_indices` must match the number of dimensions in "
            f"`inputs`. Received: {len(found)} start indices for {name} of {rank} dimensions"
        )
    return found


def _entries(x: Any) -> list[Any]:
    """The elements of a vector, as scalars."""
    (count,) = shape_of(x)
    if not isinstance(count, int):
        raise ShapeError(f"start indices must be a vector of known length, got {shape_of(x)}")
    return [reshape(slice_axis(x, 0, i, i + 1), ()) for i in range(count)]


def _number(start: Any) -> Any:
    """A start as a Python number if it is one, else as a scalar tensor."""
    if isinstance(start, SymbolicDim):
        return start
    if is_symbolic(start):
        return reshape(tensor(start), ())
    return int(np.asarray(start).item())


def slice_update(inputs: Tensor, start_indices: Any, updates: Tensor) -> Any:
    """Returns a tensor with one block replaced.

    Args:
        inputs: the tensor.
        start_indices: see :func:`slice`.
        updates: the block.

    Example:
        >>> from handmill import ops
        >>> ops.slice_update([0, 0, 0, 0], [1], [7, 8])
        array([0, 7, 8, 0], dtype=int32)
    """
    x = tensor(inputs)
    updates = converted(tensor(updates), dtype_of(x))
    starts = _starts("slice_update", start_indices, x)
    own, sizes = shape_of(x), shape_of(updates)
    if len(own) != len(sizes) or not all(map(at_least, own, sizes)):
        raise shape_error(
            "slice_update",
            "the updates must be a block of the inputs",
            {"inputs": own, "updates": sizes},
        )
    if all(isinstance(start, int | SymbolicDim) for start in starts):
        return _with_block(x, 0, starts, updates)
    # The element i of an axis comes from place i - start of the updates, where there is one.
    inside: Any = None
    for axis, start in enumerate(starts):
        first = _first(tensor(start), own[axis], sizes[axis])
        place = add(steps_to(own[axis], like=x), negative(first))
        updates = apply(TAKE, updates, _clamped(place, sizes[axis] - 1), axis=axis)
        along = (1,) * axis + (own[axis],) + (1,) * (len(own) - axis - 1)
        for bound in (greater_equal(place, 0), less(place, sizes[axis])):
            here = reshape(bound, along)
            inside = here if inside is None else apply(REGISTRY["logical_and"], inside, here)
    return updates if inside is None else where(inside, updates, x)


def _with_block(x: Any, axis: int, starts: Sequence[Dim], updates: Any) -> Any:
    """The tensor with a block written, axis by axis."""
    own, sizes = shape_of(x), shape_of(updates)
    if own == sizes:
        return updates
    length, size, start = own[axis], sizes[axis], starts[axis]
    if isinstance(length, int) and isinstance(size, int) and isinstance(start, int):
        start = _moved(start, length, size)
    elif isinstance(start, int) and start < 0:
        start = length + start
    inner = slice_axis(x, axis, start, start + size)
    ends = ((0, start), (start + size, length))
    before, after = ([] if a == b else [slice_axis(x, axis, a, b)] for a, b in ends)
    parts = [*before, _with_block(inner, axis + 1, starts, updates), *after]
    return parts[0] if len(parts) == 1 else apply(REGISTRY["concatenate"], *parts, axis=axis)


def scatter(indices: Tensor, values: Tensor, shape: Any) -> Any:
    """Returns a tensor of zeros to which values were added at positions.

    Args:
        indices: positions in their last axis. Negative ones count from the end; what lies outside
            is left out.
        values: a number, or a block of the remaining axes, for each position. Those of equal
            positions are added up.
        shape: the shape of the result.

    Example:
        >>> from handmill import ops
        >>> ops.scatter([[0], [2], [2]], [1.0, 2.0, 3.0], (4,))
        array([1., 0., 5., 0.], dtype=float32)
    """
    values = tensor(values)
    wanted: Shape = tuple(int(n) if isinstance(n, np.integer) else n for n in shape)
    rows, lines, rest = _lines(indices, wanted)
    values = reshape(values, (*shape_of(lines), *rest))
    y = apply(SCATTER_ADD_ROWS, values, lines, rows=rows, from_end=False)
    return reshape(y, wanted)


def scatter_update(
    inputs: Tensor, indices: Tensor, updates: Tensor, reduction: str | None = None
) -> Any:
    """Returns a tensor with values written at positions.

    Args:
        inputs: the tensor.
        indices: see :func:`scatter`.
        updates: a number, or a block of the remaining axes, for each position. Of those of equal
            positions, the last one counts.
        reduction: "add", "max", "min" or "mul" to combine what is there with the updates. Default:
            the updates replace it.

    Example:
        >>> from handmill import ops
        >>> ops.scatter_update([1, 2, 3], [[1], [0]], [7, 8])
        array([8, 7, 3], dtype=int32)
    """
    x = tensor(inputs)
    own = shape_of(x)
    rows, lines, rest = _lines(indices, own)
    updates = converted(tensor(updates), dtype_of(x))
    updates = broadcast_to(updates, (*shape_of(lines), *rest))
    if reduction is None:
        return reshape(apply(PUT_ROWS, reshape(x, (rows, *rest)), lines, updates), own)
    if reduction == "add":
        added = apply(SCATTER_ADD_ROWS, updates, lines, rows=rows, from_end=False)
        return add(x, reshape(added, own))
    if reduction not in _COMBINED:
        raise ValueError(
            f"Unsupported reduction: {reduction}. Expected None, 'add', 'max', 'min' or 'mul'."
        )
    op, together = _COMBINED[reduction]
    combined = reshape(apply(op, updates, lines, rows=rows), own)
    return apply(REGISTRY[together], x, combined)


_COMBINED = {
    "max": (SEGMENT_MAX, "maximum"),
    "min": (SEGMENT_MIN, "minimum"),
    "mul": (SEGMENT_PROD, "multiply"),
}


def _lines(indices: Tensor, shape: Shape) -> tuple[Dim, Any, Shape]:
    """Positions as numbers of rows of a tensor whose first axes are joined; -1 outside.

    Returns:
        The number of rows, the row of each position, the shape of a row.
    """
    indices = tensor(indices)
    if dtype_of(indices) not in ("int32", "int64"):
        indices = converted(indices, "int32")
    *positions, depth = shape_of(indices)
    if not isinstance(depth, int) or depth > len(shape):
        raise shape_error(
            "scatter",
            f"positions of {depth} numbers in {len(shape)} dimensions",
            {"indices": shape_of(indices)},
        )
    rows: Dim = 1
    line: Any = None
    outside: Any = None
    last = len(positions)
    for axis in range(depth):
        size = shape[axis]
        at = reshape(slice_axis(indices, last, axis, axis + 1), tuple(positions))
        at = where(less(at, 0), add(at, size), at)
        for wrong in (less(at, 0), greater_equal(at, size)):
            outside = wrong if outside is None else apply(REGISTRY["logical_or"], outside, wrong)
        line = at if line is None else add(multiply(line, size), at)
        rows = rows * size
    if line is None:
        raise shape_error("scatter", "positions need an axis", {"indices": shape_of(indices)})
    return rows, where(outside, -1, line), shape[depth:]


def unstack(x: Tensor, num: int | None = None, axis: int = 0) -> list[Any]:
    """Returns the slices along an axis, as a list.

    Args:
        x: the tensor.
        num: the number of slices, if the shape does not tell.
        axis: the axis, which the slices do not have.

    Example:
        >>> from handmill import ops
        >>> ops.unstack([[1, 2], [3, 4]], axis=1)
        [array([1, 3], dtype=int32), array([2, 4], dtype=int32)]
    """
    x = tensor(x)
    own = shape_of(x)
    if not -len(own) <= axis < len(own):
        raise ShapeError(f"unstack: axis {axis} is out of bounds for {len(own)} dimensions")
    axis = normal_axis("unstack", axis, len(own))
    count = own[axis]
    if not isinstance(count, int):
        if num is None:
            raise ValueError(f"Cannot infer argument `num` from shape {own}")
        count = num
    elif num is not None and num != count:
        raise ValueError(f"unstack: num={num}, but there are {count} slices along axis {axis}")
    rest = own[:axis] + own[axis + 1 :]
    return [reshape(slice_axis(x, axis, i, i + 1), rest) for i in builtins.range(count)]
