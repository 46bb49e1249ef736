"""Pooling over windows: the largest element, or the mean."""

from __future__ import annotations

from typing import Any, ClassVar

from handmill import ops
from handmill.config import standardize_data_format
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer
from handmill.ops.nn.spatial import each, padding_mode


class _Pooling(Layer):
    """Base: windows that slide over the axes between batch and channels."""

    _rank: ClassVar[int]

    def __init__(
        self,
        pool_size: Any,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.pool_size = each("pool_size", pool_size, self._rank)
        self.strides = self.pool_size if strides is None else each("strides", strides, self._rank)
        self.padding = padding_mode(padding)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self._rank + 2)
        self._build_at_init()

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), **self._options()}

    def _options(self) -> dict[str, Any]:
        return {
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
        }


class _MaxPooling(_Pooling):
    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return ops.max_pool(inputs, **self._options())


class _AveragePooling(_Pooling):
    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return ops.average_pool(inputs, **self._options())


class MaxPooling1D(_MaxPooling):
    """Takes the largest element of each window of steps, channel by channel.

    The arguments are those of :class:`MaxPooling2D`.

    Input shape:
        ``(batch, steps, channels)``, or ``(batch, channels, steps)`` with "channels_first"

    Output shape:
        ``(batch, new steps, channels)``, or the channels where the input has them

    Example:
        >>> from handmill.layers import Input, MaxPooling1D
        >>> MaxPooling1D()(Input((5, 3))).shape
        (None, 2, 3)
    """

    _rank = 1


class MaxPooling2D(_MaxPooling):
    """Takes the largest element of each window of an image, channel by channel.

    Args:
        pool_size: the size of a window: an integer, or one for each axis.
        strides: how far one window begins after the other; default: ``pool_size``.
        padding: "valid": windows lie inside; "same": one begins in each stride, and may reach out.
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        name: the layer's name.
        **kwargs: ``trainable``, ``dtype``, ``input_shape``, as of every layer.

    Input shape:
        ``(batch, height, width, channels)``, or ``(batch, channels, height, width)`` with
        "channels_first"

    Output shape:
        ``(batch, new height, new width, channels)``, or the channels where the input has them

    Raises:
        ValueError: if an argument is none of those above.
        ShapeError: when called, if no window fits.

    Example:
        >>> from handmill.layers import Input, MaxPooling2D
        >>> MaxPooling2D()(Input((28, 28, 3))).shape
        (None, 14, 14, 3)
    """

    _rank = 2


class MaxPooling3D(_MaxPooling):
    """Takes the largest element of each window of a volume, channel by channel.

    The arguments are those of :class:`MaxPooling2D`.

    Input shape:
        ``(batch, depth, height, width, channels)``, or the channels after the batch with
        "channels_first"

    Output shape:
        The new sizes in place of the old ones.

    Example:
        >>> from handmill.layers import Input, MaxPooling3D
        >>> MaxPooling3D((1, 2, 3))(Input((6, 6, 6, 3))).shape
        (None, 6, 3, 2, 3)
    """

    _rank = 3


class AveragePooling1D(_AveragePooling):
    """Takes the mean of each window of steps, channel by channel; padding does not count.

    The arguments are those of :class:`MaxPooling2D`; ``pool_size`` must be given.

    Input shape:
        ``(batch, steps, channels)``, or ``(batch, channels, steps)`` with "channels_first"

    Output shape:
        ``(batch, new steps, channels)``, or the channels where the input has them

    Example:
        >>> from handmill.layers import AveragePooling1D, Input
        >>> AveragePooling1D(2, padding="same")(Input((5, 3))).shape
        (None, 3, 3)
    """

    _rank = 1


class AveragePooling2D(_AveragePooling):
    """Takes the mean of each window of an image, channel by channel; padding does not count.

    The arguments are those of :class:`MaxPooling2D`; ``pool_size`` must be given.

    Input shape:
        ``(batch, height, width, channels)``, or ``(batch, channels, height, width)`` with
        "channels_first"

    Output shape:
        ``(batch, new height, new width, channels)``, or the channels where the input has them

    Example:
        >>> from handmill.layers import AveragePooling2D, Input
        >>> AveragePooling2D(7)(Input((28, 28, 3))).shape
        (None, 4, 4, 3)
    """

    _rank = 2


class AveragePooling3D(_AveragePooling):
    """Takes the mean of each window of a volume, channel by channel; padding does not count.

    The arguments are those of :class:`MaxPooling2D`; ``pool_size`` must be given.

    Input shape:
        ``(batch, depth, height, width, channels)``, or the channels after the batch with
        "channels_first"

    Output shape:
        The new sizes in place of the old ones.

    Example:
        >>> from handmill.layers import AveragePooling3D, Input
        >>> AveragePooling3D(2)(Input((6, 6, 6, 3))).shape
        (None, 3, 3, 3, 3)
    """

    _rank = 3
