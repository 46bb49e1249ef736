"""Arguments of functions that slide windows over images: sizes, padding, layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill import config
from handmill.errors import shape_error
from handmill.ir.dims import Dim
from handmill.ops.numpy.arrange import moveaxis
from handmill.primitives.operands import shape_of
from handmill.primitives.windows import MOST_AXES, Pairs, reach

Sizes = int | Sequence[int]
"""One integer for all spatial axes, or one for each."""


def channels_last(op: str, x: Any, data_format: str | None) -> tuple[Any, Callable[[Any], Any]]:
    """Returns ``x`` with its channels moved to the end, and what moves those of a result back.

    Args:
        op: the function's name, for messages.
        x: a batch of sequences, images or volumes.
        data_format: "channels_last" or "channels_first"; None means the default one.

    Raises:
        ShapeError: if ``x`` has not 1 to 3 axes beside batch and channels.
    """
    first = config.standardize_data_format(data_format) == "channels_first"
    rank = len(shape_of(x))
    if not 3 <= rank <= MOST_AXES + 2:
        problem = (
            f"batch, channels and 1 to {MOST_AXES} spatial axes were expected, got rank {rank}"
        )
        raise shape_error(op, problem, {"inputs": shape_of(x)})
    if first:
        return moveaxis(x, 1, -1), lambda y: moveaxis(y, -1, 1)
    return x, lambda y: y


def each(name: str, value: Any, count: int, least: int = 1) -> tuple[int, ...]:
    """Returns an integer for each spatial axis.

    Args:
        name: of the argument, for messages.
        value: an integer for all, or one for each.
        count: the number of axes.
        least: the smallest one allowed, 0 or 1.

    Raises:
        ValueError: if there are not as many, or they are no such integers.
    """
    found = (value,) * count if isinstance(value, int | np.integer) else value
    found = tuple(found) if isinstance(found, np.ndarray) and found.ndim else found
    problem = ""
    if isinstance(found, list | tuple) and all(isinstance(n, int | np.integer) for n in found):
        low = {int(n) for n in found if n < least}
        if low:
            sign = "> 0" if least else ">= 0"
            problem = f", including values {low} that do not satisfy `value {sign}`"
        elif len(found) == count:
            return tuple(int(n) for n in found)
    raise ValueError(
        f"The `{name}` argument must be a tuple of {count} integers. "
        f"Received {name}={value}{problem}"
    )


def padding_mode(padding: Any) -> str:
    """Returns "valid" or "same".

    Raises:
        ValueError: for anything else.
    """
    mode = padding.lower() if isinstance(padding, str) else padding
    if mode not in ("valid", "same"):
        raise ValueError(
            f"The `padding` argument must be one of 'valid', 'same'. Received: padding={padding!r}"
        )
    return str(mode)


def padding_pairs(
    padding: Any,
    sizes: Sequence[Dim],
    window: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
) -> Pairs:
    """Returns the elements added before and after each axis.

    Args:
        padding: "valid": none; "same": as few as let one window begin in each stride, one more
            behind than before if their number is odd.
        sizes: of the axes.
        window: the size of a window.
        strides: from one window to the next.
        dilation: from one element of a window to the next.
    """
    if padding_mode(padding) == "valid":
        return ((0, 0),) * len(window)
    pairs: list[tuple[Dim, Dim]] = []
    for size, step, *place in zip(sizes, strides, window, dilation, strict=True):
        extent = reach(*place)
        beyond = (size + step - 1) // step * step - size  # of the last stride, 0 to step - 1
        lacking: Any = beyond + extent - step
        if extent == 1:
            lacking = 0
        elif extent < step:  # max(lacking, 0), as a polynomial in sizes that a call decides
            lacking = (beyond + extent - 1) // step * lacking
        pairs.append((lacking // 2, lacking - lacking // 2))
    return tuple(pairs)
