"""A lock that does not stand in the way of copies of what it guards."""

from __future__ import annotations

import threading
from typing import Any


class Lock:
    """A lock; a copy of it, by ``copy`` or ``pickle``, is a new one that nobody holds.

    Example:
        >>> import copy
        >>> lock = Lock()
        >>> with lock, copy.deepcopy(lock):
        ...     print("two locks")
        two locks
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> Lock:
        self._lock.acquire()
        return self

    def __exit__(self, *_: Any) -> None:
        self._lock.release()

    def __reduce__(self) -> Any:
        return Lock, ()
