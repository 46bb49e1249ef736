"""Pooling over whole images: one number for each channel."""

from __future__ import annotations

from typing import Any, ClassVar

from handmill import ops
from handmill.config import standardize_data_format
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer


class _GlobalPooling(Layer):
    """Base: reduces the axes between batch and channels."""

    _rank: ClassVar[int]

    def __init__(
        self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.data_format = standardize_data_format(data_format)
        self.keepdims = keepdims
        self.input_spec = InputSpec(ndim=self._rank + 2)
        self._build_at_init()

    def _reduced(self) -> tuple[int, ...]:
        first = 1 if self.data_format == "channels_last" else 2
        return tuple(range(first, first + self._rank))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "data_format": self.data_format,
            "keepdims": self.keepdims,
        }


class _GlobalMaxPooling(_GlobalPooling):
    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return ops.max(inputs, axis=self._reduced(), keepdims=self.keepdims)


class _GlobalAveragePooling(_GlobalPooling):
    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return ops.mean(inputs, axis=self._reduced(), keepdims=self.keepdims)


class GlobalMaxPooling1D(_GlobalMaxPooling):
    """Takes the largest step of each channel.

    The arguments are those of :class:`GlobalAveragePooling2D`.

    Input shape:
        ``(batch, steps, channels)``, or ``(batch, channels, steps)`` with "channels_first"

    Output shape:
        ``(batch, channels)``

    Example:
        >>> from handmill.layers import GlobalMaxPooling1D, Input
        >>> GlobalMaxPooling1D()(Input((5, 3))).shape
        (None, 3)
    """

    _rank = 1


class GlobalMaxPooling2D(_GlobalMaxPooling):
    """Takes the largest element of each channel of an image.

    The arguments are those of :class:`GlobalAveragePooling2D`.

    Input shape:
        ``(batch, height, width, channels)``, or ``(batch, channels, height, width)`` with
        "channels_first"

    Output shape:
        ``(batch, channels)``

    Example:
        >>> from handmill.layers import GlobalMaxPooling2D, Input
        >>> GlobalMaxPooling2D()(Input((7, 7, 3))).shape
        (None, 3)
    """

    _rank = 2


class GlobalMaxPooling3D(_GlobalMaxPooling):
    """Takes the largest element of each channel of a volume.

    The arguments are those of :class:`GlobalAveragePooling2D`.

    Input shape:
        ``(batch, depth, height, width, channels)``, or the channels after the batch with
        "channels_first"

    Output shape:
        ``(batch, channels)``

    Example:
        >>> from handmill.layers import GlobalMaxPooling3D, Input
        >>> GlobalMaxPooling3D()(Input((4, 7, 7, 3))).shape
        (None, 3)
    """

    _rank = 3


class GlobalAveragePooling1D(_GlobalAveragePooling):
    """Takes the mean of the steps of each channel; those that a mask leaves out do not count.

    The arguments are those of :class:`GlobalAveragePooling2D`.

    Input shape:
        ``(batch, steps, channels)``, or ``(batch, channels, steps)`` with "channels_first"

    Output shape:
        ``(batch, channels)``

    Example:
        >>> from handmill.layers import GlobalAveragePooling1D, Input
        >>> GlobalAveragePooling1D()(Input((5, 3))).shape
        (None, 3)
    """

    _rank = 1

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Computes the output.

        Args:
            inputs: sequences.
            mask: (batch, steps), True for the steps that count.
        """
        if mask is None:
            return super().call(inputs)
        (axis,) = self._reduced()
        counts = ops.cast(ops.expand_dims(mask, 3 - axis), "bool")
        total = ops.sum(ops.where(counts, inputs, 0), axis, keepdims=self.keepdims)
        number = ops.sum(ops.cast(counts, inputs.dtype), axis, keepdims=self.keepdims)
        return ops.divide(total, number)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """There are no steps any more."""
        return None


class GlobalAveragePooling2D(_GlobalAveragePooling):
    """Takes the mean of each channel of an image.

    Args:
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        keepdims: whether the axes that are gone stay with size 1.
        **kwargs: ``name``, ``trainable``, ``dtype``, ``input_shape``, as of every layer.

    Input shape:
        ``(batch, height, width, channels)``, or ``(batch, channels, height, width)`` with
        "channels_first"

    Output shape:
        ``(batch, channels)``

    Example:
        >>> from handmill.layers import GlobalAveragePooling2D, Input
        >>> GlobalAveragePooling2D(keepdims=True)(Input((7, 7, 3))).shape
        (None, 1, 1, 3)
    """

    _rank = 2


class GlobalAveragePooling3D(_GlobalAveragePooling):
    """Takes the mean of each channel of a volume.

    The arguments are those of :class:`GlobalAveragePooling2D`.

    Input shape:
        ``(batch, depth, height, width, channels)``, or the channels after the batch with
        "channels_first"

    Output shape:
        ``(batch, channels)``

    Example:
        >>> from handmill.layers import GlobalAveragePooling3D, Input
        >>> GlobalAveragePooling3D()(Input((4, 7, 7, 3))).shape
        (None, 3)
    """

    _rank = 3
