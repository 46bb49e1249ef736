"""Going on with a ``fit`` that was ended at any moment, to the same bits.

A file holds what the steps to come depend on: variables, the state of the optimizer, sums of
metrics, counters of random numbers, the place in the data, and what callbacks have noted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from handmill import random
from handmill.callbacks.backup import BackupAndRestore
from handmill.callbacks.callback import History
from handmill.callbacks.callback_state import Noted
from handmill.errors import FileFormatError, warn_caller
from handmill.models.distributed import whole
from handmill.optimizers.base import Optimizer
from handmill.runtime.variable import Variable
from handmill.saving.archive import read_file, write_file
from handmill.saving.hmill import check_version, is_shuffle, state_of
from handmill.saving.json_data import from_json, to_json
from handmill.saving.pieces import Content
from handmill.saving.tensors import from_tensors, tensor_names, to_tensors
from handmill.saving.weights import assign, named

_MEMBERS = (
    "model.safetensors",
    "optimizer.safetensors",
    "metrics.safetensors",
    "callbacks.safetensors",
    "state.json",
    "training.json",
)


class Start(NamedTuple):
    """Where a run begins.

    Attributes:
        epoch: the first epoch.
        batch: how many of its batches are done.
        stopped: whether no epoch is left, however many are asked for.
        finished: whether the run came to its end.
        logs: the numbers of the last epoch.
    """

    epoch: int
    batch: int
    stopped: bool
    finished: bool
    logs: dict[str, Any]


class Resumption:
    """The file of one ``fit``: read when it begins, written after epochs or batches.

    Args:
        path: where.
        with_history: whether the History goes on too.
        batches: whether the file is written between epochs too.
        previous: where the file before the last is kept; None for nowhere.
        keeps: whether the file stays when the run has come to its end.

    Attributes:
        writes: whether this process writes the file: of several that train together one does.
    """

    def __init__(
        self,
        path: Path,
        with_history: bool = True,
        batches: bool = False,
        previous: Path | None = None,
        keeps: bool = True,
    ) -> None:
        self.path = path
        self.batches = batches
        self.keeps = keeps
        self.writes = True
        self._with_history = with_history
        self._previous = previous
        self._model: Any = None
        self._data: Sequence[Any] = ()
        self._noted: list[Noted] = []
        self._members: dict[str, Content] = {}
        self._logs: dict[str, Any] = {}

    def begin(self, model: Any, data: Any, validation: Any, callbacks: Any) -> Start | None:
        """Takes what the run consists of; restores it if there is a file.

        Raises:
            ValueError: if the file is damaged or of another model; nothing is changed then.
        """
        if self.batches and model.run_eagerly:
            raise ValueError(
                "a model compiled with run_eagerly=True goes on at the start of an epoch only: "
                "save after epochs, with save_freq='epoch'"
            )
        if own := _optimizers_beside(model):
            warn_caller(
                f"the file that fit() goes on from holds the state of model.optimizer alone: "
                f"{', '.join(f'model.{name}' for name in own)} would begin anew, and the run would "
                "not end as an uninterrupted one",
                UserWarning,
            )
        self._model = model
        self._data = [d for d in (data, validation) if d is not None]
        chosen = [c for c in callbacks.callbacks if self._with_history or type(c) is not History]
        self._noted = [Noted(callback) for callback in chosen]
        files = [p for p in (self.path, self._previous) if p is not None and p.exists()]
        while files:
            try:
                return self._read(files.pop(0))
            except FileFormatError:
                if not files:
                    raise
        return None

    def _read(self, path: Path) -> Start:
        members = read_file(path, known=_MEMBERS.__contains__)
        if missing := [name for name in _MEMBERS if name not in members]:
            raise FileFormatError(f"{path} lacks its member {missing[0]}: it is not of a fit()")
        check_version(path, from_json(members["state.json"], f"{path}: state.json"))
        training = from_json(members["training.json"], f"{path}: training.json")
        if not _is_training(training):
            raise FileFormatError(f"{path}: training.json is damaged")
        self._build()
        self._members = members
        noted = from_tensors(members["callbacks.safetensors"], f"{path}: callbacks")
        logs = Noted.decoded(training["logs"], list(noted.values()))
        stopped, finished = training["stopped"], training["finished"]
        start = Start(training["epoch"], training["batch"], stopped, finished, logs)
        self._apply(path, training, with_metrics=False)
        shuffle = training["shuffle"]
        if shuffle is not None:  # the order of the pass that was begun is drawn once more
            self._model._shuffle = [shuffle[0], max(shuffle[1] - 1, 0)]
        for data, position in zip(self._data, training["positions"], strict=False):
            data.go_to(position)
        self._model._shuffle = shuffle
        self._logs = logs
        return start

    def _build(self) -> None:
        model, data = self._model, self._data[0]
        if not model.built or not model.weights:
            if not hasattr(data, "sample"):
                raise ValueError(
                    f"model {model.name!r} must be built before fit() can go on with data of "
                    "unknown shape: start it with an Input, or call it on a batch"
                )
            step = model._step_of("train")(data.layout)
            if step.function is None:
                raise ValueError(f"model {model.name!r} must be built before fit() can go on")
            step.function.fitted(data.sample(1))
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)

    def restore_epoch(self, step: Any, arrays: Sequence[Any]) -> None:
        """Restores all once more, when the step of a started epoch is known: metrics too."""
        if step.function is not None:
            step.function.fitted(arrays)
        training = from_json(self._members["training.json"], f"{self.path}: training.json")
        self._apply(self.path, training, with_metrics=True)
        self._model._shuffle = training["shuffle"]

    def _apply(self, path: Path, training: dict[str, Any], with_metrics: bool) -> None:
        model = self._model
        groups = {"model": model.variables, "optimizer": _slots(model)}
        if with_metrics:
            groups["metrics"] = self._metrics()
        arrays = {
            name: from_tensors(self._members[f"{name}.safetensors"], f"{path}: {name}")
            for name in (*groups, "callbacks")
        }
        for name, variables in groups.items():  # all are looked at before the first is changed
            fitting(variables, list(arrays[name].items()), f"{path} ({name})")
        for name, variables in groups.items():
            assign(variables, list(arrays[name].items()), str(path), skip=False)
        random.restore_state(training["random"])
        self._restore_callbacks(training["callbacks"], list(arrays["callbacks"].values()))

    def _metrics(self) -> list[Variable]:
        return [v for metric in self._model._metrics_now()[1] for v in metric.variables]

    def _restore_callbacks(self, states: Sequence[Any], arrays: Sequence[Any]) -> None:
        left = list(self._noted)
        for name, state in states:
            found = next((noted for noted in left if noted.name == name), None)
            if found is None and not state:
                continue
            if found is None:
                warn_caller(
                    f"{self.path} holds what a {name} had noted, but fit() got none", UserWarning
                )
                continue
            left.remove(found)
            found.restore(state, arrays)

    # Writing.

    def save(
        self, epoch: int, batch: int, logs: dict[str, Any] | None = None, finished: bool = False
    ) -> None:
        """Writes the file.

        Args:
            epoch: the epoch that comes next, or is under way.
            batch: how many of its batches are done.
            logs: the numbers of the last epoch; default: those given last.
            finished: whether the run has come to its end.
        """
        if logs is not None:
            self._logs = dict(logs)
        with whole(self._model) as writes:
            if writes:
                self._write(epoch, batch, finished)

    def _write(self, epoch: int, batch: int, finished: bool) -> None:
        model = self._model
        arrays: list[Any] = []
        states = [[noted.name, noted.changes(arrays)] for noted in self._noted]
        training = {
            "epoch": epoch,
            "batch": batch,
            "stopped": bool(model.stop_training),
            "finished": finished,
            "logs": Noted.encoded(self._logs, arrays),
            "shuffle": model._shuffle,
            "random": random.state(),
            "positions": [data.position() for data in self._data],
            "callbacks": states,
        }
        names = tensor_names("noted" for _ in arrays)
        members = {
            "model.safetensors": to_tensors(named(model.variables)),
            "optimizer.safetensors": to_tensors(named(_slots(model))),
            "metrics.safetensors": to_tensors(named(self._metrics() if batch else [])),
            "callbacks.safetensors": to_tensors(dict(zip(names, arrays, strict=True))),
            "state.json": to_json(state_of(model), "state.json"),
            "training.json": to_json(training, "training.json"),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._previous is not None and self.path.exists():
            self.path.replace(self._previous)
        write_file(self.path, members, overwrite=True)

    def end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Is told that the run came to its end."""
        if self.keeps or not self.writes:
            self.save(epoch, 0, logs, finished=True)
            return
        for path in (self.path, self._previous):
            if path is not None:
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()  # unless there is something else in it


def fitting(variables: Sequence[Variable], arrays: Sequence[Any], name: str) -> None:
    """Raises a ValueError unless arrays are as many as variables, and of their shapes."""
    found = [array.shape for _, array in arrays]
    wanted = [v.shape for v in variables]
    if found != wanted:
        raise ValueError(
            f"{name} holds arrays of the shapes {found[:6]}, but the model that is trained has "
            f"{wanted[:6]}: the file is of another model. Delete it to start anew."
        )


def _is_training(data: Any) -> bool:
    kinds: dict[str, Callable[[Any], bool]] = {
        "epoch": _is_count,
        "batch": _is_count,
        "stopped": lambda x: isinstance(x, bool),
        "finished": lambda x: isinstance(x, bool),
        "logs": lambda x: isinstance(x, dict),
        "shuffle": lambda x: x is None or is_shuffle(x),
        "random": random.is_state,
        "positions": lambda x: isinstance(x, list) and all(isinstance(p, dict) for p in x),
        "callbacks": lambda x: isinstance(x, list) and all(map(_is_noted, x)),
    }
    return isinstance(data, dict) and all(
        k in data and check(data[k]) for k, check in kinds.items()
    )


def _optimizers_beside(model: Any) -> list[str]:
    """The names of optimizers that a model has as attributes of its own."""
    return [
        name
        for name, value in vars(model).items()
        if isinstance(value, Optimizer) and value is not model.optimizer
    ]


def _slots(model: Any) -> list[Variable]:
    return [] if model.optimizer is None else list(model.optimizer.variables)


def _is_count(x: Any) -> bool:
    return type(x) is int and 0 <= x < 1 << 62


def _is_noted(x: Any) -> bool:
    return isinstance(x, list) and len(x) == 2 and isinstance(x[0], str) and isinstance(x[1], dict)


def resumption_of(resume: Any, backups: Sequence[BackupAndRestore]) -> Resumption:
    """What ``fit(resume=...)`` or a BackupAndRestore callback means.

    Raises:
        ValueError: for both, for several, and for a path that does not end in ``.hmill``.
    """
    if len(backups) + (resume is not None) > 1:
        raise ValueError(
            "fit() goes on from one file: pass resume=path or one BackupAndRestore callback"
        )
    for backup in backups:
        return Resumption(
            backup.path,
            with_history=False,
            batches=backup.save_freq != "epoch",
            previous=backup.previous,
            keeps=not backup.delete_checkpoint,
        )
    name = os.fsdecode(resume)
    if not name.endswith(".hmill"):
        raise ValueError(f"resume: a path must end in `.hmill`. Received: resume={name!r}")
    return Resumption(Path(name))
