"""Convolutions of each channel by itself, whose kernels may be integers."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.layers.core.integer_tables import IntegerTablesLayer
from handmill.ops.nn.spatial import padding_pairs
from handmill.primitives.int8_depthwise import int8_depthwise


class IntegerDepthwiseLayer(IntegerTablesLayer):
    """Base: kernels become integers with scales, inputs bytes of steps that data decided.

    With weights alone quantized, inputs stay as they are.

    Args:
        **kwargs: those of :class:`IntegerTablesLayer`.
    """

    _has_inputs = True

    kernel_size: Any
    strides: Any
    dilation_rate: Any
    padding: Any
    data_format: str

    def _add_table(self, name: str, arguments: str, shape: tuple[int, ...]) -> None:
        """Makes a kernel, or the variables of a quantized one."""
        if self.quantization_mode is None:
            setattr(self, name, self._add(name, arguments, shape))  # type: ignore[attr-defined]
        else:
            self._add_integers(name, shape)

    def _check_config(self, config: Any) -> None:
        super()._check_config(config)
        if self.data_format != "channels_last" and not self._keeps_inputs(config):
            raise NotImplementedError(
                f"{self.describe()}: products of bytes are those of convolutions with channels "
                "last; weights alone are quantized of others: `activation_quantizer=None`, or the "
                "mode 'int4'."
            )

    def _with_kernels(self, inputs: Any) -> tuple[Any, ...] | None:
        """Inputs and kernels to convolve with; None where both are bytes."""
        if self.quantization_mode is None:
            return inputs, *(getattr(self, name) for name in self._tables)
        if self._keeps_inputs(self.quantization_config):
            return ops.cast(inputs, "float32"), *(self._numbers(name) for name in self._tables)
        return None

    def _convolve_bytes(self, inputs: Any, name: str) -> Any:
        """The convolution of each channel of inputs as bytes, float32."""
        x, step, zero = self._bytes_of(inputs)
        sizes, dilation = ops.shape(x)[1:-1], self.dilation_rate
        pairs = padding_pairs(self.padding, sizes, self.kernel_size, self.strides, dilation)
        factors = ops.divide(step, getattr(self, f"{name}_scale"))
        return int8_depthwise(x, getattr(self, name), factors, zero, self.strides, pairs, dilation)
