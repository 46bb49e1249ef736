"""Cutting data sets in two."""

from __future__ import annotations

import random as python_random
from typing import Any

import numpy as np

from handmill.data.pipeline.dataset import Dataset
from handmill.data.pipeline.elements import as_element, parts, rebuilt, rows_of, stacked
from handmill.data.pipeline.rows import RowBatches
from handmill.data.pipeline.stages import Batched, Prefetched


def split_dataset(
    dataset: Any,
    left_size: float | None = None,
    right_size: float | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    preferred_backend: str | None = None,
) -> tuple[Dataset, Dataset]:
    """Cuts a data set into a left and a right part, such as for training and testing.

    Args:
        dataset: an array, a list, tuple or dict of arrays, a ``Dataset`` that ends, or a data set
            of torch. All of it is kept in memory; batches are taken apart and made again.
        left_size: a fraction (float) or number (int) of samples; default: what the right leaves.
        right_size: a fraction or number of samples, the last ones; default: what the left leaves.
        shuffle: whether samples are mixed before.
        seed: of the mixing: Python's ``random.Random(seed)``, as in Keras.
        preferred_backend: accepted for Keras; both parts are data sets of handmill's.

    Returns:
        Two ``Dataset``.

    Raises:
        TypeError: if ``dataset`` is something else.
        ValueError: if there are no samples, a part would be empty, or both are too large.

    Example:
        >>> import numpy as np
        >>> from handmill.utils import split_dataset
        >>> left, right = split_dataset(np.arange(10), left_size=0.8)
        >>> len(left), [int(x) for x in right]
        (8, [8, 9])
    """
    if left_size is None and right_size is None:
        raise ValueError(
            "At least one of the `left_size` or `right_size` must be specified. Received: "
            "left_size=None and right_size=None"
        )
    whole, batch_size = _in_memory(dataset)
    total = rows_of(whole, "split_dataset")
    if total == 0:
        raise ValueError("split_dataset: the data set is empty")
    order = list(range(total))
    if shuffle:
        python_random.Random(seed).shuffle(order)
    left, right = _sizes(left_size, right_size, total)
    found = []
    for chosen in (order[:left], order[total - right :]):
        index = np.array(chosen, np.int64)
        part = Dataset.from_tensor_slices(rebuilt(whole, [leaf[index] for leaf in parts(whole)]))
        found.append(part if batch_size is None else part.batch(batch_size))
    return found[0], found[1]


def _in_memory(dataset: Any) -> tuple[Any, int | None]:
    """Returns all samples as an element with a first axis, and the size of batches."""
    if isinstance(dataset, Dataset):
        size = _batch_size(dataset)
        if dataset.cardinality() == -1:
            raise ValueError("split_dataset: the data set is endless; end it with take(n)")
        samples = list(dataset if size is None else dataset.unbatch())
        if not samples:
            raise ValueError("split_dataset: the data set is empty")
        return stacked(samples), size
    if isinstance(dataset, list | tuple | dict | np.ndarray):
        if len(dataset) == 0:
            raise ValueError("split_dataset: received no data; pass arrays with some rows")
        if isinstance(dataset, list):
            dataset = tuple(dataset)
        return as_element(dataset), None
    if any(base.__module__.startswith("torch.utils.data") for base in type(dataset).__mro__):
        samples = [_from_torch(dataset[i]) for i in range(len(dataset))]
        if not samples:
            raise ValueError("split_dataset: the data set is empty")
        return stacked(samples), None
    raise TypeError(
        "The `dataset` argument must be an array, a list or tuple of arrays, a Dataset, or a data "
        f"set of torch. Received: {type(dataset).__name__}"
    )


def _from_torch(sample: Any) -> Any:
    if isinstance(sample, list | tuple):
        return tuple(_from_torch(item) for item in sample)
    return as_element(sample)


def _batch_size(dataset: Dataset) -> int | None:
    while isinstance(dataset, Prefetched):
        dataset = dataset._above
    if isinstance(dataset, Batched):
        return dataset._batch_size
    return dataset.batch_size if isinstance(dataset, RowBatches) else None


def _sizes(left: Any, right: Any, total: int) -> tuple[int, int]:
    found: list[int | None] = []
    for name, size in (("left_size", left), ("right_size", right)):
        if size is None:
            found.append(None)
            continue
        is_count = isinstance(size, int | np.integer) and not isinstance(size, bool)
        if not is_count and not isinstance(size, float | np.floating):
            raise TypeError(
                f"Invalid `{name}` argument. Expected an integer or a float. Received: {name}="
                f"{size!r} of type {type(size)}"
            )
        if not 0 < size < (total if is_count else 1):
            raise ValueError(
                f"`{name}` should be either a positive integer and smaller than {total} or a float "
                f"within the range `[0, 1]`. Received: {name}={size}"
            )
        found.append(int(size) if is_count else round(float(size) * total))
    first, second = found
    if first is None:
        first = total - (second or 0)
    if second is None:
        second = total - first
    if first + second > total:
        raise ValueError(
            f"The sum of `left_size` and `right_size` should not exceed the {total} samples. "
            f"Received: left_size={left}, right_size={right}"
        )
    if not first or not second:
        raise ValueError(
            f"With `dataset` of length={total}, `left_size`={left} and `right_size`={right} leave "
            "a part without samples."
        )
    return first, second
