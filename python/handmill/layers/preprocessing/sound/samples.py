"""Layers that vary samples: loudness, noise, place in time."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops
from handmill.layers.preprocessing.images.arguments import is_pair
from handmill.layers.preprocessing.images.draws import Draws
from handmill.layers.preprocessing.sound.base import SoundLayer, of_each

_SILENCE = 1e-10


class RandomGain(SoundLayer):
    """Makes each sound louder or softer while training.

    Args:
        decibels: from where to where; one number g: from -g to g.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, samples)`` or ``(batch, samples, channels)``

    Output shape:
        that of the input

    Raises:
        ValueError: if ``decibels`` is neither a number nor two.

    Example:
        >>> import numpy as np
        >>> from handmill import audio
        >>> audio.RandomGain((20.0, 20.0))(np.ones((1, 3), "float32"), training=True)
        array([[10., 10., 10.]], dtype=float32)
    """

    def __init__(self, decibels: Any = 6.0, seed: int | None = None, **kwargs: Any) -> None:
        self.decibels = _range("decibels", decibels)
        super().__init__(seed, **kwargs)

    def varied(self, sounds: Any, draws: Draws) -> Any:
        """Returns the sounds, louder or softer."""
        shape = ops.shape(sounds)
        gain = ops.exp(draws.uniform(shape[:1], *self.decibels) * float(np.log(10) / 20))
        return sounds * of_each(gain, len(shape))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "decibels": list(self.decibels)}


class RandomNoise(SoundLayer):
    """Adds white noise to each sound while training.

    Args:
        signal_to_noise: how many decibels the sound lies above the noise, from where to where; one
            number: that one. A silent sound stays silent.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, samples)`` or ``(batch, samples, channels)``

    Output shape:
        that of the input

    Raises:
        ValueError: if ``signal_to_noise`` is neither a number nor two.

    Example:
        >>> import numpy as np
        >>> from handmill import audio
        >>> tone = np.ones((1, 10_000), "float32")
        >>> noise = audio.RandomNoise(20.0, seed=0)(tone, training=True) - tone
        >>> round(float(noise.std()), 2)
        0.1
    """

    def __init__(
        self, signal_to_noise: Any = (10.0, 40.0), seed: int | None = None, **kwargs: Any
    ) -> None:
        if not is_pair(signal_to_noise):
            signal_to_noise = (signal_to_noise, signal_to_noise)
        self.signal_to_noise = _range("signal_to_noise", signal_to_noise)
        super().__init__(seed, **kwargs)

    def varied(self, sounds: Any, draws: Draws) -> Any:
        """Returns the sounds with noise."""
        shape = ops.shape(sounds)
        axes = tuple(range(1, len(shape)))
        level = ops.sqrt(ops.mean(ops.square(sounds), axis=axes))
        below = draws.uniform(shape[:1], *self.signal_to_noise) * float(-np.log(10) / 20)
        noise = draws.normal(shape)
        return sounds + noise * of_each(level * ops.exp(below), len(shape))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "signal_to_noise": list(self.signal_to_noise)}


class RandomShift(SoundLayer):
    """Lets each sound begin earlier or later while training; zeros fill what is left free.

    Args:
        factor: how far at most, as a part of the length: 0.1 shifts by up to a tenth either way;
            two numbers: from where to where, positive for later.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, samples)`` or ``(batch, samples, channels)``

    Output shape:
        that of the input

    Raises:
        ValueError: if ``factor`` is neither a number nor two, or outside [-1, 1].

    Example:
        >>> import numpy as np
        >>> from handmill import audio
        >>> audio.RandomShift((0.5, 0.5))(np.float32([[1, 2, 3, 4]]), training=True)
        array([[0., 0., 1., 2.]], dtype=float32)
    """

    def __init__(self, factor: Any = 0.1, seed: int | None = None, **kwargs: Any) -> None:
        self.factor = _range("factor", factor)
        if max(map(abs, self.factor)) > 1:
            raise ValueError(f"`factor` must lie in [-1, 1]. Received: factor={factor}")
        super().__init__(seed, **kwargs)

    def varied(self, sounds: Any, draws: Draws) -> Any:
        """Returns the sounds, earlier or later."""
        shape = ops.shape(sounds)
        length = shape[1]
        places = ops.cast(ops.arange(length), "int32")
        part = draws.uniform(shape[:1], *self.factor)
        shift = ops.cast(ops.round(part * ops.cast(length, "float32")), "int32")
        places = ops.expand_dims(places, 0) - of_each(shift, 2)
        inside = ops.logical_and(ops.greater_equal(places, 0), ops.less(places, length))
        places = ops.where(inside, places, 0)
        if len(shape) == 3:
            places, inside = ops.expand_dims(places, 2), ops.expand_dims(inside, 2)
            places = ops.broadcast_to(places, shape)
        return ops.where(inside, ops.take_along_axis(sounds, places, axis=1), 0.0)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "factor": list(self.factor)}


def _range(name: str, value: Any) -> tuple[float, float]:
    """From where to where something is drawn; one number: either way."""
    if is_pair(value):
        low, high = sorted(value)
        return float(low), float(high)
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ValueError(f"`{name}` must be a number, or two. Received: {name}={value!r}")
    return -abs(float(value)), abs(float(value))
