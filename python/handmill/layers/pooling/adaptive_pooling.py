"""Pooling into as many windows as are asked for, whatever the size of the input."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from handmill import ops
from handmill.config import standardize_data_format
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer
from handmill.ops.nn.spatial import each


class _AdaptivePooling(Layer):
    """Base: the arguments are those of :class:`AdaptiveAveragePooling2D`."""

    _rank: ClassVar[int]

    def __init__(self, output_size: Any, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(output_size, int | np.integer | list | tuple):
            raise TypeError(
                f"`output_size` must be an integer or a tuple of {self._rank} integers. "
                f"Received: {output_size} of type {type(output_size)}"
            )
        self.output_size = each("output_size", output_size, self._rank)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self._rank + 2)
        self._build_at_init()

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "output_size": self.output_size,
            "data_format": self.data_format,
        }


class _AdaptiveMaxPooling(_AdaptivePooling):
    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return ops.adaptive_max_pool(inputs, self.output_size, self.data_format)


class _AdaptiveAveragePooling(_AdaptivePooling):
    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return ops.adaptive_average_pool(inputs, self.output_size, self.data_format)


class AdaptiveMaxPooling1D(_AdaptiveMaxPooling):
    """Takes the largest elements of as many windows of steps as are asked for.

    The arguments are those of :class:`AdaptiveAveragePooling2D`.

    Input shape:
        ``(batch, steps, channels)``, or ``(batch, channels, steps)`` with "channels_first"

    Output shape:
        ``(batch, output_size, channels)``, or the channels where the input has them

    Example:
        >>> from handmill.layers import AdaptiveMaxPooling1D, Input
        >>> AdaptiveMaxPooling1D(4)(Input((10, 3))).shape
        (None, 4, 3)
    """

    _rank = 1


class AdaptiveMaxPooling2D(_AdaptiveMaxPooling):
    """Takes the largest elements of as many windows of an image as are asked for.

    The arguments are those of :class:`AdaptiveAveragePooling2D`.

    Input shape:
        ``(batch, height, width, channels)``, or ``(batch, channels, height, width)`` with
        "channels_first"

    Output shape:
        ``(batch, *output_size, channels)``, or the channels where the input has them

    Example:
        >>> from handmill.layers import AdaptiveMaxPooling2D, Input
        >>> AdaptiveMaxPooling2D((4, 3))(Input((10, 10, 3))).shape
        (None, 4, 3, 3)
    """

    _rank = 2


class AdaptiveMaxPooling3D(_AdaptiveMaxPooling):
    """Takes the largest elements of as many windows of a volume as are asked for.

    The arguments are those of :class:`AdaptiveAveragePooling2D`.

    Input shape:
        ``(batch, depth, height, width, channels)``, or the channels after the batch with
        "channels_first"

    Output shape:
        ``(batch, *output_size, channels)``, or the channels where the input has them

    Example:
        >>> from handmill.layers import AdaptiveMaxPooling3D, Input
        >>> AdaptiveMaxPooling3D(2)(Input((5, 6, 7, 3))).shape
        (None, 2, 2, 2, 3)
    """

    _rank = 3


class AdaptiveAveragePooling1D(_AdaptiveAveragePooling):
    """Takes the means of as many windows of steps as are asked for.

    The arguments are those of :class:`AdaptiveAveragePooling2D`.

    Input shape:
        ``(batch, steps, channels)``, or ``(batch, channels, steps)`` with "channels_first"

    Output shape:
        ``(batch, output_size, channels)``, or the channels where the input has them

    Example:
        >>> from handmill.layers import AdaptiveAveragePooling1D, Input
        >>> AdaptiveAveragePooling1D(4)(Input((10, 3))).shape
        (None, 4, 3)
    """

    _rank = 1


class AdaptiveAveragePooling2D(_AdaptiveAveragePooling):
    """Takes the means of as many windows of an image as are asked for.

    Window ``i`` of ``n`` goes from ``floor(i * size / n)`` to before ``ceil((i + 1) * size / n)``.

    Args:
        output_size: the sizes of the output: an integer, or one for each axis.
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        **kwargs: ``name``, ``trainable``, ``dtype``, ``input_shape``, as of every layer.

    Input shape:
        ``(batch, height, width, channels)`` of a fixed height and width, or
        ``(batch, channels, height, width)`` with "channels_first"

    Output shape:
        ``(batch, *output_size, channels)``, or the channels where the input has them

    Raises:
        TypeError: if ``output_size`` is neither an integer nor a list of them.
        ValueError: if it has another length, or numbers below 1.

    Example:
        >>> from handmill.layers import AdaptiveAveragePooling2D, Input
        >>> AdaptiveAveragePooling2D(4)(Input((10, 9, 3))).shape
        (None, 4, 4, 3)
    """

    _rank = 2


class AdaptiveAveragePooling3D(_AdaptiveAveragePooling):
    """Takes the means of as many windows of a volume as are asked for.

    The arguments are those of :class:`AdaptiveAveragePooling2D`.

    Input shape:
        ``(batch, depth, height, width, channels)``, or the channels after the batch with
        "channels_first"

    Output shape:
        ``(batch, *output_size, channels)``, or the channels where the input has them

    Example:
        >>> from handmill.layers import AdaptiveAveragePooling3D, Input
        >>> AdaptiveAveragePooling3D(2)(Input((5, 6, 7, 3))).shape
        (None, 2, 2, 2, 3)
    """

    _rank = 3
