"""Targets: missing ones, classes that are rare, absent, sorted or numbered with gaps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from handmill.ir.op import Array
from handmill.strategy.data_wordings import DATA
from handmill.strategy.findings import Finding
from handmill.strategy.targets import Targets, class_names

RARE = 0.1
"""A class with less than so much of an equal share of the rows is rare."""
LEAST_ROWS = 20
"""Fewer rows of a class say nothing about its recall."""
LEAST_VALIDATION = 50
"""Fewer rows say little about anything."""
UNLIKELY = 1e-6
"""The p-value below which classes of two splits are not one draw."""


def check_labels(
    splits: Mapping[str, Targets], validation_split: float | None = None
) -> Iterator[Finding]:
    """Looks at the targets of all splits, the first of which is trained on."""
    for name, targets in splits.items():
        yield from _missing(targets, name)
        if name != "training" and len(targets.values) < LEAST_VALIDATION:
            rows = len(targets.values)
            step = 1 / rows
            yield Finding.of(
                DATA, "rows.few", "note", rows, limit=LEAST_VALIDATION, split=name, step=step
            )
    training = splits["training"]
    if training.codes is None:
        yield from _constant_numbers(training)
        return
    known = training.codes[training.codes >= 0]
    counts = training.counts()
    if np.count_nonzero(counts) <= 1:
        name = repr(training.names[int(counts.argmax())]) if len(known) else "?"
        yield _made("labels.constant", "error", len(known), split="training", name=name)
        return
    yield from _numbering(training, counts)
    yield from _rare(training, counts)
    for name, targets in splits.items():
        yield from _absent(targets, name, counts)
        if name != "training":
            yield from _tiny(targets, name)
            yield from _other_draw(training, targets, name)
    yield from _sorted(training, counts, validation_split)


def _missing(targets: Targets, split: str) -> Iterator[Finding]:
    if targets.codes is not None:
        rows = np.flatnonzero(targets.codes < 0)
    elif targets.values.dtype.kind == "f":
        flat = targets.values.reshape(len(targets.values), -1)
        rows = np.flatnonzero(~np.isfinite(flat).all(axis=1))
    else:
        return
    if len(rows):
        yield _made("labels.missing", "error", len(rows), rows=rows, row=rows[0], split=split)


def _constant_numbers(targets: Targets) -> Iterator[Finding]:
    values = targets.values.reshape(len(targets.values), -1)
    if len(values) > 1 and (values == values[0]).all():
        shown = values[0].tolist() if values.shape[1] > 1 else values[0, 0].item()
        name = f"{shown:.6g}" if isinstance(shown, float) else str(shown)
        yield _made("labels.constant", "error", len(values), split="training", name=name)


def _numbering(targets: Targets, counts: Array) -> Iterator[Finding]:
    """Class numbers that the sparse losses refuse, or of which some are missing."""
    names = targets.names
    if targets.one_hot or not isinstance(names[0], int) or isinstance(names[0], bool):
        return
    if names in ((-1, 1), tuple(range(len(names)))):
        return
    yield _made(
        "labels.numbers", "warning", len(counts), names=class_names(names, range(len(names)))
    )


def _rare(targets: Targets, counts: Array) -> Iterator[Finding]:
    present = np.flatnonzero(counts)
    rarest = present[np.argmin(counts[present])]
    share, equal = counts[rarest] / counts.sum(), 1 / len(present)
    if share < RARE * equal:
        weights = {
            int(k): round(float(counts.sum() / (len(present) * counts[k])), 3)
            for k in (present if len(present) <= 3 else [rarest])
        }
        facts = {
            "name": repr(targets.names[rarest]),
            "times": equal / share,
            "weights": str(weights if len(present) <= 3 else f"{str(weights)[:-1]}, ...}}"),
        }
        yield _made("labels.imbalance", "warning", share, limit=RARE * equal, **facts)


def _absent(targets: Targets, split: str, trained: Array) -> Iterator[Finding]:
    """Classes without rows: an error where training lacks what others have."""
    absent = np.flatnonzero(targets.counts() == 0)
    if not len(absent):
        return
    is_training = split == "training"
    level = "error" if is_training else "warning"
    if not is_training:
        absent = absent[trained[absent] > 0]
        if not len(absent):
            return
    facts = {"names": class_names(targets.names, absent), "total": len(targets.names)}
    yield _made("labels.absent", level, len(absent), split=split, **facts)


def _tiny(targets: Targets, split: str) -> Iterator[Finding]:
    counts = targets.counts()
    tiny = np.flatnonzero((counts > 0) & (counts < LEAST_ROWS))
    if len(tiny):
        least = tiny[np.argmin(counts[tiny])]
        facts = {"split": split, "number": len(tiny), "name": repr(targets.names[least])}
        yield _made("labels.tiny", "note", counts[least], limit=LEAST_ROWS, **facts)


def _other_draw(training: Targets, targets: Targets, split: str) -> Iterator[Finding]:
    p = same_classes(training.counts(), targets.counts())
    if p < UNLIKELY:
        yield _made("shift.labels", "warning", p, limit=UNLIKELY, split=split)


def _sorted(targets: Targets, counts: Array, validation_split: float | None) -> Iterator[Finding]:
    codes = targets.labels
    if validation_split:
        first = int(len(codes) * (1 - validation_split))  # as fit() cuts
        before, after = (
            np.bincount(part[part >= 0], minlength=len(counts))
            for part in (codes[:first], codes[first:])
        )
        p = same_classes(before, after)
        missing = np.count_nonzero((counts > 0) & ((before == 0) | (after == 0)))
        if p < UNLIKELY or missing:
            facts = {"p": p, "number": missing, "fraction": f"{validation_split:g}"}
            yield _made(
                "labels.split", "error" if missing else "warning", len(codes) - first, **facts
            )
        return
    changes = int(np.count_nonzero(codes[1:] != codes[:-1]))
    # Rows in random order change class n (1 - sum of squared shares) times.
    expected = len(codes) * (1 - float(np.sum((counts / counts.sum()) ** 2)))
    if changes < 0.25 * expected and len(codes) >= LEAST_ROWS:
        yield _made("labels.sorted", "note", changes)


def same_classes(first: Array, second: Array) -> float:
    """The chance that counts of classes as different as these are of one draw (chi-square)."""
    both = first + second
    kept = both > 0
    table = np.stack([first[kept], second[kept]]).astype(np.float64)
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return 1.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return chi_square_tail(float(np.sum((table - expected) ** 2 / expected)), table.shape[1] - 1)


def chi_square_tail(value: float, degrees: int) -> float:
    """The chance that a chi-square number of some degrees of freedom is above ``value``.

    The finite sums of Abramowitz and Stegun, 26.4.4 and 26.4.5, whose terms are all positive.
    """
    half = value / 2
    if degrees % 2:
        tail = math.erfc(math.sqrt(half))
        log_term = 0.5 * math.log(half) - half - math.lgamma(1.5) if value > 0 else -math.inf
        start = 1.5
    else:
        tail, log_term, start = 0.0, -half, 1.0
    for i in range(degrees // 2):
        tail += math.exp(log_term)
        log_term += math.log(half) - math.log(start + i) if value > 0 else -math.inf
    return min(1.0, tail) if value > 0 else 1.0


def _made(id: str, level: str, value: float, **facts: object) -> Finding:
    return Finding.of(DATA, id, level, float(value), **facts)  # type: ignore[arg-type]
