"""The sums of products of two inputs, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill import ops
from handmill.errors import ShapeError
from handmill.ir.dims import as_none, same
from handmill.layers.layer import Layer


class Dot(Layer):
    """Multiplies two inputs and sums over an axis of each, sample by sample.

    Args:
        axes: the axis of both inputs, or one of each.
        normalize: whether the inputs are divided by their norms along these axes first, which
            makes the result their cosine similarity.
        **kwargs: ``name`` and the like.

    Input shape:
        two inputs, ``(batch, ...)``

    Output shape:
        the other axes of the first, then those of the second; ``(batch, 1)`` for two vectors

    Raises:
        TypeError: if ``axes`` is neither an integer nor a list.
        ValueError: if it does not hold two integers.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import Dot
        >>> x = np.array([[1.0, 2.0]], "float32")
        >>> Dot(axes=1)([x, x])
        array([[5.]], dtype=float32)
    """

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(axes, int):
            if not isinstance(axes, list | tuple):
                raise TypeError(
                    f"Invalid type for argument `axes`: it should be a list or an int. "
                    f"Received: axes={axes}"
                )
            if len(axes) != 2 or not all(isinstance(axis, int) for axis in axes):
                raise ValueError(
                    "Invalid format for argument `axes`: it should contain two integers. "
                    f"Received: axes={axes}"
                )
        self.axes = axes
        self.normalize = normalize
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Checks the shapes."""
        nested = isinstance(input_shape, list | tuple) and len(input_shape) == 2
        if not nested or not all(isinstance(shape, list | tuple) for shape in input_shape):
            raise ShapeError(
                f"{self.describe()} should be called on a list of 2 inputs. "
                f"Received: input_shape={input_shape}"
            )
        self._check(*map(tuple, input_shape))

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        x, y = inputs
        along = self._check(tuple(x.shape), tuple(y.shape))
        if self.normalize:
            x, y = (ops.normalize(t, axis=axis) for t, axis in zip((x, y), along, strict=True))
        if len(x.shape) == len(y.shape) == 2:
            return ops.sum(ops.multiply(x, y), axis=1, keepdims=True)
        letters = iter("cdefghijklmnopqrstuvwxyz")
        terms = []
        for t, axis in zip((x, y), along, strict=True):
            rest = range(1, len(t.shape))
            terms.append("b" + "".join("a" if i == axis else next(letters) for i in rest))
        result = "b" + "".join(terms).replace("a", "").replace("b", "")
        return ops.einsum(f"{terms[0]},{terms[1]}->{result}", x, y)

    def _check(self, first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[int, int]:
        """The axes counted from the front."""
        given = (self.axes, self.axes) if isinstance(self.axes, int) else self.axes
        along = []
        for axis, shape in zip(given, (first, second), strict=True):
            if not -len(shape) <= axis < len(shape) or axis % len(shape) == 0:
                raise ShapeError(
                    f"{self.describe()}: axis {axis} of {_shown(shape)} cannot be summed over: it "
                    f"does not exist, or is the batch. Received: axes={self.axes}"
                )
            along.append(axis % len(shape))
        sizes = first[along[0]], second[along[1]]
        if None not in sizes and not same(*sizes):
            raise ShapeError(
                f"{self.describe()}: incompatible input shapes: axis values {sizes[0]} (at axis "
                f"{along[0]}) != {sizes[1]} (at axis {along[1]}). Full input shapes: "
                f"{_shown(first)}, {_shown(second)}"
            )
        return along[0], along[1]

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: the output has no axis that a mask of the inputs would belong to."""

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "axes": self.axes, "normalize": self.normalize}


def _shown(shape: tuple[Any, ...]) -> tuple[int | None, ...]:
    return tuple(None if d is None else as_none((d,))[0] for d in shape)


def dot(inputs: Sequence[Any], axes: int | Sequence[int] = -1, **kwargs: Any) -> Any:
    """The sums of products of two inputs, sample by sample; see :class:`Dot`."""
    return Dot(axes=axes, **kwargs)(inputs)
