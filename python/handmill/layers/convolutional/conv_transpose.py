"""Transposed convolution: each element is spread over a window."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.layers.convolutional.base import ConvolutionLayer, strictly_positive
from handmill.ops.nn.spatial import each


class _ConvTranspose(ConvolutionLayer):
    """Base: the arguments are those of :class:`Conv2DTranspose`."""

    _strides_or_dilation = True

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            activation=activation,
            use_bias=use_bias,
            bias_initializer=bias_initializer,
            bias_regularizer=bias_regularizer,
            bias_constraint=bias_constraint,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.filters = strictly_positive("filters", filters)
        self.output_padding = None
        if output_padding is not None:
            self.output_padding = each("output_padding", output_padding, self.rank, least=0)
            if any(n >= step for n, step in zip(self.output_padding, self.strides, strict=True)):
                raise ValueError(
                    "`output_padding` must be strictly less than `strides` for all dimensions. "
                    f"Received: output_padding={self.output_padding}, strides={self.strides}"
                )
        self._take_arguments("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)

    def build(self, input_shape: Any) -> None:
        """Makes kernel and bias."""
        channels = self._channels_of(input_shape)
        shape = (*self.kernel_size, self.filters, channels)
        self.kernel = self._add("kernel", "kernel", shape)
        self._add_bias(self.filters)

    def _check_sizes(self, sizes: Any, shape: Any) -> None:
        """Every input has an output."""

    def convolve(self, inputs: Any) -> Any:
        """Convolves, without bias and activation."""
        options = {"output_padding": self.output_padding, **self._options()}
        return ops.conv_transpose(inputs, self.kernel, **options)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "output_padding": self.output_padding,
        }


class Conv1DTranspose(_ConvTranspose):
    """Spreads each step of sequences over a window: :class:`Conv1D` the other way round.

    The arguments are those of :class:`Conv2DTranspose`.

    Input shape:
        ``(batch, steps, channels)``, or ``(batch, channels, steps)`` with "channels_first"

    Output shape:
        ``(batch, new steps, filters)``, or the channels where the input has them

    Example:
        >>> from handmill.layers import Conv1DTranspose, Input
        >>> Conv1DTranspose(32, 3, 2)(Input((10, 128))).shape
        (None, 21, 32)
    """

    rank = 1


class Conv2DTranspose(_ConvTranspose):
    """Spreads each element of images over a window: :class:`Conv2D` the other way round.

    Args:
        filters: the number of channels of the output.
        kernel_size: the size of a window: an integer, or one for each axis.
        strides: how far one window begins after the other in the output.
        padding: "valid": the output holds all windows; "same": it has ``size * strides`` elements.
        output_padding: elements more at the end of each axis, see ``ops.conv_transpose``; less than
            the strides.
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        dilation_rate: how far the elements of a window lie apart; above 1 not with strides.
        activation: a name or function; None for none.
        use_bias: whether there is a bias.
        kernel_initializer: initial values of the kernel.
        bias_initializer: initial values of the bias.
        kernel_regularizer: penalty on the kernel.
        bias_regularizer: penalty on the bias.
        activity_regularizer: penalty on the output.
        kernel_constraint: condition on the kernel.
        bias_constraint: condition on the bias.
        **kwargs: ``name``, ``trainable``, ``dtype``, ``input_shape``, as of every layer.

    Input shape:
        ``(batch, height, width, channels)``, or ``(batch, channels, height, width)`` with
        "channels_first"

    Output shape:
        ``(batch, new height, new width, filters)``, or the channels where the input has them

    Raises:
        ValueError: if an argument is none of those above.

    Example:
        >>> from handmill.layers import Conv2DTranspose, Input
        >>> Conv2DTranspose(16, 3, strides=2, padding="same")(Input((7, 7, 32))).shape
        (None, 14, 14, 16)
    """

    rank = 2


class Conv3DTranspose(_ConvTranspose):
    """Spreads each element of volumes over a window: :class:`Conv3D` the other way round.

    The arguments are those of :class:`Conv2DTranspose`; as in Keras, ``data_format`` comes before
    ``output_padding`` where they are passed by position.

    Input shape:
        ``(batch, depth, height, width, channels)``, or the channels after the batch with
        "channels_first"

    Output shape:
        ``(batch, new depth, new height, new width, filters)``, or the channels where the input has
        them

    Example:
        >>> from handmill.layers import Conv3DTranspose, Input
        >>> Conv3DTranspose(8, 2, 2)(Input((4, 5, 6, 3))).shape
        (None, 8, 10, 12, 8)
    """

    rank = 3

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        output_padding: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        arguments = (filters, kernel_size, strides, padding, output_padding, data_format)
        super().__init__(*arguments, *args, **kwargs)
