"""LSTM layers whose products are convolutions, and their cell."""

from __future__ import annotations

from typing import Any, ClassVar

from handmill import activations, ops
from handmill.config import standardize_data_format
from handmill.errors import ShapeError
from handmill.layers.convolutional.base import strictly_positive
from handmill.layers.input_spec import InputSpec
from handmill.layers.rnn.cell import SETTINGS, DropoutMasks, RecurrentCell
from handmill.layers.rnn.lstm import forget_bias
from handmill.layers.rnn.recurrent import RecurrentLayer
from handmill.ops.nn.spatial import each
from handmill.primitives.windows import reach


class ConvLSTMCell(RecurrentCell):
    """One step of a ConvLSTM layer: that of an LSTM, with convolutions for products.

    Args:
        rank: the number of spatial axes, from 1 to 3.
        filters: the channels of output and states.
        kernel_size: the size of a window.
        strides: how far one window of the inputs begins after the other.
        padding: "valid" or "same", of the inputs; states are always padded.
        data_format: where the channels are; default: that of the process.
        dilation_rate: how far the elements of a window of the inputs lie apart.
        activation: of candidate and output.
        recurrent_activation: of the gates.
        use_bias: whether there is a bias.
        settings: see :class:`RecurrentCell`.
        unit_forget_bias: whether the biases of the forget gate begin at 1.
        dropout: the share of inputs left out while training.
        recurrent_dropout: the share of the state left out while training.
        seed: of the draws.
        **kwargs: ``name`` and the like.
    """

    _gates = 4
    bias_initializer: Any

    def __init__(
        self,
        rank: int,
        filters: int,
        kernel_size: Any,
        strides: Any,
        padding: str,
        data_format: str | None,
        dilation_rate: Any,
        activation: Any,
        recurrent_activation: Any,
        use_bias: bool,
        settings: dict[str, Any],
        unit_forget_bias: bool,
        dropout: float,
        recurrent_dropout: float,
        seed: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(activation, use_bias, settings, dropout, recurrent_dropout, seed, **kwargs)
        self.rank = rank
        self.filters = strictly_positive("filters", filters)
        self.kernel_size = each("kernel_size", kernel_size, rank)
        self.strides = each("strides", strides, rank)
        self.padding = padding.lower() if isinstance(padding, str) else padding
        if self.padding not in ("valid", "same"):
            raise ValueError(
                f"The `padding` argument must be one of 'valid', 'same'. Received: {padding!r}"
            )
        self.data_format = standardize_data_format(data_format)
        self.dilation_rate = each("dilation_rate", dilation_rate, rank)
        if max(self.strides) > 1 < max(self.dilation_rate):
            raise ValueError(
                "Specifying `strides > 1` is not compatible with `dilation_rate > 1`. Please "
                "provide `strides=1` or `dilation_rate=1`. Received: "
                f"strides={self.strides} and dilation_rate={self.dilation_rate}"
            )
        self.recurrent_activation = activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias
        self.state_size = -1  # an array; see get_initial_state
        self._step_shape: tuple[int, ...] = ()

    def build(self, inputs_shape: Any) -> None:
        """Makes the kernels and the bias."""
        shape = tuple(inputs_shape)[1:]
        if None in shape:
            raise ShapeError(
                "ConvLSTM layers only support static input shapes for the spatial dimension and "
                f"the channels. Received invalid input shape: input_shape={tuple(inputs_shape)}"
            )
        self._step_shape = shape
        channels = shape[-1] if self.data_format == "channels_last" else shape[0]
        width = 4 * self.filters
        self.kernel = self._add("kernel", (*self.kernel_size, channels, width))
        self.recurrent_kernel = self._add(
            "recurrent_kernel", (*self.kernel_size, self.filters, width)
        )
        if self.use_bias:
            plain = self.bias_initializer
            made = forget_bias(plain, self.filters) if self.unit_forget_bias else plain
            self.bias = self._add("bias", (width,), made)

    def _mask_count(self) -> int:
        return 4

    def _mask_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self._step_shape, self._state_shape()

    def _state_shape(self) -> tuple[int, ...]:
        """The shape of output and states, without the batch size."""
        last = self.data_format == "channels_last"
        sizes = self._step_shape[:-1] if last else self._step_shape[1:]
        found = []
        for n, size, stride, apart in zip(
            sizes, self.kernel_size, self.strides, self.dilation_rate, strict=True
        ):
            inside = n if self.padding == "same" else n - reach(size, apart) + 1
            found.append(-(-inside // stride))
        return (*found, self.filters) if last else (self.filters, *found)

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """Zeros, for h and c."""
        shape = (batch_size, *self._state_shape())
        return [ops.zeros(shape, dtype=self.compute_dtype) for _ in range(2)]

    def project(self, inputs: Any, masks: DropoutMasks) -> Any:
        """What inputs, of one step or of all, add to the gates i, f, c, o."""
        shape = ops.shape(inputs)
        several = len(shape) > self.rank + 2
        if several and masks.inputs is not None:
            given: list[Any] | None = [ops.expand_dims(mask, 1) for mask in masks.inputs]
        else:
            given = masks.inputs

        def conv(x: Any, kernel: Any) -> Any:
            flat = ops.reshape(x, (shape[0] * shape[1], *shape[2:])) if several else x
            found = ops.conv(
                flat,
                kernel,
                strides=self.strides,
                padding=self.padding,
                data_format=self.data_format,
                dilation_rate=self.dilation_rate,
            )
            sizes = ops.shape(found)
            return ops.reshape(found, (*shape[:2], *sizes[1:])) if several else found

        z = self._convolved(conv, inputs, given, self.kernel)
        if self.bias is None:
            return z
        bias = self.bias
        if self.data_format == "channels_first":
            bias = ops.reshape(bias, (4 * self.filters, *(1,) * self.rank))
        return ops.add(z, bias)

    def _convolved(self, conv: Any, x: Any, masks: list[Any] | None, kernel: Any) -> Any:
        if masks is None:
            return conv(x, kernel)
        parts = ops.split(kernel, 4, axis=-1)
        found = [conv(ops.multiply(x, m), part) for m, part in zip(masks, parts, strict=True)]
        return ops.concatenate(found, axis=self._channel_axis)

    @property
    def _channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else -1 - self.rank

    def step(self, z: Any, states: list[Any], masks: DropoutMasks) -> tuple[Any, list[Any]]:
        """One step: the states are h, which is the output, and c."""
        h, c = states

        def conv(x: Any, kernel: Any) -> Any:
            return ops.conv(x, kernel, padding="same", data_format=self.data_format)

        z = ops.add(z, self._convolved(conv, h, masks.state, self.recurrent_kernel))
        z_i, z_f, z_c, z_o = ops.split(z, 4, axis=self._channel_axis)
        i, f, o = (self.recurrent_activation(gate) for gate in (z_i, z_f, z_o))
        c = ops.add(ops.multiply(f, c), ops.multiply(i, self.activation(z_c)))
        h = ops.multiply(o, self.activation(c))
        return h, [h, c]

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            **self._config(
                "filters",
                "kernel_size",
                "strides",
                "padding",
                "data_format",
                "dilation_rate",
                "activation",
                "recurrent_activation",
                "use_bias",
                *SETTINGS,
                "unit_forget_bias",
                "dropout",
                "recurrent_dropout",
                "seed",
            ),
        }


class _ConvLSTM(RecurrentLayer):
    """Base: the arguments are those of :class:`ConvLSTM2D`."""

    _rank: ClassVar[int]

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: Any = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        **kwargs: Any,
    ) -> None:
        settings = {
            "kernel_initializer": kernel_initializer,
            "recurrent_initializer": recurrent_initializer,
            "bias_initializer": bias_initializer,
            "kernel_regularizer": kernel_regularizer,
            "recurrent_regularizer": recurrent_regularizer,
            "bias_regularizer": bias_regularizer,
            "kernel_constraint": kernel_constraint,
            "recurrent_constraint": recurrent_constraint,
            "bias_constraint": bias_constraint,
        }
        cell = ConvLSTMCell(
            self._rank,
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation,
            recurrent_activation,
            use_bias,
            settings,
            unit_forget_bias,
            dropout,
            recurrent_dropout,
            seed,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name="conv_lstm_cell",
        )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.state_size = [-1, -1]
        self.input_spec = InputSpec(ndim=self._rank + 3)


class ConvLSTM1D(_ConvLSTM):
    """A recurrent layer for sequences of vectors: an LSTM whose products are convolutions.

    Args:
        filters: the channels of output and states.
        kernel_size: the size of a window.
        strides: how far one window of the inputs begins after the other.
        padding: "valid" or "same", of the inputs; states are always padded.
        **kwargs: and all other arguments of :class:`ConvLSTM2D`.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import ConvLSTM1D
        >>> ConvLSTM1D(4, 3, padding="same")(np.ones((2, 5, 8, 3), "float32")).shape
        (2, 8, 4)
    """

    _rank = 1


class ConvLSTM2D(_ConvLSTM):
    """A recurrent layer for sequences of images: an LSTM whose products are convolutions.

    (Shi et al., "Convolutional LSTM network: a machine learning approach for precipitation
    nowcasting", 2015.)

    Args:
        filters: the channels of output and states.
        kernel_size: the size of a window, a number for all axes or one for each.
        strides: how far one window of the inputs begins after the other.
        padding: "valid" or "same", of the inputs; states are always padded.
        data_format: "channels_last" or "channels_first"; default: that of the process.
        dilation_rate: how far the elements of a window of the inputs lie apart.
        activation: of candidate and output; a name or function, None for none.
        recurrent_activation: of the gates.
        use_bias: whether there is a bias.
        kernel_initializer: initial values of the kernel.
        recurrent_initializer: initial values of the recurrent kernel.
        bias_initializer: initial values of the bias.
        unit_forget_bias: whether the biases of the forget gate begin at 1.
        kernel_regularizer: penalty on the kernel.
        recurrent_regularizer: penalty on the recurrent kernel.
        bias_regularizer: penalty on the bias.
        activity_regularizer: penalty on the output.
        kernel_constraint: condition on the kernel.
        recurrent_constraint: condition on the recurrent kernel.
        bias_constraint: condition on the bias.
        dropout: the share of inputs left out while training; drawn once a call.
        recurrent_dropout: the share of the state left out while training; drawn once a call.
        seed: of the draws; default: the next one after ``utils.set_random_seed``.
        return_sequences: whether the outputs of all steps are returned, not only the last one.
        return_state: whether the last states, h and c, are returned too.
        go_backwards: whether to begin with the last step; outputs are in the order of the steps.
        stateful: whether a batch begins with the states in which the one before it ended.
        **kwargs: ``name`` and the like.

    Call arguments:
        sequences: ``(batch, time, *spatial, channels)``, or channels behind time.
        initial_state: a list of h and c; default: zeros.
        mask: bool, (batch, time); steps with False leave the states as they are.
        training: whether there is dropout.

    Raises:
        ValueError: for sizes that are no positive integers, or strides with dilation.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import ConvLSTM2D
        >>> ConvLSTM2D(4, 3)(np.ones((2, 5, 8, 8, 3), "float32")).shape
        (2, 6, 6, 4)
    """

    _rank = 2


class ConvLSTM3D(_ConvLSTM):
    """A recurrent layer for sequences of volumes: an LSTM whose products are convolutions.

    Args:
        filters: the channels of output and states.
        kernel_size: the size of a window.
        strides: how far one window of the inputs begins after the other.
        padding: "valid" or "same", of the inputs; states are always padded.
        **kwargs: and all other arguments of :class:`ConvLSTM2D`.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import ConvLSTM3D
        >>> ConvLSTM3D(2, 3)(np.ones((1, 2, 4, 4, 4, 3), "float32")).shape
        (1, 2, 2, 2, 2)
    """

    _rank = 3
