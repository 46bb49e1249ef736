"""Windows of time series as data sets."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from handmill import random
from handmill.arguments import whole_number
from handmill.data.folders.index import checked_format
from handmill.data.pipeline.dataset import Dataset
from handmill.data.pipeline.elements import as_element
from handmill.ir.op import Array


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
    format: str = "tf",
) -> Dataset:
    """Makes a data set of the windows of a time series.

    Args:
        data: steps along the first axis.
        targets: ``targets[i]`` belongs to the window that begins with step i; None for none.
        sequence_length: steps of a window.
        sequence_stride: steps between the beginnings of windows.
        sampling_rate: steps of ``data`` between two steps of a window.
        batch_size: windows of a batch; None for single windows.
        shuffle: whether windows come in random order: all of them in the order of
            ``numpy.random.RandomState(seed)``, as in Keras, and each pass mixes them further.
        seed: of the orders; default: follows from ``utils.set_random_seed``.
        start_index: steps before this one are left out.
        end_index: this step and those after it are left out.
        format: ``"tf"`` or ``"grain"``; both mean handmill's own ``Dataset``.

    Returns:
        A ``Dataset`` of windows (batch, steps, ...), or of pairs of windows and targets.

    Raises:
        ValueError: for values out of range, and where there is no whole window.

    Example:
        >>> import numpy as np
        >>> from handmill.utils import timeseries_dataset_from_array
        >>> series = np.arange(6)
        >>> windows = timeseries_dataset_from_array(series, series[3:], sequence_length=3)
        >>> [(x.tolist(), y.tolist()) for x, y in windows]
        [([[0, 1, 2], [1, 2, 3], [2, 3, 4]], [3, 4, 5])]
    """
    checked_format(format)
    steps = np.asarray(as_element(data))
    answers = None if targets is None else np.asarray(as_element(targets))
    if answers is not None and answers.ndim == 0:
        raise ValueError(
            "timeseries_dataset_from_array: `targets` must have an entry for each step, got "
            f"{targets!r:.80}"
        )
    if steps.ndim == 0:
        raise ValueError("timeseries_dataset_from_array: `data` must have steps, got a scalar")
    length = len(steps)
    _check_range(start_index, end_index, length)
    for name, value in (("sampling_rate", sampling_rate), ("sequence_stride", sequence_stride)):
        if whole_number(f"`{name}`", value) <= 0:
            raise ValueError(f"`{name}` must be higher than 0. Received: {name}={value}")
        if value >= length:
            raise ValueError(
                f"`{name}` must be lower than the length of the data. Received: {name}={value}, "
                f"for data of length {length}"
            )
    if whole_number("`sequence_length`", sequence_length) <= 0:
        raise ValueError(
            f"`sequence_length` must be higher than 0. Received: sequence_length={sequence_length}"
        )
    first = start_index or 0
    end = length if end_index is None else end_index
    windows = end - first - (sequence_length - 1) * sampling_rate
    if answers is not None:
        windows = min(windows, len(answers), len(answers[first:end]))
    if windows <= 0:
        raise ValueError(
            f"there is no window of {sequence_length} steps at a sampling rate of {sampling_rate} "
            f"within {end - first} steps of data"
            + ("" if answers is None else f" and {len(answers)} targets")
        )
    steps = steps[first:end]
    starts = np.arange(0, windows, sequence_stride)
    if shuffle:
        seed = random.next_host_seed() % 1_000_000 if seed is None else whole_number("`seed`", seed)
        np.random.RandomState(seed).shuffle(starts)
    offsets = np.arange(sequence_length) * sampling_rate
    found = Dataset.from_tensor_slices(starts)
    if shuffle:
        found = found.shuffle(1024 if batch_size is None else batch_size * 8, seed=seed)
    if batch_size is not None:
        found = found.batch(batch_size)
    if answers is not None:
        answers = answers[first:end]
    return found.map(partial(_windows_at, steps, offsets, answers))


def _windows_at(steps: Array, offsets: Array, answers: Array | None, start: Array) -> Any:
    chosen = steps[np.asarray(start)[..., None] + offsets]
    return chosen if answers is None else (chosen, answers[start])


def _check_range(start: int | None, end: int | None, length: int) -> None:
    if start:
        if start < 0:
            raise ValueError(f"`start_index` must be 0 or greater. Received: start_index={start}")
        if start >= length:
            raise ValueError(
                "`start_index` must be lower than the length of the data. Received: "
                f"start_index={start}, for data of length {length}"
            )
    if end is None:
        return
    if end <= 0:
        raise ValueError(f"`end_index` must be higher than 0. Received: end_index={end}")
    if start and end <= start:
        raise ValueError(
            f"`end_index` must be higher than `start_index`. Received: start_index={start}, and "
            f"end_index={end}"
        )
    if end >= length:
        raise ValueError(
            "`end_index` must be lower than the length of the data. Received: "
            f"end_index={end}, for data of length {length}"
        )
