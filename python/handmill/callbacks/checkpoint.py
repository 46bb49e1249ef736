"""Saving the model while it is trained."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from handmill.callbacks.monitor import MonitorCallback
from handmill.console import say
from handmill.errors import warn_caller


class ModelCheckpoint(MonitorCallback):
    """Saves the model, or its weights, after epochs or numbers of batches.

    Args:
        filepath: where; may contain ``{epoch:02d}`` and names from the logs, such as
            ``{val_loss:.2f}``. Ends in ``.hmill`` or ``.keras``; for weights in
            ``.weights.hmill`` or ``.weights.h5``.
        monitor: the number that decides what is best.
        verbose: 1 to say what is saved.
        save_best_only: whether a model that is not the best so far is left out.
        save_weights_only: whether weights alone are saved.
        mode: ``"min"``, ``"max"`` or ``"auto"``.
        save_freq: ``"epoch"``, or the number of batches between files.
        initial_value_threshold: a value that must be beaten by the first file.

    Raises:
        ValueError: for a path with another suffix, or a ``save_freq`` that is neither.
    """

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: Any = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode, best=initial_value_threshold)
        from handmill.saving.model_file import checked_suffix

        self.filepath = os.fsdecode(filepath)
        checked_suffix(self.filepath, weights_only=save_weights_only)
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(
                f"Unrecognized save_freq: {save_freq!r}. Expected save_freq are 'epoch' or "
                "integer values"
            )
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self._current_epoch = 0
        self._batches = 0
        self._last_batch = -1
        if save_freq != "epoch":
            self.on_train_batch_end = self._after_batch  # type: ignore[method-assign]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Notes the epoch."""
        self._current_epoch = epoch
        self._last_batch = -1

    def _after_batch(self, batch: int, logs: Any = None) -> None:
        self._batches += batch - self._last_batch
        self._last_batch = batch
        if self._batches >= self.save_freq:
            self._batches = 0
            self._save(self._current_epoch, batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves, if it is time and the epoch is good enough."""
        if self.save_freq == "epoch":
            self._save(epoch, None, logs)

    def _save(self, epoch: int, batch: int | None, logs: Any) -> None:
        logs = dict(logs or {})
        path = self._path(epoch, batch, logs)
        if self.save_best_only and not self._is_best(epoch, logs, path):
            return
        if not self.save_best_only:
            self._say(f"\nEpoch {epoch + 1}: saving model to {path}")
        from handmill.models.distributed import whole

        with whole(self.model) as writes:
            if not writes:
                return
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            if self.save_weights_only:
                self.model.save_weights(path, overwrite=True)
            else:
                self.model.save(path, overwrite=True)

    def _say(self, text: str) -> None:
        from handmill.models.distributed import is_writer

        if self.verbose > 0 and is_writer():
            say(text)

    def _is_best(self, epoch: int, logs: dict[str, Any], path: str) -> bool:
        self.find_direction()
        current = logs.get(self.monitor)
        if current is None:
            warn_caller(
                f"Can save best model only with {self.monitor} available. Available: "
                f"{', '.join(logs)}.",
            )
            return True
        if not self.is_better(current, self.best):
            self._say(f"\nEpoch {epoch + 1}: {self.monitor} did not improve from {self.best:.5f}")
            return False
        was = "is" if self.best is None else f"improved from {self.best:.5f} to"
        what = f"{self.monitor} {was} {current:.5f}"
        self._say(f"\nEpoch {epoch + 1}: {what}, saving model to {path}")
        self.best = current
        return True

    def _path(self, epoch: int, batch: int | None, logs: dict[str, Any]) -> str:
        values = {"epoch": epoch + 1, **logs}
        if batch is not None:
            values["batch"] = batch + 1
        try:
            return self.filepath.format(**values)
        except KeyError as error:
            raise KeyError(
                f'Failed to format this callback filepath: "{self.filepath}". Reason: {error}'
            ) from None
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f'Failed to format this callback filepath: "{self.filepath}". Reason: {error}. '
                "Names such as {epoch:02d} and {val_loss:.2f} are replaced."
            ) from None
