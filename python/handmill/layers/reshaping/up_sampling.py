"""Each element several times, or enlarged images."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.config import standardize_data_format
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer
from handmill.ops.nn.spatial import each


class UpSampling1D(Layer):
    """Repeats each step of sequences.

    Args:
        size: how often.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, steps, channels)``

    Output shape:
        ``(batch, steps * size, channels)``

    Raises:
        TypeError: if ``size`` is not an integer.
        ValueError: if it is not positive.

    Example:
        >>> from handmill.layers import Input, UpSampling1D
        >>> UpSampling1D(3)(Input((5, 4))).shape
        (None, 15, 4)
    """

    def __init__(self, size: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"Expected an integer value for `size`, got {type(size)}.")
        if size < 1:
            raise ValueError(f"Argument `size` should be a positive integer. Received: size={size}")
        self.size = size
        self.input_spec = InputSpec(ndim=3)

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        return ops.repeat(inputs, self.size, axis=1)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "size": self.size}


class _UpSampling(Layer):
    """Base: sizes of each axis between batch and channels."""

    _rank: int

    def __init__(self, size: Any = 2, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = each("size", size, self._rank)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self._rank + 2)

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        first = 1 if self.data_format == "channels_last" else 2
        for axis, times in enumerate(self.size, first):
            inputs = ops.repeat(inputs, times, axis=axis)
        return inputs

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "size": self.size, "data_format": self.data_format}


class UpSampling2D(_UpSampling):
    """Enlarges images by whole factors.

    Args:
        size: the factors: an integer, or one for each axis.
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        interpolation: "nearest", which repeats each pixel, "bilinear", "bicubic", "lanczos3" or
            "lanczos5"; all but the first need a fixed height and width.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, height, width, channels)``, or ``(batch, channels, height, width)`` with
        "channels_first"

    Output shape:
        ``(batch, height * size[0], width * size[1], channels)``, or the channels where the input
        has them

    Raises:
        ValueError: if an argument is none of those above.

    Example:
        >>> from handmill.layers import Input, UpSampling2D
        >>> UpSampling2D((2, 3), interpolation="bilinear")(Input((5, 4, 3))).shape
        (None, 10, 12, 3)
    """

    _rank = 2

    def __init__(
        self,
        size: Any = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        **kwargs: Any,
    ) -> None:
        super().__init__(size, data_format, **kwargs)
        known = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
        self.interpolation = str(interpolation).lower()
        if self.interpolation not in known:
            raise ValueError(
                f"`interpolation` must be one of {', '.join(map(repr, known))}. "
                f"Received: interpolation={interpolation!r}"
            )

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        if self.interpolation == "nearest":
            return super().call(inputs)
        first = 1 if self.data_format == "channels_last" else 2
        sizes = inputs.shape[first : first + 2]
        return ops.image.resize(
            inputs,
            tuple(n * times for n, times in zip(sizes, self.size, strict=True)),
            interpolation=self.interpolation,
            data_format=self.data_format,
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "interpolation": self.interpolation}


class UpSampling3D(_UpSampling):
    """Repeats each element of volumes.

    Args:
        size: how often along each axis: an integer, or one for each axis.
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, depth, height, width, channels)``, or the channels after the batch with
        "channels_first"

    Output shape:
        The same with sizes multiplied.

    Example:
        >>> from handmill.layers import Input, UpSampling3D
        >>> UpSampling3D((1, 2, 3))(Input((5, 4, 3, 2))).shape
        (None, 5, 8, 9, 2)
    """

    _rank = 3
