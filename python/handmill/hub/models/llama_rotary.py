"""Angles of Llama 3.1: long waves are stretched, short ones stay."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from handmill.hub.layers.rotary_embedding import RotaryEmbedding
from handmill.ir.op import Array


class LlamaRotaryEmbedding(RotaryEmbedding):
    """A rotary embedding whose waves are stretched by their length.

    Waves longer than ``pretraining_sequence_length / low_freq_factor`` places are stretched by
    ``frequency_adjustment_factor``; those shorter than ``pretraining_sequence_length /
    high_freq_factor`` stay; between them the factor changes smoothly.

    Args:
        max_wavelength: the longest wave, divided by ``2 pi``.
        position_scaling_factor: places are divided by it.
        frequency_adjustment_factor: the factor; None for none. The others belong to it.
        low_freq_factor: says which waves are long.
        high_freq_factor: says which waves are short.
        pretraining_sequence_length: how long the first texts were.
        **kwargs: those of :class:`RotaryEmbedding`.

    Raises:
        ValueError: if some of the four are None and others are not.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.models.llama_rotary import LlamaRotaryEmbedding
        >>> LlamaRotaryEmbedding()(np.ones((1, 3, 2, 4), "float32")).shape
        (1, 3, 2, 4)
    """

    def __init__(
        self,
        max_wavelength: float = 10000,
        position_scaling_factor: float = 1.0,
        frequency_adjustment_factor: float | None = None,
        low_freq_factor: float | None = None,
        high_freq_factor: float | None = None,
        pretraining_sequence_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_wavelength, position_scaling_factor, **kwargs)
        together = {
            "frequency_adjustment_factor": frequency_adjustment_factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "pretraining_sequence_length": pretraining_sequence_length,
        }
        if len({value is None for value in together.values()}) > 1:
            raise ValueError(
                f"All of {', '.join(together)} must be given, or none. Received: {together}"
            )
        self.position_scaling_factor = position_scaling_factor
        self.frequency_adjustment_factor = frequency_adjustment_factor
        self.low_freq_factor = low_freq_factor
        self.high_freq_factor = high_freq_factor
        self.pretraining_sequence_length = pretraining_sequence_length

    def _rates(self, width: int) -> Array:
        rates = super()._rates(width)
        if self.frequency_adjustment_factor is None:
            return rates
        low, high = self.low_freq_factor, self.high_freq_factor
        assert low is not None  # noqa: S101  (all four are given)
        assert high is not None  # noqa: S101
        waves = np.float32(2 * math.pi) / rates
        share = (self.pretraining_sequence_length / waves - low) / (high - low)
        share = np.clip(share, 0, 1)
        made: Array = share * rates + (1 - share) * rates / self.frequency_adjustment_factor
        return made.astype("float32")

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        del config["scaling_factor"], config["rope_type"]
        return {
            **config,
            "position_scaling_factor": self.position_scaling_factor,
            "frequency_adjustment_factor": self.frequency_adjustment_factor,
            "low_freq_factor": self.low_freq_factor,
            "high_freq_factor": self.high_freq_factor,
            "pretraining_sequence_length": self.pretraining_sequence_length,
        }
