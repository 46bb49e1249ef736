"""Layers that join several inputs, and functions of the same names in lower case."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from handmill import ops
from handmill.errors import ShapeError
from handmill.ir.trace import with_mask
from handmill.layers.layer import Layer
from handmill.layers.masks import has_mask, masks_of


class _Merge(Layer):
    """Base: combines inputs of shapes that broadcast, two at a time."""

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """An entry counts if it does in any of the inputs; no mask where an input has none."""
        masks = _checked_masks(inputs, mask)
        if any(m is None for m in masks):
            return None
        return functools.reduce(ops.logical_or, masks)

    def build(self, input_shape: Any) -> None:
        """Checks the shapes."""
        _check_several(self, input_shape)

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        if not isinstance(inputs, list | tuple):
            raise ValueError(
                f"{self.describe()} should be called on a list of inputs. Received: {inputs}"
            )
        ranks = [len(x.shape) for x in inputs]
        if len(set(ranks)) > 1:
            inputs = [_expanded(x, max(ranks)) for x in inputs]
        output = inputs[0]
        for other in inputs[1:]:
            output = self._combine(output, other)
        return self._finish(output, len(inputs))

    def _combine(self, a: Any, b: Any) -> Any:
        raise NotImplementedError

    def _finish(self, output: Any, count: int) -> Any:
        return output


def _check_several(layer: Layer, input_shape: Any) -> None:
    nested = isinstance(input_shape, list | tuple) and all(
        isinstance(s, list | tuple) for s in input_shape
    )
    if not nested or not input_shape:
        raise ShapeError(
            f"{layer.describe()} should be called on a list of inputs. "
            f"Received: input_shape={input_shape} (not a list of shapes)"
        )


def _expanded(x: Any, rank: int) -> Any:
    """Inserts axes of size 1 after the batch, as Keras does for inputs of different ranks."""
    missing = rank - len(x.shape)
    return x if not missing else ops.reshape(x, (x.shape[0], *(1,) * missing, *x.shape[1:]))


def _checked_masks(inputs: Any, mask: Any) -> list[Any]:
    if mask is None:
        return [None]
    for name, value in (("mask", mask), ("inputs", inputs)):
        if not isinstance(value, list | tuple):
            raise ValueError(f"`{name}` should be a list. Received: {name}={value}")
    if len(mask) != len(inputs):
        raise ValueError(
            "The lists `inputs` and `mask` should have the same length. "
            f"Received: {len(inputs)} inputs and {len(mask)} masks"
        )
    return list(mask)


def _spread(mask: Any, x: Any) -> Any:
    """A mask of steps as one of all their features."""
    return ops.logical_or(ops.expand_dims(mask, -1), ops.zeros_like(x, dtype="bool"))


class Add(_Merge):
    """The sum of its inputs.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import Add
        >>> x = np.ones((1, 2), "float32")
        >>> Add()([x, x, x])
        array([[3., 3.]], dtype=float32)
    """

    def _combine(self, a: Any, b: Any) -> Any:
        return ops.add(a, b)


class Subtract(_Merge):
    """The first input minus the second."""

    def build(self, input_shape: Any) -> None:
        """Checks that there are two inputs."""
        super().build(input_shape)
        if len(input_shape) != 2:
            raise ValueError(
                "A `Subtract` layer should be called on exactly 2 inputs. "
                f"Received: input_shape={input_shape}"
            )

    def _combine(self, a: Any, b: Any) -> Any:
        return ops.subtract(a, b)


class Multiply(_Merge):
    """The product of its inputs, element by element; masked entries leave the others alone."""

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        masks = masks_of(inputs) if isinstance(inputs, list | tuple) else []
        if not has_mask(masks):
            return super().call(inputs)
        spread = [None if m is None else _spread(m, x) for x, m in zip(inputs, masks, strict=True)]
        output = super().call(
            [
                x if m is None else ops.where(m, x, ops.ones_like(x))
                for x, m in zip(inputs, spread, strict=True)
            ]
        )
        if any(m is None for m in spread):
            return output
        counts = functools.reduce(ops.logical_or, spread)
        output = ops.where(counts, output, ops.zeros_like(output))
        return with_mask(output, ops.any(counts, axis=-1))

    def _combine(self, a: Any, b: Any) -> Any:
        return ops.multiply(a, b)


class Average(_Merge):
    """The mean of its inputs, element by element."""

    def _combine(self, a: Any, b: Any) -> Any:
        return ops.add(a, b)

    def _finish(self, output: Any, count: int) -> Any:
        return ops.divide(output, float(count))


class _Extreme(_Merge):
    """Base of Maximum and Minimum, which have no neutral element: masked entries are left out."""

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        masks = masks_of(inputs) if isinstance(inputs, list | tuple) else []
        if not has_mask(masks):
            return super().call(inputs)
        output, counts = inputs[0], None if masks[0] is None else _spread(masks[0], inputs[0])
        for x, mask in zip(inputs[1:], masks[1:], strict=True):
            own = None if mask is None else _spread(mask, x)
            if own is not None:
                x = ops.where(own, x, output)
            if counts is not None:
                output = ops.where(counts, output, x)
            counts = None if own is None or counts is None else ops.logical_or(counts, own)
            output = self._combine(output, x)
        return output if counts is None else with_mask(output, ops.any(counts, axis=-1))


class Maximum(_Extreme):
    """The largest of its inputs, element by element."""

    def _combine(self, a: Any, b: Any) -> Any:
        return ops.maximum(a, b)


class Minimum(_Extreme):
    """The smallest of its inputs, element by element."""

    def _combine(self, a: Any, b: Any) -> Any:
        return ops.minimum(a, b)


class Concatenate(Layer):
    """Its inputs, one after the other along an axis.

    Args:
        axis: the axis along which sizes may differ.
        **kwargs: ``name`` and the like.
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Checks the shapes."""
        _check_several(self, input_shape)
        ranks = {len(shape) for shape in input_shape}
        others = []
        for shape in input_shape:
            axis = self.axis % len(shape)
            others.append([d for i, d in enumerate(shape) if i != axis])
        known = [set(sizes) - {None} for sizes in zip(*others, strict=len(ranks) == 1)]
        if len(ranks) > 1 or any(len(sizes) > 1 for sizes in known):
            raise ShapeError(
                "A `Concatenate` layer requires inputs with matching shapes except for the "
                f"concatenation axis. Received: input_shape={list(map(tuple, input_shape))}"
            )

    def call(self, inputs: Sequence[Any]) -> Any:
        """Computes the output."""
        if self.axis % len(inputs[0].shape) == 0:
            raise ShapeError(
                "concatenate: samples cannot be joined along the batch axis in a model"
            )
        return ops.concatenate(list(inputs), axis=self.axis)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The masks, one after the other; inputs without one count as a whole."""
        masks = _checked_masks(inputs, mask)
        if not has_mask(masks):
            return None
        wide = [
            ops.ones_like(x, dtype="bool")
            if m is None
            else (_spread(m, x) if len(m.shape) < len(x.shape) else m)
            for x, m in zip(inputs, masks, strict=True)
        ]
        return ops.any(ops.concatenate(wide, axis=self.axis), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "axis": self.axis}


def add(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The sum of ``inputs``; see :class:`Add`."""
    return Add(**kwargs)(inputs)


def subtract(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The difference of two inputs; see :class:`Subtract`."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The product of ``inputs``; see :class:`Multiply`."""
    return Multiply(**kwargs)(inputs)


def average(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The mean of ``inputs``; see :class:`Average`."""
    return Average(**kwargs)(inputs)


def maximum(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The largest of ``inputs``; see :class:`Maximum`."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The smallest of ``inputs``; see :class:`Minimum`."""
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: Sequence[Any], axis: int = -1, **kwargs: Any) -> Any:
    """``inputs`` one after the other; see :class:`Concatenate`."""
    return Concatenate(axis=axis, **kwargs)(inputs)
