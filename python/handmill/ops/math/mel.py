"""Bands of frequencies that ears tell apart, by the conventions of three libraries.

Sources: Young et al., "The HTK Book" (2006), section 5.4; Slaney, "Auditory Toolbox" (1998).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.errors import warn_caller
from handmill.ir.op import Array
from handmill.ops.numpy.products import matmul
from handmill.primitives.operands import shape_of, tensor

CONVENTIONS = ("keras", "librosa", "torchaudio")

# Slaney's scale: 3 mel are 200 hertz up to 1000, then a factor of 6.4 for 27.
_STRAIGHT = 200.0 / 3.0
_BREAK = 1000.0
_STEP = np.log(6.4) / 27.0


def mel_of(hertz: Any, convention: str = "keras") -> Any:
    """Frequencies on the mel scale of a convention.

    Args:
        hertz: frequencies.
        convention: "keras" and "torchaudio" (HTK's scale) or "librosa" (Slaney's).

    Returns:
        float64 numbers.
    """
    hertz = np.asarray(hertz, np.float64)
    if convention != "librosa":
        return 1127.0 * np.log(1.0 + hertz / 700.0)
    above = _BREAK / _STRAIGHT + np.log(np.maximum(hertz, _BREAK) / _BREAK) / _STEP
    return np.where(hertz < _BREAK, hertz / _STRAIGHT, above)


def hertz_of(mel: Any, convention: str = "keras") -> Any:
    """The inverse of :func:`mel_of`.

    Args:
        mel: numbers on the scale.
        convention: see there.

    Returns:
        float64 frequencies.
    """
    mel = np.asarray(mel, np.float64)
    if convention != "librosa":
        return 700.0 * (np.exp(mel / 1127.0) - 1.0)
    first = _BREAK / _STRAIGHT
    above = _BREAK * np.exp(_STEP * (np.maximum(mel, first) - first))
    return np.where(mel < first, mel * _STRAIGHT, above)


@lru_cache(maxsize=16)
def mel_bands(
    fft_length: int,
    sampling_rate: int,
    num_mel_bins: int,
    min_freq: float,
    max_freq: float,
    convention: str = "keras",
) -> Array:
    """How much each frequency of a transform counts in each band.

    Args:
        fft_length: the length of a transform.
        sampling_rate: samples in a second.
        num_mel_bins: the number of bands.
        min_freq: where the first begins, in hertz.
        max_freq: where the last ends.
        convention: "keras", "librosa" or "torchaudio": see ``layers.MelSpectrogram``.

    Returns:
        float64 of shape ``(fft_length // 2 + 1, num_mel_bins)``, not to be changed. Bands between
        two frequencies of the transform are empty: a warning counts them.
    """
    frequencies = np.linspace(0.0, sampling_rate / 2, fft_length // 2 + 1)[:, None]
    first, last = mel_of(min_freq, convention), mel_of(max_freq, convention)
    edges = np.linspace(first, last, num_mel_bins + 2)
    if convention == "keras":
        frequencies = mel_of(frequencies)
    else:
        edges = hertz_of(edges, convention)
    low, center, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies - low) / (center - low)
    falling = (high - frequencies) / (high - center)
    bands: Array = np.maximum(0.0, np.minimum(rising, falling))
    if convention == "keras":
        bands[0] = 0.0  # the constant is in none
    elif convention == "librosa":
        bands *= 2.0 / (high - low)
    empty = int((bands == 0).all(axis=0).sum())
    if empty:
        warn_caller(
            f"{empty} of {num_mel_bins} mel bands hold no frequency of a transform of {fft_length} "
            f"samples: they are always silent. Ask for fewer bands, or for a larger fft_length",
            UserWarning,
        )
    bands.flags.writeable = False
    return bands


def mfcc(decibels: Any, count: int = 20) -> Any:
    """Returns the first cepstral coefficients of mel spectrograms in decibels.

    An orthonormal cosine transform (DCT-II) along the bands, as librosa's and torchaudio's.

    Args:
        decibels: of shape ``(..., bands, windows)``, as ``layers.MelSpectrogram`` gives them.
        count: how many coefficients; librosa takes 20, torchaudio 40.

    Returns:
        A tensor of shape ``(..., count, windows)``.

    Raises:
        ValueError: if there are fewer bands than coefficients, or no axis of bands.

    Example:
        >>> import numpy as np
        >>> from handmill import audio
        >>> audio.mfcc(np.ones((4, 3), "float32"), 2).round(3) + 0
        array([[2., 2., 2.],
               [0., 0., 0.]], dtype=float32)
    """
    shape = shape_of(tensor(decibels))
    if len(shape) < 2:
        raise ValueError(
            f"mfcc: a spectrogram (..., bands, windows) was expected, received the shape {shape}; "
            "of sounds layers.MelSpectrogram makes one"
        )
    count = whole_number("mfcc: `count`", count, 1)
    bands = shape[-2]
    if not isinstance(bands, int) or count > bands:
        raise ValueError(f"mfcc: {count} coefficients were asked for of {bands} bands")
    angles = np.pi / bands * np.outer(np.arange(count), np.arange(bands) + 0.5)
    cosines = np.cos(angles) * np.sqrt(2.0 / bands)
    cosines[0] /= np.sqrt(2.0)
    return matmul(cosines.astype(np.float32), decibels)
