"""A journal that several processes write, on one machine or on many: a folder that all can see.

Each process writes finished trainings into a file of its own and reads those of the others. Before
it trains something it claims it, by a file that only one process can make. A claim whose process
has died is taken over: at once where that can be seen, after a minute of silence elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from handmill.strategy import deadline
from handmill.strategy.journal import Journal, key_of, settled
from handmill.strategy.runs import Lane

SILENT = 60.0
"""Seconds after which a claim that nobody renews is another's."""

_PAUSE = 0.1
"""Seconds between two looks at what others have finished."""

AT_ONCE = 8
"""Trainings that a process claims at a time: enough to share out among its threads."""

_numbers = count()


class SharedJournal(Journal):
    """Finished trainings of several processes; see :class:`~handmill.strategy.journal.Journal`.

    Args:
        folder: where the files are; made where it is missing.
        subject: name -> what the numbers depend on besides configuration, seed and epochs.
        data: arrays, nested as they like.
        build: the function that makes the models.

    Raises:
        ValueError: if a file of the folder belongs to something else, or is none of handmill's.
    """

    def __init__(
        self, folder: str | Path, subject: Mapping[str, Any], data: Any, build: Any = None
    ) -> None:
        self.folder = Path(folder)
        self._claims = self.folder / "claims"
        self._claims.mkdir(parents=True, exist_ok=True)
        self._host, self._process = socket.gethostname(), os.getpid()
        name = f"{self._host}-{self._process}-{next(_numbers)}"
        self._clock = self._claims / f".{name}"
        self._ends: dict[Path, int] = {}  # of what was read of the files of others
        self._held: set[Path] = set()
        self._closed = threading.Event()
        super().__init__(self.folder / f"{name}.jsonl", subject, data, build)
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._renew, name="handmill-claims", daemon=True).start()

    def close(self) -> None:
        """Closes the file, and lets go of what is claimed."""
        self._closed.set()
        for path in list(self._held):
            self._let_go(path)
        self._clock.unlink(missing_ok=True)
        if not self._file.closed and self._file.tell() == self._length_of_head:
            self.path.unlink(missing_ok=True)  # nothing was trained here
        super().close()

    def refresh(self) -> None:
        """Reads what the others have finished since.

        Raises:
            ValueError: for a file of something else, or a line that is damaged.
        """
        for path in sorted(self.folder.glob("*.jsonl")):
            if path == self.path:
                continue
            with suppress(FileNotFoundError), path.open("rb") as file:
                end = self._ends.get(path, 0)
                file.seek(end)
                content = file.read()
                whole = content.rfind(b"\n") + 1  # another may be writing the rest
                lines = content[:whole].splitlines()
                if not end and lines:
                    self.check(path, lines.pop(0))
                self.remember(path, lines)
                self._ends[path] = end + whole

    def claim(self, lanes: Any, epochs: int, wanted: Iterable[Lane]) -> list[Lane]:
        """Returns some of the trainings, which no other process makes then."""
        chosen: list[Lane] = []
        for lane in wanted:
            if len(chosen) == AT_ONCE:
                break
            path = self._claim_of(lanes, epochs, lane)
            if self._make(path) or (self._is_abandoned(path) and self._take(path)):
                self._held.add(path)
                chosen.append(lane)
        return chosen

    def let_go(self, lanes: Any, epochs: int, chosen: Iterable[Lane]) -> None:
        """Lets others have what was claimed and is not finished."""
        for lane in chosen:
            self._let_go(self._claim_of(lanes, epochs, lane))

    def _let_go(self, path: Path) -> None:
        self._held.discard(path)
        path.unlink(missing_ok=True)

    def _claim_of(self, lanes: Any, epochs: int, lane: Lane) -> Path:
        key = key_of(lanes.configurations[lane.configuration]), lane.seed, epochs
        return self._claims / hashlib.sha256(repr(key).encode()).hexdigest()[:32]

    def _make(self, path: Path) -> bool:
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(file, "w") as claim:
            json.dump([self._host, self._process], claim)
        return True

    def _is_abandoned(self, path: Path) -> bool:
        if path in self._held:
            return False
        try:
            silent = self._now() - path.stat().st_mtime
            host, process = json.loads(path.read_text() or "[null, null]")
        except (FileNotFoundError, ValueError):
            return False  # just made, or let go
        if host == self._host and process != self._process:
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                return True
            except PermissionError:
                pass
        return silent > SILENT

    def _now(self) -> float:
        """The time by the clock of the file system, which all machines have in common."""
        self._clock.touch()
        return self._clock.stat().st_mtime

    def _take(self, path: Path) -> bool:
        """Takes a claim over; of several that try, one can rename it."""
        away = path.with_name(f"{path.name}{self._clock.name}")
        try:
            path.rename(away)
        except FileNotFoundError:
            return False
        away.unlink()
        return self._make(path)

    def _renew(self) -> None:
        while not self._closed.wait(SILENT / 6):
            for path in list(self._held):
                with suppress(OSError):
                    os.utime(path)


def advance_together(
    lanes: Any, epochs: int, journal: SharedJournal, chosen: Iterable[Lane] | None, last: bool
) -> None:
    """As ``advance_with_journal``, sharing the trainings with the other processes.

    Args:
        lanes: a :class:`~handmill.strategy.lanes.Lanes`.
        epochs: the epochs that they have then.
        journal: what is finished, and claimed.
        chosen: some of its lanes; default: all.
        last: whether they will not go on.
    """
    wanted = lanes.lanes if chosen is None else list(chosen)
    while True:
        journal.refresh()
        rest = settled(lanes, epochs, journal, wanted)
        if not rest:
            return
        mine = journal.claim(lanes, epochs, rest)
        try:
            journal.refresh()  # what was finished just before it could be claimed
            now = settled(lanes, epochs, journal, mine)
            try:
                if now:
                    lanes.advance(epochs, now, last)
            finally:
                journal.add_all(lanes, epochs, now)
        finally:
            journal.let_go(lanes, epochs, mine)
        if not mine:
            deadline.look()
            time.sleep(_PAUSE)
