"""Folders of recordings as data sets."""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import Any

import numpy as np

from handmill.data.folders.index import FileArguments, make_datasets
from handmill.data.pipeline.elements import padded, stacked
from handmill.data.reader import FileReader
from handmill.files import read_regular
from handmill.ir.op import Array

SUFFIXES = (".wav",)
_CROSSINGS = 16  # of the filter, on each side
_AT_ONCE = 1 << 20  # products of the filter computed at a time


def audio_dataset_from_directory(
    directory: str | os.PathLike[str],
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    batch_size: int | None = 32,
    sampling_rate: int | None = None,
    output_sequence_length: int | None = None,
    ragged: bool = False,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    verbose: bool = True,
) -> Any:
    """Makes a data set of the recordings in a folder, which holds one folder for each class.

    Args:
        directory: the folder. Files ending in wav count: samples of 8, 16, 24 or 32 bits.
        labels: see :func:`image_dataset_from_directory`, as for the arguments not listed here.
        label_mode: see there.
        class_names: see there.
        batch_size: recordings of a batch, which are padded with zeros to the longest one; None for
            single recordings.
        sampling_rate: samples a second to which recordings are brought, by a filter that lets
            through what both rates can hold. It comes after ``output_sequence_length``, as in
            Keras.
        output_sequence_length: samples to which recordings are cut, or padded with zeros.
        ragged: must be False: there are no ragged tensors here.
        shuffle: see there.
        seed: see there.
        validation_split: see there.
        subset: see there.
        follow_links: see there.
        verbose: see there.

    Returns:
        A ``Dataset`` of float32 recordings of shape (samples, channels) with values in [-1, 1), or
        of pairs of recordings and labels, with the attributes ``class_names`` and ``file_paths``.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: as for images; and when a file is reached that is no such recording.

    Example:
        >>> import tempfile, wave
        >>> from pathlib import Path
        >>> from handmill.utils import audio_dataset_from_directory
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "hum").mkdir()
        ...     with wave.open(str(Path(folder, "hum", "1.wav")), "wb") as file:
        ...         file.setparams((1, 2, 8000, 0, "NONE", ""))
        ...         file.writeframes(bytes(200))
        ...     data = audio_dataset_from_directory(folder)
        ...     [(x.shape, y.tolist()) for x, y in data]
        Found 1 files belonging to 1 classes.
        [((1, 100, 1), [0])]
    """
    if ragged and output_sequence_length is not None:
        raise ValueError("Cannot set both `ragged` and `output_sequence_length`")
    if ragged:
        raise ValueError(
            "`ragged=True` gives ragged tensors, which handmill does not have: without it batches "
            "are padded with zeros, and `output_sequence_length` gives all one length"
        )
    for name, value in (
        ("sampling_rate", sampling_rate),
        ("output_sequence_length", output_sequence_length),
    ):
        if value is not None and not isinstance(value, int):
            raise ValueError(f"`{name}` should have an integer value. Received: {name}={value!r}")
        if value is not None and value <= 0:
            raise ValueError(f"`{name}` should be higher than 0. Received: {name}={value}")

    given = FileArguments(
        directory,
        labels,
        label_mode,
        class_names,
        batch_size,
        shuffle,
        seed,
        validation_split,
        subset,
        follow_links,
        verbose,
    )
    reader = FileReader(partial(_recording, rate=sampling_rate, length=output_sequence_length))
    if output_sequence_length is not None:
        return make_datasets(given, SUFFIXES, "audio files", reader)
    return make_datasets(given, SUFFIXES, "audio files", reader, _joined)


def _recording(path: str, rate: int | None, length: int | None) -> Array:
    samples, own_rate = read_wav(path)
    if length is not None:
        samples = samples[:length]
        samples = np.pad(samples, ((0, length - len(samples)), (0, 0)))
    return samples if rate is None else resampled(samples, own_rate, rate)


def _joined(recordings: list[Array]) -> Any:
    return stacked(padded(recordings))


def read_wav(path: str) -> tuple[Array, int]:
    """Returns the samples (float32, (samples, channels), in [-1, 1)) of a file, and its rate.

    Raises:
        ValueError: if it holds no samples of 8 to 32 bits; the message names it.
    """
    try:
        with wave.open(io.BytesIO(read_regular(path)), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        reason = str(error) or "it ends early"
        raise ValueError(f"cannot read recording {path!r}: {reason}") from None
    if width not in (1, 2, 3, 4):
        raise ValueError(f"cannot read recording {path!r}: its samples have {8 * width} bits")
    data = data[: len(data) // (width * channels) * (width * channels)]
    numbers: Array
    if width == 1:  # unsigned
        numbers = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    elif width == 3:
        words = np.zeros((len(data) // 3, 4), np.uint8)
        words[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        numbers = words.view("<i4")[:, 0].astype(np.float32) / 2.0**31
    else:
        numbers = np.frombuffer(data, f"<i{width}").astype(np.float32) / 2.0 ** (8 * width - 1)
    return numbers.astype(np.float32, copy=False).reshape(-1, channels), rate


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
