"""Where a functional model begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import config, dtype_policies
from handmill.errors import warn_caller
from handmill.layers.layer import Layer
from handmill.layers.symbolic import STRING, KerasTensor, Node


class InputLayer(Layer):
    """The layer behind :func:`Input`.

    Args:
        shape: the shape of one sample.
        batch_size: a fixed batch size; usually None.
        dtype: the dtype into which data is converted; ``"string"`` for layers that take strings.
        sparse: not supported; must be None or False.
        ragged: not supported; must be None or False.
        batch_shape: ``shape`` and ``batch_size`` in one.
        input_tensor: a tensor that becomes the input, instead of a new one.
        optional: whether None may be passed; the layers that take it are then called with None.
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
        is_text = dtype is str or dtype == STRING or getattr(dtype, "kind", "") in ("U", "S")
        super().__init__(name=name, dtype=config.floatx() if is_text else dtype or config.floatx())
        if "input_shape" in kwargs:
            warn_caller("Argument `input_shape` is deprecated. Use `shape` instead.")
            shape = kwargs.pop("input_shape")
        batch_shape = kwargs.pop("batch_input_shape", batch_shape)
        if kwargs:
            raise ValueError(f"Unrecognized keyword arguments passed to InputLayer: {kwargs}")
        for argument, value in (("sparse", sparse), ("ragged", ragged)):
            if value:
                raise ValueError(f"`{argument}=True` is not supported yet: inputs are dense")
        self.optional = bool(optional)
        if input_tensor is not None:
            if not isinstance(input_tensor, KerasTensor):
                raise ValueError(
                    "Argument `input_tensor` must be a KerasTensor, such as an Input. Received "
                    f"invalid type: input_tensor={input_tensor!r} (of type {type(input_tensor)})"
                )
            for what, wanted, found in (
                ("batch_size", batch_size, (*input_tensor.shape, None)[0]),
                ("shape", shape, input_tensor.shape[1:]),
                ("batch_shape", batch_shape, input_tensor.shape),
                ("dtype", dtype, input_tensor.dtype),
            ):
                if wanted is not None and _plain(wanted) != _plain(found):
                    raise ValueError(
                        "When providing the `input_tensor` argument, you cannot provide an "
                        f"incompatible `{what}` argument. The tensor has {what}={found}. "
                        f"Received: {what}={wanted}"
                    )
            batch_shape, shape, batch_size = input_tensor.shape, None, None
            self.dtype_policy = dtype_policies.get(input_tensor.dtype)
        if shape is not None and batch_shape is not None:
            raise ValueError("You cannot pass both `shape` and `batch_shape` at the same time.")
        if batch_size is not None and batch_shape is not None:
            raise ValueError(
                "You cannot pass both `batch_size` and `batch_shape` at the same time."
            )
        if shape is None and batch_shape is None:
            raise ValueError("You must pass a `shape` argument.")
        if batch_shape is None:
            if isinstance(shape, int | np.integer):
                raise ValueError(
                    f"Cannot convert {shape!r} to a shape: write shape=({shape},), a tuple"
                )
            batch_shape = (batch_size, *shape)
        self.batch_shape = _checked_shape(batch_shape)
        tensor = input_tensor
        if tensor is None:
            dtype = STRING if is_text else self.compute_dtype
            tensor = KerasTensor(self.batch_shape, dtype, name=self.name)
        self.built = True
        Node(self, (), {}, tensor)

    sparse = False
    """Whether the data is sparse."""
    ragged = False
    """Whether the rows of the data have lengths of their own."""
    optional = False
    """Whether None may be passed."""

    def call(self) -> Any:
        """Nothing: an input has no computation."""
        return

    @property
    def output(self) -> Any:
        """The symbolic input."""
        return self._inbound_nodes[0].outputs

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "batch_shape": list(self.batch_shape),
            "dtype": self.output.dtype,
            "sparse": self.sparse,
            "ragged": self.ragged,
            "name": self.name,
            "optional": self.optional,
        }


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else str(value)


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
        dtype: the dtype into which data is converted; ``"string"`` for layers that take strings.
        sparse: not supported; must be None or False.
        ragged: not supported; must be None or False.
        batch_shape: ``shape`` and ``batch_size`` in one.
        name: the name under which data may be passed in a dict.
        tensor: a tensor that becomes the input, instead of a new one.
        optional: whether None may be passed; the layers that take it are then called with None.

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
