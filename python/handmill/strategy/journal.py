"""A file that remembers which trainings are finished, so that none is made twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any, NamedTuple

import numpy as np

import handmill
from handmill import tree
from handmill.strategy.runs import Divergence, Lane

_FORMAT = 1


class Finished(NamedTuple):
    """What a training gave.

    Attributes:
        history: the numbers of each epoch by name.
        failure: why it ended early; None if it did not.
    """

    history: dict[str, list[Any]]
    failure: Divergence | None


class Journal:
    """Finished trainings, one line of JSON each, behind a line that says what they belong to.

    A line is written when a training ends, so a process may be killed at any moment: a line that
    was torn is dropped by the next one. Data, ``build``, settings or version that are not those of
    the file are refused, for its numbers would be those of something else.

    Args:
        path: the file; made where it is missing.
        subject: name -> what the numbers depend on besides configuration, seed and epochs.
        data: arrays, nested as they like; the file holds a hash.
        build: the function that makes the models.

    Attributes:
        directions: ``"up"`` or ``"down"`` for each number whose metric knows it.
        without_model: ids of lanes whose numbers were read; they cannot go on from there.

    Raises:
        ValueError: if the file belongs to something else, or is none of handmill's.
        RuntimeError: if another process writes it.

    Example:
        >>> import numpy as np
        >>> from handmill.strategy.journal import Journal
        >>> from handmill.strategy.runs import Lane
        >>> def build(units): ...
        >>> with Journal("runs.jsonl", {"batch_size": 32}, np.zeros(3), build) as journal:
        ...     journal.add({"units": 8}, Lane(0, seed=1, history={"loss": [0.5]}), {})
        >>> with Journal("runs.jsonl", {"batch_size": 32}, np.zeros(3), build) as journal:
        ...     journal.find({"units": 8}, seed=1, epochs=1).history
        {'loss': [0.5]}
    """

    def __init__(
        self, path: str | Path, subject: Mapping[str, Any], data: Any, build: Any = None
    ) -> None:
        self.path = Path(path)
        self.directions: dict[str, str] = {}
        self.without_model: set[int] = set()  # ids of lanes that were read, not trained
        self._known: dict[tuple[str, int, int], Finished] = {}
        head = {
            "handmill_journal": _FORMAT,
            "version": handmill.__version__,
            "data": hash_of(data),
            "build": _code_of(build),
            "settings": _plain("the settings", dict(subject)),
        }
        self._head = head
        self._file = self.path.open("a+b")
        try:
            self._lock()
            self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._known)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def find(self, configuration: Mapping[str, Any], seed: int, epochs: int) -> Finished | None:
        """Returns what a training gave; None if it is not in the file.

        One that diverged before ``epochs`` is finished too.

        Args:
            configuration: its settings.
            seed: its seed.
            epochs: how long it was to go.
        """
        return self._known.get((key_of(configuration), seed, epochs))

    def add(
        self,
        configuration: Mapping[str, Any],
        lane: Lane,
        directions: Mapping[str, str],
        epochs: int | None = None,
    ) -> None:
        """Writes down a training that has ended.

        Args:
            configuration: its settings.
            lane: what it gave.
            directions: whether its numbers should rise, by name.
            epochs: how long it was to go; default: as long as it went.
        """
        record = {
            "configuration": json.loads(key_of(configuration)),
            "seed": lane.seed,
            "epochs": lane.epochs if epochs is None else epochs,
            "history": _plain("the history", lane.history),
            "failure": None if lane.failure is None else list(lane.failure),
            "directions": dict(directions),
        }
        self._write(record)
        self._remember(record)

    def add_all(self, lanes: Any, epochs: int, trained: Iterable[Lane]) -> None:
        """Writes down those of some lanes that have ended."""
        for lane in trained:
            if lane.epochs == epochs or lane.failure is not None:
                settings = lanes.configurations[lane.configuration]
                self.add(settings, lane, lanes.directions, epochs)

    def _remember(self, record: dict[str, Any]) -> None:
        self.directions.update(record["directions"])
        key = key_of(record["configuration"]), record["seed"], record["epochs"]
        self._known[key] = Finished(
            {name: list(numbers) for name, numbers in record["history"].items()},
            None if record["failure"] is None else Divergence(*record["failure"]),
        )

    def _write(self, record: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # a system without such locks
            return
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(
                f"another process writes to the journal {self.path}; give each process a file of "
                "its own, or all of them a folder: journal='runs/'"
            ) from error

    def _read(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # what was being written when a process ended
            if not content.startswith(b'{"handmill_journal"'[: len(content)]):
                raise ValueError(f"{self.path} is not a journal of handmill; nothing was changed")
            self._file.truncate(whole)
        lines = content[:whole].splitlines()
        if not lines:
            self._write(self._head)
            self._length_of_head = self._file.tell()
            return
        self.check(self.path, lines[0])
        self.remember(self.path, lines[1:])

    def remember(self, path: Path, lines: Iterable[bytes]) -> None:
        """Takes finished trainings over from lines of a file.

        Raises:
            ValueError: for a line that is damaged; it is counted from the first of these.
        """
        for number, line in enumerate(lines, 2):
            try:
                self._remember(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"line {number} of the journal {path} is damaged; take it out, and that "
                    "training is made again"
                ) from error

    def check(self, path: Path, line: bytes) -> None:
        """Raises a ValueError unless the first line of a file is that of these trainings."""
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict) or "handmill_journal" not in found:
            raise ValueError(f"{path} is not a journal of handmill; nothing was changed")
        for name, is_now in self._head.items():
            if found.get(name) != json.loads(json.dumps(is_now)):
                there = f": {found.get(name)}, now {is_now}" if name in _SHORT else ""
                raise ValueError(
                    f"the journal {path} was written with other {_WORDS[name]}{there}. Its "
                    "numbers would be those of something else; use another file"
                )


_SHORT = ("version", "settings", "handmill_journal")
_WORDS = {
    "handmill_journal": "versions of its format",
    "version": "versions of handmill",
    "data": "data",
    "build": "code of build()",
    "settings": "settings",
}


def advance_with_journal(
    lanes: Any,
    epochs: int,
    journal: Journal,
    chosen: Iterable[Lane] | None = None,
    last: bool = False,
) -> None:
    """Takes lanes on to an epoch; what the journal knows is not trained again.

    Args:
        lanes: a :class:`~handmill.strategy.lanes.Lanes`.
        epochs: the epochs that they have then.
        journal: where to look, and to write what is new.
        chosen: some of its lanes; default: all.
        last: whether they will not go on, so that their models need not be kept.
    """
    from handmill.strategy.shared_journal import SharedJournal, advance_together

    if isinstance(journal, SharedJournal):
        advance_together(lanes, epochs, journal, chosen, last)
        return
    rest = settled(lanes, epochs, journal, lanes.lanes if chosen is None else chosen)
    for start in range(0, len(rest), _AT_ONCE):
        now = rest[start : start + _AT_ONCE]
        try:
            lanes.advance(epochs, now, last)
        finally:  # what had ended when the user or the clock stopped the rest
            journal.add_all(lanes, epochs, now)


def open_journal(path: str | Path, subject: Mapping[str, Any], data: Any, build: Any) -> Journal:
    """Opens a journal: a file of one process, or a folder that several share.

    Args:
        path: a file; a folder if one is there, or the name ends in ``/``.
        subject: name -> what the numbers depend on besides configuration, seed and epochs.
        data: arrays, nested as they like.
        build: the function that makes the models.
    """
    from handmill.strategy.shared_journal import SharedJournal

    is_folder = os.fspath(path).endswith("/") or Path(path).is_dir()
    return (SharedJournal if is_folder else Journal)(path, subject, data, build)


def settled(lanes: Any, epochs: int, journal: Journal, chosen: Iterable[Lane]) -> list[Lane]:
    """Gives lanes the numbers that the journal knows; returns those that are to be trained."""
    rest = []
    for lane in chosen:
        if lane.epochs == epochs:
            continue  # is settled already
        found = journal.find(lanes.configurations[lane.configuration], lane.seed, epochs)
        if found is not None:
            lane.history = {name: list(numbers) for name, numbers in found.history.items()}
            lane.failure = found.failure
            journal.without_model.add(id(lane))
        elif lane.failure is None:
            if id(lane) in journal.without_model:  # only its numbers are there: from the beginning
                lane.history = {}
                journal.without_model.discard(id(lane))
            rest.append(lane)
    for name, direction in journal.directions.items():
        lanes.directions.setdefault(name, direction)
    return rest


_AT_ONCE = 32
"""Trainings between two visits to the journal: what a kill can cost, and enough to share out."""


def hash_of(data: Any) -> str:
    """Returns a hash of all arrays of a structure: dtypes, shapes, bytes and nesting.

    Args:
        data: arrays, numbers, None, nested as they like.
    """
    found = hashlib.sha256()
    for path, leaf in tree.flatten_with_path(data):
        found.update(repr(path).encode())
        array = np.ascontiguousarray(leaf)
        if array.dtype.hasobject:
            array = np.array([repr(v) for v in array.reshape(-1)])
        found.update(repr((array.dtype.str, array.shape)).encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _code_of(build: Any) -> str:
    """A hash of what a function does, as far as its code and what that is bound to tell.

    Bound are defaults, arguments of a ``functools.partial`` and variables of functions around it.
    Only what cannot change by itself counts: numbers, texts, functions, tuples of these.
    """
    found = hashlib.sha256()
    seen: set[int] = set()

    def visit(part: Any) -> None:
        if isinstance(part, CodeType):
            found.update(part.co_code)
            found.update(repr(part.co_names).encode())
            for constant in part.co_consts:
                visit(constant)
        elif isinstance(part, tuple):
            for item in part:
                visit(item)
        elif isinstance(part, partial):
            visit((part.func, part.args, *sorted(part.keywords.items())))
        elif callable(part):
            call(part)
        elif part is None or isinstance(part, bool | int | float | complex | str | bytes):
            found.update(repr(part).encode())
        elif isinstance(part, frozenset):  # of constants, in no order
            found.update(repr(sorted(map(repr, part))).encode())

    def call(function: Any) -> None:
        found.update(getattr(function, "__qualname__", type(function).__qualname__).encode())
        if id(function) in seen:
            return
        seen.add(id(function))
        if not hasattr(function, "__code__"):
            function = getattr(type(function), "__call__", None)  # noqa: B004
        if not hasattr(function, "__code__"):
            return
        visit(function.__code__)
        visit(function.__defaults__)
        visit(tuple(sorted((function.__kwdefaults__ or {}).items())))
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # not filled yet
                visit(cell.cell_contents)

    visit(build)
    return found.hexdigest()[:16]


def key_of(configuration: Mapping[str, Any]) -> str:
    """A configuration as a text by which it is known again."""
    return json.dumps(_plain("the configuration", dict(configuration)), sort_keys=True)


def _plain(what: str, value: Any) -> Any:
    """A value as JSON has it; what is no data is named by its module and name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(k): _plain(what, v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(what, v) for v in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    name = getattr(value, "__qualname__", None)
    if name is not None and "<" not in name:
        return f"{value.__module__}.{name}"
    if hasattr(value, "get_config"):
        made = type(value)
        return [f"{made.__module__}.{made.__qualname__}", _plain(what, value.get_config())]
    raise ValueError(
        f"{what} holds {value!r}, which a journal cannot name so that it is known again; pass "
        "numbers, texts or named functions, and make the object in build()"
    )
