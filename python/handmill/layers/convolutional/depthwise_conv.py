"""Convolution of each channel by itself."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.layers.convolutional.base import ConvolutionLayer, strictly_positive
from handmill.layers.convolutional.integer_depthwise import IntegerDepthwiseLayer


class _DepthwiseConv(IntegerDepthwiseLayer, ConvolutionLayer):
    """Base: the arguments are those of :class:`DepthwiseConv2D`."""

    _kernels = ("depthwise",)
    _output_axes = {"kernel": 2}  # noqa: RUF012
    kernel: Any

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
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
        self.depth_multiplier = strictly_positive("depth_multiplier", depth_multiplier)
        self._take_arguments(
            "depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint
        )

    def build(self, input_shape: Any) -> None:
        """Makes kernel and bias."""
        channels = self._channels_of(input_shape)
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self._add_table("kernel", "depthwise", shape)
        self._add_bias(channels * self.depth_multiplier)

    def convolve(self, inputs: Any) -> Any:
        """Convolves, without bias and activation."""
        given = self._with_kernels(inputs)
        if given is None:
            found = self._convolve_bytes(inputs, "kernel")
        else:
            found = ops.depthwise_conv(*given, **self._options())
        return ops.cast(found, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "depth_multiplier": self.depth_multiplier}


class DepthwiseConv1D(_DepthwiseConv):
    """Convolves each channel of sequences with kernels of its own.

    The arguments are those of :class:`DepthwiseConv2D`.

    Input shape:
        ``(batch, steps, channels)``, or ``(batch, channels, steps)`` with "channels_first"

    Output shape:
        ``(batch, new steps, channels * depth_multiplier)``, or the channels where the input has
        them

    Example:
        >>> from handmill.layers import DepthwiseConv1D, Input
        >>> DepthwiseConv1D(3, depth_multiplier=3)(Input((10, 12))).shape
        (None, 8, 36)
    """

    rank = 1


class DepthwiseConv2D(_DepthwiseConv):
    """Convolves each channel of images with kernels of its own.

    Args:
        kernel_size: the size of a window: an integer, or one for each axis.
        strides: how far one window begins after the other: an integer, or one for each axis.
        padding: "valid": windows lie inside; "same": zeros around let one begin in each stride.
        depth_multiplier: the number of kernels of each channel.
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        dilation_rate: how far the elements of a window lie apart.
        activation: a name or function; None for none.
        use_bias: whether there is a bias.
        depthwise_initializer: initial values of the kernels.
        bias_initializer: initial values of the bias.
        depthwise_regularizer: penalty on the kernels.
        bias_regularizer: penalty on the bias.
        activity_regularizer: penalty on the output.
        depthwise_constraint: condition on the kernels.
        bias_constraint: condition on the bias.
        **kwargs: ``name``, ``trainable``, ``dtype``, ``input_shape``, as of every layer.

    Input shape:
        ``(batch, height, width, channels)``, or ``(batch, channels, height, width)`` with
        "channels_first"

    Output shape:
        ``(batch, new height, new width, channels * depth_multiplier)``, or the channels where the
        input has them

    Raises:
        ValueError: if an argument is none of those above.
        ShapeError: when built, if no window fits.

    Example:
        >>> from handmill.layers import DepthwiseConv2D, Input
        >>> DepthwiseConv2D(3, padding="same")(Input((10, 10, 12))).shape
        (None, 10, 10, 12)
    """

    rank = 2
