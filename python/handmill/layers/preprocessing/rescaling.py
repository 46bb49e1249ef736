"""Inputs scaled and shifted."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import config, ops
from handmill.ir.op import Array
from handmill.ir.shapes import numpy_dtype
from handmill.layers.arguments import checked_numbers
from handmill.layers.layer import Layer


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
        checked_numbers("scale", scale)
        checked_numbers("offset", offset)
        self.scale = scale
        self.offset = offset
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        dtype = numpy_dtype(self.compute_dtype)
        scale, offset = (_of_channels(np.asarray(x, dtype)) for x in (self.scale, self.offset))
        outputs = ops.multiply(ops.cast(inputs, self.compute_dtype), scale)
        return outputs if not offset.any() else ops.add(outputs, offset)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "scale": _plain(self.scale),
            "offset": _plain(self.offset),
        }


def _of_channels(numbers: Array) -> Array:
    """One number, or one for each channel, in the shape that images broadcast with."""
    if not numbers.ndim or config.image_data_format() != "channels_first":
        return numbers
    shaped: Array = numbers.reshape(numbers.shape + (1,) * (3 - numbers.ndim))
    return shaped


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
