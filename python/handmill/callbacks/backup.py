"""Keeping the state of training, so that a run that was ended goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from handmill.callbacks.callback import Callback


class BackupAndRestore(Callback):
    """Writes the state of ``fit`` to a folder, and goes on from there if there is one.

    A run that was ended at any moment, even while it wrote, goes on with the last state that was
    written, and ends with the same bits as one that was not: weights, state of the optimizer,
    counters of random numbers, order of the rows, metrics and what callbacks had noted are kept.
    Generators are asked again for the batches that were used. ``fit(resume=path)`` does the same
    with a file of its own, and keeps the History too.

    Args:
        backup_dir: the folder; made if it is not there.
        save_freq: ``"epoch"``, or the number of batches after which the state is written.
        double_checkpoint: whether the state before the last is kept too, for a damaged disk.
        delete_checkpoint: whether the files are deleted when ``fit`` has come to its end.

    Raises:
        ValueError: for an empty path, or a ``save_freq`` that is neither.

    Example:
        >>> import handmill
        >>> backup = handmill.callbacks.BackupAndRestore("backup", save_freq=100)
    """

    def __init__(
        self,
        backup_dir: Any,
        save_freq: Any = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        if not backup_dir:
            raise ValueError("Empty `backup_dir` argument passed")
        whole = isinstance(save_freq, int) and not isinstance(save_freq, bool) and save_freq > 0
        if save_freq != "epoch" and not whole:
            raise ValueError(
                f"Invalid value for argument `save_freq`. Received: save_freq={save_freq}. "
                "Expected either 'epoch' or an integer value."
            )
        self.backup_dir = os.fsdecode(backup_dir)
        self.save_freq = save_freq
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self._batches = 0
        self._last_batch = -1
        if save_freq != "epoch":
            self.on_train_batch_end = self._count  # type: ignore[method-assign]

    @property
    def path(self) -> Path:
        """The file that holds the state."""
        return Path(self.backup_dir, "latest.hmill")

    @property
    def previous(self) -> Path | None:
        """The file that holds the state before the last."""
        return Path(self.backup_dir, "previous.hmill") if self.double_checkpoint else None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts to count the batches of an epoch."""
        self._last_batch = -1

    def _count(self, batch: int, logs: Any = None) -> None:
        self._batches += batch - self._last_batch
        self._last_batch = batch

    def is_due(self) -> bool:
        """Whether it is time to write; the count of batches then starts again."""
        due = bool(self.save_freq != "epoch" and self._batches >= self.save_freq)
        if due:
            self._batches = 0
        return due
