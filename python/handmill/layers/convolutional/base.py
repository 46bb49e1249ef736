"""What all layers that convolve have: windows, kernels, a bias, an activation."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from handmill import activations, constraints, initializers, ops, regularizers
from handmill.config import standardize_data_format
from handmill.errors import ShapeError
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer
from handmill.ops.nn.spatial import each
from handmill.primitives.windows import reach


def strictly_positive(name: str, value: Any) -> int:
    """Returns an argument that counts channels.

    Raises:
        ValueError: if it is not an integer above 0.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise ValueError(f"`{name}` must be an integer. Received {name}={value!r}.")
    if value < 1:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a strictly positive value. "
            f"Received {name}={value}."
        )
    return int(value)


class ConvolutionLayer(Layer):
    """Base: ``activation(convolution(inputs) + bias)``.

    Subclasses name their kernels, make them in ``build`` and use them in ``convolution_op``.

    Args:
        kernel_size: the size of a window.
        strides: how far one window begins after the other.
        padding: where windows lie.
        data_format: where the channels are.
        dilation_rate: how far the elements of a window lie apart.
        activation: a name or function; None for none.
        use_bias: whether there is a bias.
        bias_initializer: initial values of the bias.
        bias_regularizer: penalty on the bias.
        bias_constraint: condition on the bias.
        **kwargs: ``activity_regularizer``, ``name`` and the like.
    """

    rank: ClassVar[int]
    """The number of axes between batch and channels."""
    _paddings: ClassVar[tuple[str, ...]] = ("valid", "same")
    _kernels: ClassVar[tuple[str, ...]] = ("kernel",)
    """The first words of the arguments ``..._initializer`` and so on."""
    _strides_or_dilation = False
    """Whether Keras has one of them only."""

    def __init__(
        self,
        *,
        kernel_size: Any,
        strides: Any,
        padding: str,
        data_format: str | None,
        dilation_rate: Any,
        activation: Any,
        use_bias: bool,
        bias_initializer: Any,
        bias_regularizer: Any,
        bias_constraint: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = each("kernel_size", kernel_size, self.rank)
        self.strides = each("strides", strides, self.rank)
        self.dilation_rate = each("dilation_rate", dilation_rate, self.rank)
        self.padding = padding.lower() if isinstance(padding, str) else padding
        if self.padding not in self._paddings:
            raise ValueError(
                f"The `padding` argument must be one of {', '.join(map(repr, self._paddings))}. "
                f"Received: {padding!r}"
            )
        if self._strides_or_dilation and max(self.strides) > 1 < max(self.dilation_rate):
            raise ValueError(
                "`strides > 1` not supported in conjunction with `dilation_rate > 1`. Received: "
                f"strides={self.strides} and dilation_rate={self.dilation_rate}"
            )
        self.data_format = standardize_data_format(data_format)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self._take_arguments("bias", bias_initializer, bias_regularizer, bias_constraint)
        self.input_spec = InputSpec(min_ndim=self.rank + 2)
        self.bias: Any = None

    def _take_arguments(
        self, weight: str, initializer: Any, regularizer: Any, constraint: Any
    ) -> None:
        setattr(self, f"{weight}_initializer", initializers.get(initializer))
        setattr(self, f"{weight}_regularizer", regularizers.get(regularizer))
        setattr(self, f"{weight}_constraint", constraints.get(constraint))

    def _add(self, name: str, arguments: str, shape: tuple[int, ...]) -> Any:
        """Makes a weight with the arguments ``<arguments>_initializer`` and so on."""
        found = {
            what: getattr(self, f"{arguments}_{what}")
            for what in ("initializer", "regularizer", "constraint")
        }
        return self.add_weight(name=name, shape=shape, **found)

    def _add_bias(self, filters: int) -> None:
        if self.use_bias:
            self.bias = self._add("bias", "bias", (filters,))

    def _channels_of(self, input_shape: Any) -> int:
        """The channels of an input, which is held to them from now on.

        Raises:
            ShapeError: if their number is open, or the input has another number of axes.
        """
        shape = tuple(input_shape)
        axis = -1 if self.data_format == "channels_last" else 1
        if len(shape) != self.rank + 2 or shape[axis] is None:
            raise ShapeError(
                f"{self.describe()}: an input of {self.rank + 2} axes with a fixed number of "
                f"channels was expected ({self.data_format}), received input with shape {shape}"
            )
        self._check_sizes(shape[1:-1] if axis == -1 else shape[2:], shape)
        self.input_spec = InputSpec(min_ndim=self.rank + 2, axes={axis: shape[axis]})
        return int(shape[axis])

    def _check_sizes(self, sizes: Any, shape: Any) -> None:
        """Refuses an input into which no window fits, before there are weights for it."""
        spans = [
            reach(n, apart) for n, apart in zip(self.kernel_size, self.dilation_rate, strict=True)
        ]
        if self.padding == "valid" and any(
            n is not None and n < span for n, span in zip(sizes, spans, strict=True)
        ):
            raise ShapeError(
                f"{self.describe()}: Computed output size would be zero or negative: windows that "
                f"span {tuple(spans)} do not fit. Received: input_shape={shape}, kernel_size="
                f"{self.kernel_size}, dilation_rate={self.dilation_rate}, padding={self.padding!r}"
            )

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        outputs = self.convolve(inputs)
        if self.use_bias:
            bias = self.bias
            if self.data_format == "channels_first":
                bias = ops.reshape(bias, (1, bias.shape[0], *(1,) * self.rank))
            outputs = ops.add(outputs, bias)
        return outputs if self.activation is None else self.activation(outputs)

    def convolve(self, inputs: Any) -> Any:
        """Convolves, without bias and activation."""
        raise NotImplementedError

    def _options(self) -> dict[str, Any]:
        """The arguments of a function of ``ops``."""
        return {
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
        }

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            **self._options(),
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
        }
        forms = {
            "initializer": initializers.serialize,
            "regularizer": regularizers.serialize,
            "constraint": constraints.serialize,
        }
        for what, form in forms.items():
            for weight in (*self._kernels, "bias"):
                config[f"{weight}_{what}"] = form(getattr(self, f"{weight}_{what}"))
        return config
