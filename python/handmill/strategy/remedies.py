"""``diagnose(experiments=True)``: what would help is tried, and what each gained is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.layers import RandomRotation, RandomTranslation
from handmill.models.sequential import Sequential
from handmill.strategy.case import Case
from handmill.strategy.clones import Change, NoCopyError, fresh
from handmill.strategy.diagnosis_texts import TEXTS
from handmill.strategy.findings import Finding
from handmill.strategy.statistics import mean_interval
from handmill.strategy.trainings import OverBudgetError, Trained, train_copy


@dataclass(frozen=True)
class Remedy:
    """What may help.

    Attributes:
        what: in English.
        what_zh: in Chinese.
        call: the call that does it.
        change: of the copies.
        longer: factor of the epochs.
        augments: whether images are moved and turned at random.
    """

    what: str
    what_zh: str
    call: str
    change: Change = field(default_factory=Change)
    longer: int = 1
    augments: bool = False


REMEDIES = (
    Remedy("twice the units", "单元数加倍", "Dense(2 * units)", Change(width=2.0)),
    Remedy("half the units", "单元数减半", "Dense(units // 2)", Change(width=0.5)),
    Remedy("dropout 0.2", "dropout 0.2", "layers.Dropout(0.2)", Change(dropout=0.2)),
    Remedy("dropout 0.5", "dropout 0.5", "layers.Dropout(0.5)", Change(dropout=0.5)),
    Remedy("L2 1e-4", "L2 1e-4", "kernel_regularizer=regularizers.L2(1e-4)", Change(l2=1e-4)),
    Remedy("L2 1e-3", "L2 1e-3", "kernel_regularizer=regularizers.L2(1e-3)", Change(l2=1e-3)),
    Remedy("twice the epochs", "轮数加倍", "fit(..., epochs=2 * epochs)", longer=2),
    Remedy(
        "random shifts and turns",
        "随机平移与旋转",
        "layers.RandomTranslation(0.1, 0.1)",
        augments=True,
    ),
)


def tried(
    case: Case, model: Any, base: Sequence[Trained], affordable: Callable[[int], int]
) -> Iterator[Finding]:
    """Trains copies with each remedy under the seeds of ``base``; findings by what they gained.

    Args:
        case: what is diagnosed.
        model: what is made anew.
        base: trainings as they are, followed epoch by epoch, one for each seed.
        affordable: seeds that there is time for, for so many times the epochs.

    Raises:
        OverBudgetError: where there was no time for all, after those that were tried.
    """
    before = np.array([t.losses[-1].mean() for t in base])
    found = [_early_stopping(base, before)]
    left_out = False
    for remedy in REMEDIES:
        if remedy.augments and np.ndim(case.train.x) != 4:
            continue
        seeds = min(len(base), affordable(remedy.longer))
        if not seeds:
            left_out = True
            continue
        try:
            after = np.array([_loss(case, model, remedy, seed) for seed in range(seeds)])
        except NoCopyError:  # such as a residual connection around a layer that changes its width
            continue
        if np.isfinite(after).all():
            found.append((before[:seeds] - after, remedy))
    found.sort(key=lambda pair: -pair[0].mean())
    for gains, remedy in found:
        interval = mean_interval(gains)
        sure = interval.low > 0 or interval.high < 0
        yield Finding.of(
            TEXTS,
            "remedy",
            "note",
            gains.mean(),
            interval=interval,
            what=remedy.what,
            what_zh=remedy.what_zh,
            base=before[: len(gains)].mean(),
            after=(before[: len(gains)] - gains).mean(),
            mark="" if sure else ": not distinguishable from no change",
            mark_zh="" if sure else "：与不变无法区分",
            call=remedy.call if interval.low > 0 else "",
        )
    if left_out:
        raise OverBudgetError


def _loss(case: Case, model: Any, remedy: Remedy, seed: int) -> float:
    assert case.validation is not None  # noqa: S101
    copy = fresh(model, seed, remedy.change)
    if remedy.augments:
        inside, given = copy, copy.objective.loss
        copy = Sequential([RandomTranslation(0.1, 0.1), RandomRotation(0.03), inside])
        copy.compile(inside.optimizer, given)
    trained = train_copy(case, copy, epochs=case.epochs * remedy.longer)
    return float(case.task.row_losses(case.validation.y, trained.outputs).mean())


def _early_stopping(base: Sequence[Trained], before: Array) -> tuple[Array, Remedy]:
    """The epoch is chosen on half of the rows and judged on the others, as on rows to come."""
    table = np.array([t.losses for t in base])  # seeds, epochs, rows
    halves = np.arange(table.shape[2]) % 2
    after = np.zeros(len(base))
    for half in (0, 1):
        epochs = table[:, :, halves == half].mean(2).argmin(1)
        judged = table[np.arange(len(base)), epochs][:, halves != half]
        after += judged.sum(1) / table.shape[2]
    call = "callbacks.EarlyStopping('val_loss', patience=3, restore_best_weights=True)"
    return before - after, Remedy("early stopping", "提前停止", call)
