"""Convolutions of each channel by itself, whose kernels may be integers of 8 bits."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.layers.core.integer_tables import IntegerTablesLayer
from handmill.ops.nn.spatial import padding_pairs
from handmill.primitives.int8_depthwise import int8_depthwise


class IntegerDepthwiseLayer(IntegerTablesLayer):
    """Base: inputs become bytes of steps that data decided, kernels integers with scales.

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
        if self.data_format != "channels_last":
            raise NotImplementedError(
                f"{self.describe()}: only convolutions with channels last are quantized."
            )

    def _convolve_bytes(self, inputs: Any, name: str) -> Any:
        """The convolution of each channel of inputs as bytes, float32."""
        x, step, zero = self._bytes_of(inputs)
        sizes, dilation = ops.shape(x)[1:-1], self.dilation_rate
        pairs = padding_pairs(self.padding, sizes, self.kernel_size, self.strides, dilation)
        factors = ops.divide(step, getattr(self, f"{name}_scale"))
        return int8_depthwise(x, getattr(self, name), factors, zero, self.strides, pairs, dilation)
