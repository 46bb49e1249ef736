"""Data sets that make a batch when they are asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import count
from typing import Any

from handmill.data.prefetch import made_ahead


class PyDataset:
    """Base class of data sets: ``ds[i]`` is batch i, ``len(ds)`` the number of batches.

    Subclasses define ``__getitem__`` and, unless they are endless, ``__len__``; a batch is
    ``x``, ``(x, y)`` or ``(x, y, sample_weight)``.

    Args:
        workers: threads that make batches ahead of the training, in order; with 1 or 0 the thread
            that trains makes each when it is needed.
        use_multiprocessing: whether processes make them instead; each pass sends the data set to
            them anew, so it and its batches must be picklable where processes are not forked.
        max_queue_size: batches that may wait at a time.

    Example:
        >>> import numpy as np
        >>> class Ones(PyDataset):
        ...     def __len__(self):
        ...         return 3
        ...     def __getitem__(self, index):
        ...         return np.ones((4, 2)), np.ones((4, 1))
        >>> len(Ones())
        3
    """

    def __init__(
        self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10
    ) -> None:
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    def __getitem__(self, index: int) -> Any:
        """Returns batch ``index``."""
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(index)")

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches in order, once; without end if their number is not known."""
        known = self.num_batches
        for index in count() if known is None else range(known):
            yield self[index]

    @property
    def num_batches(self) -> int | None:
        """The number of batches, None if the data set is endless."""
        return len(self) if isinstance(self, Sized) else None

    def on_epoch_begin(self) -> None:
        """Called before each pass."""

    def on_epoch_end(self) -> None:
        """Called after each pass."""


def batches_of(dataset: Any, order: Iterable[Any]) -> Iterator[Any]:
    """Yields the batches of a data set with ``__getitem__``, by its workers if it has some.

    Args:
        dataset: the data set.
        order: the numbers of the batches.
    """
    workers, ahead, by_processes = 1, 1, False
    if isinstance(dataset, PyDataset):
        workers = int(dataset.workers)
        ahead = max(int(dataset.max_queue_size), 1)
        by_processes = bool(dataset.use_multiprocessing) and workers > 0
    if by_processes:
        yield from _by_processes(dataset, order, workers, ahead)
    elif workers > 1:
        yield from made_ahead(map(int, order), dataset.__getitem__, workers, ahead)
    else:
        for index in order:
            yield dataset[int(index)]


def _by_processes(dataset: Any, order: Iterable[Any], workers: int, ahead: int) -> Iterator[Any]:
    import multiprocessing

    pool = multiprocessing.Pool(workers, _receive, (dataset,))
    try:
        work: Callable[[int], Any] = lambda index: pool.apply(_item, (index,))  # noqa: E731
        yield from made_ahead(map(int, order), work, workers, ahead)
    finally:
        pool.terminate()
        pool.join()


_received: list[Any] = []


def _receive(dataset: Any) -> None:
    _received[:] = [dataset]


def _item(index: int) -> Any:
    return _received[0][index]
