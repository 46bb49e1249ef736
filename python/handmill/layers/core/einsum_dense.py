"""A dense layer over any axes."""

from __future__ import annotations

import functools
import math
import re
import string
from collections.abc import Sequence
from typing import Any, NamedTuple

from handmill import activations, constraints, initializers, ops, regularizers
from handmill.errors import ShapeError
from handmill.layers.arguments import refuse_unsupported
from handmill.layers.core.quantized_table import QuantizedTableLayer
from handmill.layers.input_spec import InputSpec

_EQUATION = re.compile(
    r"(?P<left>\.\.\.)?(?P<inputs>[a-zA-Z]+)(?P<right>\.\.\.)?,(?P<kernel>[a-zA-Z]+)"
    r"->(?(left)\.\.\.)(?P<outputs>[a-zA-Z]+)(?(right)\.\.\.)"
)


class _Shapes(NamedTuple):
    """What an equation says for one shape of the input."""

    kernel: tuple[int | None, ...]
    bias: tuple[int | None, ...] | None
    outputs: tuple[int | None, ...]
    input_axes: list[int]
    output_axes: list[int]


class EinsumDense(QuantizedTableLayer):
    """A dense layer whose sums an einsum equation names: ``activation(einsum(x, kernel) + bias)``.

    Args:
        equation: such as ``"abc,cd->abd"``: the letters of input, kernel and output. Input and
            output may both begin, or both end, with ``...`` for any number of axes.
        output_shape: the sizes of the output without the batch size, or without the axes of
            ``...``; an integer for one. None is the size of the input.
        activation: a name or function; None for none.
        bias_axes: the letters of the output along which there are biases; None for no bias.
        kernel_initializer: initial values of the kernel.
        bias_initializer: initial values of the bias.
        kernel_regularizer: penalty on the kernel.
        bias_regularizer: penalty on the bias.
        kernel_constraint: condition on the kernel.
        bias_constraint: condition on the bias.
        lora_rank: trains two small tables of so many columns and rows, whose product is added to
            the kernel, in its place (:meth:`enable_lora`).
        lora_alpha: the factor of that product, times ``lora_rank``; default: ``lora_rank``.
        gptq_unpacked_column_size: not supported; must be None.
        quantization_config: how a layer whose dtype policy is a quantized one computes
            (:meth:`quantize`).
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if the equation is none, or does not fit the shapes.

    Example:
        >>> from handmill.layers import EinsumDense, Input
        >>> EinsumDense("abc,cd->abd", output_shape=(None, 64), bias_axes="d")(Input((32, 8))).shape
        (None, 32, 64)
    """

    def __init__(
        self,
        equation: str,
        output_shape: int | Sequence[int | None],
        activation: Any = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        gptq_unpacked_column_size: None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ) -> None:
        refuse_unsupported(
            gptq_unpacked_column_size=gptq_unpacked_column_size,
        )
        super().__init__(
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            quantization_config=quantization_config,
            **kwargs,
        )
        sizes = [output_shape] if isinstance(output_shape, int) else output_shape
        self.equation = equation
        self.partial_output_shape: tuple[int | None, ...] = tuple(sizes)
        self.activation = activations.get(activation)
        self.bias_axes = bias_axes
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.bias: Any = None

    def build(self, input_shape: Any) -> None:
        """Makes kernel and bias."""
        shapes = _shapes(self.equation, self.bias_axes, input_shape, self.partial_output_shape)
        for name, shape in (("kernel", shapes.kernel), ("bias", shapes.bias or ())):
            if None in shape:
                raise ShapeError(
                    f"{self.describe()}: an axis of its {name} {shape} has no fixed size. "
                    f"Received: input_shape={tuple(input_shape)}, "
                    f"output_shape={self.partial_output_shape}, equation={self.equation!r}"
                )
        self.input_spec = InputSpec(ndim=len(input_shape))
        self._add_table(
            shapes.kernel,  # type: ignore[arg-type]
            self._initializer_for(shapes),
            self.kernel_regularizer,
            self.kernel_constraint,
        )
        if shapes.bias is not None:
            self.bias = self.add_weight(
                name="bias",
                shape=shapes.bias,  # type: ignore[arg-type]
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self._enable_lora_from_start()

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """The shape of the output for inputs of ``input_shape``."""
        return _shapes(
            self.equation, self.bias_axes, input_shape, self.partial_output_shape
        ).outputs

    def _initializer_for(self, shapes: _Shapes) -> Any:
        """The kernel's initializer, told which axes are inputs if its scale depends on that."""
        given = self.kernel_initializer
        if not isinstance(given, initializers.VarianceScaling):
            return given
        if given.input_axes is not None and given.output_axes is not None:
            return given
        axes = {"input_axes": shapes.input_axes, "output_axes": shapes.output_axes}
        return type(given).from_config({**given.get_config(), "seed": given.seed, **axes})

    @property
    def kernel(self) -> Any:
        """The weights, after :meth:`enable_lora` with what is added to it."""
        return self._adapted_table()

    @kernel.setter
    def kernel(self, value: Any) -> None:
        self._kernel = value

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Computes the output."""
        first = self._first_of_lora()
        summed = _summed_axes(self.equation, self.bias_axes)
        if self._rounds:
            outputs = self._reshaped_product(inputs)
            if first is not None:
                outputs = ops.add(outputs, self._added(inputs, first))
            if self.bias is not None:
                outputs = ops.add(outputs, self.bias)
            return outputs if self.activation is None else self.activation(outputs)
        if first is None and summed:
            outputs = self._matrix_product(inputs, summed)
            return outputs if self.activation is None else self.activation(outputs)
        if first is None:
            outputs = ops.einsum(self.equation, inputs, self.kernel)
        else:
            added = self._added(inputs, first)
            outputs = ops.add(ops.einsum(self.equation, inputs, self._table), added)
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    def _added(self, inputs: Any, first: str) -> Any:
        """What LoRA adds: one product after the other, whose product has a large gradient."""
        a, b, factor = self._lora
        return ops.multiply(ops.matmul(ops.einsum(first, inputs, a), b), factor)

    def _reshaped_product(self, inputs: Any) -> Any:
        """The output of a quantized layer, without bias."""
        shape = ops.shape(inputs)
        rows, _ = self._table_matrix(self._shape_of_table)
        summed = _summed_axes(self.equation, self.bias_axes)
        kept = shape[: len(shape) - summed]
        outputs = self._quantized_product(ops.reshape(inputs, (*kept, rows)))
        return ops.reshape(outputs, (*kept, *self._shape_of_table[summed:]))

    def _table_matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The kernel as a matrix."""
        summed = _summed_axes(self.equation, self.bias_axes)
        if not summed:
            raise NotImplementedError(
                f"{self.describe()}: its equation {self.equation!r} is no product of the last axes "
                "of the input with the first ones of the kernel, with biases for all outputs or "
                "none; only such layers are quantized."
            )
        return math.prod(shape[:summed]), math.prod(shape[summed:])

    def _scale_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """As outputs of one example and position, the axes before being 1."""
        summed = _summed_axes(self.equation, self.bias_axes)
        kept = int(self.input_spec.ndim) - summed
        return (1,) * kept + tuple(shape[summed:])

    def _matrix_product(self, inputs: Any, summed: int) -> Any:
        """The output of an equation that is one product of matrices: it can end with the bias."""
        kernel, shape = self.kernel, ops.shape(inputs)
        made = kernel.shape[summed:]
        kept = shape[: len(shape) - summed]
        rows, columns = math.prod(kernel.shape[:summed]), math.prod(made)
        outputs = ops.matmul(
            ops.reshape(inputs, (*kept, rows)), ops.reshape(kernel, (rows, columns))
        )
        if self.bias is not None:
            outputs = ops.add(outputs, ops.reshape(self.bias, (columns,)))
        return ops.reshape(outputs, (*kept, *made))

    def _first_of_lora(self) -> str | None:
        """The equation of the first small table, where the second one makes the last axis."""
        if not self.lora_enabled or type(self).kernel is not EinsumDense.kernel:
            return None
        operands, _, outputs = self.equation.replace(" ", "").partition("->")
        inputs, _, kernel = operands.partition(",")
        last = kernel[-1]
        if outputs[-1] != last or last in inputs:
            return None
        rank = next(c for c in string.ascii_letters if c not in self.equation)
        return f"{inputs},{kernel[:-1]}{rank}->{outputs[:-1]}{rank}"

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "output_shape": self.partial_output_shape,
            "equation": self.equation,
            "activation": activations.serialize(self.activation),
            "bias_axes": self.bias_axes,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }


@functools.cache
def _summed_axes(equation: str, bias_axes: str | None) -> int:
    """The number of axes summed over, where input and kernel lie as matrices; 0 elsewhere.

    That is ``...ab,abcd->...cd``, with biases for all of ``cd`` or none.
    """
    found = _EQUATION.fullmatch(equation.replace(" ", ""))
    if found is None or found["right"] or not found["kernel"]:
        return 0
    inputs, kernel, outputs = found["inputs"], found["kernel"], found["outputs"]
    for count in range(1, len(kernel)):
        summed, made = kernel[:count], kernel[count:]
        kept = inputs[: len(inputs) - count]
        if inputs.endswith(summed) and outputs == kept + made and not set(kernel) & set(kept):
            whole = len(set(inputs + made)) == len(inputs + made)
            return count if whole and bias_axes in (None, made) else 0
    return 0


def _shapes(
    equation: str, bias_axes: str | None, input_shape: Any, output_shape: tuple[int | None, ...]
) -> _Shapes:
    found = _EQUATION.fullmatch(equation.replace(" ", ""))
    if found is None or (found["left"] and found["right"]):
        raise ValueError(
            f"Invalid einsum equation {equation!r}. Equations must be in the form [X],[Y]->[Z], "
            "...[X],[Y]->...[Z], or [X]...,[Y]->[Z]...."
        )
    inputs, kernel, outputs = found["inputs"], found["kernel"], found["outputs"]
    free = len(input_shape) - len(inputs)
    if free < 0:
        raise ShapeError(
            f"The equation {equation!r} names {len(inputs)} axes of the input. Received: "
            f"input_shape={tuple(input_shape)}"
        )
    batch = tuple(input_shape[:1])
    if found["left"] and free:
        wanted = tuple(input_shape[:free]) + output_shape
    elif free:
        wanted = batch + output_shape + tuple(input_shape[len(inputs) :])
    else:
        wanted = batch + output_shape
    start = free if found["left"] else 0  # where the letters begin
    sizes_in = dict(zip(inputs, input_shape[start:], strict=False))
    if len(wanted) != len(outputs) + free:
        raise ShapeError(
            f"The equation {equation!r} names {len(outputs)} axes of the output. Received: "
            f"output_shape={output_shape}, for an input of shape {tuple(input_shape)}"
        )
    sizes_out = dict(zip(outputs, wanted[start:], strict=False))
    for letter, size in sizes_out.items():
        if letter not in inputs and letter not in kernel:
            raise ValueError(
                f"Dimension {letter!r} was specified in the output {outputs!r} but has no "
                f"corresponding dim in the input {inputs!r} or the kernel {kernel!r}"
            )
        if letter in sizes_in and size is not None and size != sizes_in[letter]:
            raise ShapeError(
                "Input shape and output shape do not match at shared dimension "
                f"{letter!r}. Input shape is {sizes_in[letter]}, and output shape is {size}."
            )
    for letter in kernel:
        if letter not in sizes_in and letter not in sizes_out:
            raise ValueError(
                f"Dimension {letter!r} of the kernel {kernel!r} is in neither the input {inputs!r} "
                f"nor the output {outputs!r}; the kernel must be fully specified"
            )
    for letter in bias_axes or "":
        if letter not in outputs:
            raise ValueError(
                f"Bias dimension {letter!r} was requested, but is not part of the output "
                f"{outputs!r}"
            )
    # A size that the output leaves open is that of the input.
    known = {**sizes_in, **{c: size for c, size in sizes_out.items() if size is not None}}
    bias = None
    if bias_axes is not None:
        after = outputs[min(map(outputs.find, bias_axes)) :]
        trailing = 0 if found["left"] else free
        bias = (*(known.get(c) if c in bias_axes else 1 for c in after), *(1,) * trailing)
    made = tuple(known.get(c) for c in outputs)
    return _Shapes(
        tuple(known.get(c) for c in kernel),
        bias,
        (*input_shape[:free], *made) if found["left"] else (*made, *input_shape[len(inputs) :]),
        [i for i, c in enumerate(kernel) if c not in sizes_out],
        [i for i, c in enumerate(kernel) if c in sizes_out],
    )
