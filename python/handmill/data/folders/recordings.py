"""Folders of recordings as data sets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from handmill.data.folders.index import FileArguments, make_datasets
from handmill.data.pipeline.elements import padded, stacked
from handmill.data.reader import FileReader
from handmill.data.sound.rates import resampled
from handmill.data.sound.wav import rate_of, read_wav
from handmill.ir.op import Array

SUFFIXES = (".wav",)


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
        directory: the folder. Files ending in wav count: integers of 8, 16, 24 or 32 bits, floats
            of 32 or 64.
        labels: see :func:`image_dataset_from_directory`, as for the arguments not listed here.
        label_mode: see there.
        class_names: see there.
        batch_size: recordings of a batch, which are padded with zeros to the longest one; None for
            single recordings.
        sampling_rate: samples a second to which recordings are brought, by a filter that lets
            through what both rates can hold. It comes after ``output_sequence_length``, as in
            Keras. None: as they are, and all files must have one rate.
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
        of pairs of recordings and labels, with the attributes ``class_names``, ``file_paths`` and
        ``sampling_rate``.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: as for images; if files have different rates and none was asked for; and when a
            file is reached that is no such recording.

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
    join = () if output_sequence_length is not None else (_joined,)
    found = make_datasets(given, SUFFIXES, "audio files", reader, *join)
    sets = found if isinstance(found, tuple | list) else (found,)
    rate = sampling_rate or _one_rate([path for data in sets for path in data.file_paths])
    for data in sets:
        data.sampling_rate = rate
    return found


def _one_rate(paths: list[str]) -> int | None:
    """The rate of all files; those that cannot be read are told of when they are reached."""
    seen: dict[int, str] = {}
    for path in sorted(paths):
        rate = rate_of(path)
        if rate:
            seen.setdefault(rate, path)
        if len(seen) > 1:
            (one, first), (other, second) = seen.items()
            raise ValueError(
                f"recordings have different rates: {one} samples a second in {first!r}, {other} in "
                f"{second!r}. A network takes one for the other an octave or more away; give "
                "`sampling_rate` to bring all to one rate"
            )
    return next(iter(seen), None)


def _recording(path: str, rate: int | None, length: int | None) -> Array:
    samples, own_rate = read_wav(path)
    if length is not None:
        samples = samples[:length]
        samples = np.pad(samples, ((0, length - len(samples)), (0, 0)))
    return samples if rate is None else resampled(samples, own_rate, rate)


def _joined(recordings: list[Array]) -> Any:
    return stacked(padded(recordings))
