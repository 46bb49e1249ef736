"""The middle of sequences, images and volumes."""

from __future__ import annotations

from typing import Any

from handmill.errors import ShapeError
from handmill.ir.dims import at_least
from handmill.layers.reshaping.borders import BorderLayer


class _Cropping(BorderLayer):
    _argument = "cropping"
    _problem = (
        "Values in `cropping` argument should be smaller than the corresponding spatial dimension "
        "of the input"
    )
    cropping: tuple[Any, ...]

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        where = []
        for size, (before, after) in zip(inputs.shape, self._pairs(), strict=True):
            if before + after and not at_least(size, before + after + 1):
                raise ShapeError(
                    f"{self._problem}. Received: inputs.shape={tuple(inputs.shape)}, "
                    f"cropping={self.cropping}"
                )
            where.append(slice(before, -after if after else None))
        return inputs[tuple(where)]


class Cropping1D(_Cropping):
    """Cuts steps off both ends of sequences.

    Args:
        cropping: how many at each end: an integer, or two (before, after).
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, steps, channels)``

    Output shape:
        The same with fewer steps.

    Raises:
        ShapeError: when called, if nothing is left.

    Example:
        >>> from handmill.layers import Cropping1D, Input
        >>> Cropping1D((2, 1))(Input((5, 3))).shape
        (None, 2, 3)
    """

    _rank = 1
    _has_data_format = False
    _problem = "`cropping` parameter of `Cropping1D` layer must be smaller than the input length"

    def __init__(self, cropping: Any = (1, 1), **kwargs: Any) -> None:
        super().__init__(cropping, "channels_last", **kwargs)


class Cropping2D(_Cropping):
    """Cuts rows and columns off images.

    Args:
        cropping: how many: an integer; one for each axis; or a pair (before, after) for each axis.
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, height, width, channels)``, or ``(batch, channels, height, width)`` with
        "channels_first"

    Output shape:
        The same, lower and narrower.

    Raises:
        ShapeError: when called, if nothing is left.

    Example:
        >>> from handmill.layers import Cropping2D, Input
        >>> Cropping2D(((0, 1), (2, 0)))(Input((5, 4, 3))).shape
        (None, 4, 2, 3)
    """

    _rank = 2

    def __init__(
        self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(cropping, data_format, **kwargs)


class Cropping3D(_Cropping):
    """Cuts layers off all sides of volumes.

    Args:
        cropping: how many: an integer; one for each axis; or a pair (before, after) for each axis.
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, depth, height, width, channels)``, or the channels after the batch with
        "channels_first"

    Output shape:
        The same, smaller.

    Raises:
        ShapeError: when called, if nothing is left.

    Example:
        >>> from handmill.layers import Cropping3D, Input
        >>> Cropping3D(1)(Input((5, 4, 3, 2))).shape
        (None, 3, 2, 1, 2)
    """

    _rank = 3

    def __init__(
        self,
        cropping: Any = ((1, 1), (1, 1), (1, 1)),
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(cropping, data_format, **kwargs)
