"""What simple methods reach on the same data: the constant, a linear model, nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import losses, optimizers, random
from handmill.ir.op import Array
from handmill.layers import Dense, Input
from handmill.models.sequential import Sequential
from handmill.strategy.task import Task

MOST_ROWS = 5000
"""Rows that neighbours are looked for among; of more, as many are taken at equal distances."""
_LINEAR_STEPS = 1500
_APART = 10.0  # columns are scaled one by one where their deviations differ by more


@dataclass(frozen=True)
class Baseline:
    """What a simple method reaches.

    Attributes:
        name: ``"constant"``, ``"linear"``, ``"1-nn"`` or ``"5-nn"``.
        errors: the error of each validation row, as :meth:`Task.errors` counts.
    """

    name: str
    errors: Array

    @property
    def error(self) -> float:
        """The mean error."""
        return float(self.errors.mean())


def baselines(task: Task, x: Array, y: Array, x_val: Array, y_val: Array) -> list[Baseline]:
    """Fits the simple methods to training rows and measures them on validation rows.

    Args:
        task: of the model; with classes or numbers.
        x: training inputs, one array.
        y: training targets.
        x_val: validation inputs.
        y_val: validation targets.
    """
    labels, wanted = task.labels(y), task.labels(y_val)
    train, test = scaled(x, x_val)
    found = [_constant(task, labels, wanted), _linear(task, train, labels, test, wanted)]
    kept = _spread(len(train))
    neighbours = nearest(train[kept], test, min(5, len(kept)))
    for k in (1, 5):
        if k <= len(kept):
            votes = labels[kept][neighbours[:, :k]]
            found.append(Baseline(f"{k}-nn", _errors(task, _vote(task, votes), wanted)))
    return found


def nearest(train: Array, test: Array, k: int) -> Array:
    """The ``k`` nearest rows of ``train`` for each row of ``test``, nearest first."""
    norms = np.square(train).sum(-1)
    found = np.empty((len(test), k), np.int64)
    for start in range(0, len(test), 1024):
        part = test[start : start + 1024]
        distances = norms - 2.0 * (part @ train.T)
        if k < len(train):
            near = np.argpartition(distances, k - 1, axis=1)[:, :k]
        else:
            near = np.tile(np.arange(k), (len(part), 1))
        order = np.argsort(np.take_along_axis(distances, near, 1), axis=1, kind="stable")
        found[start : start + 1024] = np.take_along_axis(near, order, 1)
    return found


def scaled(x: Array, x_val: Array) -> tuple[Array, Array]:
    """Rows of float32 numbers around 0, columns one by one where they have scales of their own."""
    train = x.reshape(len(x), -1).astype(np.float32)
    test = x_val.reshape(len(x_val), -1).astype(np.float32)
    mean, deviation = train.mean(0), train.std(0)
    varying = deviation[deviation > 0]
    if not varying.size:
        return train * 0.0, test * 0.0
    if varying.max() > _APART * np.median(varying):
        scale = np.where(deviation > 0, deviation, 1.0)
    else:
        scale = np.sqrt(np.square(deviation).mean())
    return (train - mean) / scale, np.clip((test - mean) / scale, -100.0, 100.0)


def _spread(rows: int) -> Any:
    if rows <= MOST_ROWS:
        return np.arange(rows)
    return np.linspace(0, rows - 1, MOST_ROWS).astype(np.int64)


def _errors(task: Task, predicted: Array, wanted: Array) -> Array:
    if task.has_classes:
        wrong: Array = (predicted != wanted).astype(np.float64)
        return wrong
    squares: Array = np.square(predicted - wanted).mean(-1)
    return squares


def _vote(task: Task, votes: Array) -> Array:
    """What neighbours say, nearest first; where classes are level, the nearest of them."""
    if not task.has_classes:
        mean: Array = votes.mean(1)
        return mean
    counts = np.zeros((len(votes), task.classes))
    for place in range(votes.shape[1]):
        counts[np.arange(len(votes)), votes[:, place]] += 1.0 + 0.01 * (votes.shape[1] - place)
    best: Array = counts.argmax(1)
    return best


def _constant(task: Task, labels: Array, wanted: Array) -> Baseline:
    if task.has_classes:
        guess: Any = np.bincount(labels, minlength=task.classes).argmax()
        return Baseline("constant", _errors(task, np.full(len(wanted), guess), wanted))
    return Baseline("constant", _errors(task, labels.mean(0), wanted))


def _linear(task: Task, train: Array, labels: Array, test: Array, wanted: Array) -> Baseline:
    """Softmax or least-squares regression, by our own kernels."""
    random.seed_all(0)
    size = 32 if len(train) < 20 * _LINEAR_STEPS else 128
    epochs = max(1, min(60, _LINEAR_STEPS * size // len(train)))
    if task.has_classes:
        model = Sequential([Input((train.shape[1],)), Dense(task.classes)])
        loss: Any = losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizers.Adam(0.01), loss)
        model.fit(train, labels, batch_size=size, epochs=epochs, verbose=0)
        predicted = model.predict(test, batch_size=1024, verbose=0).argmax(-1)
        return Baseline("linear", _errors(task, predicted, wanted))
    mean, scale = labels.mean(0), np.where(labels.std(0) > 0, labels.std(0), 1.0)
    model = Sequential([Input((train.shape[1],)), Dense(labels.shape[1])])
    model.compile(optimizers.Adam(0.01), "mse")
    targets = ((labels - mean) / scale).astype(np.float32)
    model.fit(train, targets, batch_size=size, epochs=epochs, verbose=0)
    predicted = model.predict(test, batch_size=1024, verbose=0) * scale + mean
    return Baseline("linear", _errors(task, predicted, wanted))
