"""Data sets that make a batch when they are asked for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from functools import partial
from itertools import count
from typing import Any

from handmill.data.prefetch import made_ahead
from handmill.errors import warn_caller


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

    workers: int
    use_multiprocessing: bool
    max_queue_size: int

    def __init__(
        self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10
    ) -> None:
        for name, value in (("workers", workers), ("max_queue_size", max_queue_size)):
            if isinstance(value, bool) or not hasattr(value, "__index__") or value < 0:
                raise ValueError(
                    f"`{name}` of a PyDataset must be a whole number, not negative. Received: "
                    f"{name}={value!r}"
                )
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
        if "workers" not in vars(dataset):
            warn_caller(
                f"The __init__() of {type(dataset).__name__} did not call "
                "super().__init__(**kwargs), which takes `workers`, `use_multiprocessing` and "
                "`max_queue_size`; the thread that trains makes its batches.",
                UserWarning,
            )
            PyDataset.__init__(dataset)
        workers = int(dataset.workers)
        ahead = max(int(dataset.max_queue_size), 1)
        by_processes = bool(dataset.use_multiprocessing) and workers > 0
    if by_processes:
        yield from _by_processes(dataset, order, workers, ahead)
    elif workers > 1:
        work = partial(_batch, dataset)
        yield from made_ahead(map(int, order), work, workers, ahead)
    else:
        for index in order:
            yield _batch(dataset, int(index))


def _batch(dataset: Any, index: int) -> Any:
    try:
        return dataset[index]
    except StopIteration as error:
        raise RuntimeError(
            f"{type(dataset).__name__}.__getitem__({index}) raised StopIteration; it must return a "
            "batch: __len__() says how many there are"
        ) from error


def _by_processes(dataset: Any, order: Iterable[Any], workers: int, ahead: int) -> Iterator[Any]:
    import multiprocessing
    from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]

    others = set(multiprocessing.active_children())
    pool = multiprocessing.Pool(workers, _receive, (dataset,))
    processes = set(multiprocessing.active_children()) - others

    def work(index: int) -> Any:
        result = pool.apply_async(_item, (index,))
        while not result.ready():
            result.wait(_LOOK_SECONDS)
            # A batch whose process was killed never comes.
            died = [p for p in processes if not p.is_alive() and p.exitcode]
            if died and not result.ready():
                raise RuntimeError(
                    f"a process that makes batches of {type(dataset).__name__} died (exit code "
                    f"{died[0].exitcode}) before batch {index} was made; was it killed, out of "
                    "memory? use_multiprocessing=False makes batches on threads"
                )
        try:
            return result.get()
        except MaybeEncodingError as error:  # which holds no exception, but the name of one
            kind = MemoryError if error.exc.startswith("MemoryError") else RuntimeError
            raise kind(
                f"{type(dataset).__name__}.__getitem__({index}) returned a batch that cannot be "
                f"sent from its process: {error.exc}. use_multiprocessing=False makes batches on "
                "threads"
            ) from None

    try:
        yield from made_ahead(map(int, order), work, workers, ahead)
    finally:
        pool.terminate()
        pool.join()


_LOOK_SECONDS = 0.2
"""How often is looked whether the processes that make batches live."""

_received: list[Any] = []


def _receive(dataset: Any) -> None:
    _received[:] = [dataset]


def _item(index: int) -> Any:
    return _batch(_received[0], index)
