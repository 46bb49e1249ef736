"""What ``diagnose`` reads from a model as it is: nothing is trained here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from handmill import tree
from handmill.inspection.health import Reading, read_health
from handmill.ir.op import Array
from handmill.strategy.baselines import Baseline
from handmill.strategy.case import FEWEST_VALIDATION_ROWS, Case, Rows, predict
from handmill.strategy.diagnosis_texts import TEXTS
from handmill.strategy.findings import Finding
from handmill.strategy.statistics import mcnemar_test, mean_interval, sign_flip_test

ROWS_LOOKED_AT = 1024
"""A unit that is 0 for all of a thousand rows fires for less than 1 of 200, or never."""
MOSTLY = 0.5
VANISHES, EXPLODES = 1e-3, 1e3
LARGEST_UPDATE, SMALLEST_UPDATE = 1e-1, 1e-5
SURE = 1e-3
"""The p-value below which a simple method is called better."""
WORTH, GRAVE = 0.01, 0.04
"""A simple method is called better if it saves this share of the error of the constant, and that is
a warning if it saves so much."""
_SPIKE, _SPIKES = 0.5, 5  # a loss of 1.5 times the least so far, so often
_STEPS_WATCHED = 8


def fit_gap(case: Case) -> Iterator[Finding]:
    """The losses of both sides in inference mode, same weights, equally many rows."""
    validation = case.validation
    if validation is None:
        yield Finding.of(TEXTS, "validation.none", "note")
        return
    count = len(validation)
    if count < FEWEST_VALIDATION_ROWS:
        error = 0.98 / math.sqrt(count)
        limit = FEWEST_VALIDATION_ROWS
        yield Finding.of(TEXTS, "validation.few", "warning", count, limit=limit, error=error)
        return
    if not case.epochs:
        return
    rows = case.train.spread(count)
    train = case.task.row_losses(rows.y, case.predictions(rows))
    losses = case.task.row_losses(validation.y, case.predictions(validation))
    gap = float(losses.mean() - train.mean())
    half = 1.96 * math.sqrt(train.var() / len(train) + losses.var() / count)
    numbers: dict[str, Any] = {"interval": (gap - half, gap + half), "train": train.mean()}
    yield Finding.of(TEXTS, "fit.gap", "ok", gap, **numbers)


def against_baselines(case: Case, errors: Array, found: list[Baseline]) -> Iterator[Finding]:
    """The model's validation errors beside those of simple methods."""
    constant = found[0]
    interval = mean_interval(errors)
    gain = constant.errors - errors
    better = gain.mean() > 0 and _p_value(case, errors, constant.errors) < SURE
    worse = gain.mean() < 0 and _p_value(case, errors, constant.errors) < SURE
    verdict, level = ("", "ok") if better else (": no better", "warning")
    verdict, level = (": worse", "error") if worse else (verdict, level)
    chinese = {"": "", ": no better": "：并不更好", ": worse": "：更差"}[verdict]
    help_with = "" if better else "handmill.strategy.lr_range_test(model, x, y)"
    yield Finding.of(
        TEXTS,
        "base.constant",
        level,
        errors.mean(),
        interval=interval,
        limit=constant.error,
        verdict=verdict,
        verdict_zh=chinese,
        call=help_with,
    )
    linear, *neighbours = found[1:]
    for kind, baseline in (
        ("base.linear", linear),
        ("base.knn", min(neighbours, key=lambda b: b.error)),
    ):
        p = _p_value(case, errors, baseline.errors)
        saved = (errors.mean() - baseline.error) / max(constant.error, 1e-12)
        if saved > WORTH and p < SURE:
            facts: dict[str, Any] = {"p": p, "name": baseline.name.upper()}
            level = "warning" if saved > GRAVE else "note"
            yield Finding.of(TEXTS, kind, level, errors.mean(), limit=baseline.error, **facts)


def _p_value(case: Case, first: Array, second: Array) -> float:
    if case.task.has_classes:
        return mcnemar_test(first == 0, second == 0)
    if not np.any(first != second):
        return 1.0
    return sign_flip_test(first - second)


def one_class(case: Case, predictions: Array, y: Array) -> Iterator[Finding]:
    """Whether nearly all predictions are the same class."""
    if not case.task.has_classes:
        return
    shares = np.bincount(case.task.predicted(predictions), minlength=case.task.classes)
    label = int(shares.argmax())
    value = shares[label] / shares.sum()
    share = float(np.mean(case.task.labels(y) == label))
    if value > 0.95 and share < 0.8:
        yield Finding.of(TEXTS, "one.class", "warning", value, limit=0.95, label=label, share=share)


def health(case: Case) -> Iterator[Finding]:
    """Dead and saturated units, gradients that vanish or explode."""
    rows = case.train.spread(ROWS_LOOKED_AT)
    readings = read_health(case.model, rows.x, rows.y)
    for reading in readings:
        if reading.kind not in ("dead", "saturated") or reading.value <= MOSTLY:
            continue
        yield Finding.of(
            TEXTS,
            f"units.{reading.kind}",
            "warning",
            reading.value,
            limit=MOSTLY,
            layer=reading.layer,
            units=reading.units,
            rows_used=len(rows),
        )
    yield from _flow(readings)


def _flow(readings: list[Reading]) -> Iterator[Finding]:
    by = [r for r in readings if r.kind == "output_gradient"]
    if len(by) < 2 or not (by[0].value > 0 and by[-1].value > 0):
        return
    ratio = by[0].value / by[-1].value
    names: dict[str, Any] = {"first": by[0].layer, "last": by[-1].layer}
    if ratio < VANISHES:
        yield Finding.of(TEXTS, "gradient.vanishes", "warning", ratio, limit=VANISHES, **names)
    elif ratio > EXPLODES:
        yield Finding.of(TEXTS, "gradient.explodes", "warning", ratio, limit=EXPLODES, **names)


def updates(case: Case, copy: Any) -> Iterator[Finding]:
    """How far some steps more move each kernel, in parts of its norm.

    Args:
        case: what is diagnosed.
        copy: a copy with the state of the optimizer, which is trained.
    """
    kernels = [
        (layer.name, v)
        for layer in copy.layers
        for v in layer.trainable_variables
        if len(v.shape) >= 2
    ]
    ratios: dict[str, list[float]] = {}
    order = np.random.default_rng(0).permutation(len(case.train))
    for step in range(_STEPS_WATCHED):
        start = step * case.batch_size % len(order)
        rows = case.train.take(order[start : start + case.batch_size])
        before = [v.numpy() for _, v in kernels]
        copy.train_on_batch(rows.x, rows.y)
        for (name, variable), old in zip(kernels, before, strict=True):
            norm = float(np.linalg.norm(old)) or 1.0
            change = float(np.linalg.norm(variable.numpy() - old)) / norm
            ratios.setdefault(name, []).append(change)
    for name, found in ratios.items():
        ratio = float(np.median(found))
        if ratio > LARGEST_UPDATE:
            yield Finding.of(
                TEXTS, "update.large", "warning", ratio, limit=LARGEST_UPDATE, layer=name
            )
        elif ratio < SMALLEST_UPDATE:
            yield Finding.of(
                TEXTS, "update.small", "note", ratio, limit=SMALLEST_UPDATE, layer=name
            )


def history_of(history: Any) -> Iterator[Finding]:
    """Spikes, a plateau and losses that are not finite, from the epochs that ``fit`` recorded."""
    losses = np.array(history.history.get("loss", ()), np.float64) if history else np.empty(0)
    if not np.isfinite(losses).all():
        yield Finding.of(TEXTS, "loss.nan", "error", int(np.argmin(np.isfinite(losses))) + 1)
        return
    if len(losses) < 5 or losses.min() <= 0:
        return
    least = np.minimum.accumulate(losses)
    spikes = int(np.sum(losses[2:] > (1 + _SPIKE) * least[1:-1]))
    facts: dict[str, Any] = {"epochs": len(losses)}
    if spikes >= max(_SPIKES, len(losses) / 10) and losses[-1] > losses[0] / 100:
        yield Finding.of(TEXTS, "loss.spikes", "warning", spikes, limit=_SPIKE, **facts)
    last = len(losses) // 5
    gained = 1 - losses[-last:].min() / losses[:-last].min()
    if len(losses) >= 10 and gained < 1e-3:
        yield Finding.of(TEXTS, "loss.plateau", "note", max(gained, 0.0), limit=1e-3, **facts)


def wiring(case: Case) -> Iterator[Finding]:
    """Whether the output of a row depends on another row of its batch."""
    if len(case.train) < 2:
        return
    rows = case.train.take(np.arange(min(len(case.train), 8)))
    before = predict(case.model, rows)
    moved = tree.map_structure(lambda a: np.concatenate([a[-1:], a[1:]]), rows.x)
    after = predict(case.model, Rows(moved, rows.y))
    if not np.array_equal(before[1:], after[1:], equal_nan=True):
        yield Finding.of(TEXTS, "wiring.batch", "error")
