"""Rows combined by the segment that each belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Dim, same
from handmill.ir.graph import Value
from handmill.ir.op import Op
from handmill.ir.trace import apply
from handmill.primitives.gather import SCATTER_ADD_ROWS
from handmill.primitives.operands import Tensor, shape_of, tensor
from handmill.primitives.scatter import SEGMENT_MAX, SEGMENT_MIN, SEGMENT_PROD


def _combined(
    name: str, op: Op, data: Tensor, segment_ids: Tensor, num_segments: int | None, **attrs: Any
) -> Any:
    data, ids = tensor(data), tensor(segment_ids)
    if len(shape_of(ids)) != 1:
        raise shape_error(
            name,
            "Argument `segment_ids` should be an 1-D vector, got shape "
            f"{shape_of(ids)}. Consider either flatten input with segment_ids.reshape((-1)) and "
            "data.reshape((-1, ) + data.shape[len(segment_ids.shape):])",
        )
    if not shape_of(data) or not same(shape_of(data)[0], shape_of(ids)[0]):
        raise shape_error(
            name,
            "Argument `segment_ids` and `data` should have same leading dimension. Got "
            f"{shape_of(ids)} and {shape_of(data)}.",
        )
    return apply(op, data, ids, rows=_count(name, ids, num_segments), **attrs)


def _count(name: str, ids: Any, num_segments: Any) -> Dim:
    """The number of segments, which on arrays is one more than the largest id."""
    if num_segments is not None:
        return int(num_segments) if isinstance(num_segments, np.integer) else num_segments
    if isinstance(ids, Value) or hasattr(type(ids), "history"):
        raise ValueError(
            f"{name}: Argument `num_segments` must be set in a program: the number of segments is "
            "a shape, and the ids are known only when it runs"
        )
    known = np.asarray(ids.numpy() if hasattr(ids, "numpy") else ids)
    return int(known.max(initial=-1)) + 1


def segment_sum(
    data: Tensor, segment_ids: Tensor, num_segments: int | None = None, sorted: bool = False
) -> Any:
    """Adds up the rows of each segment; ids out of range are left out.

    Args:
        data: rows.
        segment_ids: the segment of each row. A row whose id is negative, or not below
            ``num_segments``, is part of no segment and gets no gradient.
        num_segments: the number of segments. Default: one more than the largest id, on arrays; a
            program needs the number.
        sorted: whether the ids rise; makes no difference here.

    Example:
        >>> from handmill import ops
        >>> ops.segment_sum([1.0, 2.0, 4.0], [0, 1, 0], num_segments=2)
        array([5., 2.], dtype=float32)
    """
    op = SCATTER_ADD_ROWS
    return _combined("segment_sum", op, data, segment_ids, num_segments, from_end=False)


def segment_max(
    data: Tensor, segment_ids: Tensor, num_segments: int | None = None, sorted: bool = False
) -> Any:
    """Returns the largest element of each segment, column by column.

    Args:
        data: rows.
        segment_ids: the segment of each row, as for :func:`segment_sum`. A segment without rows
            gives minus infinity, in integers the least number.
        num_segments: see :func:`segment_sum`.
        sorted: whether the ids rise; makes no difference here.

    Example:
        >>> from handmill import ops
        >>> ops.segment_max([1.0, 2.0, 4.0], [0, 1, 0], num_segments=2)
        array([4., 2.], dtype=float32)
    """
    return _combined("segment_max", SEGMENT_MAX, data, segment_ids, num_segments)


def segment_min(
    data: Tensor, segment_ids: Tensor, num_segments: int | None = None, sorted: bool = False
) -> Any:
    """Returns the least element of each segment, column by column.

    Args:
        data: rows.
        segment_ids: the segment of each row, as for :func:`segment_sum`. A segment without rows
            gives infinity, in integers the largest number.
        num_segments: see :func:`segment_sum`.
        sorted: whether the ids rise; makes no difference here.

    Example:
        >>> from handmill import ops
        >>> ops.segment_min([1.0, 2.0, 4.0], [0, 1, 0], num_segments=2)
        array([1., 2.], dtype=float32)
    """
    return _combined("segment_min", SEGMENT_MIN, data, segment_ids, num_segments)


def segment_prod(
    data: Tensor, segment_ids: Tensor, num_segments: int | None = None, sorted: bool = False
) -> Any:
    """Multiplies the rows of each segment.

    Args:
        data: rows.
        segment_ids: the segment of each row, as for :func:`segment_sum`. A segment without rows
            gives 1.
        num_segments: see :func:`segment_sum`.
        sorted: whether the ids rise; makes no difference here.

    Example:
        >>> from handmill import ops
        >>> ops.segment_prod([1.0, 2.0, 4.0], [0, 1, 0], num_segments=2)
        array([4., 2.], dtype=float32)
    """
    return _combined("segment_prod", SEGMENT_PROD, data, segment_ids, num_segments)
