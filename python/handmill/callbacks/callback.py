"""The base class of callbacks, the list that calls them, and History."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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


_BATCH_HOOKS = {
    "train": ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end"),
    "test": ("on_test_batch_begin", "on_test_batch_end"),
    "predict": ("on_predict_batch_begin", "on_predict_batch_end"),
}


def overrides(callback: Callback, hook: str) -> bool:
    """Whether ``callback`` does something in ``hook``."""
    if hook in vars(callback):
        return True
    return getattr(type(callback), hook, None) is not getattr(Callback, hook)


class CallbackList:
    """The callbacks of one ``fit``, ``evaluate`` or ``predict``, called in order.

    Args:
        callbacks: a callback, or several.
        add_history: whether a History is added if there is none.
        add_progbar: whether a ProgbarLogger is added if there is none.
        model: the model.
        **params: what callbacks find in ``params``.

    Attributes:
        callbacks: the callbacks.
        watches: ``"train"``, ``"test"``, ``"predict"`` -> whether a batch hook is overridden.
    """

    def __init__(
        self,
        callbacks: Any = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ) -> None:
        self.params = params
        if not callbacks and add_history and not add_progbar:  # fit(verbose=0) is to cost little
            self.history: History | None = History()
            self.callbacks: list[Callback] = [self.history]
            self.watches = _NONE_WATCHED
            self._progress: list[Any] = []
            self.history.params = params
            if model is not None:
                self.history._model = model
                model.history = self.history
            return
        found: list[Any] = [] if callbacks is None else _flat(callbacks)
        for callback in found:
            if not isinstance(callback, Callback):
                raise ValueError(
                    "`callbacks` must be a callback or a list of callbacks. Received: "
                    f"{callback!r} of type {type(callback)}"
                )
        self.callbacks = found
        self.history = next((c for c in found if isinstance(c, History)), None)
        if add_history and self.history is None:
            self.history = History()
            found.append(self.history)
        if add_progbar:
            from handmill.callbacks.logging import ProgbarLogger

            if not any(isinstance(c, ProgbarLogger) for c in found):
                found.append(ProgbarLogger())
        self.watches = (
            {
                phase: any(overrides(c, hook) for c in found for hook in hooks)
                for phase, hooks in _BATCH_HOOKS.items()
            }
            if len(found) > 1 or self.history is None
            else _NONE_WATCHED
        )
        self._progress = [c for c in found if hasattr(c, "on_progress")]
        self.set_params(params)
        if model is not None:
            self.set_model(model)

    def append(self, callback: Callback) -> None:
        """Adds a callback."""
        self.callbacks.append(callback)
        for phase, hooks in _BATCH_HOOKS.items():
            self.watches = {
                **self.watches,
                phase: self.watches[phase] or any(overrides(callback, hook) for hook in hooks),
            }
        callback.set_params(self.params)

    def set_params(self, params: dict[str, Any]) -> None:
        """Hands the numbers of epochs and steps to each callback."""
        for callback in self.callbacks:
            callback.set_params(params)

    def set_model(self, model: Any) -> None:
        """Hands the model to each callback."""
        if self.history is not None:
            model.history = self.history
        for callback in self.callbacks:
            callback.set_model(model)

    def progress(self, phase: str, steps: int, logs: Callable[[], Logs]) -> None:
        """Tells callbacks with ``on_progress`` that ``steps`` of the epoch are done."""
        for callback in self._progress:
            callback.on_progress(phase, steps, logs)

    @property
    def shows_progress(self) -> bool:
        """Whether any callback has ``on_progress``."""
        return bool(self._progress)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Calls the hook of each callback."""
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Calls the hook of each callback."""
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs)

    def batch_begin(self, phase: str, batch: int) -> None:
        """Calls the hook of each callback before a step of a phase."""
        for callback in self.callbacks:
            getattr(callback, f"on_{phase}_batch_begin")(batch, {})

    def batch_end(self, phase: str, batch: int, logs: Any) -> None:
        """Calls the hook of each callback after a step of a phase."""
        for callback in self.callbacks:
            getattr(callback, f"on_{phase}_batch_end")(batch, logs)

    def begin(self, phase: str) -> None:
        """Calls the hook of each callback at the start of a phase."""
        hook = f"on_{phase}_begin"
        for callback in self.callbacks:
            getattr(callback, hook)(None)

    def end(self, phase: str, logs: Any = None) -> None:
        """Calls the hook of each callback at the end of a phase."""
        hook = f"on_{phase}_end"
        for callback in self.callbacks:
            getattr(callback, hook)(logs)


_NONE_WATCHED = {"train": False, "test": False, "predict": False}


def _flat(callbacks: Any) -> list[Any]:
    if isinstance(callbacks, Iterable) and not isinstance(callbacks, str):
        return [item for entry in callbacks for item in _flat(entry)]
    return [callbacks]
