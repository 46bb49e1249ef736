"""Another rate of samples, by a filter that lets through what both rates can hold.

Source: Smith, "Digital Audio Resampling" (ccrma.stanford.edu/~jos/resample), bandlimited
interpolation by a windowed sinc.
"""

from __future__ import annotations

from math import ceil

import numpy as np

from handmill.ir.op import Array

_CROSSINGS = 16  # of the filter, on each side
_AT_ONCE = 1 << 20  # products of the filter computed at a time


def resampled(samples: Array, rate: int, wanted: int) -> Array:
    """Returns samples at another rate: a sinc filter of 32 crossings under a Hann window.

    Args:
        samples: (samples, channels).
        rate: samples a second that there are.
        wanted: samples a second that there shall be.
    """
    if rate == wanted or not len(samples):
        return samples
    step = rate / wanted
    scale = min(1.0, 1.0 / step)  # of the band that both rates hold
    reach = _CROSSINGS / scale
    count = ceil(len(samples) * wanted / rate)
    taps = np.arange(int(-reach), int(reach) + 2)
    result = np.empty((count, samples.shape[1]), np.float32)
    rows = max(1, _AT_ONCE // len(taps))
    for first in range(0, count, rows):
        centre = np.arange(first, min(first + rows, count)) * step
        places = np.floor(centre).astype(np.int64)[:, None] + taps
        away = places - centre[:, None]
        window = np.where(np.abs(away) < reach, 0.5 + 0.5 * np.cos(np.pi * away / reach), 0.0)
        weights = scale * np.sinc(scale * away) * window
        weights[(places < 0) | (places >= len(samples))] = 0.0
        found = samples[places.clip(0, len(samples) - 1)]
        result[first : first + len(centre)] = np.einsum("nt,ntc->nc", weights, found)
    return result
