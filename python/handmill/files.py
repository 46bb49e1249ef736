"""Files that are opened for reading without waiting for anybody."""

from __future__ import annotations

import io
import os
import stat


def open_regular(path: str | os.PathLike[str]) -> int | None:
    """Opens a file for reading; does not wait for the writer of a pipe.

    Returns:
        A descriptor, None for a directory, pipe, device or socket.

    Raises:
        OSError: if it cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except IsADirectoryError:
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Returns the bytes of a file.

    Raises:
        OSError: if it cannot be opened, or is a directory, pipe, device or socket.
    """
    descriptor = open_regular(path)
    if descriptor is None:
        raise OSError(f"cannot read {os.fspath(path)!r}: it is not a regular file")
    with io.FileIO(descriptor) as file:  # unbuffered: one read of the whole file
        return file.readall()
