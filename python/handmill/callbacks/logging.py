"""Callbacks that write: the progress line, CSV files; and callbacks made of functions."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from handmill.callbacks.callback import Callback
from handmill.callbacks.progbar import Progbar
from handmill.console import say
from handmill.naming import known_names


class ProgbarLogger(Callback):
    """The progress line of ``fit``, ``evaluate`` and ``predict``.

    It is told how far training is between runs of steps, not after each step.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: Progbar | None = None
        self._training = False
        self._steps = 0
        self._target: int | None = None

    def set_params(self, params: dict[str, Any]) -> None:
        """Takes the numbers of epochs and steps."""
        super().set_params(params)
        self._target = params.get("steps")

    @property
    def _verbose(self) -> int:
        verbose = self.params.get("verbose", 1)
        if verbose != "auto" and not isinstance(verbose, int | float):
            raise ValueError(
                "`verbose` must be 0 (silent), 1 (a progress line), 2 (a line an epoch) or 'auto'. "
                f"Received: verbose={verbose!r}"
            )
        return 1 if verbose == "auto" else int(verbose)

    def _start(self) -> None:
        self._steps = 0
        self._bar = Progbar(self._target, verbose=self._verbose)

    def _end(self, logs: Any) -> None:
        if self._bar is not None:
            if self._target is None:
                self._target = self._steps
            self._bar.target = self._target
            self._bar.show(self._steps, logs or {}, finalize=True)
        self._bar = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Notes that ``fit`` draws the line, not its validations."""
        self._training = True

    def on_train_end(self, logs: Any = None) -> None:
        """Leaves the line."""
        self._training = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the line of an epoch."""
        if self._bar is not None:
            self._bar.close()
        self._start()
        if self._verbose and self.params.get("epochs", 1) > 1:
            say(f"Epoch {epoch + 1}/{self.params['epochs']}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Completes the line of an epoch."""
        self._end(logs)

    def on_test_begin(self, logs: Any = None) -> None:
        """Starts the line of ``evaluate``."""
        if not self._training:
            self._start()

    def on_test_end(self, logs: Any = None) -> None:
        """Completes the line of ``evaluate``."""
        if not self._training:
            self._end(logs)

    def on_predict_begin(self, logs: Any = None) -> None:
        """Starts the line of ``predict``."""
        self._start()

    def on_predict_end(self, logs: Any = None) -> None:
        """Completes the line of ``predict``."""
        self._end(logs)

    def on_progress(self, phase: str, steps: int, logs: Callable[[], Any]) -> None:
        """Shows that ``steps`` are done."""
        if self._bar is None or (phase == "test" and self._training):
            return
        self._steps = steps
        if self._bar._live and self._bar.verbose == 1:
            # Of a step of `predict` the outputs are told, which are no numbers to watch.
            self._bar.show(steps, {} if phase == "predict" else logs(), finalize=False)


class LambdaCallback(Callback):
    """A callback made of functions.

    Args:
        on_epoch_begin: ``(epoch, logs)``.
        on_epoch_end: ``(epoch, logs)``.
        on_train_begin: ``(logs)``.
        on_train_end: ``(logs)``.
        on_train_batch_begin: ``(batch, logs)``.
        on_train_batch_end: ``(batch, logs)``.
        **kwargs: functions for other hooks, and methods of names that callbacks do not have.

    Raises:
        TypeError: for what is no function, or has a name like that of a hook.
    """

    def __init__(
        self,
        on_epoch_begin: Any = None,
        on_epoch_end: Any = None,
        on_train_begin: Any = None,
        on_train_end: Any = None,
        on_train_batch_begin: Any = None,
        on_train_batch_end: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        given = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **kwargs,
        }
        hooks = [name for name in dir(Callback) if name.startswith("on_")]
        for name, function in given.items():
            if name not in hooks and _may_be_meant_for(name, hooks):
                raise TypeError(f"LambdaCallback: {known_names('hook', name, hooks)}")
            if function is not None:
                if not callable(function):
                    raise TypeError(
                        f"LambdaCallback: `{name}` must be a function. Received: {function!r}"
                    )
                setattr(self, name, function)


def _may_be_meant_for(name: str, hooks: list[str]) -> bool:
    """Whether nobody would call a function of this name, as who passed it expects."""
    import difflib

    near = difflib.get_close_matches(name, hooks, n=1)
    return name.startswith("on_") or hasattr(Callback(), name) or bool(near)


class CSVLogger(Callback):
    """Writes the numbers of each epoch as a line of a CSV file.

    A number that comes later than the first epoch, as those of validation do with
    ``validation_freq``, gets a column too: the header is written again, earlier lines get ``NA``.

    Args:
        filename: the file.
        separator: between columns.
        append: whether lines are added to an existing file.

    Raises:
        ValueError: when training begins, if a file that lines are to be added to has no column
            "epoch" between such separators.
    """

    def __init__(self, filename: Any, separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = Path(filename)
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"`separator` must be one character. Received: {separator!r}")
        self.separator = separator
        self.append = append
        self._columns: list[str] = []

    def on_train_begin(self, logs: Any = None) -> None:
        """Makes the file, or takes over the columns of the one that lines are added to."""
        if self.append and self.filename.exists():
            self._columns = list(self._read()[0])
            if self._columns and "epoch" not in self._columns:
                raise ValueError(
                    f"CSVLogger: lines cannot be added to {self.filename}, whose first line "
                    f"{self.separator.join(self._columns)!r} has no column 'epoch' between "
                    f"separators {self.separator!r}; pass the `separator` that it was written "
                    "with, or another `filename`"
                )
        else:
            self._columns = []
            self.filename.write_text("", "utf-8")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes a line."""
        row = {"epoch": epoch, **{key: _plain(value) for key, value in (logs or {}).items()}}
        if new := sorted(set(row) - {"epoch", *self._columns}):
            columns, rows = self._read()
            self._columns = ["epoch", *(c for c in columns if c != "epoch"), *new]
            self._write("w", [*rows, row], header=True)
        else:
            self._write("a", [row], header=False)

    def _read(self) -> tuple[list[str], list[dict[str, Any]]]:
        with self.filename.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, delimiter=self.separator)
            rows = list(reader)
            return list(reader.fieldnames or ()), rows

    def _write(self, mode: str, rows: list[dict[str, Any]], header: bool) -> None:
        with self.filename.open(mode, newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, delimiter=self.separator, restval="NA")
            if header:
                writer.writeheader()
            writer.writerows(rows)


def _plain(value: Any) -> Any:
    array = np.asarray(value)
    return value if isinstance(value, str) or array.ndim == 0 else f'"{array.tolist()}"'
