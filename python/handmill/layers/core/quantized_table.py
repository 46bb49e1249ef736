"""Tables of weights that may be held as integers of 8 or 4 bits."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from handmill import dtype_policies, initializers, ops, quantizers
from handmill.ir.op import Array
from handmill.layers.context import CONTEXT
from handmill.layers.core.fake_quantization import (
    Rounded,
    byte_format,
    fake_product,
    full_width,
    grouped_numbers,
    rounded_bytes,
    rounded_rows,
    rounded_table,
    whole_already,
)
from handmill.layers.core.low_rank import LowRankLayer
from handmill.layers.core.weight_integers import (
    block_of,
    integers_of,
    numbers_of,
    policy_name,
    sizes_of,
)
from handmill.layers.quantizable import resolved_config
from handmill.primitives.int8 import (
    MOST_TERMS,
    int8_product,
    product_of_bytes,
    to_bytes,
    unpack_int4,
)
from handmill.primitives.straight_through import straight_through
from handmill.runtime.variable import Variable

_LEAST_SCALE = 1e-30


class QuantizedTableLayer(LowRankLayer):
    """A layer whose table of weights :meth:`quantize` replaces by integers and scales.

    Variables and their order in files are Keras's: the table (int8; of 4 bits two numbers a byte),
    the bias, ``kernel_scale``, and with groups ``kernel_zero`` and ``g_idx``. The scale of 8 bits,
    and of 4 without groups, is the factor by which weights were multiplied; that of groups is a
    step.

    Args:
        quantization_config: how, where the dtype policy says that the layer is quantized.
        quantize_aware: what float weights simulate (:func:`handmill.compress.quantize_aware`).
        **kwargs: those of :class:`LowRankLayer`.
    """

    def __init__(
        self, *, quantization_config: Any = None, quantize_aware: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(quantization_config, dict):
            quantization_config = quantizers.deserialize(quantization_config)
        mode = self.quantization_mode
        if quantization_config is not None and mode is None:
            raise ValueError(
                f"{self.describe()}: `quantization_config` says how a quantized layer computes, "
                f"but its dtype policy is {self.dtype_policy.name!r}. Call "
                "`layer.quantize(config=...)` once it is built."
            )
        if mode is not None:
            quantization_config = resolved_config(mode, quantization_config)
        if isinstance(quantize_aware, dict):
            quantize_aware = quantizers.deserialize(quantize_aware)
        aware = quantizers.QuantizeAwareConfig
        if quantize_aware is not None and not isinstance(quantize_aware, aware):
            raise TypeError(
                f"{self.describe()}: `quantize_aware` must be a QuantizeAwareConfig. Received: "
                f"{quantize_aware!r} (of type {type(quantize_aware).__name__})"
            )
        if quantize_aware is not None and mode is not None:
            raise ValueError(
                f"{self.describe()}: `quantize_aware` is for float weights, but its dtype policy "
                f"is {self.dtype_policy.name!r}."
            )
        self._start(quantization_config=quantization_config, quantize_aware=quantize_aware)

    quantization_config: Any
    quantize_aware: Any
    _full_shape: tuple[int, ...]
    inputs_range: Variable
    inputs_seen: Variable
    inputs_scale: Variable
    inputs_zero: Variable
    g_idx: Variable

    # What a subclass says of its table.

    def _table_matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The table as a matrix: the numbers of inputs, which are summed over, and of outputs.

        Raises:
            NotImplementedError: if it is none.
        """
        return math.prod(shape[:-1]), shape[-1]

    def _scale_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in which Keras holds a scale for each output."""
        return (shape[-1],)

    _by_rows = False
    """Whether the table holds outputs by inputs."""

    # Building.

    def _add_table(
        self, shape: tuple[int, ...], initializer: Any, regularizer: Any, constraint: Any
    ) -> Variable:
        """Makes the table, or the variables of a quantized one."""
        name = self._table_name
        if self.quantization_mode is None:
            table = self.add_weight(
                name=name,
                shape=shape,
                initializer=initializer,
                regularizer=regularizer,
                constraint=constraint,
            )
            setattr(self, f"_{name}", table)
            self._add_ranges()
            return table
        return self._add_quantized(shape)

    def _add_ranges(self) -> None:
        """Makes what training keeps of the range of the inputs, where their steps are fixed."""
        if self.quantize_aware is None or not self._is_static(self.quantize_aware.config):
            return
        add = partial(self.add_weight, trainable=False, autocast=False)
        self.inputs_range = add(
            name="inputs_range", shape=(2,), initializer="zeros", dtype="float32"
        )
        self.inputs_range.stored_check = self._check_range
        unknown = initializers.Constant(-1)  # else the training steps that were looked at
        self.inputs_seen = add(name="inputs_seen", shape=(), initializer=unknown, dtype="int32")

    def _add_quantized(self, shape: tuple[int, ...]) -> Variable:
        name = self._table_name
        if self.quantization_config is None:  # the path, and so the mode, is known by now
            self.quantization_config = resolved_config(self.quantization_mode, None)
        self._full_shape = tuple(shape)
        rows, columns = self._table_matrix(self._full_shape)
        scales, made = self._scale_shape(self._full_shape), tuple(shape)
        block = self._block_size()
        sizes = sizes_of(rows, columns, self.quantization_mode or "int8", block, self._by_rows)
        if self.quantization_mode == "int4":
            made, scales = sizes.table, sizes.scale

        def add(part: str, shape: tuple[int, ...], dtype: str, initializer: Any) -> Variable:
            return self.add_weight(
                name=part,
                shape=shape,
                initializer=initializer,
                dtype=dtype,
                trainable=False,
                autocast=False,
            )

        table = add(name, made, "int8", "zeros")
        setattr(self, f"_{name}", table)
        scale = add(f"{name}_scale", scales, "float32", "ones")
        scale.stored_check = self._check_scale
        setattr(self, f"{name}_scale", scale)
        if self._is_static():
            self.inputs_scale = add("inputs_scale", (), "float32", "ones")
            self.inputs_scale.stored_check = self._check_scale
            self.inputs_zero = add("inputs_zero", (), "float32", "zeros")
        if sizes.zero is not None:
            setattr(self, f"{name}_zero", add(f"{name}_zero", sizes.zero, "int8", "zeros"))
        if sizes.zero is not None and self._names_groups:
            constant = initializers.Constant(self._groups(rows).astype("float32"))
            self.g_idx = add("g_idx", (rows,), "float32", constant)
            self.g_idx.stored_check = self._check_groups
        return table

    def _check_scale(self, array: Array) -> None:
        if array.size and not (np.isfinite(array) & (array >= _LEAST_SCALE)).all():
            raise ValueError(
                f"{self.describe()}: a file holds a scale of {np.min(array)}; scales are finite "
                "numbers above 0"
            )

    def _check_range(self, array: Array) -> None:
        if not (np.isfinite(array).all() and array[0] <= array[1]):
            raise ValueError(
                f"{self.describe()}: a file holds {array.tolist()} as the range of its inputs; two "
                "finite numbers in order were expected"
            )

    def _check_groups(self, array: Array) -> None:
        groups = -(-array.size // self._block_size())
        if not np.isin(array, np.arange(groups)).all():
            raise ValueError(
                f"{self.describe()}: a file says that inputs are in groups that are no whole "
                f"numbers from 0 to {groups - 1}"
            )

    def _is_static(self, config: Any = None) -> bool:
        """Whether data decide the steps of the inputs."""
        config = self.quantization_config if config is None else config
        return self._has_inputs and isinstance(config, quantizers.Int8StaticQuantizationConfig)

    _has_inputs = True
    """Whether inputs are multiplied with the table."""

    _names_groups = True
    """Whether a variable says in which group each input is, as in Keras's layers."""

    def _groups(self, rows: int) -> Array:
        """The group of each input, where neighbours are one."""
        return np.arange(rows) // self._block_size()

    def _block_size(self) -> int:
        """The inputs that share a scale in a table of 4 bits; -1: all of them."""
        return block_of(self._dtype_policy.of_path(self._path))

    # Quantizing.

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Replaces the table by integers and their scales, in place.

        The layer then computes with 8-bit products (``"int8"``), whose rows are quantized at each
        call, or with the numbers that 4 bits stand for (``"int4"``). The table can no longer be
        trained; bias, and what :meth:`enable_lora` adds, can.

        Args:
            mode: ``"int8"`` or ``"int4"``; default: that of ``config``.
            type_check: whether subclasses, whose computation may be another, are refused.
            config: a :class:`handmill.quantizers.Int8QuantizationConfig` or its like.

        Raises:
            ValueError: if the layer is not built, is quantized already, or holds what is not
                finite; for unknown modes.
            NotImplementedError: for subclasses, and where the computation is no matrix product.

        Example:
            >>> from handmill.layers import Dense
            >>> layer = Dense(3)
            >>> layer.build((None, 4))
            >>> layer.quantize("int8")
            >>> [(v.name, v.dtype) for v in layer.weights]
            [('bias', 'float32'), ('kernel', 'int8'), ('kernel_scale', 'float32')]
        """
        resolved = resolved_config(mode, config)
        if isinstance(resolved, quantizers.Int8StaticQuantizationConfig) and self._has_inputs:
            raise ValueError(
                "static quantization looks at what a layer is given by its model: call "
                f"`model.quantize(config=...)`, with filters for {self.name!r} alone if need be"
            )
        self.quantize_to(resolved, self._check_quantizable(resolved, type_check))

    def quantize_to(self, resolved: Any, values: dict[str, Array]) -> None:
        """Replaces the table by variables of a configuration, which hold ``values``."""
        self.simulate(None)
        shape, old = self._table.shape, self._table
        place = next(i for i, v in enumerate(self._own_weights) if v is old)
        after = self._own_weights[place + 1 :]
        del self._own_weights[place:]
        source = self._dtype_policy.of_path(self._path)
        if source.quantization_mode is None:
            current = self._dtype_policy
            path = self._path
            if isinstance(current, dtype_policies.DTypePolicyMap) and path and path in current:
                del current[path]
            self.dtype_policy = policy_name(resolved, source.name)
        self.quantization_config = resolved
        self._add_quantized(shape)
        self._own_weights += after  # the order in which a quantized layer makes them
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
        table = np.asarray(self._table.read(), np.float32)
        if not np.isfinite(table).all():
            raise ValueError(
                f"{self.describe()} cannot be quantized: "
                f"{np.count_nonzero(~np.isfinite(table))} of its {table.size} weights are NaN or "
                "infinite."
            )
        rows, _ = self._table_matrix(table.shape)
        if rows > MOST_TERMS:
            raise NotImplementedError(
                f"{self.describe()} sums over {rows} inputs; integers of 32 bits hold sums of up "
                f"to {MOST_TERMS}."
            )
        return self._integers_of(table, config)

    def _integers_of(self, table: Array, config: Any) -> dict[str, Array]:
        name = self._table_name
        rows, columns = self._table_matrix(table.shape)
        matrix = table if self._by_rows else table.reshape(rows, columns)
        made = integers_of(matrix, config, self._by_rows)
        if config.mode == "int8":
            scale = made.scale.reshape(self._scale_shape(table.shape))
            return {f"_{name}": made.table.reshape(table.shape), f"{name}_scale": scale}
        found = {f"_{name}": made.table, f"{name}_scale": made.scale}
        return found if made.zero is None else {**found, f"{name}_zero": made.zero}

    # Simulating.

    def simulate(self, aware: Any) -> None:
        """Lets the float table count as the integers that it will become; None ends that.

        Args:
            aware: a :class:`handmill.quantizers.QuantizeAwareConfig`, or None.
        """
        place = next(i for i, v in enumerate(self._own_weights) if v is self._table)
        ranges = {id(v) for v in self.ranges()}
        after = [v for v in self._own_weights[place + 1 :] if id(v) not in ranges]
        del self._own_weights[place + 1 :]
        for name in ("inputs_range", "inputs_seen"):
            if name in vars(self):
                delattr(self, name)
        self.quantize_aware = aware
        self._add_ranges()
        self._own_weights += after
        self._programs = {}

    def ranges(self) -> tuple[Variable, ...]:
        """The range that training found the inputs in, and for how many steps; () without."""
        own = vars(self)
        return (own["inputs_range"], own["inputs_seen"]) if "inputs_range" in own else ()

    @property
    def _rounds(self) -> bool:
        """Whether the table counts as integers."""
        return self.quantization_mode is not None or self.quantize_aware is not None

    @property
    def _shape_of_table(self) -> tuple[int, ...]:
        """That of the numbers; tables of 4 bits hold two in a byte."""
        if self.quantization_mode is not None:
            return self._full_shape
        return super()._shape_of_table

    def _simulated_product(self, inputs: Any) -> Any:
        """What :meth:`_quantized_product` will give, with gradients."""
        config = self.quantize_aware.config
        rows, columns = self._table_matrix(self._table.shape)
        shape = (columns, rows) if self._by_rows else (rows, columns)
        matrix = ops.reshape(full_width(self._table), shape)
        wide = ops.cast(inputs, "float32")
        quantizer = config.activation_quantizer
        by_rows = getattr(quantizer, "rounds_rows", False)
        is_static = self._is_static(config)
        rounded = None
        if is_static:
            rounded = self._rounded_inputs(inputs)
        elif by_rows:
            given = ops.dtype(inputs) == "uint8"
            rounded = whole_already(wide) if given else rounded_rows(wide)
        elif config.mode == "int4":
            numbers = self._simulated_numbers(matrix)
            return ops.cast(ops.matmul(wide, self._turned(numbers)), self.compute_dtype)
        if rounded is not None:
            rounded = rounded.flat(rows)
        flat = ops.reshape(wide, (-1, rows))
        outputs = fake_product(flat, matrix, rounded, self._rounded_table(matrix), self._by_rows)
        outputs = ops.reshape(outputs, (*ops.shape(inputs)[:-1], columns))
        return ops.cast(outputs, self.compute_dtype)

    def _rounded_table(self, matrix: Any) -> tuple[Rounded, Any]:
        """A matrix with one step for each output, and the factors that it was multiplied by."""
        config = self.quantize_aware.config
        low_high = (-127, 127) if config.mode == "int8" else (-8, 7)
        quantizer = config.weight_quantizer or quantizers.AbsMaxQuantizer(value_range=low_high)
        axis = -1 if self._by_rows else -2
        return rounded_table(matrix, axis, quantizer.value_range, quantizer.epsilon)

    def _simulated_numbers(self, matrix: Any) -> Any:
        """The numbers that the integers of a matrix will stand for, with the gradient of it."""
        block = getattr(self.quantize_aware.config, "block_size", None)
        if block is not None and block > 0:
            numbers = grouped_numbers(matrix, -1 if self._by_rows else -2, block)
            return straight_through(numbers, matrix)
        rounded, factor = self._rounded_table(matrix)
        numbers = ops.divide(rounded.integers, factor)
        return straight_through(numbers, matrix, inside=rounded.inside)

    def _rounded_inputs(self, inputs: Any) -> Rounded:
        """Inputs as bytes of fixed steps; training moves their range towards that of ``inputs``."""
        aware, seen = self.quantize_aware, ops.convert_to_tensor(self.inputs_seen)
        bounds, x = full_width(self.inputs_range), ops.cast(inputs, "float32")
        given = ops.dtype(inputs) == "uint8"
        moving, known = bool(CONTEXT.training and self.trainable), ops.greater_equal(seen, 0)
        if moving:
            found = np.array([0.0, 255.0], np.float32)
            if not given:
                found = ops.stop_gradient(ops.stack([ops.min(x), ops.max(x)]))
            part = 1.0 - aware.momentum
            moved = ops.add(ops.multiply(bounds, aware.momentum), ops.multiply(found, part))
            finite = ops.all(ops.isfinite(found))
            moves = finite
            if aware.freeze_after is not None:
                early = ops.logical_or(ops.less(seen, aware.freeze_after), ops.less(seen, 0))
                moves = ops.logical_and(finite, early)
            bounds = ops.where(moves, ops.where(known, moved, found), bounds)
            seen = ops.where(finite, ops.add(ops.maximum(seen, 0), 1), seen)
            self.inputs_range.assign(bounds)
            self.inputs_seen.assign(seen)
        if given:
            return whole_already(x)
        step, zero = byte_format(bounds[0], bounds[1])
        if moving:
            return rounded_bytes(x, step, zero)
        return rounded_bytes(x, ops.where(known, step, 1.0), zero, known)

    # Computing.

    def _quantized_product(self, inputs: Any) -> Any:
        """``inputs @ table`` of inputs (..., rows), without bias: (..., columns)."""
        if self.quantization_mode is None:
            return self._simulated_product(inputs)
        name = self._table_name
        rows, columns = self._table_matrix(self._full_shape)
        wide = ops.cast(inputs, "float32")
        quantizer = self.quantization_config.activation_quantizer
        by_rows = getattr(quantizer, "rounds_rows", False)
        if self._is_static() or (ops.dtype(inputs) == "uint8" and by_rows):
            outputs = self._product_of_bytes(inputs)
        elif quantizer is None and self.quantization_mode == "int4":
            outputs = ops.matmul(wide, self._turned(self._float_matrix()))
        else:
            shape = (columns, rows) if self._by_rows else (rows, columns)
            scale = ops.reshape(getattr(self, f"{name}_scale"), (columns,))
            if by_rows:
                pairs = self.quantization_mode == "int4"
                kernel = self._table if pairs else ops.reshape(self._table, shape)
                factors = ops.reciprocal(scale)
                outputs = int8_product(wide, kernel, factors, self._by_rows, pairs)
                return ops.cast(outputs, self.compute_dtype)
            kernel = ops.reshape(self._integer_matrix(), shape)
            if quantizer is None:
                numbers = self._turned(ops.cast(kernel, "float32"))
                outputs = ops.divide(ops.matmul(wide, numbers), scale)
            else:
                q, row = quantizer(wide, axis=-1)
                numbers = self._turned(ops.cast(kernel, "float64"))
                sums = ops.matmul(ops.cast(q, "float64"), numbers)
                outputs = ops.divide(ops.cast(sums, "float32"), ops.multiply(row, scale))
        return ops.cast(outputs, self.compute_dtype)

    def _product_of_bytes(self, inputs: Any) -> Any:
        """The product of bytes: those of a uint8 input, or of steps that data decided."""
        rows, columns = self._table_matrix(self._full_shape)
        scale = ops.reshape(getattr(self, f"{self._table_name}_scale"), (columns,))
        shape = (columns, rows) if self._by_rows else (rows, columns)
        pairs = self.quantization_mode == "int4"
        kernel = self._table if pairs else ops.reshape(self._table, shape)
        x, step, zero = self._bytes_of(inputs)
        return product_of_bytes(x, kernel, ops.divide(step, scale), zero, self._by_rows, pairs)

    def _bytes_of(self, inputs: Any) -> tuple[Any, Any, Any]:
        """Inputs as bytes, their step and the byte that stands for 0."""
        if ops.dtype(inputs) == "uint8":
            return inputs, np.float32(1.0), ops.zeros((), "float32")
        if CONTEXT.training:
            raise RuntimeError(
                f"{self.describe()} has inputs of fixed steps, through which no gradient goes: "
                "models with static quantization are called, not trained. Train before, or "
                "quantize with `model.quantize('int8')`, on top of which LoRA and biases train."
            )
        step, zero = self.inputs_scale, self.inputs_zero
        format = ops.stack([ops.reciprocal(step), ops.convert_to_tensor(zero)])
        return to_bytes(ops.cast(inputs, "float32"), format), step, zero

    def _turned(self, matrix: Any) -> Any:
        """The matrix as inputs by outputs."""
        return ops.transpose(matrix) if self._by_rows else matrix

    def _adapted_table(self) -> Any:
        """As of float tables; with LoRA, the numbers that the integers stand for and the rest."""
        if self.quantization_mode is None or not self.lora_enabled:
            return super()._adapted_table()
        a, b, factor = self._lora
        table = ops.reshape(self._float_matrix(), self._full_shape)
        added = ops.multiply(ops.matmul(a, b), factor)
        return ops.cast(ops.add(table, added), self.compute_dtype)

    def _integer_matrix(self) -> Any:
        """The integers of the table, int8."""
        if self.quantization_mode == "int8":
            return self._table
        rows, columns = self._table_matrix(self._full_shape)
        return unpack_int4(self._table, rows if self._by_rows else columns)

    def _float_matrix(self) -> Any:
        """The numbers that the integers stand for, as a matrix: (outputs, inputs) by rows."""
        name = self._table_name
        integers, scale = self._integer_matrix(), getattr(self, f"{name}_scale")
        rows, columns = self._table_matrix(self._full_shape)
        if self.quantization_mode == "int8":
            shape = (columns, rows) if self._by_rows else (rows, columns)
            integers, scale = ops.reshape(integers, shape), ops.reshape(scale, (columns,))
        zero, groups = None, None
        if self._block_size() > 0:
            zero = getattr(self, f"{name}_zero")
            own = self._names_groups
            groups = ops.cast(self.g_idx, "int32") if own else self._groups(rows).astype("int32")
        return numbers_of(integers, scale, zero, groups, self._by_rows)

    # Files of Keras.

    def variables_to_store(self) -> list[Variable]:
        """The weights in Keras's order: the table, the bias, then what belongs to the table."""
        found = super().variables_to_store()
        if self.quantization_mode is None:
            return found
        name = self._table_name
        names = f"{name}_scale", f"{name}_zero", "g_idx", "inputs_scale", "inputs_zero"
        parts = [getattr(self, part, None) for part in names]
        last = [v for v in parts if v is not None]
        apart = {id(v) for v in (self._table, *last)}
        return [self._table, *(v for v in found if id(v) not in apart), *last]

    def content_to_store(self, variable: Variable) -> Array:
        """The content of a variable; with LoRA, of the table that holds what is added to it."""
        name = self._table_name
        parts = {
            part: v for part in (f"_{name}", f"{name}_scale", f"{name}_zero")
            if (v := getattr(self, part, None)) is not None
        }  # fmt: skip
        own = [part for part, v in parts.items() if v is variable]
        if self.quantization_mode is None or not self.lora_enabled or not own:
            return super().content_to_store(variable)
        a, b, factor = self._lora
        table = np.asarray(self._float_matrix()).reshape(self._full_shape)
        table = table + factor * (a.read() @ b.read())
        return self._integers_of(table.astype("float32"), self.quantization_config)[own[0]]

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = {
            **super().get_config(),
            "quantization_config": quantizers.serialize(self.quantization_config),
        }
        if self.quantize_aware is not None:  # Keras does not know the word
            config["quantize_aware"] = quantizers.serialize(self.quantize_aware)
        return config
