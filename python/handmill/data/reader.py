"""Reading many files: what is kept in memory, what cannot be read, by how many threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from handmill.arguments import whole_number
from handmill.data.locks import Lock
from handmill.errors import warn_caller

SMALL_FILE = 6 * 1024
"""Bytes on average below which a second thread gains nothing: Pillow reads headers in Python, under
the interpreter's lock. JPEGs of 1 KB (32x32) took 123 us each on one thread and 121 on two, of 4 KB
(128x128) 183 and 155, of 8 KB (192x192) 274 and 157 (two cores)."""

_SAMPLED = 64


def reading_threads(paths: Sequence[str], most: int) -> int:
    """How many threads should read files at a time, ``most`` at most.

    Example:
        >>> reading_threads([], most=4)
        4
    """
    sizes = []
    for path in paths[:: max(1, len(paths) // _SAMPLED)]:
        try:
            sizes.append(os.stat(path).st_size)  # noqa: PTH116
        except OSError:  # told where it is read
            continue
    is_small = bool(sizes) and sum(sizes) < SMALL_FILE * len(sizes)
    return 1 if is_small else most


class FileReader:
    """Reads files, and keeps what it has read up to a number of bytes.

    Args:
        read: makes an array (or a text) of a path, or raises an OSError that names it.
        cache_bytes: how many bytes of arrays to keep.
        skip_corrupt: whether files that cannot be read are left out, counted and reported, instead
            of raising.

    Raises:
        ValueError: if ``cache_bytes`` is no number of bytes.

    Attributes:
        skip_corrupt: see there.
        corrupt_files: the files that could not be read so far, and why.
    """

    def __init__(
        self, read: Callable[[str], Any], cache_bytes: int = 0, skip_corrupt: bool = False
    ) -> None:
        self._read = read
        self._room = whole_number("`cache_bytes`", cache_bytes, 0)
        self.skip_corrupt = skip_corrupt
        self._kept: dict[str, Any] = {}
        self._lock = Lock()
        self.corrupt_files: dict[str, str] = {}
        self._reported = 0

    def read(self, path: str) -> Any:
        """What a file holds.

        Raises:
            OSError: if it cannot be read; the message names it.
        """
        found = self._kept.get(path)
        if found is not None:
            return found
        found = self._read(path)
        if self._room:
            with self._lock:
                if found.nbytes <= self._room and path not in self._kept:
                    self._room -= found.nbytes
                    self._kept[path] = found
        return found

    def read_or_skip(self, path: str) -> Any | None:
        """What a file holds, None where it is left out.

        Raises:
            OSError: if it cannot be read, unless such files are left out.
        """
        try:
            return self.read(path)
        except OSError as error:
            if not self.skip_corrupt:
                raise
            with self._lock:
                self.corrupt_files.setdefault(path, str(error))
            return None

    def read_all(self, paths: Sequence[str]) -> tuple[list[Any], list[int]]:
        """What those files hold that can be read, and the positions of these in ``paths``.

        Raises:
            OSError: if one cannot be read, or none with ``skip_corrupt``.
        """
        found = [self.read_or_skip(path) for path in paths]
        read = [one for one in found if one is not None]
        if not read:
            raise OSError(
                f"none of the {len(paths)} files of a batch can be read, so skip_corrupt has "
                f"nothing to go on with; the last one: {self.corrupt_files[paths[-1]]}"
            )
        return read, [i for i, one in enumerate(found) if one is not None]

    def report(self) -> None:
        """Warns, at the line that called handmill, of files left out since the last report."""
        if self._reported == len(self.corrupt_files):
            return
        with self._lock:
            reasons = list(self.corrupt_files.values())
            new, self._reported = reasons[self._reported :], len(reasons)
        if new:
            warn_caller(
                f"skip_corrupt left out {len(new)} file(s), {len(reasons)} so far (see "
                f"`corrupt_files`): {new[0]}{', ...' if len(new) > 1 else ''}"
            )
