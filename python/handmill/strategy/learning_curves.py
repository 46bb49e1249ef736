"""``learning_curve``: what more data would give, as a power law with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import random
from handmill.arguments import whole_number
from handmill.errors import TrainingWarning, clean_traceback, warn_caller
from handmill.ir.op import Array
from handmill.strategy.case import (
    FEWEST_VALIDATION_ROWS,
    Rows,
    not_finite,
    predict,
    rows_of,
)
from handmill.strategy.clones import maker, untouched
from handmill.strategy.holdout import check_varied
from handmill.strategy.task import Task, task_of

_MOST_SIZES = 6
_LEAST_RATIO = 1.25
_ROWS_OF_A_CLASS = 20
_SMALLEST_PART = 32
_REFITS = 1000
_FURTHEST = 10
_HELD_OUT = 5
_CONFIDENCE = (0.05, 0.95)
_POWERS = np.concatenate([[0.01, 0.02, 0.03], np.linspace(0.04, 2.0, 99)])


class CannotTellError(ValueError):
    """What a learning curve does not show."""


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Errors by the number of training rows, and the power law ``a + b n^-c`` through them.

    Attributes:
        sizes: numbers of training rows, ascending.
        train: the error on the rows that were trained on, of shape (sizes, subsamples).
        validation: the error on validation rows, of shape (sizes, subsamples).
        a: what no amount of data removes.
        b: factor.
        c: power.
        reason: why nothing can be told from it; empty if something can.
        refits: ``(a, b, c)`` of bootstrap samples of subsamples and validation rows, (refits, 3).
    """

    sizes: Array
    train: Array
    validation: Array
    a: float
    b: float
    c: float
    reason: str
    refits: Array

    def predict(self, rows: float) -> tuple[float, float, float]:
        """The error with so many training rows, and the ends of its 90 % interval.

        Args:
            rows: at most ten times as many as there are.

        Raises:
            CannotTellError: where the curve does not tell; the message says why.
            ValueError: for more rows than it may be drawn out to.
        """
        self._check()
        most = _FURTHEST * int(self.sizes[-1])
        if not self.sizes[0] <= rows <= most:
            raise ValueError(
                f"expected {self.sizes[0]} to {most} rows, ten times what there is; a curve says "
                f"nothing about {rows:g}"
            )
        refits = self.refits
        found = refits[:, 0] + refits[:, 1] * float(rows) ** -refits[:, 2]
        low, high = np.quantile(found, _CONFIDENCE)
        return self.a + self.b * float(rows) ** -self.c, float(low), float(high)

    def samples_for(self, error: float) -> tuple[float, float, float]:
        """The training rows that an error needs, and the ends of the 90 % interval.

        Infinite where no amount of data reaches the error.

        Raises:
            CannotTellError: where the curve does not tell; the message says why.
        """
        self._check()
        own = _rows_for(np.array([[self.a, self.b, self.c]]), error)[0]
        found = np.sort(_rows_for(self.refits, error))
        low, high = (found[int(q * (len(found) - 1))] for q in _CONFIDENCE)
        return float(own), float(low), float(high)

    def _check(self) -> None:
        if self.reason:
            raise CannotTellError(f"cannot tell: {self.reason}")

    def __str__(self) -> str:
        means = self.validation.mean(1)
        lines = [
            f"{size:>9,d} rows: error {mean:.4g} (training {train:.4g})"
            for size, mean, train in zip(self.sizes, means, self.train.mean(1), strict=True)
        ]
        if self.reason:
            return "\n".join([*lines, f"cannot tell what more rows would give: {self.reason}"])
        lines.append(f"error = {self.a:.3g} + {self.b:.3g} rows^-{self.c:.2f}")
        for factor in (2, 4, 10):
            rows = factor * int(self.sizes[-1])
            value, low, high = self.predict(rows)
            lines.append(f"{rows:>9,d} rows: error {value:.4g} [{low:.4g}, {high:.4g}] expected")
        return "\n".join(lines)


def _rows_for(laws: Array, error: float) -> Array:
    a, b, c = laws.T
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        needed = np.power(b / (error - a), 1.0 / c)
    return np.where(error > a, needed, np.inf)


@clean_traceback
def learning_curve(
    model: Any,
    x: Any,
    y: Any,
    validation_data: Any = None,
    *,
    seeds: int = 8,
    epochs: int = 20,
    batch_size: int = 32,
) -> LearningCurve:
    """Trains copies of a model on growing parts of the data and says what more data would give.

    For each seed the rows have one order in which every beginning has the classes in their shares,
    so that parts are nested and stratified. All sizes are trained for as many steps as ``epochs``
    of all rows take, so that few rows do not look bad for being trained less.

    The model stays as it is, bit by bit.

    Args:
        model: a compiled model, or a function without arguments that builds one.
        x: inputs, of shape (rows, ...).
        y: targets.
        validation_data: ``(x, y)``; default: a fifth of the rows.
        seeds: how many subsamples, at least 3.
        epochs: of all rows.
        batch_size: rows of a batch.

    Returns:
        A :class:`LearningCurve`; printed, the errors and those expected at 2, 4 and 10 times as
        many rows with 90 % intervals, or why they cannot be told.

    Raises:
        ValueError: for data that do not fit or are not finite, or too few validation rows.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers
        >>> (x, y), held = handmill.datasets.digits.load_data()
        >>> model = handmill.Sequential([
        ...     handmill.Input((8, 8)), layers.Flatten(), layers.Dense(16, "relu"),
        ...     layers.Dense(10, "softmax")])
        >>> model.compile("adam", "sparse_categorical_crossentropy")
        >>> curve = handmill.strategy.learning_curve(model, x, y, held, seeds=3, epochs=5)
        >>> curve.sizes[-1], bool(curve.validation[0].mean() > curve.validation[-1].mean())
        (np.int64(1438), True)

    References:
        J. Hestness et al., Deep learning scaling is predictable, empirically, 2017.
        R. L. Figueroa et al., Predicting sample size required for classification performance, 2012.
    """
    seeds = whole_number("`seeds`", seeds, 3)
    epochs = whole_number("`epochs`", epochs, 1)
    batch_size = whole_number("`batch_size`", batch_size, 1)
    rows = rows_of("x, y", x, y)
    held = None
    if validation_data is not None:
        if not isinstance(validation_data, tuple | list) or len(validation_data) < 2:
            raise TypeError("validation_data: expected (x, y)")
        held = rows_of("validation_data", *validation_data[:2])
    for part, name in ((rows, "learning_curve:"), (held, "validation_data:")):
        if part is not None and (problem := not_finite(part, name)) is not None:
            raise ValueError(f"{problem}. Leave the row out, or np.nan_to_num(x)")
    check_varied(rows.y, len(rows))
    if held is None:
        apart = np.arange(len(rows)) % _HELD_OUT == _HELD_OUT - 1
        order = random.permutation(0, 0, len(rows))
        rows, held = rows.take(order[~apart]), rows.take(order[apart])
    if len(held) < FEWEST_VALIDATION_ROWS:
        raise ValueError(
            f"learning_curve() needs at least {FEWEST_VALIDATION_ROWS} validation rows to tell "
            f"errors apart, received {len(held)}"
        )
    notes: list[str] = []
    with untouched():
        make = maker("learning_curve", model, notes)
        first = make(0)
        task = task_of(first.objective.loss, rows.y[:2], predict(first, rows.take(np.arange(2))))
        if task.kind == "other":
            raise ValueError(
                "learning_curve() knows errors of classes and of numbers; the loss "
                f"{task.loss.name!r} says neither"
            )
        sizes = _sizes(task, rows)
        train = np.empty((len(sizes), seeds))
        errors = np.empty((len(sizes), seeds, len(held)))
        for seed in range(seeds):
            order = _stratified(task, rows.y, seed)
            for i, size in enumerate(sizes):
                part = rows.take(order[:size])
                trained = make(seed)
                part_epochs = max(1, round(epochs * len(rows) / size))
                trained.fit(part.x, part.y, batch_size=batch_size, epochs=part_epochs, verbose=0)
                train[i, seed] = task.errors(part.y, predict(trained, part)).mean()
                errors[i, seed] = task.errors(held.y, predict(trained, held))
    for note in notes:
        warn_caller(note, TrainingWarning)
    return _fitted(sizes, train, errors)


def _sizes(task: Task, rows: Rows) -> Array:
    count = len(rows)
    least = max(_ROWS_OF_A_CLASS * max(task.classes, 1), count // _SMALLEST_PART)
    if least >= count:
        return np.array([count])
    most = 1 + int(math.log(count / least) / math.log(_LEAST_RATIO))
    found = np.geomspace(least, count, max(2, min(_MOST_SIZES, most)))
    return np.unique(np.round(found).astype(np.int64))


def _stratified(task: Task, y: Array, seed: int) -> Array:
    """An order of rows every beginning of which has the classes in their shares."""
    order = random.permutation(seed, 0, len(y))
    if not task.has_classes:
        return order
    labels = task.labels(y)[order]
    places = np.empty(len(order))
    for label in np.unique(labels):
        of = np.flatnonzero(labels == label)
        places[of] = (np.arange(len(of)) + 0.5) / len(of)
    return order[np.argsort(places, kind="stable")]


def _fitted(sizes: Array, train: Array, errors: Array) -> LearningCurve:
    validation = errors.mean(2)
    means, spread = validation.mean(1), validation.std(1, ddof=1)
    seeds, rows = errors.shape[1:]
    noise = np.sqrt(np.square(spread) / seeds + 1e-12)
    if len(sizes) < 4:
        reason = (
            f"{len(sizes)} sizes of at least {_ROWS_OF_A_CLASS} rows a class; at least 4 are needed"
        )
        none = math.nan
        return LearningCurve(sizes, train, validation, none, none, none, reason, np.empty((0, 3)))
    # At least the noise of a row is left where all subsamples agree.
    floor = np.sqrt(np.maximum(means * (1 - np.minimum(means, 1)), 1e-6) / rows / seeds)
    weights = 1 / np.square(np.maximum(noise, floor))
    law = _power_laws(sizes, means[None], weights)[0]
    generator = np.random.default_rng(0)
    drawn_rows = generator.multinomial(rows, np.full(rows, 1 / rows), _REFITS) / rows
    drawn_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), _REFITS) / seeds
    by_seed = np.einsum("rn,isn->ris", drawn_rows, errors, optimize=True)
    samples = np.einsum("ris,rs->ri", by_seed, drawn_seeds)
    refits = _power_laws(sizes, samples, weights)
    a, b, c = map(float, law)
    reason = _why_not(means, noise, refits)
    return LearningCurve(sizes, train, validation, a, b, c, reason, refits)


def _why_not(means: Array, noise: Array, refits: Array) -> str:
    """Why nothing can be told; empty if something can."""
    fall = means[0] - means[-1]
    if fall <= 2 * math.hypot(noise[0], noise[-1]):
        return "no gain from more rows is visible: the curve is flat or rises"
    falls = means[1:] <= means[:-1] + 2 * np.hypot(noise[1:], noise[:-1])
    if int(falls.sum()) + 1 < 4:
        return "fewer than 4 sizes follow one another downwards"
    if float(np.quantile(refits[:, 2], _CONFIDENCE[0])) <= _POWERS[0]:
        return "the interval of the power reaches 0: it does not show how fast errors fall"
    return ""


def _power_laws(sizes: Array, errors: Array, weights: Array) -> Array:
    """``(a, b, c)`` for each row of errors: weighted least squares, 0 <= a < least error, b >= 0.

    For each power of a grid the other two have a closed form.
    """
    z = sizes[None, :] ** -_POWERS[:, None]  # powers, sizes
    w = weights / weights.sum()
    mean_z, mean_e = z @ w, errors @ w
    variance = np.square(z) @ w - np.square(mean_z)
    covariance = (errors * w) @ z.T - mean_e[:, None] * mean_z
    b = covariance / variance
    a = mean_e[:, None] - b * mean_z
    top = np.maximum(errors.min(1) - 1e-9, 0.0)[:, None]
    clipped = np.clip(a, 0.0, top)
    held = np.square(z) @ w
    given = ((errors * w) @ z.T - clipped * mean_z) / held
    b = np.maximum(np.where(a == clipped, b, given), 0.0)
    fitted = clipped[:, :, None] + b[:, :, None] * z[None]
    lost = (np.square(fitted - errors[:, None, :]) * w).sum(2)
    best = lost.argmin(1)
    each = np.arange(len(errors))
    return np.stack([clipped[each, best], b[each, best], _POWERS[best]], axis=1)
