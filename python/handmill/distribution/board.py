"""A file in which ranks note where they are, for the launcher to read when one is gone."""

from __future__ import annotations

import json
import mmap
import os
import socket
from pathlib import Path
from typing import Any

_BYTES = 512
"""What a rank may write: host, process and place, as JSON filled up with spaces."""


class Board:
    """The notes of all ranks of one start.

    Args:
        path: the file.
        ranks: how many there are.
    """

    def __init__(self, path: Path, ranks: int) -> None:
        self._file = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), ranks * _BYTES)

    @classmethod
    def create(cls, path: Path, ranks: int) -> Board:
        """Makes the file, with nothing noted."""
        path.write_bytes(b" " * (ranks * _BYTES))
        return cls(path, ranks)

    def note(self, rank: int, place: str) -> None:
        """Notes where a rank is; a write to memory."""
        note = {"host": socket.gethostname(), "process": os.getpid(), "place": place[:200]}
        text = json.dumps(note).encode()[:_BYTES].ljust(_BYTES)
        self._map[rank * _BYTES : (rank + 1) * _BYTES] = text

    def notes(self) -> list[dict[str, Any]]:
        """What each rank has noted last; nothing for one that has not begun."""
        found = []
        for start in range(0, len(self._map), _BYTES):
            text = self._map[start : start + _BYTES].strip()
            try:
                found.append(json.loads(text) if text else {})
            except ValueError:  # ended in the middle of a note
                found.append({})
        return found

    def close(self) -> None:
        """Lets go of the file."""
        self._map.close()
        self._file.close()
