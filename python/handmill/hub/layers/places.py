"""Which places of a sequence a call sees."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.errors import ShapeError
from handmill.primitives.operands import shape_of


def known_size(layer: Any, size: Any, what: str) -> int:
    """A size that a layer needs as a number.

    Raises:
        ShapeError: if it differs from call to call.
    """
    if not isinstance(size, int):
        raise ShapeError(f"{layer.describe()}: {what} must be a known size, not None")
    return size


def rank_of(start: Any) -> int:
    """0 for one start, 1 for a start for each row."""
    return 0 if isinstance(start, int) else len(shape_of(start))


def places_of(length: Any, start: Any, positions: Any = None) -> Any:
    """The places of the entries of a sequence: (1, T), or (B, T), int32.

    Args:
        length: how many entries there are, T.
        start: the place of the first one; or one for each row (B,).
        positions: the places themselves, (T,) or (B, T), in the place of both.
    """
    if positions is not None:
        positions = ops.convert_to_tensor(positions)
        return ops.expand_dims(positions, 0) if len(shape_of(positions)) == 1 else positions
    steps = ops.expand_dims(ops.arange(length, dtype="int32"), 0)
    if isinstance(start, int) and start == 0:
        return steps
    start = ops.cast(start, "int32")
    return ops.add(steps, ops.expand_dims(start, 1) if rank_of(start) else start)


def causal_mask(length: Any, keys: Any, start: Any) -> Any:
    """Which keys each query may look at: bool (1, T, S), or (B, T, S) for a start for each row.

    Args:
        length: how many queries there are, T.
        keys: how many places there are, S.
        start: the place of the first query; or one for each row (B,).
    """
    at = ops.expand_dims(places_of(length, start), 2)
    return ops.less_equal(ops.reshape(ops.arange(keys, dtype="int32"), (1, 1, -1)), at)
