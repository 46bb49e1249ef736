"""All but the first axis in one."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.config import standardize_data_format
from handmill.ir.shapes import size_of
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer


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
        self.data_format = standardize_data_format(data_format)
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
