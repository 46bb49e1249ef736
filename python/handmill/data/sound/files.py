"""Recordings in files: WAV by itself, others where soundfile is installed."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from handmill.data.sound import wav
from handmill.data.sound.rates import resampled
from handmill.errors import ShapeError
from handmill.files import read_regular
from handmill.ir.op import Array
from handmill.saving.atomic_file import write_bytes


def load(
    path: str | os.PathLike[str], *, sampling_rate: int | None = None, mono: bool = False
) -> tuple[Array, int]:
    """Reads a recording.

    Args:
        path: a WAV file (integers of 8, 16, 24 or 32 bits, floats of 32 or 64); FLAC, OGG, MP3 and
            others if the package soundfile is installed (the extra ``[audio]``).
        sampling_rate: samples a second to which the recording is brought; None: as in the file.
        mono: whether channels are averaged to one.

    Returns:
        The samples, float32 in [-1, 1) of shape (samples, channels), or (samples,) with ``mono``;
        and how many of them make a second.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: for other than WAV files without soundfile.
        ValueError: if it cannot be read as sound; the message names it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from handmill import audio
        >>> tone = np.sin(np.arange(8000) / 8000 * 2 * np.pi * 440).astype("float32") / 2
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     audio.save(Path(folder, "a.wav"), tone, 8000)
        ...     samples, rate = audio.load(Path(folder, "a.wav"), mono=True)
        >>> samples.shape, rate, bool(abs(samples - tone).max() < 2e-5)
        ((8000,), 8000, True)
    """
    data = read_regular(path)
    name = os.fspath(path)
    if wav.is_wav(data[:12]) or name.lower().endswith(".wav"):
        samples, rate = wav.decoded(data, name)
    else:
        samples, rate = _other(data, name)
    if sampling_rate is not None:
        samples, rate = resample(samples, rate, sampling_rate), sampling_rate
    return samples.mean(axis=1, dtype=np.float32) if mono else samples, rate


def _other(data: bytes, name: str) -> tuple[Array, int]:
    try:
        import soundfile
    except ImportError:
        raise ImportError(
            f"{name!r} is no WAV file; other formats are read by the package soundfile, which is "
            "not installed: pip install 'handmill[audio]'"
        ) from None
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except RuntimeError as error:
        raise ValueError(f"cannot read recording {name!r}: {error}") from None
    return samples, int(rate)


def save(path: str | os.PathLike[str], samples: Any, sampling_rate: int) -> None:
    """Writes a WAV file of 16 bits, whole or not at all.

    Args:
        path: where to; must end in ``.wav``.
        samples: floats in [-1, 1], of shape (samples,) or (samples, channels); what lies beyond is
            cut off.
        sampling_rate: samples a second.

    Raises:
        ShapeError: for samples of another shape.
        ValueError: for another suffix, rate or dtype, or samples that are not finite.

    Example:
        See :func:`load`.
    """
    if Path(path).suffix.lower() != ".wav":
        raise ValueError(f"sound is saved as WAV: expected a path ending in .wav, got {path!s}")
    samples = _sound(samples, "save")
    rate = _rate(sampling_rate, "sampling_rate")
    if not np.isfinite(samples).all():
        raise ValueError("save: samples must be finite; some are NaN or infinite")
    write_bytes(Path(path), [wav.encoded(samples, rate)])


def resample(samples: Any, rate: int, wanted: int) -> Array:
    """Returns samples at another rate: bandlimited interpolation by a windowed sinc.

    Args:
        samples: floats of shape (samples,) or (samples, channels).
        rate: samples a second that there are.
        wanted: samples a second that there shall be.

    Returns:
        float32 of the same rank.

    Raises:
        ShapeError: for samples of another shape.
        ValueError: for rates that are no positive integers.

    Example:
        >>> import numpy as np
        >>> from handmill import audio
        >>> audio.resample(np.zeros(8000, "float32"), 8000, 16000).shape
        (16000,)
    """
    sound = _sound(samples, "resample")
    found = resampled(sound, _rate(rate, "rate"), _rate(wanted, "wanted"))
    return found.reshape(-1) if np.ndim(samples) == 1 else found


def _sound(samples: Any, what: str) -> Array:
    samples = np.asarray(samples)
    if samples.dtype.kind != "f":
        raise ValueError(
            f"{what}: samples must be floats in [-1, 1], received {samples.dtype}; integers of 16 "
            "bits are divided by 32768"
        )
    if samples.ndim not in (1, 2):
        raise ShapeError(
            f"{what}: samples of shape (samples,) or (samples, channels) were expected, received "
            f"{samples.shape}"
        )
    sound: Array = samples.astype(np.float32, copy=False)
    return sound[:, None] if sound.ndim == 1 else sound


def _rate(rate: Any, name: str) -> int:
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or rate < 1:
        raise ValueError(f"`{name}` must be a positive number of samples a second, got {rate!r}")
    return int(rate)
