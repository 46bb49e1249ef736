"""The fully connected layer."""

from __future__ import annotations

from typing import Any

from handmill import activations, constraints, initializers, ops, regularizers
from handmill.errors import ShapeError
from handmill.layers.arguments import positive_integer
from handmill.layers.core.quantized_table import QuantizedTableLayer
from handmill.layers.input_spec import InputSpec


class Dense(QuantizedTableLayer):
    """A fully connected layer: ``activation(x @ kernel + bias)``.

    Args:
        units: the number of outputs.
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
        quantization_config: how a layer whose dtype policy is a quantized one computes
            (:meth:`quantize`).
        **kwargs: ``name``, ``trainable``, ``dtype``, ``input_shape``, as of every layer.

    Input shape:
        ``(batch, ..., inputs)``

    Output shape:
        ``(batch, ..., units)``

    Raises:
        ValueError: if ``units`` is not a positive integer.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import Dense
        >>> Dense(2, kernel_initializer="ones")(np.ones((1, 3), "float32"))
        array([[3., 3.]], dtype=float32)
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            quantization_config=quantization_config,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self._start(
            units=positive_integer("units", units),
            activation=activations.get(activation),
            use_bias=use_bias,
            kernel_initializer=initializers.get(kernel_initializer),
            bias_initializer=initializers.get(bias_initializer),
            kernel_regularizer=regularizers.get(kernel_regularizer),
            bias_regularizer=regularizers.get(bias_regularizer),
            kernel_constraint=constraints.get(kernel_constraint),
            bias_constraint=constraints.get(bias_constraint),
            supports_masking=True,
            input_spec=InputSpec(min_ndim=2),
            bias=None,
        )

    units: int
    activation: Any
    use_bias: bool
    kernel_initializer: Any
    bias_initializer: Any
    kernel_regularizer: Any
    bias_regularizer: Any
    kernel_constraint: Any
    bias_constraint: Any
    bias: Any

    def build(self, input_shape: Any) -> None:
        """Makes kernel and bias."""
        if len(input_shape) >= 2 and input_shape[-1] is None:
            raise ShapeError(
                f'Input 0 of layer "{self.name}" is incompatible with the layer: the last '
                "dimension of its inputs must be known, which is how many rows the kernel has; "
                f"received input with shape {tuple(input_shape)}\n  hint: give `Input` that size; "
                "behind Flatten or Reshape all sizes but the batch's must be known"
            )
        if len(input_shape) < 2:
            raise ShapeError(
                f'Input 0 of layer "{self.name}" is incompatible with the layer: expected '
                f"min_ndim=2, found ndim={len(input_shape)}, but received input with shape "
                f"{tuple(input_shape)}\n  hint: a Dense layer needs inputs of shape "
                "(batch, inputs); a single sample x is passed as x[None]"
            )
        self._add_table(
            (input_shape[-1], self.units),
            self.kernel_initializer,
            self.kernel_regularizer,
            self.kernel_constraint,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: input_shape[-1]})
        self._enable_lora_from_start()

    @property
    def kernel(self) -> Any:
        """The matrix of weights, after :meth:`enable_lora` with what is added to it."""
        return self._adapted_table()

    @kernel.setter
    def kernel(self, value: Any) -> None:
        self._kernel = value

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Computes the output."""
        if self.lora_enabled and type(self).kernel is Dense.kernel:
            # One after the other: less work than their product, which has a large gradient.
            a, b, factor = self._lora
            added = ops.multiply(ops.matmul(ops.matmul(inputs, a), b), factor)
            outputs = ops.add(self._product(inputs), added)
        elif self._rounds:
            outputs = self._quantized_product(inputs)
        else:
            outputs = ops.matmul(inputs, self.kernel)
        if self.use_bias:
            outputs = ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    def _product(self, inputs: Any) -> Any:
        """The product with the table itself."""
        if self._rounds:
            return self._quantized_product(inputs)
        return ops.matmul(inputs, self._table)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }
