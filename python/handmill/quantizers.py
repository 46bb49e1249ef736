"""Numbers in 8 and 4 bits: how they are rounded, packed, and described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handmill import ops
from handmill.arguments import whole_number
from handmill.ir.op import Array
from handmill.lazy import plain_module
from handmill.naming import to_snake_case
from handmill.runtime.watch import Watched
from handmill.saving.objects import deserialize_keras_object, interpret, serialize_keras_object

_EPSILON = 1e-7
_INT4 = (-8, 7)


class Quantizer(Watched):
    """Base class: a callable that makes integers of numbers; by itself it changes nothing.

    Args:
        output_dtype: the dtype of the integers.
    """

    def __init__(self, output_dtype: str = "int8") -> None:
        self.output_dtype = output_dtype

    def __call__(self, x: Any) -> Any:
        """Returns the integers."""
        return x

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        raise NotImplementedError(f"{self} does not implement get_config()")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a quantizer from its config."""
        return cls(**config)


def abs_max_quantize(
    inputs: Any,
    axis: Any,
    value_range: Sequence[float] = (-127, 127),
    dtype: str = "int8",
    epsilon: float = _EPSILON,
    to_numpy: bool = False,
) -> tuple[Any, Any]:
    """Rounds numbers to integers whose range their largest magnitude fills.

    ``scale = value_range[1] / (max|x| + epsilon)``, ``q = clip(round(x * scale))``; halves are
    rounded to even.

    Args:
        inputs: float numbers of any shape.
        axis: the axis or axes over which a magnitude is the largest; the others have a scale each.
        value_range: the lowest and highest integer.
        dtype: that of the integers.
        epsilon: added to the magnitude, so that zeros have a scale.
        to_numpy: whether NumPy computes; then ``inputs`` must be an array.

    Returns:
        The integers, and the scale by which numbers were multiplied, with axes of size 1.

    Example:
        >>> import numpy as np
        >>> from handmill.quantizers import abs_max_quantize
        >>> q, scale = abs_max_quantize(np.array([[1.0, -2.0, 4.0]], "float32"), axis=-1)
        >>> q
        array([[ 32, -64, 127]], dtype=int8)
    """
    low, high = value_range
    if to_numpy:
        x = np.asarray(inputs)
        axes = tuple(axis) if isinstance(axis, list | tuple) else axis
        scale = np.divide(high, np.add(np.max(np.abs(x), axis=axes, keepdims=True), epsilon))
        rounded = np.clip(np.round(np.multiply(x, scale)), low, high)
        return rounded.astype(dtype), scale.astype(x.dtype)
    x = ops.convert_to_tensor(inputs)
    scale = ops.divide(high, ops.add(ops.max(ops.abs(x), axis=axis, keepdims=True), epsilon))
    scale = ops.cast(scale, ops.dtype(x))
    return ops.cast(ops.clip(ops.round(ops.multiply(x, scale)), low, high), dtype), scale


def abs_max_quantize_grouped_with_zero_point(
    inputs: Any,
    block_size: int,
    value_range: Sequence[int] = _INT4,
    dtype: str = "int8",
    epsilon: float = _EPSILON,
    to_numpy: bool = False,
) -> tuple[Array, Array, Array]:
    """Rounds a matrix in groups of rows: each group has a step and a zero point in each column.

    ``step = (max - min + epsilon) / (high - low)``, ``zero = clip(round(-min / step) + low)``,
    ``q = clip(round(x / step) + zero)``, so that ``(q - zero) * step`` is ``x`` again but for
    rounding. The range of a group is widened to hold 0, without which a group of numbers of one
    sign would be cut off (Keras does not).

    Args:
        inputs: a float matrix, (K, N).
        block_size: the rows of a group; the last one may have fewer.
        value_range: the lowest and highest integer.
        dtype: that of the integers.
        epsilon: added to a range, so that constants have a step.
        to_numpy: accepted for Keras: NumPy computes in any case.

    Returns:
        The integers (K, N), the steps (groups, N), and the zero points (groups, N), int8.

    Raises:
        ValueError: if ``inputs`` is no matrix, or ``block_size`` no whole number of 1 or more.

    Example:
        >>> import numpy as np
        >>> from handmill.quantizers import abs_max_quantize_grouped_with_zero_point
        >>> x = np.array([[0.0], [1.5], [3.0], [-1.0]], "float32")
        >>> q, step, zero = abs_max_quantize_grouped_with_zero_point(x, block_size=3)
        >>> print(np.round((q[:3] - zero[:1]) * step[:1], 3).ravel())
        [0.  1.6 3. ]
    """
    x = np.asarray(inputs)
    block_size = whole_number("`block_size`", block_size, 1)
    if x.ndim != 2:
        raise ValueError(f"a matrix was expected. Received: inputs of shape {x.shape}")
    block_size = min(block_size, max(x.shape[0], 1))
    low, high = value_range
    groups = -(-x.shape[0] // block_size)
    padded = np.zeros((groups * block_size, x.shape[1]), x.dtype)
    padded[: x.shape[0]] = x
    padded = padded.reshape(groups, block_size, x.shape[1])
    least = np.minimum(padded.min(axis=1, keepdims=True), 0).astype(x.dtype)
    most = np.maximum(padded.max(axis=1, keepdims=True), 0).astype(x.dtype)
    step = np.divide(np.subtract(most, least) + epsilon, high - low)
    zero = np.clip(np.round(np.divide(-least, step)) + low, low, high)
    q = np.clip(np.round(np.divide(padded, step)) + zero, low, high).astype(dtype)
    q = q.reshape(-1, x.shape[1])[: x.shape[0]]
    return q, step[:, 0].astype(x.dtype), zero[:, 0].astype("int8")


class AbsMaxQuantizer(Quantizer):
    """Rounds numbers to integers whose range their largest magnitude fills.

    Args:
        axis: the axis or axes over which a magnitude is the largest; -1 where a call names none.
        value_range: the lowest and highest integer.
        epsilon: added to the magnitude, so that zeros have a scale.
        output_dtype: the dtype of the integers.

    Raises:
        ValueError: if int8 does not hold ``value_range``.

    Example:
        >>> import numpy as np
        >>> from handmill.quantizers import AbsMaxQuantizer
        >>> q, scale = AbsMaxQuantizer(axis=0)(np.array([[1.0, -4.0], [-0.5, 2.0]], "float32"))
        >>> q
        array([[ 127, -127],
               [ -63,   64]], dtype=int8)
    """

    def __init__(
        self,
        axis: Any = None,
        value_range: Sequence[float] = (-127, 127),
        epsilon: float = _EPSILON,
        output_dtype: str = "int8",
    ) -> None:
        super().__init__(output_dtype=output_dtype)
        if axis is not None:
            axis = (axis,) if isinstance(axis, int) else tuple(axis)
        self.axis = axis
        self.value_range = tuple(value_range)
        self.epsilon = epsilon
        if output_dtype == "int8" and (value_range[0] < -128 or value_range[1] > 127):
            raise ValueError(
                "Quantizer with output_dtype='int8' requires value_range to be within the "
                f"interval [-128, 127]. Received: value_range={value_range}"
            )

    def __call__(self, x: Any, axis: Any = None, to_numpy: bool = False) -> tuple[Any, Any]:
        """Returns the integers and their scale; see :func:`abs_max_quantize`."""
        axis = self.axis if axis is None else axis
        return abs_max_quantize(
            x,
            -1 if axis is None else axis,
            self.value_range,
            self.output_dtype,
            self.epsilon,
            to_numpy,
        )

    @property
    def rounds_rows(self) -> bool:
        """Whether it quantizes inputs as 8-bit products do by themselves: row by row."""
        return (
            type(self) is AbsMaxQuantizer
            and self.axis in (None, (-1,))
            and self.value_range == (-127, 127)
            and self.epsilon == _EPSILON
            and self.output_dtype == "int8"
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config: dict[str, Any] = {
            "value_range": self.value_range,
            "epsilon": self.epsilon,
            "output_dtype": self.output_dtype,
        }
        return config if self.axis is None else {**config, "axis": self.axis}


def pack_int4(arr: Any, axis: int = 0, dtype: str = "int8") -> tuple[Array, tuple[int, ...], int]:
    """Packs integers of 4 bits in pairs: the first of two is the low half of a byte.

    Args:
        arr: an array of ``dtype`` with numbers from -8 to 7 (of uint8: 0 to 15).
        axis: along which neighbours share a byte; an odd number of them is filled up with 0.
        dtype: ``"int8"`` or ``"uint8"``.

    Returns:
        The bytes, their shape, and how many numbers there were along ``axis``.

    Raises:
        ValueError: for another ``dtype``.
        TypeError: if the array has another dtype.

    Example:
        >>> import numpy as np
        >>> from handmill.quantizers import pack_int4, unpack_int4
        >>> packed, shape, length = pack_int4(np.array([[-3, 7], [2, -8], [1, 0]], "int8"))
        >>> packed
        array([[  45, -121],
               [   1,    0]], dtype=int8)
        >>> unpack_int4(packed, length)[:2]
        array([[-3,  7],
               [ 2, -8]], dtype=int8)
    """
    _check_nibbles(dtype)
    values = np.asarray(arr)
    if values.dtype.name != dtype:
        raise TypeError(f"Expected {dtype} tensor for packing, got {values.dtype.name}.")
    values = np.moveaxis(values, axis, 0).view(np.uint8)
    length = values.shape[0]
    if length % 2:
        values = np.concatenate([values, np.zeros_like(values[:1])])
    packed = ((values[::2] & 15) | (values[1::2] << 4)).astype(np.uint8).view(dtype)
    packed = np.ascontiguousarray(np.moveaxis(packed, 0, axis))
    return packed, packed.shape, length


def unpack_int4(packed: Any, orig_len: int, axis: int = 0, dtype: str = "int8") -> Array:
    """Takes apart what :func:`pack_int4` packed.

    Args:
        packed: an array of int8 or uint8.
        orig_len: how many numbers there were along ``axis``.
        axis: along which neighbours share a byte.
        dtype: ``"int8"`` for numbers from -8 to 7, ``"uint8"`` for 0 to 15.

    Raises:
        ValueError: for another ``dtype``.
        TypeError: if ``packed`` holds no bytes.
    """
    _check_nibbles(dtype)
    values = np.asarray(packed)
    if values.dtype.name not in ("int8", "uint8"):
        raise TypeError(f"Expected int8 or uint8 tensor for unpacking, got {values.dtype.name}")
    values = np.moveaxis(values.view(np.uint8), axis, 0)
    halves = np.stack([values & 15, values >> 4], axis=1)
    halves = halves.reshape(-1, *values.shape[1:])[:orig_len]
    if dtype == "int8":
        halves = ((halves ^ 8).astype(np.int8) - np.int8(8)).astype(np.int8)
    return np.ascontiguousarray(np.moveaxis(halves, 0, axis))


def _check_nibbles(dtype: str) -> None:
    if dtype not in ("int8", "uint8"):
        raise ValueError(f"Expected dtype to be 'int8' or 'uint8', but got '{dtype}'.")


def quantize_and_dequantize(
    inputs: Any, scale: Any, quantized_dtype: str, compute_dtype: str
) -> Array:
    """Rounds numbers to a short float dtype and widens them again.

    Args:
        inputs: an array.
        scale: numbers are divided by it before, and multiplied after.
        quantized_dtype: such as ``"float8_e4m3fn"``; needs ml_dtypes.
        compute_dtype: the dtype of the result.

    Example:
        >>> import numpy as np
        >>> from handmill.quantizers import quantize_and_dequantize
        >>> x = np.array([1.0, 3.1, 1000.0], "float32")
        >>> quantize_and_dequantize(x, 1.0, "float8_e4m3fn", "float32").tolist()
        [1.0, 3.0, 448.0]
    """
    import ml_dtypes

    short = np.dtype(getattr(ml_dtypes, quantized_dtype))
    most = np.asarray(float(ml_dtypes.finfo(short).max), compute_dtype)
    scale = np.asarray(scale, compute_dtype)
    x = np.clip(np.divide(np.asarray(inputs, compute_dtype), scale), -most, most)
    return np.asarray(x.astype(short).astype(compute_dtype) * scale)


def compute_float8_scale(amax: Any, scale: Any, dtype_max: float, margin: int = 0) -> Any:
    """The divisor with which numbers up to ``amax`` fill a short float dtype.

    ``amax / dtype_max * 2**margin``; where ``amax`` is 0 or not finite, ``scale`` as it was.

    Args:
        amax: the largest magnitude.
        scale: the divisor so far.
        dtype_max: the largest number of the dtype.
        margin: so many powers of two are left free.
    """
    before = ops.reciprocal(scale)
    wanted = ops.divide(ops.divide(dtype_max, amax), 2**margin)
    wanted = ops.where(ops.greater(amax, 0.0), wanted, before)
    return ops.reciprocal(ops.where(ops.isfinite(amax), wanted, before))


def compute_float8_amax_history(x: Any, amax_history: Any) -> Any:
    """A list of largest magnitudes with that of ``x`` in front and the last one dropped.

    As in Keras the list is turned by one place, whose first entry is then written over.

    Args:
        x: numbers.
        amax_history: the magnitudes so far, (L,).
    """
    largest = ops.reshape(ops.cast(ops.max(ops.abs(x)), ops.dtype(amax_history)), (1,))
    return ops.concatenate([largest, ops.roll(amax_history, shift=-1)[1:]], axis=0)


def fake_quant_with_min_max_vars(
    inputs: Any,
    min_vals: Any,
    max_vals: Any,
    num_bits: int = 8,
    narrow_range: bool = False,
    axis: int | None = None,
) -> Any:
    """Rounds numbers to the ``2**num_bits`` steps between two bounds, as TensorFlow does.

    The bounds are moved so that 0 is one of the steps; halves are rounded up. The gradient goes
    through to numbers between the bounds, and to the bound at or beyond which a number lies.

    Args:
        inputs: float numbers.
        min_vals: the lower bound, or one for each place of ``axis``.
        max_vals: the upper bound, likewise.
        num_bits: the bits of an integer.
        narrow_range: whether the lowest integer is left out.
        axis: that of the bounds; None for one of all.

    Example:
        >>> import numpy as np
        >>> from handmill.quantizers import fake_quant_with_min_max_vars
        >>> x = np.array([-1.0, 0.3, 2.0], "float32")
        >>> fake_quant_with_min_max_vars(x, 0.0, 1.0, num_bits=2).tolist()
        [0.0, 0.3333333432674408, 1.0]
    """
    x = ops.convert_to_tensor(inputs)
    least, most = (ops.convert_to_tensor(v, dtype="float32") for v in (min_vals, max_vals))
    low, high = (1 if narrow_range else 0), (1 << int(num_bits)) - 1
    rank = len(x.shape)
    place = None if axis is None else (axis + rank if axis < 0 else axis)

    def spread(bound: Any) -> Any:  # one for each place of the axis
        if place is None:
            return bound
        return ops.reshape(bound, [-1 if i == place else 1 for i in range(rank)])

    @ops.custom_gradient
    def rounded(x: Any, least: Any, most: Any) -> Any:
        width = ops.subtract(spread(most), spread(least))
        step, inverse = ops.divide(width, high - low), ops.divide(high - low, width)
        zero = ops.round(ops.clip(ops.subtract(low, ops.divide(spread(least), step)), low, high))
        bottom = ops.multiply(ops.subtract(low, zero), step)
        top = ops.multiply(ops.subtract(high, zero), step)
        zero = ops.floor(ops.add(ops.multiply(ops.negative(bottom), inverse), 0.5))
        wide = ops.cast(x, "float32")
        inside = ops.subtract(ops.minimum(ops.maximum(wide, bottom), top), bottom)
        whole = ops.floor(ops.add(ops.subtract(ops.multiply(inside, inverse), zero), 0.5))
        result = ops.cast(ops.multiply(whole, step), ops.dtype(x))

        def grad(*args: Any, upstream: Any = None) -> Any:
            dy = args[0] if upstream is None else upstream
            between = ops.logical_and(ops.greater_equal(x, bottom), ops.less_equal(x, top))
            others = [i for i in range(rank) if i != place] if place is not None else None

            def share(mask: Any, bound: Any) -> Any:
                part = ops.sum(ops.where(mask, dy, ops.zeros_like(dy)), axis=others)
                return ops.reshape(part, ops.shape(bound))

            dx = ops.where(between, dy, ops.zeros_like(dy))
            return (
                dx,
                share(ops.less_equal(x, bottom), least),
                share(ops.greater_equal(x, top), most),
            )

        return result, grad

    return rounded(x, least, most)


# --- what a quantization is ----------------------------------------------------------------------


class QuantizationConfig(Watched):
    """Base class: how weights and activations are quantized.

    Args:
        weight_quantizer: of the weights; None for that of the mode.
        activation_quantizer: of the inputs of layers, at each call; None for none.
    """

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = None) -> None:
        self.weight_quantizer = weight_quantizer
        self.activation_quantizer = activation_quantizer

    @property
    def mode(self) -> str:
        """The mode, such as ``"int8"``."""
        raise NotImplementedError(
            "Subclasses must implement this property. Do not instantiate QuantizationConfig "
            "directly."
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "weight_quantizer": serialize(self.weight_quantizer),
            "activation_quantizer": serialize(self.activation_quantizer),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a configuration from its config."""
        arguments = dict(config)
        for name in ("weight_quantizer", "activation_quantizer"):
            if isinstance(arguments.get(name), Mapping):
                arguments[name] = deserialize(arguments[name])
        return cls(**arguments)


class Int8QuantizationConfig(QuantizationConfig):
    """Weights in 8 bits, one scale for each output; inputs too, one scale for each row.

    Args:
        weight_quantizer: of the weights; default: :class:`AbsMaxQuantizer`.
        activation_quantizer: of the inputs; ``"default"`` for :class:`AbsMaxQuantizer` of the last
            axis; None computes with float inputs.

    Raises:
        ValueError: if ``weight_quantizer`` makes no int8.

    Example:
        >>> from handmill.quantizers import Int8QuantizationConfig
        >>> Int8QuantizationConfig(activation_quantizer=None).mode
        'int8'
    """

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = "default") -> None:
        if isinstance(activation_quantizer, str) and activation_quantizer == "default":
            activation_quantizer = AbsMaxQuantizer()
        super().__init__(weight_quantizer, activation_quantizer)
        if weight_quantizer is not None and weight_quantizer.output_dtype != "int8":
            raise ValueError(
                "Int8QuantizationConfig requires a weight_quantizer with output_dtype='int8'. "
                f"Received: output_dtype={weight_quantizer.output_dtype}"
            )

    @property
    def mode(self) -> str:
        """``"int8"``."""
        return "int8"


_OBSERVERS = ("auto", "minmax", "moving_average", "percentile", "entropy", "mse")


class Int8StaticQuantizationConfig(Int8QuantizationConfig):
    """Weights in 8 bits, and inputs of layers with steps that data decide, once.

    Nothing is measured when the model is called, and convolutions are quantized too. It is
    handmill's addition to Keras, for :meth:`Model.quantize`.

    Args:
        calibration_data: inputs like those that the model will see, without labels: arrays as
            ``predict`` takes them, or an iterable of batches. It is not kept.
        observer: how the range of an input follows from what was seen: ``"minmax"``: all of it;
            ``"moving_average"``: the ends of the batches, averaged; ``"percentile"``: all but
            0.01 %; ``"mse"``: least squared error; ``"entropy"``: least loss of information;
            ``"auto"``: of the first, third and fourth that whose outputs of the last quarter of
            the data are nearest to those of the float model.
        num_samples: how many rows are looked at.
        weight_quantizer: of the weights; default: :class:`AbsMaxQuantizer`.

    Raises:
        ValueError: for another ``observer`` or less than one sample.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers, quantizers
        >>> model = handmill.Sequential([layers.Input((8, 8, 1)), layers.Conv2D(4, 3)])
        >>> x = np.random.default_rng(0).random((64, 8, 8, 1), "float32")
        >>> report = model.quantize(config=quantizers.Int8StaticQuantizationConfig(x))
        >>> report.quantized[0][1:]
        ('int8', 'weights of 8 bits, one scale an output; inputs by calibration (minmax)')
    """

    def __init__(
        self,
        calibration_data: Any = None,
        observer: str = "auto",
        num_samples: int = 512,
        weight_quantizer: Any = None,
    ) -> None:
        super().__init__(weight_quantizer, None)
        if observer not in _OBSERVERS:
            raise ValueError(f"`observer` must be one of {_OBSERVERS}. Received: {observer!r}")
        if num_samples < 1:
            raise ValueError(f"`num_samples` must be at least 1. Received: {num_samples}")
        self.__dict__["calibration_data"] = calibration_data  # nothing that programs depend on
        self.observer = observer
        self.num_samples = num_samples

    def get_config(self) -> dict[str, Any]:
        """The arguments without the data, as plain data."""
        return {
            "observer": self.observer,
            "num_samples": self.num_samples,
            "weight_quantizer": serialize(self.weight_quantizer),
        }


class Int4QuantizationConfig(QuantizationConfig):
    """Weights in 4 bits; inputs as they are.

    Args:
        weight_quantizer: of the weights, for one scale for each output.
        activation_quantizer: of the inputs; ``"default"`` and None for none.
        block_size: how many inputs share a scale and a zero point; None or -1: all of them share
            a scale.

    Raises:
        ValueError: for another ``block_size``, for quantizers beside groups, and if
            ``weight_quantizer`` does not give int8 from -8 to 7.

    Example:
        >>> from handmill.quantizers import Int4QuantizationConfig
        >>> Int4QuantizationConfig(block_size=64).block_size
        64
    """

    def __init__(
        self,
        weight_quantizer: Any = None,
        activation_quantizer: Any = "default",
        block_size: int | None = 128,
    ) -> None:
        if isinstance(activation_quantizer, str) and activation_quantizer == "default":
            activation_quantizer = None
        super().__init__(weight_quantizer, activation_quantizer)
        whole = isinstance(block_size, int | np.integer) and not isinstance(block_size, bool)
        if block_size is not None and not (whole and (block_size == -1 or block_size > 0)):
            raise ValueError(
                "block_size must be None, -1, or a positive integer. Received: "
                f"block_size={block_size!r}"
            )
        self.block_size = None if block_size is None else int(block_size)
        given = weight_quantizer is not None or activation_quantizer is not None
        if block_size is not None and block_size > 0 and given:
            raise ValueError(
                "Int4 sub-channel quantization (block_size > 0) does not support custom "
                "quantizers. Either set block_size to None or -1 for per-channel quantization, or "
                f"remove the custom quantizer arguments. Received: block_size={block_size}"
            )
        for name, wanted in (("value_range", _INT4), ("output_dtype", "int8")):
            found = getattr(weight_quantizer, name, wanted)
            if found != wanted:
                raise ValueError(
                    f"Int4QuantizationConfig requires a weight_quantizer with {name}={wanted!r}. "
                    f"Received: {name}={found}"
                )

    @property
    def mode(self) -> str:
        """``"int4"``."""
        return "int4"

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "block_size": self.block_size}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a configuration from its config; older ones had one scale for each output."""
        return super().from_config({"block_size": None, **config})


class QuantizeAwareConfig(Watched):
    """What a layer simulates while it is trained, for :func:`handmill.compress.quantize_aware`.

    Args:
        config: how it will be quantized: a :class:`QuantizationConfig` or its description.
        momentum: of the ends of the ranges of inputs that static steps follow from: each batch
            moves them by ``1 - momentum`` of the way to its own.
        freeze_after: after how many training steps these ranges stay; None: never.

    Raises:
        TypeError: if ``config`` is no configuration.
        ValueError: if ``momentum`` is not from 0 to less than 1, ``freeze_after`` is below 0, or
            ``config`` has quantizers that are not simulated.

    Example:
        >>> from handmill.quantizers import Int4QuantizationConfig, QuantizeAwareConfig
        >>> QuantizeAwareConfig(Int4QuantizationConfig(block_size=64)).mode
        'int4'
    """

    def __init__(
        self, config: Any, momentum: float = 0.99, freeze_after: int | None = None
    ) -> None:
        if isinstance(config, Mapping):
            config = deserialize(config)
        if not isinstance(config, QuantizationConfig):
            raise TypeError(
                f"`config` must be a QuantizationConfig. Received: {config!r} (of type "
                f"{type(config).__name__})"
            )
        weights, inputs = config.weight_quantizer, config.activation_quantizer
        plain = inputs is None or getattr(inputs, "rounds_rows", False)
        if type(weights) not in (type(None), AbsMaxQuantizer) or not plain:
            raise ValueError(
                "training simulates AbsMaxQuantizer for weights, and AbsMaxQuantizer() or none for "
                f"inputs. Received: weight_quantizer={weights!r}, activation_quantizer={inputs!r}"
            )
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be from 0 to less than 1. Received: {momentum!r}")
        whole = isinstance(freeze_after, int) and not isinstance(freeze_after, bool)
        if freeze_after is not None and (not whole or freeze_after < 0):
            raise ValueError(
                "`freeze_after` must be a number of training steps, or None. Received: "
                f"{freeze_after!r}"
            )
        self.config = config
        self.momentum = float(momentum)
        self.freeze_after = freeze_after

    @property
    def mode(self) -> str:
        """The mode of :attr:`config`."""
        return self.config.mode

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "config": serialize(self.config),
            "momentum": self.momentum,
            "freeze_after": self.freeze_after,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a configuration from its config."""
        return cls(**config)


_CLASSES: tuple[type[Any], ...] = (
    Quantizer,
    AbsMaxQuantizer,
    QuantizationConfig,
    Int8QuantizationConfig,
    Int8StaticQuantizationConfig,
    Int4QuantizationConfig,
    QuantizeAwareConfig,
)
_TABLE: dict[str, Any] = {
    **{cls.__name__: cls for cls in _CLASSES},
    **{to_snake_case(cls.__name__): cls for cls in _CLASSES},
}


def get(identifier: Any) -> Any:
    """Returns the quantizer that ``identifier`` means.

    Args:
        identifier: None, a name, a quantizer or its class, or a config dictionary.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    return interpret(identifier, "quantizer", deserialize)


def serialize(quantizer: Any) -> Any:
    """Returns a quantizer or a configuration as a config dictionary."""
    return serialize_keras_object(quantizer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes a quantizer or a configuration from its config dictionary."""
    return deserialize_keras_object(config, custom_objects, module_objects=_TABLE, kind="quantizer")


__getattr__ = plain_module(__name__)
