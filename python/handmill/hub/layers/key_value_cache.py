"""Keys and values of the places before, kept while a text is continued."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from handmill import ops
from handmill.hub.layers.places import rank_of
from handmill.primitives.operands import dtype_of, shape_of


def written(cache: Any, new: Any, start: Any) -> Any:
    """Returns a cache with new entries from a place on.

    Args:
        cache: keys or values (B, S, K, H).
        new: those of the next T places (B, T, K, H), or of the first rows alone.
        start: the place of the first, an integer or a scalar; or one for each row (B,).
    """
    all_rows, places, heads, size = shape_of(cache)
    rows, count = shape_of(new)[:2]
    steps = ops.expand_dims(ops.arange(count, dtype="int32"), 0)
    start = ops.cast(start, "int32")
    place = ops.add(steps, ops.expand_dims(start, 1) if rank_of(start) else start)
    first = ops.expand_dims(ops.multiply(ops.arange(rows, dtype="int32"), places), 1)
    # What lies beyond the cache is left out, not written into the next row.
    line = ops.where(ops.less(place, places), ops.add(place, first), -1)
    flat = ops.reshape(cache, (all_rows * places, heads * size))
    values = ops.reshape(ops.cast(new, dtype_of(cache)), (rows, count, heads * size))
    found = ops.scatter_update(flat, ops.expand_dims(line, 2), values)
    return ops.reshape(found, (all_rows, places, heads, size))


def starts_of(start: Any, queries: Any) -> Any:
    """The place of the first query of each row (B,); None where all begin at 0."""
    if start is None or (isinstance(start, int) and start == 0):
        return None
    return ops.broadcast_to(ops.cast(start, "int32"), shape_of(queries)[:1])


def keys_and_values(
    make: Callable[[], tuple[Any, Any]], cache: Any, start: Any
) -> tuple[Any, Any, Any]:
    """Keys, values and the cache that holds them.

    Args:
        make: makes keys and values of the places that are new.
        cache: a pair of them, or one tensor (B, 2, S, K, H); None for none. A triple has the rows
            in which each row finds its places, see :func:`rows_of`; they are handed on as they are.
        start: the first of these places, one for all rows or one for each; None if nothing is new.

    Raises:
        ValueError: for a place without a cache.
    """
    if cache is None:
        if start is not None:
            raise ValueError("`cache_update_index` is a place in `cache`, which is None")
        return *make(), None
    is_pair = isinstance(cache, tuple | list)
    keys, values, *rows = cache if is_pair else (cache[:, 0], cache[:, 1])
    if start is not None:
        keys, values = (
            written(old, new, start) for old, new in zip((keys, values), make(), strict=True)
        )
        cache = (keys, values, *rows) if is_pair else ops.stack((keys, values), axis=1)
    return keys, values, cache


def rows_of(cache: Any) -> Any:
    """The row of a cache in which each place of each row lies (B, S); None where it is its own.

    So texts change places, as those of a beam search do, and no key is copied.

    Args:
        cache: what a layer was given; keys, values and these rows, or without them.
    """
    return cache[2] if isinstance(cache, tuple | list) and len(cache) == 3 else None
