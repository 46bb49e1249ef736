"""Memory of batches, used again once nobody refers to a batch any more."""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from handmill.ir.op import Array


class BatchBuffers:
    """Makes uninitialised float32 arrays out of the memory of earlier ones that are gone.

    The system's allocator returns the memory of a freed batch to the kernel; getting it back costs
    a page fault for every 4 KB, which took longer than the warp itself (32 images of 64x64x3:
    1.0 ms of faults, 0.6 ms of warp).

    Args:
        keep: how many buffers to keep for later.

    Example:
        >>> buffers = BatchBuffers(keep=1)
        >>> x = buffers.empty((2, 3))
        >>> address = x.ctypes.data
        >>> del x
        >>> buffers.empty((2, 3)).ctypes.data == address
        True
    """

    def __init__(self, keep: int) -> None:
        self._free: deque[Array] = deque(maxlen=keep)

    def __reduce__(self) -> Any:
        return BatchBuffers, (self._free.maxlen,)  # a copy has memory of its own

    def empty(self, shape: tuple[int, ...]) -> Array:
        """An array that nobody else sees; its memory comes back when it and its views are gone."""
        size = math.prod(shape)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(0, np.float32)
        if memory.size < size:
            memory = np.empty(size, np.float32)
        # Every view refers to `owner`, because NumPy shortens chains of views down to the first
        # array, and that one refers to something that is not an array.
        owner = np.frombuffer(memory.data, np.float32, size)
        weakref.finalize(owner, self._free.append, memory).atexit = False
        return owner.reshape(shape)
