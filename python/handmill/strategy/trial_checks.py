"""What ``diagnose`` learns from training copies of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from handmill import optimizers, tree
from handmill.ir.op import Array
from handmill.strategy.baselines import MOST_ROWS, Baseline, nearest, scaled
from handmill.strategy.case import Case, Rows, predict
from handmill.strategy.clones import Change, NoCopyError, fresh
from handmill.strategy.diagnosis_texts import TEXTS
from handmill.strategy.findings import Finding
from handmill.strategy.statistics import mean_interval, wilson_interval
from handmill.strategy.trainings import OverBudgetError, Trained, mean_errors, train

FAR_ABOVE, FAR_BELOW = 4.0, 0.5
"""A first loss of so many times that of guessing is far away from it."""
SAVED = 0.1
"""What the last biases must save of the first loss to be worth a word."""
SINGLE_BATCH = 32
LEARNT = 0.01
"""Of its first loss a batch may keep so much."""
PERMUTATIONS = 20
NOISE = 0.05
AGREEING = 4  # of 5 neighbours
CAUSES = {
    "steps.more": Change(),
    "capacity.up": Change(width=2.0),
    "rate.high": Change(rate=0.1),
    "rate.low": Change(rate=10.0),
}
MORE_EPOCHS = 4
LEAST_GAIN, LEAST_SHARE = 0.01, 0.2
"""A change counts that saves this of the error of classes, and this share of any error."""


def first_loss(case: Case, model: Any) -> Iterator[Finding]:
    """The loss before training, beside that of guessing."""
    if case.task.kind not in ("classes", "binary"):
        return
    rows = case.train.spread(1024)
    loss = float(case.task.row_losses(rows.y, predict(fresh(model, 0), rows)).mean())
    counts = np.bincount(case.task.labels(case.train.y), minlength=case.task.classes)
    shares = counts[counts > 0] / counts.sum()
    guess, entropy = math.log(case.task.classes), float(-(shares * np.log(shares)).sum())
    look = "handmill.check_data(x, y)"
    if loss > FAR_ABOVE * guess:
        low = min(float(a.min()) for a in tree.flatten(rows.x))
        high = max(float(a.max()) for a in tree.flatten(rows.x))
        where, chinese = "far above", "远高于"
        scale = f"x ranges from {low:.4g} to {high:.4g}: "
        call = scale + "bring it near [-1, 1], layers.Rescaling(scale, offset)"
        call_zh = (
            f"x 的范围为 {low:.4g} 到 {high:.4g}：缩放到 [-1, 1]，layers.Rescaling(scale, offset)"
        )
        level = "warning"
    elif loss < FAR_BELOW * entropy:
        where, chinese, call, call_zh, level = "far below", "远低于", look, look, "warning"
    else:
        where, chinese, call, call_zh, level = "near", "接近", "", "", "ok"
    yield Finding.of(
        TEXTS,
        "init.loss",
        level,
        loss,
        limit=guess,
        where=where,
        where_zh=chinese,
        call=call,
        call_zh=call_zh,
    )
    if level == "ok" and guess - entropy > SAVED:
        yield Finding.of(TEXTS, "init.prior", "note", guess - entropy, limit=SAVED)


def one_batch(case: Case, model: Any) -> Iterator[Finding]:
    """Whether a copy without dropout, noise and penalties can learn one batch by heart."""
    if case.task.kind == "other":
        return
    rows = case.train.spread(SINGLE_BATCH)
    best: tuple[float, float, int] | None = None
    for rate in (1e-2, 1e-3, 1e-1):
        change = Change(plain=True, optimizer=optimizers.serialize(optimizers.Adam(rate)))
        copy = fresh(model, 0, change)
        first = float(case.task.row_losses(rows.y, predict(copy, rows)).mean())
        for steps in (100, 200, 300, 400, 500):
            copy.fit(rows.x, rows.y, batch_size=len(rows), epochs=100, verbose=0, shuffle=False)
            outputs = predict(copy, rows)
            loss = float(case.task.row_losses(rows.y, outputs).mean())
            wrong = int(case.task.errors(rows.y, outputs).sum()) if case.task.has_classes else 0
            if loss <= LEARNT * first and not wrong:
                yield _one_batch("ok", rows, loss, first, wrong, steps)
                return
        if best is None or loss < best[0]:
            best = loss, first, wrong
    if best is not None:
        yield _one_batch("warning", rows, *best, 500)


def _one_batch(
    level: str, rows: Rows, loss: float, first: float, wrong: int, steps: int
) -> Finding:
    learnt = level == "ok"
    call = "" if learnt else "more units; look for equal rows with other labels, and at the loss"
    return Finding.of(
        TEXTS,
        "overfit.batch",
        level,
        loss,
        limit=LEARNT * first,
        rows_used=len(rows),
        first=first,
        right=len(rows) - wrong,
        steps=steps,
        verdict="learnt by heart" if learnt else "not learnt by heart",
        verdict_zh="可以被完全记住" if learnt else "无法被完全记住",
        call=call,
        call_zh="" if learnt else "增加单元数；查找标签不同的相同行，并检查损失函数",
    )


def rise(case: Case, trained: Sequence[Trained]) -> Iterator[Finding]:
    """Whether validation losses rise again, in a paired test over the same rows.

    The epoch of the least loss is chosen on half of the rows and judged on the others, so that
    choosing it makes nothing look worse.
    """
    if case.validation is None or case.epochs < 3 or len(trained) < 3:
        return
    table = np.array([t.losses for t in trained])  # seeds, epochs, rows
    if not np.isfinite(table).all():
        return
    halves = np.arange(table.shape[2]) % 2
    rises, least, chosen = [], [], []
    for half in (0, 1):
        epoch = int(table[:, :, halves == half].mean((0, 2)).argmin())
        judged = table[:, :, halves != half]
        rises.append(judged[:, -1] - judged[:, epoch])
        least.append(judged[:, epoch])
        chosen.append(epoch)
    differences = np.concatenate(rises, axis=1)
    base = float(np.concatenate(least, axis=1).mean())
    value = float(differences.mean())
    of_rows = differences.mean(0).std(ddof=1) / math.sqrt(differences.shape[1])
    of_seeds = differences.mean(1).std(ddof=1) / math.sqrt(len(differences))
    half_width = 2.0 * math.hypot(of_rows, of_seeds)
    if value - half_width <= 0 or value < 0.1 * base:
        return
    yield Finding.of(
        TEXTS,
        "overfits",
        "warning",
        value / base,
        interval=((value - half_width) / base, (value + half_width) / base),
        limit=0.1,
        best=round(np.mean(chosen)) + 1,
        epochs=case.epochs,
        count_of_seeds=len(trained),
    )


def blind(case: Case, model: Any, constant: Baseline) -> Iterator[Finding]:
    """Whether something is learned where every input is zero."""
    if case.validation is None or not case.task.has_classes:
        return
    nothing = tree.map_structure(np.zeros_like, case.train.x)
    copy = fresh(model, 0)
    y = case.train.y
    epochs = max(1, min(case.epochs, 3))
    copy.fit(nothing, y, batch_size=case.batch_size, epochs=epochs, verbose=0)
    unseen = Rows(tree.map_structure(np.zeros_like, case.validation.x), case.validation.y)
    value = float(case.task.errors(unseen.y, predict(copy, unseen)).mean())
    least = 1 - np.bincount(case.task.labels(unseen.y)).max() / len(unseen)
    if value < least - 1e-9:
        yield Finding.of(TEXTS, "base.blind", "error", value, limit=constant.error)


def labels_belong(case: Case, model: Any, real: Sequence[Trained]) -> Finding:
    """Trains on labels in random order, where nothing has learned much from those that there are.

    If that does as well, labels do not belong to inputs; else they hardly depend on them.
    """
    assert case.validation is not None  # noqa: S101
    score = float(np.mean(mean_errors(real)))
    generator = np.random.default_rng(0)
    at_least = 0
    for number in range(PERMUTATIONS):
        y = case.train.y[generator.permutation(len(case.train))]
        permuted = train(case, model, number, rows=Rows(case.train.x, y))
        targets = case.validation.y[generator.permutation(len(case.validation))]
        errors = case.task.errors(targets, predict(permuted.model, case.validation))
        at_least += float(errors.mean()) <= score
    p = (1 + at_least) / (1 + PERMUTATIONS)
    if p > 0.05:
        return Finding.of(TEXTS, "shuffle.labels", "error", p, limit=0.05)
    return Finding.of(TEXTS, "shuffle.weak", "warning", p, limit=0.05)


def noise(case: Case, model: Any) -> Iterator[Finding]:
    """Labels against which neighbours and models that have not seen them agree."""
    if case.task.kind != "classes" or not isinstance(case.train.x, np.ndarray):
        return
    rows = case.train.spread(MOST_ROWS)
    labels = case.task.labels(rows.y)
    if len(rows) < 100:
        return
    flat, _ = scaled(rows.x, rows.x[:1])
    votes = labels[nearest(flat, flat, 6)[:, 1:]]
    counts = np.stack([(votes == k).sum(1) for k in range(case.task.classes)], axis=1)
    agreed = np.where(counts.max(1) >= AGREEING, counts.argmax(1), -1)
    unseen = np.empty(len(rows), np.int64)
    halves = np.arange(len(rows)) % 2
    for half in (0, 1):
        trained = train(case, model, half, rows=rows.take(halves != half))
        judged = rows.take(halves == half)
        unseen[halves == half] = case.task.predicted(predict(trained.model, judged))
    wrong = np.flatnonzero((agreed >= 0) & (agreed != labels) & (unseen == agreed))
    interval = wilson_interval(len(wrong), len(rows))
    if interval.low > NOISE:
        share = len(wrong) / len(rows)
        yield Finding.of(
            TEXTS, "labels.noise", "warning", share, interval=interval, limit=NOISE, rows=wrong
        )


def causes(
    case: Case, model: Any, base: Sequence[Trained], affordable: Callable[[int], int]
) -> Iterator[Finding]:
    """Tries what may be wrong with a training that reaches less than simple methods.

    Args:
        case: what is diagnosed.
        model: what is made anew.
        base: trainings as they are, one for each seed.
        affordable: seeds that there is time for, for so many times the epochs.

    Raises:
        OverBudgetError: where there is no time left.
    """
    all_before = mean_errors(base)
    least = max(LEAST_SHARE * all_before.mean(), LEAST_GAIN if case.task.has_classes else 0.0)
    for kind, change in CAUSES.items():
        longer = MORE_EPOCHS if kind == "steps.more" else 1
        epochs = case.epochs * longer
        before = all_before[: affordable(longer)]
        if not len(before):
            raise OverBudgetError
        try:
            gains = before - _errors_after(case, model, range(len(before)), change, epochs)
        except NoCopyError:  # such as an optimizer without a single rate
            continue
        if not np.isfinite(gains).all() or gains.mean() < least:
            continue
        interval = mean_interval(gains)
        if interval.low <= 0 < interval.high and affordable(longer + 1) >= len(gains):
            # Small networks end far apart: a gain that may be chance gets as many seeds again.
            further = range(len(base), len(base) + len(gains))
            plain = _errors_after(case, model, further, None, case.epochs)
            changed = _errors_after(case, model, further, change, epochs)
            before = np.concatenate([before, plain])
            gains = np.concatenate([gains, plain - changed])
            if not np.isfinite(gains).all() or gains.mean() < least:
                continue
            interval = mean_interval(gains)
        if interval.low <= 0:
            continue
        yield Finding.of(
            TEXTS,
            kind,
            "warning",
            gains.mean(),
            interval=interval,
            limit=before.mean(),
            seeds=len(gains),
            epochs=epochs,
            factor=MORE_EPOCHS,
        )


def _errors_after(
    case: Case, model: Any, seeds: Iterable[int], change: Change | None, epochs: int
) -> Array:
    return mean_errors([train(case, model, s, change, epochs=epochs) for s in seeds])
