"""Callbacks that change the learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from handmill.callbacks.callback import Callback
from handmill.callbacks.monitor import MonitorCallback, checked_patience
from handmill.console import say
from handmill.runtime.variable import Variable


def _rate(optimizer: Any) -> float:
    rate = optimizer.learning_rate
    return float(rate.read() if isinstance(rate, Variable) else np.asarray(rate))


def _optimizers(callback: Callback) -> list[tuple[str, Any]]:
    """The optimizers whose rates change, and what sets each apart in texts and logs.

    A MultiOptimizer has several, told apart by their names.
    """
    optimizer = callback.model.optimizer
    if optimizer is None:
        raise ValueError(
            f"{type(callback).__name__} changes the learning rate of the optimizer that compile() "
            "was given, and it was given optimizer=None"
        )
    several = getattr(optimizer, "optimizers", None)
    return [("", optimizer)] if several is None else [(o.name, o) for o in several]


def _log_rates(callback: Callback, logs: Any) -> None:
    if isinstance(logs, dict):
        for name, optimizer in _optimizers(callback):
            logs[f"learning_rate_{name}" if name else "learning_rate"] = _rate(optimizer)


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch.

    Args:
        schedule: ``(epoch, learning_rate) -> learning_rate``.
        verbose: 1 to say so.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        if not callable(schedule):
            raise ValueError(
                "`schedule` must be a function of the epoch and the learning rate. Received: "
                f"{schedule!r}"
            )
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Sets the learning rate."""
        for name, optimizer in _optimizers(self):
            self._set(epoch, optimizer, f"{name} " if name else "")

    def _set(self, epoch: int, optimizer: Any, name: str) -> None:
        try:
            rate = self.schedule(epoch, _rate(optimizer))
        except TypeError:
            rate = self.schedule(epoch)
        if not isinstance(rate, float | np.floating):
            raise ValueError(
                "The output of the `schedule` function should be a float. "
                f"Got: {rate} (type {type(rate).__name__})"
            )
        optimizer.learning_rate = rate
        if self.verbose > 0:
            say(
                f"\nEpoch {epoch + 1}: LearningRateScheduler setting {name}learning rate to {rate}."
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the learning rate to the logs."""
        _log_rates(self, logs)


class ReduceLROnPlateau(MonitorCallback):
    """Multiplies the learning rate by a factor when a number has stopped getting better.

    Args:
        monitor: the number's name in the logs.
        factor: below 1.
        patience: epochs without anything better, after which the rate is reduced.
        verbose: 1 to say so.
        mode: ``"min"``, ``"max"`` or ``"auto"``.
        min_delta: smaller changes do not count as better.
        cooldown: epochs after a reduction in which nothing is watched.
        min_lr: the smallest rate.
        **kwargs: none are known; for Keras's error.

    Raises:
        ValueError: if ``factor`` is at least 1.
        TypeError: in training, when a rate that follows a schedule would be reduced.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(monitor, mode, min_delta=min_delta)
        if factor >= 1.0:
            raise ValueError(
                f"ReduceLROnPlateau does not support a factor >= 1.0. Received factor={factor}"
            )
        if kwargs:
            raise ValueError(f"Unrecognized arguments: {kwargs}")
        self.factor = factor
        self.min_lr = min_lr
        self.patience = checked_patience(patience)
        self.verbose = verbose
        self.cooldown = cooldown
        self.cooldown_counter = 0
        self.wait = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts to watch."""
        self.best = None
        self.cooldown_counter = 0
        self.wait = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compares the epoch with the best one."""
        _log_rates(self, logs)
        current = self.get_monitor_value(logs)
        if current is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_better(current, self.best):
            self.best = current
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def in_cooldown(self) -> bool:
        """Whether the last reduction was so recent that nothing is watched."""
        return self.cooldown_counter > 0

    def _reduce(self, epoch: int) -> None:
        pairs = _optimizers(self)
        if not any([self._reduce_one(epoch, optimizer, name) for name, optimizer in pairs]):
            return
        self.cooldown_counter = self.cooldown
        self.wait = 0

    def _reduce_one(self, epoch: int, optimizer: Any, name: str) -> bool:
        """Reduces one rate; whether it could."""
        old = _rate(optimizer)
        if old <= np.float32(self.min_lr):
            return False
        rate = max(old * self.factor, self.min_lr)
        optimizer.learning_rate = rate
        if self.verbose > 0:
            of = f" {name}" if name else ""
            say(f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing{of} learning rate to {rate}.")
        return True
