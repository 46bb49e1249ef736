"""Dropout of whole channels."""

from __future__ import annotations

from typing import Any, ClassVar

from handmill.config import standardize_data_format
from handmill.layers.input_spec import InputSpec
from handmill.layers.regularization.dropout import Dropout


class _SpatialDropout(Dropout):
    """Base: one decision for each channel of each sample."""

    _rank: ClassVar[int]
    data_format = "channels_last"

    def __init__(
        self, rate: float, seed: int | None = None, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(rate, seed=seed, name=name, dtype=dtype)
        self.input_spec = InputSpec(ndim=self._rank)

    def _noise_shape(self, inputs: Any) -> tuple[Any, ...]:
        shape = tuple(inputs.shape)
        ones = (1,) * (len(shape) - 2)
        if self.data_format == "channels_first":
            return (*shape[:2], *ones)
        return (shape[0], *ones, shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "rate": self.rate,
            "seed": self.seed,
            "name": self.name,
            "dtype": self.dtype_policy.name,
        }


class SpatialDropout1D(_SpatialDropout):
    """Sets whole channels of sequences to zero at random while training.

    Args:
        rate: the fraction of channels set to zero, from 0 to 1.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        name: the layer's name.
        dtype: its dtype or policy.

    Input shape:
        ``(batch, time, channels)``

    Output shape:
        The same.
    """

    _rank = 3


class _OfImages(_SpatialDropout):
    """Base: the channels are the last axis or the first."""

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(rate, seed=seed, name=name, dtype=dtype)
        self.data_format = standardize_data_format(data_format)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "data_format": self.data_format}


class SpatialDropout2D(_OfImages):
    """Sets whole channels of images to zero at random while training.

    Args:
        rate: the fraction of channels set to zero, from 0 to 1.
        data_format: ``"channels_last"`` (default) or ``"channels_first"``.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        name: the layer's name.
        dtype: its dtype or policy.

    Input shape:
        ``(batch, height, width, channels)``, or with the channels before the height

    Output shape:
        The same.
    """

    _rank = 4


class SpatialDropout3D(_OfImages):
    """Sets whole channels of volumes to zero at random while training.

    Args:
        rate: the fraction of channels set to zero, from 0 to 1.
        data_format: ``"channels_last"`` (default) or ``"channels_first"``.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        name: the layer's name.
        dtype: its dtype or policy.

    Input shape:
        ``(batch, depth, height, width, channels)``, or with the channels before the depth

    Output shape:
        The same.
    """

    _rank = 5
