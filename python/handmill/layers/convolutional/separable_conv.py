"""Convolution of each channel by itself, then of all channels of each place."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.layers.convolutional.base import ConvolutionLayer, strictly_positive
from handmill.layers.convolutional.integer_depthwise import IntegerDepthwiseLayer


class _SeparableConv(IntegerDepthwiseLayer, ConvolutionLayer):
    """Base: the arguments are those of :class:`SeparableConv2D`."""

    _kernels = ("depthwise", "pointwise")
    _tables = ("depthwise_kernel", "pointwise_kernel")
    _output_axes = {"depthwise_kernel": 2}  # noqa: RUF012
    depthwise_kernel: Any
    pointwise_kernel: Any

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
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
        self.depth_multiplier = strictly_positive("depth_multiplier", depth_multiplier)
        self._take_arguments(
            "depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint
        )
        self._take_arguments(
            "pointwise", pointwise_initializer, pointwise_regularizer, pointwise_constraint
        )

    def build(self, input_shape: Any) -> None:
        """Makes kernels and bias."""
        channels = self._channels_of(input_shape)
        multiplied = channels * self.depth_multiplier
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self._add_table("depthwise_kernel", "depthwise", shape)
        shape = (*(1,) * self.rank, multiplied, self.filters)
        self._add_table("pointwise_kernel", "pointwise", shape)
        self._add_bias(self.filters)

    def convolve(self, inputs: Any) -> Any:
        """Convolves, without bias and activation."""
        given = self._with_kernels(inputs)
        if given is None:
            # What lies between has no step of its own: each place is measured.
            return self._times_table(
                self._convolve_bytes(inputs, "depthwise_kernel"), "pointwise_kernel"
            )
        return ops.cast(ops.separable_conv(*given, **self._options()), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "depth_multiplier": self.depth_multiplier,
        }


class SeparableConv1D(_SeparableConv):
    """Convolves each channel of sequences by itself, then mixes the channels of each step.

    The arguments are those of :class:`SeparableConv2D`.

    Input shape:
        ``(batch, steps, channels)``, or ``(batch, channels, steps)`` with "channels_first"

    Output shape:
        ``(batch, new steps, filters)``, or the channels where the input has them

    Example:
        >>> from handmill.layers import Input, SeparableConv1D
        >>> SeparableConv1D(3, 4, strides=2)(Input((10, 12))).shape
        (None, 4, 3)
    """

    rank = 1


class SeparableConv2D(_SeparableConv):
    """Convolves each channel of images by itself, then mixes the channels of each place.

    Args:
        filters: the number of channels of the output.
        kernel_size: the size of a window: an integer, or one for each axis.
        strides: how far one window begins after the other: an integer, or one for each axis.
        padding: "valid": windows lie inside; "same": zeros around let one begin in each stride.
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        dilation_rate: how far the elements of a window lie apart.
        depth_multiplier: the number of kernels of each channel.
        activation: a name or function; None for none.
        use_bias: whether there is a bias.
        depthwise_initializer: initial values of the kernels of each channel.
        pointwise_initializer: initial values of the kernel that mixes.
        bias_initializer: initial values of the bias.
        depthwise_regularizer: penalty on the kernels of each channel.
        pointwise_regularizer: penalty on the kernel that mixes.
        bias_regularizer: penalty on the bias.
        activity_regularizer: penalty on the output.
        depthwise_constraint: condition on the kernels of each channel.
        pointwise_constraint: condition on the kernel that mixes.
        bias_constraint: condition on the bias.
        **kwargs: ``name``, ``trainable``, ``dtype``, ``input_shape``, as of every layer.

    Input shape:
        ``(batch, height, width, channels)``, or ``(batch, channels, height, width)`` with
        "channels_first"

    Output shape:
        ``(batch, new height, new width, filters)``, or the channels where the input has them

    Raises:
        ValueError: if an argument is none of those above.
        ShapeError: when built, if no window fits.

    Example:
        >>> from handmill.layers import Input, SeparableConv2D
        >>> SeparableConv2D(16, 3, padding="same")(Input((10, 10, 12))).shape
        (None, 10, 10, 16)
    """

    rank = 2
