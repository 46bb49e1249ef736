"""Joining and cutting by the names of axes, and quarter turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill.errors import shape_error
from handmill.ops.numpy.arrange import flip, ravel, split
from handmill.ops.numpy.movement import concatenate, expand_dims, reshape, transpose
from handmill.primitives.operands import Tensor, normal_axes, normal_axis, promote, shape_of, tensor


def append(x1: Tensor, x2: Tensor, axis: int | None = None) -> Any:
    """Joins two tensors.

    Args:
        x1: the first.
        x2: the second.
        axis: the axis along which to join. Default: both flattened.

    Example:
        >>> from handmill import ops
        >>> ops.append([1, 2], [[3], [4]])
        array([1, 2, 3, 4], dtype=int32)
    """
    pair = promote(x1, x2)
    return concatenate([ravel(x) for x in pair]) if axis is None else concatenate(pair, axis)


def hstack(xs: Sequence[Tensor]) -> Any:
    """Joins along the second axis; vectors along their only one.

    Example:
        >>> from handmill import ops
        >>> ops.hstack([[1, 2], [3]])
        array([1, 2, 3], dtype=int32)
    """
    parts = _at_least(xs, 1)
    return concatenate(parts, axis=0 if len(shape_of(parts[0])) == 1 else 1)


def vstack(xs: Sequence[Tensor]) -> Any:
    """Joins along the first axis; vectors are rows.

    Example:
        >>> from handmill import ops
        >>> ops.vstack([[1, 2], [3, 4]])
        array([[1, 2],
               [3, 4]], dtype=int32)
    """
    return concatenate(_at_least(xs, 2), axis=0)


def dstack(xs: Sequence[Tensor]) -> Any:
    """Joins along the third axis; vectors are rows of one matrix.

    Example:
        >>> from handmill import ops
        >>> ops.dstack([[1, 2], [3, 4]])
        array([[[1, 3],
                [2, 4]]], dtype=int32)
    """
    return concatenate(_at_least(xs, 3), axis=2)


def _at_least(xs: Sequence[Tensor], rank: int) -> list[Any]:
    """The tensors in one dtype, with axes of size 1 as NumPy's ``atleast_Nd`` adds them."""
    return [_raised(x, rank) for x in promote(*xs)]


def _raised(x: Any, rank: int) -> Any:
    have = len(shape_of(x))
    if have >= rank:
        return x
    if rank == 3 and have:
        x = x if have == 2 else expand_dims(x, 0)
        return expand_dims(x, 2)
    return reshape(x, (1,) * (rank - have) + shape_of(x))


def array_split(x: Tensor, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """Cuts along an axis, into parts that may differ by one in size.

    Args:
        x: the input.
        indices_or_sections: the number of parts, or the positions of the cuts.
        axis: the axis to cut.

    Example:
        >>> from handmill import ops
        >>> ops.array_split([1, 2, 3], 2)
        [array([1, 2], dtype=int32), array([3], dtype=int32)]
    """
    x = tensor(x)
    axis = normal_axis("array_split", axis, len(shape_of(x)))
    size = shape_of(x)[axis]
    if not isinstance(indices_or_sections, int) or not isinstance(size, int):
        return split(x, indices_or_sections, axis)
    if indices_or_sections < 1:
        raise shape_error("array_split", f"parts must be 1 or more, got {indices_or_sections}")
    part, longer = divmod(size, indices_or_sections)
    cuts = [part * i + min(i, longer) for i in range(1, indices_or_sections)]
    return split(x, cuts, axis)


def hsplit(x: Tensor, indices_or_sections: int | Sequence[int]) -> list[Any]:
    """Cuts along the second axis; vectors along their only one.

    Example:
        >>> from handmill import ops
        >>> ops.hsplit([1, 2, 3, 4], 2)
        [array([1, 2], dtype=int32), array([3, 4], dtype=int32)]
    """
    return split(x, indices_or_sections, 0 if _rank("hsplit", x, 1) == 1 else 1)


def vsplit(x: Tensor, indices_or_sections: int | Sequence[int]) -> list[Any]:
    """Cuts along the first axis of two or more.

    Example:
        >>> from handmill import ops
        >>> ops.vsplit([[1, 2], [3, 4]], 2)
        [array([[1, 2]], dtype=int32), array([[3, 4]], dtype=int32)]
    """
    _rank("vsplit", x, 2)
    return split(x, indices_or_sections, 0)


def dsplit(x: Tensor, indices_or_sections: int | Sequence[int]) -> list[Any]:
    """Cuts along the third axis.

    Example:
        >>> from handmill import ops
        >>> [part.shape for part in ops.dsplit(ops.zeros((2, 2, 4)), [1])]
        [(2, 2, 1), (2, 2, 3)]
    """
    _rank("dsplit", x, 3)
    return split(x, indices_or_sections, 2)


def _rank(op: str, x: Tensor, least: int) -> int:
    rank = len(shape_of(x))
    if rank < least:
        raise shape_error(op, f"{least} or more dimensions were expected", {"x": shape_of(x)})
    return rank


def fliplr(x: Tensor) -> Any:
    """Reverses the order along the second axis.

    Example:
        >>> from handmill import ops
        >>> ops.fliplr([[1, 2], [3, 4]])
        array([[2, 1],
               [4, 3]], dtype=int32)
    """
    _rank("fliplr", x, 2)
    return flip(x, 1)


def flipud(x: Tensor) -> Any:
    """Reverses the order along the first axis.

    Example:
        >>> from handmill import ops
        >>> ops.flipud([[1, 2], [3, 4]])
        array([[3, 4],
               [1, 2]], dtype=int32)
    """
    _rank("flipud", x, 1)
    return flip(x, 0)


def rot90(array: Tensor, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    """Turns by quarters in the plane of two axes.

    Args:
        array: the input, of two or more dimensions.
        k: how often to turn from the first axis towards the second.
        axes: the two axes.

    Raises:
        ShapeError: if there are not two different axes.

    Example:
        >>> from handmill import ops
        >>> ops.rot90([[1, 2], [3, 4]])
        array([[2, 4],
               [1, 3]], dtype=int32)
    """
    x = tensor(array)
    rank = _rank("rot90", x, 2)
    if len(axes) != 2:
        raise shape_error("rot90", f"two axes were expected, got {axes}")
    normal_axes("rot90", axes, rank)  # refuses equal ones
    first, second = (normal_axis("rot90", a, rank) for a in axes)
    turns = k % 4
    if turns == 2:
        return flip(x, (first, second))
    perm = list(range(rank))
    perm[first], perm[second] = second, first
    if turns == 1:
        return transpose(flip(x, second), perm)
    return flip(transpose(x, perm), second) if turns else x
