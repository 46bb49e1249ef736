"""Weights of an ONNX file that lie in other files: only beside it, only what is really there."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from handmill.errors import FileFormatError
from handmill.exchange import messages
from handmill.exchange.from_onnx.program import Fetch


def reader_of(folder: Path) -> Fetch:
    """Returns a function that reads the bytes of a tensor from a file below a folder.

    The place must be relative and stay below the folder once every link is resolved; the file must
    be regular, no link and have one name only, so that nothing outside can be reached by it.
    """
    root = folder.resolve()

    def fetch(tensor: messages.Tensor, label: str) -> Any:
        entries = {each.key: each.value for each in tensor.external_data}
        place = entries.get("location", "")
        path = Path(place)
        if not place or path.is_absolute() or ".." in path.parts or "\0" in place:
            raise FileFormatError(
                f"{label} lies in {place!r}, which is not below the file's folder"
            )
        full = root / path
        if full.resolve() != full:
            raise FileFormatError(f"{label}: {place!r} goes through a link")
        try:
            offset, length = int(entries.get("offset", "0")), int(entries.get("length", "-1"))
        except ValueError:
            raise FileFormatError(f"{label}: offset and length are no numbers") from None
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(full, flags | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1:
                raise FileFormatError(f"{label}: {place!r} is no regular file of one name")
            length = state.st_size - offset if length < 0 else length
            if offset < 0 or length < 0 or offset + length > state.st_size:
                raise FileFormatError(
                    f"{label}: bytes {offset} to {offset + length} of {place!r}, which has "
                    f"{state.st_size}"
                )
            file.seek(offset)
            return file.read(length)

    return fetch
