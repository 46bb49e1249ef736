"""Data sets that make a batch when they are asked for it."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any


class PyDataset:
    """Base class of data sets: ``ds[i]`` is batch i, ``len(ds)`` the number of batches.

    Subclasses define ``__getitem__`` and, unless they are endless, ``__len__``; a batch is
    ``x``, ``(x, y)`` or ``(x, y, sample_weight)``.

    Args:
        workers: accepted for Keras; batches are made by the thread that trains.
        use_multiprocessing: accepted for Keras.
        max_queue_size: accepted for Keras.

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

    @property
    def num_batches(self) -> int | None:
        """The number of batches, None if the data set is endless."""
        return len(self) if isinstance(self, Sized) else None

    def on_epoch_begin(self) -> None:
        """Called before each pass."""

    def on_epoch_end(self) -> None:
        """Called after each pass."""
