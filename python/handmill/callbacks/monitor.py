"""Callbacks that watch one number: which direction is better, and what counts as better."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from handmill.arguments import real_number
from handmill.callbacks.callback import Callback
from handmill.errors import warn_caller


class MonitorCallback(Callback):
    """Base class of callbacks that compare a number of the logs with the best one so far.

    Args:
        monitor: the number's name in the logs.
        mode: ``"min"``, ``"max"``, or ``"auto"``: losses and errors fall, accuracies rise, by
            what the metric of that name is, never by how its name is spelled.
        best: a value that must be beaten by the first one.
        min_delta: smaller changes do not count as better; its size counts, not its sign.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        mode: str = "auto",
        best: float | None = None,
        min_delta: float = 0,
    ) -> None:
        super().__init__()
        if not isinstance(monitor, str):
            raise ValueError(f"`monitor` must be the name of a number. Received: {monitor!r}")
        if mode not in ("auto", "min", "max"):
            warn_caller(
                f"{type(self).__name__} mode '{mode}' is unknown, fallback to auto mode.",
            )
            mode = "auto"
        self.monitor = monitor
        self.mode = mode
        self.best = best
        self.min_delta = abs(real_number("`min_delta`", min_delta))
        self._rises: bool | None = {"max": True, "min": False}.get(mode)

    @property
    def monitor_op(self) -> Any:
        """``ops.greater`` or ``ops.less``: what a better number is; None until that is known."""
        from handmill import ops

        return {None: None, True: ops.greater, False: ops.less}[self._rises]

    def get_monitor_value(self, logs: Any) -> Any:
        """Returns the number that is watched, None (with a warning) if there is none.

        Raises:
            ValueError: if nothing tells whether it should rise or fall.
        """
        self.find_direction()
        logs = logs or {}
        value = logs.get(self.monitor)
        if value is None:
            warn_caller(
                f"{type(self).__name__} conditioned on metric `{self.monitor}` which is not "
                f"available. Available metrics are: {','.join(logs)}",
            )
        return value

    def is_better(self, value: float, reference: float | None) -> bool:
        """Whether ``value`` is better than ``reference`` by more than ``min_delta``.

        Raises:
            ValueError: if nothing tells whether the number should rise or fall.
        """
        self.find_direction()
        # Of one class, metrics such as F1Score give an array of one number.
        value = float(np.asarray(value).item())
        reference = None if reference is None else float(np.asarray(reference).item())
        if reference is None or math.isnan(reference):
            return True
        if self._rises:
            return value - self.min_delta > reference
        return value + self.min_delta < reference

    def find_direction(self) -> None:
        """Finds out whether the number should rise or fall.

        Raises:
            ValueError: if nothing tells it.
        """
        if self._rises is None:
            self._rises = self._direction() == "up"

    def _direction(self) -> str:
        name = self.monitor.removeprefix("val_")
        if name == "loss" or name.endswith("_loss"):  # the loss, or that of one output
            return "down"
        given = getattr(self.model, "metrics", None) or ()
        metrics = [m for metric in given for m in getattr(metric, "metrics", [metric])]
        own = [m for m in metrics if m.name == name]
        # Several outputs: the name of the output stands before that of the metric.
        for metric in own or [m for m in metrics if name.endswith(f"_{m.name}")]:
            direction = getattr(metric, "_direction", None)
            if direction is not None:
                return str(direction)
        raise ValueError(
            f"{type(self).__name__} callback received monitor={self.monitor}, but nothing tells "
            "whether it should rise or fall: no metric of that name knows its direction. Pass "
            "`mode='max'` to watch for the highest value, or `mode='min'` for the lowest."
        )


def checked_patience(patience: Any) -> Any:
    """Returns how many epochs to wait.

    Raises:
        ValueError: if it is no number.
    """
    if isinstance(patience, bool) or not isinstance(patience, int | float | np.number):
        raise ValueError(f"`patience` must be a number of epochs. Received: patience={patience!r}")
    return patience
