"""``lr_range_test``: which learning rates train a model, over seeds, confirmed by trainings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import ops, random
from handmill.arguments import finite_number, whole_number
from handmill.errors import TrainingWarning, clean_traceback, warn_caller
from handmill.ir.op import Array
from handmill.optimizers.schedules import CosineDecay, LearningRateSchedule
from handmill.strategy.case import Rows, not_finite, rows_of
from handmill.strategy.clones import maker, untouched
from handmill.strategy.holdout import check_varied
from handmill.strategy.statistics import sign_flip_test

_BURN_IN = 10
_STOP = 4.0
_HALF_WINDOW = 4
_FACTORS = (0.1, 1 / 3, 1.0, 3.0, 10.0)
_HELD_OUT = 5
"""One row of so many is held out to judge the trainings that confirm."""
_WIDEN = 3
_ADAM = ("Adam", "AdamW", "Adamax", "Nadam", "Lion", "Lamb", "RMSprop", "Adafactor")


@dataclass(frozen=True, eq=False)
class RangeTest:
    """What :func:`lr_range_test` found; printed, its suggestion in a line.

    Attributes:
        rates: of the steps of the ramp, of shape (steps,).
        losses: of the batch of each step, of shape (seeds, steps); NaN after a seed stopped.
        steepest: for each seed, the rate at which its smoothed loss falls most.
        minimum_over_ten: for each seed, a tenth of the rate of its least smoothed loss.
        largest_stable: for each seed, the last rate before the loss rises from its minimum.
        proposal: the geometric mean of the medians of steepest and minimum_over_ten.
        tried: rates of the trainings that confirm, ascending.
        scores: their losses on held-out rows, of shape (rates, seeds); infinite where diverged.
        suggestion: the rate of the least mean loss.
        interval: the least and the greatest rate that cannot be told from it.
    """

    rates: Array
    losses: Array
    steepest: Array
    minimum_over_ten: Array
    largest_stable: Array
    proposal: float
    tried: Array
    scores: Array
    suggestion: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.interval
        stable = float(np.median(self.largest_stable))
        return (
            f"learning rate {self.suggestion:.2g} [{low:.2g}, {high:.2g}]: best of "
            f"{len(self.tried)} rates in short trainings with {len(self.losses)} seeds; losses "
            f"rise above {stable:.2g}. optimizer.learning_rate = {self.suggestion:.2g}"
        )


@clean_traceback
def lr_range_test(
    model: Any,
    x: Any,
    y: Any,
    *,
    seeds: int = 8,
    start: float = 1e-6,
    end: float | None = None,
    steps: int = 100,
    batch_size: int = 32,
    epochs: int = 5,
) -> RangeTest:
    """Finds a learning rate: a ramp over rates for each seed, then short trainings that confirm.

    Copies of the model, with new weights for each seed, make ``steps`` steps whose rate grows from
    ``start`` to ``end`` by a constant factor; the ramp is a schedule, so it is part of the step. A
    schedule of the model is set aside. The proposal is confirmed: trainings at a tenth, a third,
    one, three and ten times of it, with a cosine decay, are judged on a fifth of the rows that they
    were not trained on; where the best is at an end, further rates are tried.

    The model stays as it is, bit by bit, also where an error or Ctrl-C ends the test.

    Args:
        model: a compiled model, or a function without arguments that builds one.
        x: inputs: an array, or a list or dict of arrays, of shape (rows, ...).
        y: targets.
        seeds: how many copies, at least 2; below 6 the interval cannot exclude any rate.
        start: the first rate.
        end: the last; default 10, for Adam and its kin 1.
        steps: of the ramp, at least 30.
        batch_size: rows of a batch.
        epochs: of each training that confirms: the suggestion is the best rate for such trainings.

    Returns:
        A :class:`RangeTest`.

    Raises:
        ValueError: for rates that are not positive or ``start >= end``, data that do not fit or are
            not finite, an optimizer without a single rate.

    Example:
        >>> import handmill
        >>> from handmill import layers
        >>> (x, y), _ = handmill.datasets.digits.load_data()
        >>> model = handmill.Sequential([
        ...     handmill.Input((64,)), layers.Dense(16, "relu"), layers.Dense(10, "softmax")])
        >>> model.compile("adam", "sparse_categorical_crossentropy")
        >>> found = handmill.strategy.lr_range_test(model, x.reshape(-1, 64) / 16, y, epochs=2)
        >>> 1e-3 < found.suggestion < 0.2
        True

    References:
        L. N. Smith, Cyclical learning rates for training neural networks, WACV 2017.
    """
    seeds = whole_number("`seeds`", seeds, 2)
    steps = whole_number("`steps`", steps, 30)
    epochs = whole_number("`epochs`", epochs, 1)
    batch_size = whole_number("`batch_size`", batch_size, 1)
    rows = rows_of("x, y", x, y)
    if (problem := not_finite(rows, "lr_range_test:")) is not None:
        raise ValueError(f"{problem}. Leave the row out, or np.nan_to_num(x)")
    check_varied(rows.y, len(rows))
    if len(rows) < 2 * _HELD_OUT:
        raise ValueError(
            f"lr_range_test() needs at least {2 * _HELD_OUT} rows, a fifth of which is held out; "
            f"received {len(rows)}"
        )
    notes: list[str] = []
    with untouched():
        make = maker("lr_range_test", model, notes)
        optimizer = make(0).optimizer
        end = _end(optimizer) if end is None else end
        start, end = finite_number("`start`", start), finite_number("`end`", end)
        if not 0 < start < end:
            raise ValueError(
                f"expected 0 < start < end, received start={start:g}, end={end:g}; the ramp goes up"
            )
        ramp = _Ramp(start, end, steps)
        losses = np.array([_climb(make(s), ramp, rows, batch_size, steps, s) for s in range(seeds)])
        found = _read(ramp.rates(), losses)
        confirmed = _confirmed(found, make, rows, seeds, batch_size, epochs)
    for note in notes:
        warn_caller(note, TrainingWarning)
    return confirmed


def _end(optimizer: Any) -> float:
    return 1.0 if type(optimizer).__name__ in _ADAM else 10.0


class _Ramp(LearningRateSchedule):
    """Rates that grow by a constant factor from step to step."""

    def __init__(self, start: float, end: float, steps: int) -> None:
        self.start = start
        self.growth = math.log(end / start) / (steps - 1)
        self.steps = steps

    def __call__(self, step: Any) -> Any:
        power = ops.multiply(ops.cast(ops.convert_to_tensor(step), "float32"), self.growth)
        return ops.multiply(ops.exp(power), self.start)

    def rates(self) -> Array:
        """Of all steps."""
        found: Array = self.start * np.exp(self.growth * np.arange(self.steps))
        return found


def _set_rate(model: Any, rate: Any) -> None:
    optimizer = model.optimizer
    if hasattr(optimizer, "optimizers"):
        raise ValueError(f"{type(optimizer).__name__} has no single learning rate to look for")
    optimizer.learning_rate = rate


def _climb(model: Any, ramp: _Ramp, rows: Rows, batch_size: int, steps: int, seed: int) -> Array:
    """The loss of the batch of each step; NaN after the loss left what can come back."""
    _set_rate(model, ramp)
    losses = np.full(steps, np.nan)
    size = min(batch_size, len(rows))
    order = np.empty(0, np.int64)
    rounds, smooth, least = 0, 0.0, math.inf
    for step in range(steps):
        if len(order) < size:
            order = np.concatenate([order, random.permutation(seed, rounds, len(rows))])
            rounds += 1
        batch, order = rows.take(order[:size]), order[size:]
        found = model.train_on_batch(batch.x, batch.y)
        loss = float(found[0] if isinstance(found, list) else found)
        if not math.isfinite(loss):
            break
        losses[step] = loss
        smooth = 0.9 * smooth + 0.1 * loss
        mean = smooth / (1 - 0.9 ** (step + 1))
        if step >= _BURN_IN:
            least = min(least, mean)
            if mean > _STOP * least:
                break
    return losses


def _smoothed(losses: Array) -> Array:
    """The logarithm of losses, averaged over steps around each, so that nothing is delayed."""
    logs = np.log(np.maximum(losses[np.isfinite(losses)], 1e-12))
    kernel = np.exp(-0.5 * np.square(np.arange(-_HALF_WINDOW, _HALF_WINDOW + 1) / 2.0))
    padded = np.pad(logs, _HALF_WINDOW, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), "valid")


def _read(rates: Array, losses: Array) -> tuple[Array, Array, Array, Array, Array]:
    """(rates, losses, steepest, minimum_over_ten, largest_stable), the last three for each seed."""
    steepest, over_ten, stable = [], [], []
    for row in losses:
        curve = _smoothed(row)
        if len(curve) <= _BURN_IN + 2:
            raise ValueError(
                f"the loss left the range of numbers after {len(curve)} steps, at a rate of "
                f"{rates[len(curve) - 1]:.2g}: start with a smaller rate, or look at the scale of x"
            )
        late = curve[_BURN_IN:]
        least = _BURN_IN + int(late.argmin())
        slopes = np.gradient(curve)[_BURN_IN : max(least, _BURN_IN + 1) + 1]
        steepest.append(rates[_BURN_IN + int(slopes.argmin())])
        over_ten.append(rates[least] / 10)
        spread = 1.4826 * float(np.median(np.abs(np.diff(curve)))) * 3
        risen = np.flatnonzero(curve[least:] > curve[least] + max(spread, 0.05))
        stable.append(rates[least + int(risen[0]) - 1] if len(risen) else rates[len(curve) - 1])
    return rates, losses, np.array(steepest), np.array(over_ten), np.array(stable)


def _confirmed(
    found: tuple[Array, Array, Array, Array, Array],
    make: Callable[[int], Any],
    rows: Rows,
    seeds: int,
    batch_size: int,
    epochs: int,
) -> RangeTest:
    rates, losses, steepest, over_ten, stable = found
    proposal = math.sqrt(float(np.median(steepest)) * float(np.median(over_ten)))
    held = np.arange(len(rows)) % _HELD_OUT == _HELD_OUT - 1
    order = random.permutation(0, 0, len(rows))
    kept, judged = rows.take(order[~held]), rows.take(order[held])

    def scores(rate: float) -> Array:
        return np.array(
            [_score(make(s), rate, kept, judged, batch_size, epochs) for s in range(seeds)]
        )

    table = {proposal * factor: scores(proposal * factor) for factor in _FACTORS}
    for _ in range(_WIDEN):
        tried = sorted(table)
        best = min(tried, key=lambda r: (table[r].mean(), r))
        if best not in (tried[0], tried[-1]):
            break
        further = best / 3 if best == tried[0] else best * 3
        table[further] = scores(further)
    tried = sorted(table)
    best = min(tried, key=lambda r: (table[r].mean(), r))
    if not math.isfinite(table[best].mean()):
        raise ValueError(
            f"every training diverged at rates from {tried[0]:.2g} to {tried[-1]:.2g}: look at the "
            "scale of x, or start with a smaller rate"
        )
    alike = [r for r in tried if _is_alike(table[r], table[best])]
    return RangeTest(
        rates,
        losses,
        steepest,
        over_ten,
        stable,
        proposal,
        np.array(tried),
        np.array([table[r] for r in tried]),
        best,
        (alike[0], alike[-1]),
    )


def _is_alike(scores: Array, best: Array) -> bool:
    if not np.isfinite(scores).all():
        return False
    differences = scores - best
    return not differences.any() or sign_flip_test(differences) > 0.05


def _score(
    model: Any, rate: float, rows: Rows, judged: Rows, batch_size: int, epochs: int
) -> float:
    """The loss on held-out rows after a training with a cosine decay from ``rate``."""
    total = epochs * -(-len(rows) // batch_size)
    _set_rate(model, CosineDecay(rate, total))
    model.fit(rows.x, rows.y, batch_size=batch_size, epochs=epochs, verbose=0)
    found = model.evaluate(judged.x, judged.y, batch_size=1024, verbose=0)
    loss = float(found[0] if isinstance(found, Sequence) else found)
    return loss if math.isfinite(loss) else math.inf
