"""Core layers: Input, Dense, Activation, Flatten, Reshape, Dropout, Rescaling, Identity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import activations, config, constraints, initializers, ops, regularizers
from handmill.errors import ShapeError
from handmill.ir.shapes import Batch, numpy_dtype, size_of
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer
from handmill.layers.symbolic import KerasTensor, Node
from handmill.primitives.random import dropout
from handmill.random import SeedGenerator


class InputLayer(Layer):
    """The layer behind :func:`Input`.

    Args:
        shape: the shape of one sample.
        batch_size: a fixed batch size; usually None.
        dtype: the dtype into which data is converted.
        sparse: not supported; must be None or False.
        ragged: not supported; must be None or False.
        batch_shape: ``shape`` and ``batch_size`` in one.
        input_tensor: not supported; must be None.
        optional: not supported; must be False.
        name: the name under which data may be passed in a dict.
    """

    def __init__(
        self,
        shape: Any = None,
        batch_size: int | None = None,
        dtype: Any = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Sequence[int | None] | None = None,
        input_tensor: Any = None,
        optional: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, dtype=dtype or config.floatx())
        given = kwargs.pop("input_shape", None)
        if kwargs:
            raise ValueError(f"Unrecognized keyword arguments passed to InputLayer: {kwargs}")
        if sparse or ragged or input_tensor is not None or optional:
            raise ValueError(
                "`sparse`, `ragged`, `input_tensor` and `optional` inputs are not supported yet"
            )
        shape = given if shape is None else shape
        if shape is not None and batch_shape is not None:
            raise ValueError("You cannot pass both `shape` and `batch_shape` at the same time.")
        if shape is None and batch_shape is None:
            raise ValueError("You must pass a `shape` argument.")
        if batch_shape is None:
            if isinstance(shape, int | np.integer):
                raise ValueError(
                    f"Cannot convert {shape!r} to a shape: write shape=({shape},), a tuple"
                )
            batch_shape = (batch_size, *shape)
        self.batch_shape = _checked_shape(batch_shape)
        tensor = KerasTensor(self.batch_shape, self.compute_dtype, name=self.name)
        self.built = True
        Node(self, (), {}, tensor)

    def call(self) -> Any:
        """Never called: an input has no computation."""
        raise NotImplementedError

    @property
    def output(self) -> Any:
        """The symbolic input."""
        return self._inbound_nodes[0].outputs

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "batch_shape": list(self.batch_shape),
            "dtype": self.compute_dtype,
            "sparse": False,
            "ragged": False,
            "name": self.name,
            "optional": False,
        }


def _checked_shape(shape: Sequence[Any]) -> tuple[int | None, ...]:
    for dim in shape:
        if dim is not None and (not isinstance(dim, int | np.integer) or dim < 0):
            raise ValueError(
                f"Cannot convert {tuple(shape)!r} to a shape. Found invalid entry {dim!r}; "
                "sizes are non-negative integers, None for the batch size."
            )
    result = tuple(None if d is None else int(d) for d in shape)
    if math.prod(d for d in result if d) > np.iinfo(np.int64).max:
        raise ValueError(f"shape {result} has more elements than memory can ever hold")
    return result


def Input(
    shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
    tensor: Any = None,
    optional: bool = False,
) -> KerasTensor:
    """Returns the symbolic input of a model.

    Args:
        shape: the shape of one sample, such as ``(784,)``.
        batch_size: a fixed batch size; usually None.
        dtype: the dtype into which data is converted.
        sparse: not supported; must be None or False.
        ragged: not supported; must be None or False.
        batch_shape: ``shape`` and ``batch_size`` in one.
        name: the name under which data may be passed in a dict.
        tensor: not supported; must be None.
        optional: not supported; must be False.

    Example:
        >>> from handmill.layers import Input, Dense
        >>> Dense(3)(Input((4,))).shape
        (None, 3)
    """
    layer = InputLayer(
        shape=shape,
        batch_size=batch_size,
        dtype=dtype,
        sparse=sparse,
        ragged=ragged,
        batch_shape=batch_shape,
        input_tensor=tensor,
        optional=optional,
        name=name,
    )
    return layer.output  # type: ignore[no-any-return]


class Dense(Layer):
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
        lora_rank: not supported; must be None.
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
        lora_rank: None = None,
        **kwargs: Any,
    ) -> None:
        if lora_rank is not None:
            raise ValueError("`lora_rank` is not supported yet")
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = _positive_integer("units", units)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.supports_masking = True
        self.input_spec = InputSpec(min_ndim=2)
        self.bias: Any = None

    def build(self, input_shape: Any) -> None:
        """Makes kernel and bias."""
        if len(input_shape) < 2 or input_shape[-1] is None:
            raise ShapeError(
                f'Input 0 of layer "{self.name}" is incompatible with the layer: expected '
                f"min_ndim=2, found ndim={len(input_shape)}, but received input with shape "
                f"{tuple(input_shape)}\n  hint: a Dense layer needs inputs of shape "
                "(batch, inputs); a single sample x is passed as x[None]"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
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

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Computes the output."""
        outputs = ops.matmul(inputs, self.kernel)
        if self.use_bias:
            outputs = ops.add(outputs, self.bias)
        return self.activation(outputs)

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
            "quantization_config": None,
        }


def _positive_integer(name: str, value: Any) -> int:
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or value <= 0:
        raise ValueError(
            f"Received an invalid value for `{name}`, expected a positive integer. "
            f"Received: {name}={value!r}"
        )
    return int(value)


class Activation(Layer):
    """Applies an activation function.

    Args:
        activation: a name or function.
        **kwargs: ``name`` and the like.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import Activation
        >>> Activation("relu")(np.array([-1.0, 2.0], "float32"))
        array([0., 2.], dtype=float32)
    """

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.activation = activations.get(activation)

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return self.activation(inputs)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "activation": activations.serialize(self.activation)}


class Flatten(Layer):
    """Makes each sample a vector.

    Args:
        data_format: ``"channels_last"`` (default) or ``"channels_first"``; the latter moves the
            channels to the end first.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, ...)``

    Output shape:
        ``(batch, product of the rest)``

    Example:
        >>> from handmill.layers import Flatten, Input
        >>> Flatten()(Input((2, 3))).shape
        (None, 6)
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        data_format = data_format or "channels_last"
        if data_format not in ("channels_last", "channels_first"):
            raise ValueError(
                "The `data_format` argument must be one of 'channels_first', 'channels_last'. "
                f"Received: data_format={data_format}"
            )
        self.data_format = data_format
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        rank = len(inputs.shape)
        if self.data_format == "channels_first" and rank > 2:
            inputs = ops.transpose(inputs, (0, *range(2, rank), 1))
        return ops.reshape(inputs, (inputs.shape[0], size_of(tuple(inputs.shape[1:]))))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "data_format": self.data_format}


class Reshape(Layer):
    """Gives each sample another shape.

    Args:
        target_shape: the new shape without the batch size; one entry may be -1.
        **kwargs: ``name`` and the like.

    Example:
        >>> from handmill.layers import Input, Reshape
        >>> Reshape((3, -1))(Input((6,))).shape
        (None, 3, 2)
    """

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        target = (target_shape,) if isinstance(target_shape, int) else tuple(target_shape)
        if sum(d == -1 for d in target) > 1:
            raise ValueError(
                "There must be at most one unknown dimension in `target_shape`. "
                f"Received: target_shape={target}."
            )
        self.target_shape = target

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        size = size_of(tuple(inputs.shape[1:]))
        if isinstance(size, Batch):
            raise ShapeError(f"reshape: the shape {inputs.shape[1:]} of a sample is not fixed")
        known = math.prod(d for d in self.target_shape if d != -1)
        fits = size % known == 0 if known and -1 in self.target_shape else size == known
        if not fits:
            raise ShapeError(
                "reshape: The total size of the tensor must be unchanged. Received: "
                f"input_shape={tuple(inputs.shape[1:])}, target_shape={self.target_shape}"
            )
        target = tuple(size // known if d == -1 else d for d in self.target_shape)
        return ops.reshape(inputs, (inputs.shape[0], *target))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "target_shape": list(self.target_shape)}


class Dropout(Layer):
    """Sets inputs to zero at random while training, and scales the others up.

    The mask depends on the seed, the number of draws and the position of the element only, not
    on threads.

    Args:
        rate: the fraction set to zero, from 0 to 1.
        noise_shape: not supported; must be None.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if ``rate`` is outside [0, 1].
    """

    def __init__(
        self, rate: float, noise_shape: None = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise ValueError(
                "Invalid value received for argument `rate`. Expected a float value between 0 "
                f"and 1. Received: rate={rate}"
            )
        if noise_shape is not None:
            raise ValueError("`noise_shape` is not supported yet")
        self.rate = rate
        self.seed = seed
        self.noise_shape = noise_shape
        self.supports_masking = True
        if rate > 0:
            self.seed_generator = SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes the output."""
        if not training or self.rate == 0:
            return inputs
        if self.rate == 1:
            return ops.multiply(inputs, 0.0)
        return dropout(inputs, self.seed_generator.next(), self.rate)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "rate": self.rate,
            "seed": self.seed,
            "noise_shape": self.noise_shape,
        }


class Rescaling(Layer):
    """Computes ``inputs * scale + offset``; first in a model for images 0..255: ``1 / 255``.

    Args:
        scale: the factor: a number, or one for each channel.
        offset: the summand.
        **kwargs: ``name`` and the like.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import Rescaling
        >>> Rescaling(1 / 127.5, offset=-1)(np.array([[0, 255]], "uint8"))
        array([[-1.,  1.]], dtype=float32)
    """

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.offset = offset
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        dtype = numpy_dtype(self.compute_dtype)
        scale, offset = np.asarray(self.scale, dtype), np.asarray(self.offset, dtype)
        outputs = ops.multiply(ops.cast(inputs, self.compute_dtype), scale)
        return outputs if not offset.any() else ops.add(outputs, offset)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "scale": _plain(self.scale),
            "offset": _plain(self.offset),
        }


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


class Identity(Layer):
    """Returns its input as it is.

    Args:
        **kwargs: ``name`` and the like.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Returns ``inputs``."""
        return inputs
