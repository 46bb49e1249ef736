"""Pooling by the names of ``keras.ops``."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.op import Op
from handmill.ir.trace import apply
from handmill.ops.nn.spatial import Sizes, channels_last, each, padding_pairs
from handmill.ops.numpy.movement import concatenate
from handmill.ops.numpy.sorting import take
from handmill.primitives.operands import Tensor, promote_float, promote_number, shape_of
from handmill.primitives.pooling import AVERAGE_POOL, MAX_POOL


def _pool(
    op: Op, x: Any, pool_size: Sizes, strides: Sizes | None, padding: str, data_format: str | None
) -> Any:
    x, restored = channels_last(op.name, x, data_format)
    sizes = shape_of(x)[1:-1]
    window = each("pool_size", pool_size, len(sizes))
    steps = window if strides is None else each("strides", strides, len(sizes))
    pairs = padding_pairs(padding, sizes, window, steps, (1,) * len(sizes))
    return restored(apply(op, x, window=window, strides=steps, padding=pairs))


def max_pool(
    inputs: Tensor,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Any:
    """Returns the largest element of each window, channel by channel.

    The first of equal elements of a window gets its gradient.

    Args:
        inputs: ``(batch, *sizes, channels)`` with 1 to 3 sizes.
        pool_size: the size of a window.
        strides: how far one window begins after the other. Default: ``pool_size``.
        padding: "valid": windows lie inside; "same": one begins in each stride, and may reach out.
        data_format: "channels_last", or "channels_first" for ``(batch, channels, *sizes)``.

    Returns:
        ``(batch, *new sizes, channels)``, or the channels where ``inputs`` has them.

    Raises:
        ShapeError: if no window fits.
        ValueError: if an argument is none of those above.

    Example:
        >>> from handmill import ops
        >>> ops.max_pool([[[1.0], [3.0], [2.0], [0.0]]], 2)
        array([[[3.],
                [2.]]], dtype=float32)
    """
    return _pool(MAX_POOL, promote_number(inputs), pool_size, strides, padding, data_format)


def average_pool(
    inputs: Tensor,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Any:
    """Returns the mean of each window, channel by channel; padding does not count.

    Args:
        inputs: see :func:`max_pool`.
        pool_size: see :func:`max_pool`.
        strides: see :func:`max_pool`.
        padding: see :func:`max_pool`.
        data_format: see :func:`max_pool`.

    Returns:
        ``(batch, *new sizes, channels)``, or the channels where ``inputs`` has them.

    Raises:
        ShapeError: if no window fits.
        ValueError: if an argument is none of those above.

    Example:
        >>> from handmill import ops
        >>> ops.average_pool([[[1.0], [3.0], [2.0]]], 2, padding="same")
        array([[[2.],
                [2.]]], dtype=float32)
    """
    (x,) = promote_float(inputs)
    return _pool(AVERAGE_POOL, x, pool_size, strides, padding, data_format)


def _pool_along(op: Op, x: Any, axis: int, count: int) -> Any:
    """Cuts one axis into ``count`` windows of nearly equal size, which may overlap."""
    size = shape_of(x)[axis]
    if not isinstance(size, int):
        problem = f"fixed sizes were expected, axis {axis} differs from call to call"
        raise shape_error(f"adaptive_{op.name}", problem, {"inputs": shape_of(x)})
    starts = [i * size // count for i in range(count)]
    stops = [-(-(i + 1) * size // count) for i in range(count)]
    found = []
    places = np.zeros(count, np.int32)
    before = 0
    spans = [stop - start for start, stop in zip(starts, stops, strict=True)]
    ones = (1,) * (len(shape_of(x)) - 2)

    def windows(span: int, step: int) -> Any:
        along = {"window": span, "strides": step}
        sizes = {k: (*ones[: axis - 1], n, *ones[axis:]) for k, n in along.items()}
        return apply(op, x, padding=((0, 0),) * len(ones), **sizes)

    if size % count == 0:
        return windows(size // count, size // count)
    for span in sorted(set(spans)):
        for i, start in enumerate(starts):
            if spans[i] == span:
                places[i] = before + start
        found.append(windows(span, 1))
        before += size - span + 1
    return take(concatenate(found, axis) if len(found) > 1 else found[0], places, axis=axis)


def _adaptive_pool(op: Op, x: Any, output_size: Sizes, data_format: str | None) -> Any:
    x, restored = channels_last(f"adaptive_{op.name}", x, data_format)
    counts = each("output_size", output_size, len(shape_of(x)) - 2)
    for axis, count in enumerate(counts, 1):
        x = _pool_along(op, x, axis, count)
    return restored(x)


def adaptive_max_pool(inputs: Tensor, output_size: Sizes, data_format: str | None = None) -> Any:
    """Returns the largest elements of as many windows as are asked for.

    Window ``i`` of ``n`` goes from ``floor(i * size / n)`` to before ``ceil((i + 1) * size / n)``.

    Args:
        inputs: ``(batch, *sizes, channels)`` with 1 to 3 sizes, which must be fixed.
        output_size: how many windows: an integer, or one for each spatial axis.
        data_format: "channels_last", or "channels_first" for ``(batch, channels, *sizes)``.

    Returns:
        ``(batch, *output_size, channels)``, or the channels where ``inputs`` has them.

    Raises:
        ShapeError: if a size is open.
        ValueError: if ``output_size`` is none of those above.

    Example:
        >>> from handmill import ops
        >>> ops.adaptive_max_pool([[[1.0], [3.0], [2.0]]], 2)
        array([[[3.],
                [3.]]], dtype=float32)
    """
    return _adaptive_pool(MAX_POOL, promote_number(inputs), output_size, data_format)


def adaptive_average_pool(
    inputs: Tensor, output_size: Sizes, data_format: str | None = None
) -> Any:
    """Returns the means of as many windows as are asked for, see :func:`adaptive_max_pool`.

    Args:
        inputs: see :func:`adaptive_max_pool`.
        output_size: see :func:`adaptive_max_pool`.
        data_format: see :func:`adaptive_max_pool`.

    Returns:
        ``(batch, *output_size, channels)``, or the channels where ``inputs`` has them.

    Raises:
        ShapeError: if a size is open.
        ValueError: if ``output_size`` is none of those above.

    Example:
        >>> from handmill import ops
        >>> ops.adaptive_average_pool([[[1.0], [3.0], [2.0]]], 2)
        array([[[2. ],
                [2.5]]], dtype=float32)
    """
    (x,) = promote_float(inputs)
    return _adaptive_pool(AVERAGE_POOL, x, output_size, data_format)
