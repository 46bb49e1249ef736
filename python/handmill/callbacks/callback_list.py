"""The list that calls the callbacks of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from handmill.callbacks.callback import (
    BATCH_HOOKS,
    NONE_WATCHED,
    Callback,
    History,
    Logs,
    overrides,
)


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
            self.watches = NONE_WATCHED
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
                for phase, hooks in BATCH_HOOKS.items()
            }
            if len(found) > 1 or self.history is None
            else NONE_WATCHED
        )
        self._progress = [c for c in found if hasattr(c, "on_progress")]
        self.set_params(params)
        if model is not None:
            self.set_model(model)

    def append(self, callback: Callback) -> None:
        """Adds a callback."""
        self.callbacks.append(callback)
        for phase, hooks in BATCH_HOOKS.items():
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
            callback.on_epoch_begin(epoch, logs or {})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Calls the hook of each callback."""
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs or {})

    def batch_begin(self, phase: str, batch: int, logs: Any = None) -> None:
        """Calls the hook of each callback before a step of a phase."""
        for callback in self.callbacks:
            getattr(callback, f"on_{phase}_batch_begin")(batch, logs or {})

    def batch_end(self, phase: str, batch: int, logs: Any) -> None:
        """Calls the hook of each callback after a step of a phase."""
        for callback in self.callbacks:
            getattr(callback, f"on_{phase}_batch_end")(batch, logs)

    def begin(self, phase: str, logs: Any = None) -> None:
        """Calls the hook of each callback at the start of a phase."""
        hook = f"on_{phase}_begin"
        for callback in self.callbacks:
            getattr(callback, hook)(logs or {})

    def end(self, phase: str, logs: Any = None) -> None:
        """Calls the hook of each callback at the end of a phase."""
        hook = f"on_{phase}_end"
        for callback in self.callbacks:
            getattr(callback, hook)(logs or {})

    # The same by the names of the hooks, for loops of the user's own.

    def on_train_begin(self, logs: Any = None) -> None:
        """Calls the hook of each callback at the start of a fit."""
        self.begin("train", logs)

    def on_train_end(self, logs: Any = None) -> None:
        """Calls the hook of each callback at the end of a fit."""
        self.end("train", logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Calls the hook of each callback before a step."""
        self.batch_begin("train", batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Calls the hook of each callback after a step."""
        self.batch_end("train", batch, logs or {})

    def on_test_begin(self, logs: Any = None) -> None:
        """Calls the hook of each callback at the start of an evaluation."""
        self.begin("test", logs)

    def on_test_end(self, logs: Any = None) -> None:
        """Calls the hook of each callback at the end of an evaluation."""
        self.end("test", logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Calls the hook of each callback before a step."""
        self.batch_begin("test", batch, logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Calls the hook of each callback after a step."""
        self.batch_end("test", batch, logs or {})

    def on_predict_begin(self, logs: Any = None) -> None:
        """Calls the hook of each callback at the start of a prediction."""
        self.begin("predict", logs)

    def on_predict_end(self, logs: Any = None) -> None:
        """Calls the hook of each callback at the end of a prediction."""
        self.end("predict", logs)

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Calls the hook of each callback before a step."""
        self.batch_begin("predict", batch, logs)

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Calls the hook of each callback after a step."""
        self.batch_end("predict", batch, logs or {})

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Calls the hook of each callback under its older name, for a step of training."""
        for callback in self.callbacks:
            callback.on_batch_begin(batch, logs or {})

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """Calls the hook of each callback under its older name, for a step of training."""
        for callback in self.callbacks:
            callback.on_batch_end(batch, logs or {})


def _flat(callbacks: Any) -> list[Any]:
    if isinstance(callbacks, Iterable) and not isinstance(callbacks, str):
        return [item for entry in callbacks for item in _flat(entry)]
    return [callbacks]
