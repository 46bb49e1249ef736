"""The base class of callbacks, and History."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Logs = Mapping[str, Any]


class Callback:
    """Base class; subclasses override the hooks that they need.

    A callback that overrides a batch hook is called after every step; without one, several steps
    run at once.

    Attributes:
        model: the model that is trained.
        params: ``{"verbose": ..., "epochs": ..., "steps": ...}``.

    Example:
        >>> from handmill.callbacks import Callback
        >>> class PrintLoss(Callback):
        ...     def on_epoch_end(self, epoch, logs=None):
        ...         print(epoch, logs["loss"])
    """

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The model that is trained."""
        return vars(self).get("_model")

    def set_params(self, params: dict[str, Any]) -> None:
        """Takes the numbers of epochs and steps."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Takes the model."""
        self._model = model

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        """The older name of :meth:`on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """The older name of :meth:`on_train_batch_end`."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Called before an epoch of training."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Called after an epoch of training and its validation.

        Args:
            epoch: the epoch, from 0.
            logs: numbers by name, those of validation with ``val_`` before the name.
        """

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Called before a training step."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Called after a training step; ``logs`` are means over the epoch so far."""
        self.on_batch_end(batch, logs=logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Called before a step of ``evaluate`` or validation."""

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Called after a step of ``evaluate`` or validation."""

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Called before a step of ``predict``."""

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Called after a step of ``predict``; ``logs["outputs"]`` are its outputs."""

    def on_train_begin(self, logs: Any = None) -> None:
        """Called when ``fit`` starts."""

    def on_train_end(self, logs: Any = None) -> None:
        """Called when ``fit`` ends."""

    def on_test_begin(self, logs: Any = None) -> None:
        """Called when ``evaluate`` or validation starts."""

    def on_test_end(self, logs: Any = None) -> None:
        """Called when ``evaluate`` or validation ends."""

    def on_predict_begin(self, logs: Any = None) -> None:
        """Called when ``predict`` starts."""

    def on_predict_end(self, logs: Any = None) -> None:
        """Called when ``predict`` ends."""


class History(Callback):
    """The numbers of every epoch; ``fit`` returns it.

    Attributes:
        epoch: the epochs, from 0.
        history: numbers of each epoch by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts a new list of epochs."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Notes the numbers of an epoch."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


BATCH_HOOKS = {
    "train": ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end"),
    "test": ("on_test_batch_begin", "on_test_batch_end"),
    "predict": ("on_predict_batch_begin", "on_predict_batch_end"),
}


def overrides(callback: Callback, hook: str) -> bool:
    """Whether ``callback`` does something in ``hook``."""
    if hook in vars(callback):
        return True
    return getattr(type(callback), hook, None) is not getattr(Callback, hook)


NONE_WATCHED = {"train": False, "test": False, "predict": False}
