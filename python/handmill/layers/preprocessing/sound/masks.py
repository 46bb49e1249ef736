"""Stripes of a picture of frequencies taken out while training."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.arguments import whole_number
from handmill.layers.preprocessing.images.arguments import is_number
from handmill.layers.preprocessing.images.draws import Draws
from handmill.layers.preprocessing.sound.base import SoundLayer, of_each


class SpecAugment(SoundLayer):
    """Hides random bands of frequencies and spans of time while training.

    Source: Park et al., "SpecAugment" (2019), without its warping of time.

    Args:
        frequency_masks: how many bands of frequencies are hidden.
        frequency_width: how many neighbouring frequencies a band has at most.
        time_masks: how many spans of windows are hidden.
        time_width: how many neighbouring windows a span has at most.
        fill: what stands there instead: a number, or ``"mean"`` for the mean of the sound.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, frequencies, windows)``, as ``layers.MelSpectrogram`` gives it, or with channels
        behind

    Output shape:
        that of the input

    Raises:
        ValueError: for numbers below 0, or an unknown ``fill``.

    Example:
        >>> import numpy as np
        >>> from handmill import audio
        >>> layer = audio.SpecAugment(time_masks=0, frequency_width=3, fill=0.0, seed=1)
        >>> sorted(set(layer(np.ones((1, 9, 4), "float32"), training=True).sum(axis=2).ravel()))
        [np.float32(0.0), np.float32(4.0)]
    """

    RANKS = (3, 4)
    MEANING = "(batch, frequencies, windows) or (batch, frequencies, windows, channels)"

    def __init__(
        self,
        frequency_masks: int = 1,
        frequency_width: int = 8,
        time_masks: int = 1,
        time_width: int = 10,
        fill: float | str = "mean",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.frequency_masks = whole_number("`frequency_masks`", frequency_masks, 0)
        self.frequency_width = whole_number("`frequency_width`", frequency_width, 0)
        self.time_masks = whole_number("`time_masks`", time_masks, 0)
        self.time_width = whole_number("`time_width`", time_width, 0)
        if fill != "mean" and not is_number(fill):
            raise ValueError(f"`fill` must be a number or 'mean'. Received: fill={fill!r}")
        self.fill = fill
        super().__init__(seed, **kwargs)

    def varied(self, sounds: Any, draws: Draws) -> Any:
        """Returns the pictures with stripes."""
        shape = ops.shape(sounds)
        fill: Any = self.fill
        if fill == "mean":
            fill = ops.mean(sounds, axis=tuple(range(1, len(shape))), keepdims=True)
        found = sounds
        for axis, count, width in (
            (1, self.frequency_masks, self.frequency_width),
            (2, self.time_masks, self.time_width),
        ):
            for _ in range(count):
                hidden = _stripe(draws, shape, axis, width)
                found = ops.where(hidden, fill, found)
        return found

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "frequency_masks": self.frequency_masks,
            "frequency_width": self.frequency_width,
            "time_masks": self.time_masks,
            "time_width": self.time_width,
            "fill": self.fill,
        }


def _stripe(draws: Draws, shape: Any, axis: int, width: int) -> Any:
    """Where a stripe of 0 to ``width`` places lies along an axis, wholly inside."""
    size = ops.cast(shape[axis], "float32")
    drawn = ops.floor(draws.uniform(shape[:1]) * float(width + 1))
    drawn = ops.minimum(drawn, size)
    first = ops.floor(draws.uniform(shape[:1]) * (size - drawn + 1.0))
    places = ops.cast(ops.arange(shape[axis]), "float32")
    places = ops.reshape(places, tuple(-1 if a == axis else 1 for a in range(len(shape))))
    first, end = (of_each(x, len(shape)) for x in (first, first + drawn))
    return ops.logical_and(ops.greater_equal(places, first), ops.less(places, end))
