"""Convolution with a kernel over all channels."""

from __future__ import annotations

import math
from typing import Any

from handmill import ops, quantizers
from handmill.arguments import whole_number
from handmill.errors import ShapeError
from handmill.layers.convolutional.base import ConvolutionLayer, strictly_positive
from handmill.layers.core.fake_quantization import full_width, straight
from handmill.layers.core.quantized_table import QuantizedTableLayer
from handmill.ops.nn.spatial import padding_pairs
from handmill.primitives.int8_conv import int8_conv


class _Conv(QuantizedTableLayer, ConvolutionLayer):
    """Base: the arguments are those of :class:`Conv2D`."""

    _strides_or_dilation = True
    kernel_initializer: Any
    kernel_regularizer: Any
    kernel_constraint: Any
    kernel_scale: Any
    _names_groups = False  # Keras has no 4 bits here, and neighbours are a group

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
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
        if isinstance(groups, int) and groups < 1:  # Keras's words
            raise ValueError(
                f"The number of groups must be a positive integer. Received: groups={groups}."
            )
        self.groups = whole_number("Conv: `groups`", groups, 1)
        if self.filters % self.groups:
            raise ValueError(
                "The number of filters must be evenly divisible by the number of groups. "
                f"Received: groups={self.groups}, filters={self.filters}."
            )
        self._take_arguments("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)

    def build(self, input_shape: Any) -> None:
        """Makes kernel and bias."""
        channels = self._channels_of(input_shape)
        if channels % self.groups:
            raise ShapeError(
                f"{self.describe()}: The number of input channels must be evenly divisible by the "
                f"number of groups. Received groups={self.groups}, but the input has {channels} "
                f"channels (full input shape is {tuple(input_shape)})."
            )
        shape = (*self.kernel_size, channels // self.groups, self.filters)
        self._add_table(
            shape, self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint
        )
        self._add_bias(self.filters)
        self._enable_lora_from_start()

    @property
    def kernel(self) -> Any:
        """The kernel, after :meth:`enable_lora` with what is added to it."""
        return self._adapted_table()

    @kernel.setter
    def kernel(self, value: Any) -> None:
        self._kernel = value

    def convolve(self, inputs: Any) -> Any:
        """Convolves, without bias and activation."""
        if not self._rounds:
            return self.convolution_op(inputs, self.kernel)
        aware = self.quantize_aware
        if not self._is_static(None if aware is None else aware.config):
            return self._convolve_numbers(inputs)
        return self._convolve_bytes(inputs) if aware is None else self._convolve_simulated(inputs)

    def _convolve_numbers(self, inputs: Any) -> Any:
        """The convolution with the numbers that integers stand for, or will."""
        if self.quantize_aware is None:
            numbers = self._float_matrix()
        else:
            table = full_width(self._table)
            shape = self._table_matrix(self._shape_of_table)
            numbers = self._simulated_numbers(ops.reshape(table, shape))
        kernel = ops.reshape(numbers, self._shape_of_table)
        return self._with_lora(self.convolution_op(ops.cast(inputs, "float32"), kernel), inputs)

    def _convolve_bytes(self, inputs: Any) -> Any:
        """The convolution of inputs as bytes."""
        x, step, zero = self._bytes_of(inputs)
        sizes, dilation = ops.shape(x)[1:-1], self.dilation_rate
        if self.padding == "causal":
            pairs: Any = ((dilation[0] * (self.kernel_size[0] - 1), 0),)
        else:
            pairs = padding_pairs(self.padding, sizes, self.kernel_size, self.strides, dilation)
        factors = ops.divide(step, self.kernel_scale)
        found = int8_conv(x, self._table, factors, zero, self.strides, pairs, dilation)
        return self._with_lora(found, inputs)

    def _convolve_simulated(self, inputs: Any) -> Any:
        """What :meth:`_convolve_bytes` will give, with gradients."""
        rounded, table = self._rounded_inputs(inputs), full_width(self._table)
        matrix = ops.reshape(table, (math.prod(table.shape[:-1]), table.shape[-1]))
        whole, factor = self._rounded_table(matrix)
        x = straight(ops.cast(inputs, "float32"), rounded)
        kernel = ops.reshape(straight(matrix, whole), table.shape)
        factors = ops.divide(rounded.step, ops.reshape(factor, (-1,)))
        found = ops.multiply(self.convolution_op(x, kernel), ops.stop_gradient(factors))
        return self._with_lora(found, inputs)

    def _with_lora(self, found: Any, inputs: Any) -> Any:
        """The result of integers, with what LoRA adds to it."""
        if self.lora_enabled:
            a, b, factor = self._lora
            added = self.convolution_op(inputs, ops.multiply(ops.matmul(a, b), factor))
            found = ops.add(found, ops.cast(added, "float32"))
        return ops.cast(found, self.compute_dtype)

    def _check_quantizable(self, config: Any, type_check: bool) -> Any:
        if not isinstance(config, quantizers.Int8StaticQuantizationConfig):
            if config.activation_quantizer is not None:
                raise NotImplementedError(
                    f"{self.describe()}: inputs of convolutions are quantized with steps that data "
                    "decide; use `Int8StaticQuantizationConfig(calibration_data)`, or quantize the "
                    "weights alone: `activation_quantizer=None`, or the mode 'int4'."
                )
        elif self.groups != 1 or self.rank > 2 or self.data_format != "channels_last":
            raise NotImplementedError(
                f"{self.describe()}: products of bytes are those of convolutions of one or two "
                "axes, of one group and with channels last; weights alone are quantized of others: "
                "`activation_quantizer=None`, or the mode 'int4'."
            )
        return super()._check_quantizable(config, type_check)

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolves with a kernel; subclasses may give it another one than the weight itself."""
        return ops.conv(inputs, kernel, **self._options())

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = {**super().get_config(), "filters": self.filters, "groups": self.groups}
        if self.quantization_config is None:
            del config["quantization_config"]  # Keras does not know the word here
        return config


class Conv1D(_Conv):
    """Convolves sequences with a kernel, adds a bias, applies an activation.

    The arguments are those of :class:`Conv2D`; ``padding`` may also be ``"causal"``: zeros come
    before the first step only, so no output sees a later one.

    Input shape:
        ``(batch, steps, channels)``, or ``(batch, channels, steps)`` with "channels_first"

    Output shape:
        ``(batch, new steps, filters)``, or the channels where the input has them

    Example:
        >>> from handmill.layers import Conv1D, Input
        >>> Conv1D(32, 3, padding="causal")(Input((10, 128))).shape
        (None, 10, 32)
    """

    rank = 1
    _paddings = ("valid", "same", "causal")

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolves with a kernel; subclasses may give it another one than the weight itself."""
        options = self._options()
        if self.padding == "causal":
            before = self.dilation_rate[0] * (self.kernel_size[0] - 1)
            pairs = [(0, 0), (before, 0), (0, 0)]
            if self.data_format == "channels_first":
                pairs = [(0, 0), (0, 0), (before, 0)]
            inputs, options["padding"] = ops.pad(inputs, pairs), "valid"
        return ops.conv(inputs, kernel, **options)


class Conv2D(_Conv):
    """Convolves images with a kernel, adds a bias, applies an activation.

    Args:
        filters: the number of channels of the output.
        kernel_size: the size of a window: an integer, or one for each axis.
        strides: how far one window begins after the other: an integer, or one for each axis.
        padding: "valid": windows lie inside; "same": zeros around let one begin in each stride.
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        dilation_rate: how far the elements of a window lie apart; above 1 not with strides.
        groups: into how many parts channels and filters are split; each sees its own.
        activation: a name or function; None for none.
        use_bias: whether there is a bias.
        kernel_initializer: initial values of the kernel.
        bias_initializer: initial values of the bias.
        kernel_regularizer: penalty on the kernel.
        bias_regularizer: penalty on the bias.
        activity_regularizer: penalty on the output.
        kernel_constraint: condition on the kernel.
        bias_constraint: condition on the bias.
        lora_rank: trains two small tables of so many columns and rows, whose product is added to
            the kernel, in its place (:meth:`enable_lora`).
        lora_alpha: the factor of that product, times ``lora_rank``; default: ``lora_rank``.
        **kwargs: ``name``, ``trainable``, ``dtype``, ``input_shape``, as of every layer.

    Input shape:
        ``(batch, height, width, channels)``, or ``(batch, channels, height, width)`` with
        "channels_first"

    Output shape:
        ``(batch, new height, new width, filters)``, or the channels where the input has them

    Raises:
        ValueError: if an argument is none of those above.
        ShapeError: when built, if no window fits or groups do not divide the channels.

    Example:
        >>> from handmill.layers import Conv2D, Input
        >>> Conv2D(32, 3, strides=2, padding="same")(Input((28, 28, 1))).shape
        (None, 14, 14, 32)
    """

    rank = 2


class Conv3D(_Conv):
    """Convolves volumes with a kernel, adds a bias, applies an activation.

    The arguments are those of :class:`Conv2D`.

    Input shape:
        ``(batch, depth, height, width, channels)``, or the channels after the batch with
        "channels_first"

    Output shape:
        ``(batch, new depth, new height, new width, filters)``, or the channels where the input has
        them

    Example:
        >>> from handmill.layers import Conv3D, Input
        >>> Conv3D(8, 3)(Input((10, 10, 10, 4))).shape
        (None, 8, 8, 8, 8)
    """

    rank = 3
