"""Layers with several tables of weights, or one of channels, that may be held as integers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from handmill import dtype_policies, ops, quantizers
from handmill.ir.op import Array
from handmill.layers.context import CONTEXT
from handmill.layers.core.weight_integers import (
    block_of,
    integers_of,
    numbers_of,
    policy_name,
    sizes_of,
)
from handmill.layers.layer import Layer
from handmill.layers.quantizable import resolved_config
from handmill.primitives.int8 import int8_product, to_bytes, unpack_int4
from handmill.runtime.variable import Variable

_LEAST_SCALE = 1e-30


class IntegerTablesLayer(Layer):
    """A layer whose tables of weights :meth:`quantize` replaces by integers and scales.

    A table is a matrix whose last axes are outputs; each output has a scale, the factor by which
    its weights were multiplied. Variables stand where the tables stood, each with its scale. Where
    inputs stay as they are, tables may have 4 bits, two numbers a byte, and groups of inputs.

    Args:
        quantization_config: how, where the dtype policy says that the layer is quantized.
        **kwargs: those of :class:`Layer`.
    """

    _tables: ClassVar[tuple[str, ...]] = ("kernel",)
    """The attributes that hold tables."""
    _output_axes: ClassVar[Mapping[str, int]] = {}
    """How many axes of a table are outputs; 1 where it is not named."""
    _has_inputs: ClassVar[bool] = False
    """Whether data decide the steps of the inputs."""

    def __init__(self, *, quantization_config: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(quantization_config, dict):
            quantization_config = quantizers.deserialize(quantization_config)
        mode = self.quantization_mode
        if quantization_config is not None and mode is None:
            raise ValueError(
                f"{self.describe()}: `quantization_config` says how a quantized layer computes, "
                f"but its dtype policy is {self.dtype_policy.name!r}. Call `model.quantize` once "
                "it is built."
            )
        if mode is not None:
            quantization_config = resolved_config(mode, quantization_config)
            self._check_config(quantization_config)
        self._start(quantization_config=quantization_config)

    quantization_config: Any
    inputs_scale: Variable
    inputs_zero: Variable

    def _check_config(self, config: Any) -> None:
        """Refuses what this layer cannot compute with."""
        if self._has_inputs and self._keeps_inputs(config):
            return
        is_static = isinstance(config, quantizers.Int8StaticQuantizationConfig)
        if self._has_inputs and not is_static:
            raise NotImplementedError(
                f"{self.describe()}: inputs of convolutions are quantized with steps that data "
                "decide; use `Int8StaticQuantizationConfig(calibration_data)`, or quantize the "
                "weights alone: `activation_quantizer=None`, or the mode 'int4'."
            )
        if config.mode != "int8":
            raise NotImplementedError(
                f"{self.describe()} is quantized to 8 bits only. Received: mode={config.mode!r}"
            )
        if not self._has_inputs and is_static:
            raise NotImplementedError(
                f"{self.describe()}: states are measured at each step, so no data decide their "
                "steps; use `model.quantize('int8')`, before or after the other layers."
            )
        if not is_static and (
            config.get_config() != quantizers.Int8QuantizationConfig().get_config()
        ):
            raise NotImplementedError(
                f"{self.describe()} has no quantizers but its own: use `Int8QuantizationConfig()`."
            )

    @staticmethod
    def _keeps_inputs(config: Any) -> bool:
        """Whether weights alone are integers."""
        static = isinstance(config, quantizers.Int8StaticQuantizationConfig)
        return config.activation_quantizer is None and not static

    # Building.

    def _add_integers(self, name: str, shape: tuple[int, ...]) -> None:
        """Makes the variables of a quantized table."""
        if self.quantization_config is None:  # the path, and so the mode, is known by now
            self.quantization_config = resolved_config(self.quantization_mode, None)
            self._check_config(self.quantization_config)
        frozen: dict[str, Any] = {"trainable": False, "autocast": False}
        block = block_of(self._dtype_policy.of_path(self._path))
        setattr(self, f"_{name}_shape", tuple(shape))
        sizes = sizes_of(*self._matrix(name), self.quantization_mode or "int8", block)
        made = {"": shape if self.quantization_mode == "int8" else sizes.table}
        if sizes.zero is not None:
            made["_zero"] = sizes.zero
        for part, size in made.items():
            table = self.add_weight(
                name=f"{name}{part}", shape=size, initializer="zeros", dtype="int8", **frozen
            )
            setattr(self, f"{name}{part}", table)
        scale = self.add_weight(
            name=f"{name}_scale", shape=sizes.scale, initializer="ones", dtype="float32", **frozen
        )
        scale.stored_check = self._check_scale
        setattr(self, f"{name}_scale", scale)
        keeps = self._keeps_inputs(self.quantization_config)
        if self._has_inputs and name == self._tables[0] and not keeps:
            steps = {
                part: self.add_weight(
                    name=part, shape=(), initializer=first, dtype="float32", **frozen
                )
                for part, first in (("inputs_scale", "ones"), ("inputs_zero", "zeros"))
            }
            self.inputs_scale, self.inputs_zero = steps["inputs_scale"], steps["inputs_zero"]
            self.inputs_scale.stored_check = self._check_scale
            self.inputs_zero.stored_check = self._check_zero

    def _outputs(self, name: str, shape: tuple[int, ...]) -> int:
        return int(np.prod(shape[-self._output_axes.get(name, 1) :]))

    def _matrix(self, name: str) -> tuple[int, int]:
        """A quantized table as a matrix: how many inputs and outputs it has."""
        shape = getattr(self, f"_{name}_shape")
        outputs = self._outputs(name, shape)
        return math.prod(shape) // outputs, outputs

    def _check_scale(self, array: Array) -> None:
        if array.size and not (np.isfinite(array) & (array >= _LEAST_SCALE)).all():
            raise ValueError(
                f"{self.describe()}: a file holds a scale of {np.min(array)}; scales are finite "
                "numbers above 0"
            )

    def _check_zero(self, array: Array) -> None:
        if not np.isin(array, np.arange(256)).all():
            raise ValueError(
                f"{self.describe()}: a file says that the byte {np.min(array)} stands for 0; "
                "expected a whole number from 0 to 255"
            )

    # Quantizing.

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Replaces the tables by integers and their scales, in place.

        Args:
            mode: ``"int8"``; default: that of ``config``.
            type_check: whether subclasses, whose computation may be another, are refused.
            config: a :class:`handmill.quantizers.Int8QuantizationConfig` or its like.

        Raises:
            ValueError: if the layer is not built, is quantized already, or holds what is not
                finite; for unknown modes.
            NotImplementedError: for subclasses, and for what the layer cannot compute with.
        """
        resolved = resolved_config(mode, config)
        if isinstance(resolved, quantizers.Int8StaticQuantizationConfig) and self._has_inputs:
            raise ValueError(
                "static quantization looks at what a layer is given by its model: call "
                f"`model.quantize(config=...)`, with filters for {self.name!r} alone if need be"
            )
        self.quantize_to(resolved, self._check_quantizable(resolved, type_check))

    def quantize_to(self, resolved: Any, values: dict[str, Array]) -> None:
        """Replaces the tables by variables of a configuration, which hold ``values``."""
        tables = {id(getattr(self, name)): name for name in self._tables}
        source = self._dtype_policy.of_path(self._path)
        if source.quantization_mode is None:
            current, path = self._dtype_policy, self._path
            if isinstance(current, dtype_policies.DTypePolicyMap) and path and path in current:
                del current[path]
            self.dtype_policy = policy_name(resolved, source.name)
        self.quantization_config = resolved
        before, self._own_weights = self._own_weights, []
        for weight in before:  # the order in which a quantized layer makes them
            name = tables.get(id(weight))
            if name is None:
                self._own_weights.append(weight)
            else:
                self._add_integers(name, weight.shape)
        for part, value in values.items():
            getattr(self, part).assign(value)
        self._programs = {}

    def _check_quantizable(self, config: Any, type_check: bool) -> dict[str, Array]:
        """What the variables will hold; refuses what cannot be quantized."""
        if type_check and type(self).__module__.partition(".")[0] != "handmill":
            raise NotImplementedError(
                f"{self.describe()} is of a subclass, whose computation quantization may not know; "
                "`type_check=False` quantizes it all the same."
            )
        self._check_config(config)
        if not self.built:
            raise ValueError(
                f"Cannot quantize a layer that isn't yet built: {self.describe()}. Call it on "
                "data, or build it, before."
            )
        if self.quantization_mode is not None and self.quantization_config is not None:
            raise ValueError(
                f"Layer '{self.name}' is already quantized with dtype_policy="
                f"'{self._dtype_policy.of_path(self._path).name}'. Received: mode={config.mode}"
            )
        found: dict[str, Array] = {}
        for name in self._tables:
            table = np.asarray(getattr(self, name).read(), np.float32)
            if not np.isfinite(table).all():
                raise ValueError(
                    f"{self.describe()} cannot be quantized: "
                    f"{np.count_nonzero(~np.isfinite(table))} of its {table.size} weights of "
                    f"{name!r} are NaN or infinite."
                )
            matrix = table.reshape(-1, self._outputs(name, table.shape))
            made = integers_of(matrix, config)
            found[name] = made.table.reshape(table.shape) if config.mode == "int8" else made.table
            found[f"{name}_scale"] = made.scale
            if made.zero is not None:
                found[f"{name}_zero"] = made.zero
        return found

    # Computing.

    def _times_table(self, inputs: Any, name: str, part: Any = None) -> Any:
        """``inputs @ table``, with rows that are measured where the table is of integers.

        Args:
            inputs: (..., rows).
            name: the table, a matrix but for axes of one place.
            part: which of its columns: a pair; default: all.
        """
        table = getattr(self, name)
        begin, end = part or (None, None)
        columns = table if len(table.shape) == 2 else ops.reshape(table, table.shape[-2:])
        columns = columns if part is None else columns[:, begin:end]
        if self.quantization_mode is None:
            return ops.matmul(inputs, columns)
        factors = self._factors(name)
        factors = factors if part is None else factors[begin:end]
        found = int8_product(ops.cast(inputs, "float32"), columns, factors)
        return ops.cast(found, self.compute_dtype)

    def _numbers(self, name: str) -> Any:
        """The numbers that the integers of a table stand for, float32, in its shape."""
        inputs, outputs = self._matrix(name)
        if self.quantization_mode == "int4":
            integers = unpack_int4(getattr(self, name), outputs)
        else:
            integers = ops.reshape(getattr(self, name), (inputs, outputs))
        zero, groups = None, None
        if (block := block_of(self._dtype_policy.of_path(self._path))) > 0:
            zero, groups = getattr(self, f"{name}_zero"), np.arange(inputs, dtype="int32") // block
        numbers = numbers_of(integers, getattr(self, f"{name}_scale"), zero, groups)
        return ops.reshape(numbers, getattr(self, f"_{name}_shape"))

    def _factors(self, name: str) -> Any:
        """What one more of an integer adds to its weight."""
        return ops.reciprocal(getattr(self, f"{name}_scale"))

    def _bytes_of(self, inputs: Any) -> tuple[Any, Any, Any]:
        """Inputs as bytes, their step and the byte that stands for 0."""
        if ops.dtype(inputs) == "uint8":
            return inputs, np.float32(1.0), ops.zeros((), "float32")
        if CONTEXT.training:
            raise RuntimeError(
                f"{self.describe()} has inputs of fixed steps, through which no gradient goes: "
                "models with static quantization are called, not trained. Train before."
            )
        step, zero = self.inputs_scale, self.inputs_zero
        format = ops.stack([ops.reciprocal(step), ops.convert_to_tensor(zero)])
        return to_bytes(ops.cast(inputs, "float32"), format), step, zero

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        if self.quantization_config is not None:  # Keras does not know the word here
            config["quantization_config"] = quantizers.serialize(self.quantization_config)
        return config
