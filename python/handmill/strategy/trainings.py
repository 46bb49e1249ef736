"""Trainings of copies of a model: losses and errors of each validation row."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.callbacks.callback import Callback
from handmill.ir.op import Array
from handmill.strategy.case import Case, Rows, predict
from handmill.strategy.clones import Change, fresh
from handmill.strategy.task import Task


class OverBudgetError(Exception):
    """There is no time left for a training."""


@dataclass(frozen=True)
class Trained:
    """A copy after its training.

    Attributes:
        model: the copy.
        losses: the loss of each validation row after each epoch, of shape (epochs, rows); empty
            unless they were followed.
        outputs: what the copy gives for validation rows; empty without.
        errors: the error of each validation row.
    """

    model: Any
    losses: Array
    outputs: Array
    errors: Array


def train(
    case: Case,
    model: Any,
    seed: int,
    change: Change | None = None,
    *,
    rows: Rows | None = None,
    epochs: int | None = None,
    follow: bool = False,
) -> Trained:
    """Trains a copy of ``model`` as the case was.

    Args:
        case: how.
        model: what is made anew.
        seed: of weights, masks and orders.
        change: how the copy differs.
        rows: what it is trained on; default: the training rows.
        epochs: default: those of the case.
        follow: whether the validation losses after each epoch are kept.
    """
    return train_copy(case, fresh(model, seed, change), rows=rows, epochs=epochs, follow=follow)


def train_copy(
    case: Case,
    copy: Any,
    *,
    rows: Rows | None = None,
    epochs: int | None = None,
    follow: bool = False,
) -> Trained:
    """Trains a copy that was made; see :func:`train`."""
    rows = rows or case.train
    watch = _Losses(case.task, case.validation) if follow and case.validation else None
    copy.fit(
        rows.x,
        rows.y,
        batch_size=case.batch_size,
        epochs=case.epochs if epochs is None else epochs,
        verbose=0,
        callbacks=None if watch is None else [watch],
    )
    if case.validation is None:
        return Trained(copy, np.empty((0, 0)), np.empty(0), np.empty(0))
    outputs = predict(copy, case.validation)
    errors = case.task.errors(case.validation.y, outputs)
    return Trained(copy, np.array(watch.found if watch else ()), outputs, errors)


class _Losses(Callback):
    def __init__(self, task: Task, rows: Rows) -> None:
        super().__init__()
        self.task = task
        self.rows = rows
        self.found: list[Array] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.found.append(self.task.row_losses(self.rows.y, predict(self.model, self.rows)))


def seconds_of_training(case: Case, model: Any) -> float:
    """About how long a training of the case takes, from some of its steps."""
    few = case.train.take(np.arange(min(len(case.train), 8 * case.batch_size)))
    copy = fresh(model, 0)
    copy.fit(few.x, few.y, batch_size=case.batch_size, verbose=0)
    start = time.perf_counter()
    copy.fit(few.x, few.y, batch_size=case.batch_size, verbose=0)
    return (time.perf_counter() - start) * len(case.train) / len(few) * max(case.epochs, 1)


def mean_errors(trained: Sequence[Trained]) -> Array:
    """The mean error of each training."""
    return np.array([t.errors.mean() for t in trained])
