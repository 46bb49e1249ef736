"""Zeros around sequences, images and volumes."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.layers.reshaping.borders import BorderLayer


class _ZeroPadding(BorderLayer):
    _argument = "padding"

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(padding, data_format, **kwargs)

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return ops.pad(inputs, self._pairs())


class ZeroPadding1D(_ZeroPadding):
    """Puts zeros before and after sequences.

    Args:
        padding: how many at each end: an integer, or two (before, after).
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, steps, channels)``, or ``(batch, channels, steps)`` with "channels_first"

    Output shape:
        The same with more steps.

    Example:
        >>> from handmill.layers import Input, ZeroPadding1D
        >>> ZeroPadding1D((2, 1))(Input((5, 3))).shape
        (None, 8, 3)
    """

    _rank = 1


class ZeroPadding2D(_ZeroPadding):
    """Puts zeros around images.

    Args:
        padding: how many: an integer; one for each axis; or a pair (before, after) for each axis.
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, height, width, channels)``, or ``(batch, channels, height, width)`` with
        "channels_first"

    Output shape:
        The same, higher and wider.

    Example:
        >>> from handmill.layers import Input, ZeroPadding2D
        >>> ZeroPadding2D(((0, 1), (2, 0)))(Input((5, 4, 3))).shape
        (None, 6, 6, 3)
    """

    _rank = 2


class ZeroPadding3D(_ZeroPadding):
    """Puts zeros around volumes.

    Args:
        padding: how many: an integer; one for each axis; or a pair (before, after) for each axis.
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, depth, height, width, channels)``, or the channels after the batch with
        "channels_first"

    Output shape:
        The same, larger.

    Example:
        >>> from handmill.layers import Input, ZeroPadding3D
        >>> ZeroPadding3D((0, 1, 2))(Input((5, 4, 3, 2))).shape
        (None, 5, 6, 7, 2)
    """

    _rank = 3
