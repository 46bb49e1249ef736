"""What two splits have in common, and should not; and how they differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.strategy.data_wordings import DATA
from handmill.strategy.duplicates import duplicate_groups
from handmill.strategy.findings import Finding
from handmill.strategy.inputs import Inputs, Part, inputs_of, is_missing
from handmill.strategy.near_duplicates import NEAR, near_duplicates
from handmill.strategy.targets import Targets

FAR = 0.1
"""Columns of two splits may lie so far apart (Kolmogorov-Smirnov distance)."""
_FALSE_ALARMS = 1e-3
"""Chance that a shift is reported though splits are one draw, for all columns together."""
_ROWS = 10_000
"""Rows of a split that are looked at for shifts, evenly spaced."""
_BY_CHANCE = 0.01
"""Equal rows that chance makes with a smaller probability are no chance."""


def check_duplicates(
    splits: Mapping[str, Inputs], targets: Mapping[str, Targets]
) -> Iterator[Finding]:
    """Looks for equal rows within and across splits, and for those with unequal targets."""
    groups = duplicate_groups(list(splits.values()))
    names, lengths = list(splits), [inputs.rows for inputs in splits.values()]
    begins = np.concatenate([[0], np.cumsum(lengths)])
    # Equal inputs with unequal numbers are repeated measurements.
    labels = [part for name in names if (part := _class_codes(targets.get(name))) is not None]
    codes = np.concatenate(labels) if len(labels) == len(names) else None
    parts = dict(zip(names, np.split(groups, begins[1:-1]), strict=True))
    for i, name in enumerate(names):
        own = parts[name]
        _, first, back = np.unique(own, return_index=True, return_inverse=True)
        repeated = np.flatnonzero(first[back] != np.arange(len(own)))
        if len(repeated):
            share = len(repeated) / len(own)
            level = "warning" if share > 0.01 else "note"
            yield _made("duplicates.within", level, len(repeated), rows=repeated, split=name)
        for j in range(i):
            yield from _across(names[j], name, parts, splits)
        if codes is not None:
            yield from _conflicts(groups, codes, begins[i], begins[i + 1], name)


def _across(
    other: str, split: str, parts: Mapping[str, Array], splits: Mapping[str, Inputs]
) -> Iterator[Finding]:
    shared = np.flatnonzero(np.isin(parts[split], parts[other]))
    if not len(shared):
        return
    first = {int(group): row for row, group in reversed(list(enumerate(parts[other])))}
    pairs = [(int(row), first[int(parts[split][row])]) for row in shared]
    expected = _equal_by_chance(splits[other], splits[split])
    facts: dict[str, Any] = {"split": split, "other": other, "rows": pairs}
    # The chance of so many or more, where they come one by one (Poisson).
    terms = [expected**k / math.factorial(k) for k in range(min(len(shared), 20))]
    chance = 1 - math.exp(-expected) * sum(terms)
    if chance > _BY_CHANCE:
        yield _made("duplicates.chance", "note", len(shared), expected=expected, **facts)
    else:
        yield _made("duplicates.across", "error", len(shared), **facts)


def _equal_by_chance(first: Inputs, second: Inputs) -> float:
    """How many rows of one split equal one of the other if columns were independent: at least."""
    log_chance = 0.0
    for part in first.parts:
        if not part.is_table:
            return 0.0
        values = part.values.reshape(len(part.values), -1)
        for column in values.T:
            if part.is_text:
                counts = np.unique([str(text) for text in column], return_counts=True)[1]
            else:
                counts = np.unique(column, return_counts=True)[1]
            log_chance += math.log(float(np.sum((counts / len(column)) ** 2)))
            if log_chance < -60:
                return 0.0
    return math.exp(log_chance) * first.rows * second.rows


def _conflicts(groups: Array, codes: Array, begin: int, end: int, split: str) -> Iterator[Finding]:
    """Rows of a split that are equal to a row, of any split, with another target."""
    order = np.lexsort((codes, groups))
    ordered, labels = groups[order], codes[order]
    same = ordered[1:] == ordered[:-1]
    differs = same & (labels[1:] != labels[:-1]) & (labels[1:] >= 0) & (labels[:-1] >= 0)
    wrong = np.unique(ordered[1:][differs])
    rows = np.flatnonzero(np.isin(groups[begin:end], wrong))
    if len(rows):
        yield _made("duplicates.conflict", "warning", len(rows), rows=rows, split=split)


def check_near_duplicates(
    splits: Mapping[str, Inputs], targets: Mapping[str, Targets]
) -> Iterator[Finding]:
    """Looks for rows that are nearly those of an earlier split; in a single one, for its own."""
    names = list(splits)
    codes = {name: _class_codes(targets.get(name)) for name in names}
    if len(names) == 1:
        pairs, is_image = near_duplicates(splits[names[0]], None, codes[names[0]])
        # Nearest rows are nearest of each other, mostly: each pair counts once.
        pairs = np.unique(np.sort(pairs, axis=1), axis=0)
        yield from _near("near.within", pairs, is_image, splits[names[0]].rows, names[0], "")
    for i, name in enumerate(names):
        for other in names[:i]:
            pairs, is_image = near_duplicates(splits[name], splits[other], codes[name])
            yield from _near("near.across", pairs, is_image, splits[name].rows, name, other)


def _class_codes(targets: Targets | None) -> Array | None:
    return None if targets is None else targets.codes


def _near(
    id: str, pairs: Array, is_image: bool, rows: int, split: str, other: str
) -> Iterator[Finding]:
    if len(pairs):
        share = len(pairs) / rows
        level = "warning" if is_image and id == "near.across" and share > 0.005 else "note"
        facts: dict[str, Any] = {"split": split, "other": other, "rows": pairs}
        yield _made(id, level, share, limit=NEAR, **facts)


def check_shift(splits: Mapping[str, Inputs]) -> Iterator[Finding]:
    """Compares the columns of each split with those of training."""
    names = list(splits)
    training = splits[names[0]]
    for name in names[1:]:
        found, total = [], 0
        for part, second in zip(training.parts, splits[name].parts, strict=True):
            if part.is_text:
                yield from _unseen(part, second, name)
                continue
            labels, a, b = _sampled(part, second)
            total += a.shape[1]
            found += [(distance(x, y), label) for x, y, label in zip(a.T, b.T, labels, strict=True)]
        if not found:
            continue
        sizes = [min(_ROWS, rows) for rows in (training.rows, splits[name].rows)]
        # Distances of one draw are above this with the chance named, for all columns together.
        noise = math.sqrt(math.log(2 * total / _FALSE_ALARMS) / 2 * sum(1 / n for n in sizes))
        limit = max(FAR, noise)
        shifted = [d for d, _ in found if d > limit]
        if shifted:
            worst, place = max(found, key=lambda pair: pair[0])
            facts = {"place": place, "split": name, "number": len(shifted), "total": total}
            yield _made("shift.inputs", "warning", worst, limit=limit, **facts)


def distance(x: Array, y: Array) -> float:
    """The Kolmogorov-Smirnov distance of two samples; NaN left out."""
    x, y = np.sort(x[~np.isnan(x)]), np.sort(y[~np.isnan(y)])
    if not len(x) or not len(y):
        return 0.0
    both = np.concatenate([x, y])
    first = np.searchsorted(x, both, side="right") / len(x)
    second = np.searchsorted(y, both, side="right") / len(y)
    return float(np.max(np.abs(first - second)))


def _sampled(part: Part, second: Part) -> tuple[list[str], Array, Array]:
    """Columns of two splits; of images the mean and deviation of each channel."""
    pair = []
    for values in (part.values, second.values):
        rows = values[:: max(1, len(values) // _ROWS)][:_ROWS]
        if part.is_table:
            pair.append(rows.reshape(len(rows), -1))
            continue
        has_channels = rows.ndim > 3 or (rows.ndim == 3 and rows.dtype.kind != "u")
        channels = rows.shape[-1] if has_channels else 1
        flat = rows.reshape(len(rows), -1, channels).astype(np.float32)
        pair.append(np.concatenate([flat.mean(axis=1), flat.std(axis=1)], axis=1))
    if part.is_table:
        return [part.place(j) for j in range(part.width)], pair[0], pair[1]
    width = pair[0].shape[1] // 2
    where = [f" of {part.name or 'x'}" + (f"[..., {j}]" if width > 1 else "") for j in range(width)]
    labels = [f"the mean{w}" for w in where] + [f"the deviation{w}" for w in where]
    return labels, pair[0], pair[1]


def _unseen(part: Part, second: Part, split: str) -> Iterator[Finding]:
    known = set(part.values)
    new = [text for text in second.values if text not in known and text is not None]
    repeats = len(known) < 0.5 * len(part.values)  # texts that are all different are no categories
    if new and repeats:
        names = ", ".join(map(repr, list(dict.fromkeys(new))[:5]))
        facts = {"place": part.place(0), "split": split, "names": names}
        yield _made("shift.unseen", "warning", len(new) / len(second.values), **facts)


def check_groups(groups: Mapping[str, Any], splits: Mapping[str, Inputs]) -> Iterator[Finding]:
    """Looks for groups with rows in two splits."""
    known = {name: column_of(values, "groups", name, splits) for name, values in groups.items()}
    names = [name for name in splits if name in known]
    for i, name in enumerate(names):
        for other in names[:i]:
            shared = [g for g in dict.fromkeys(known[name]) if g in set(known[other])]
            if shared:
                texts = ", ".join(map(repr, shared[:5])) + (", ..." if len(shared) > 5 else "")
                facts = {"other": other, "split": name, "names": texts}
                yield _made("groups.shared", "error", len(shared), **facts)


def check_time(time: Mapping[str, Any], splits: Mapping[str, Inputs]) -> Iterator[Finding]:
    """Looks for rows of training that are later than the first row of another split."""
    known = {name: column_of(values, "time", name, splits) for name, values in time.items()}
    names = [name for name in splits if name in known]
    for i, name in enumerate(names):
        for other in names[:i]:
            later = sum(t > min(known[name]) for t in known[other]) / len(known[other])
            if later:
                facts = {"other": other, "split": name}
                yield _made("time.order", "warning", later, **facts)


def column_of(values: Any, what: str, split: str, splits: Mapping[str, Inputs]) -> list[Any]:
    """A group or time for each row of a split, as a list.

    Raises:
        ValueError: if they are not as many as rows, or one is missing.
    """
    inputs = inputs_of(values, what)
    part = inputs.parts[0]
    if len(inputs.parts) > 1 or part.width > 1:
        raise ValueError(f"{what}: expected one value for each row, got several")
    rows = splits[split].rows
    if inputs.rows != rows:
        raise ValueError(f"{what} of {split}: expected {rows} values, one a row, got {inputs.rows}")
    found: list[Any] = part.values.reshape(-1).tolist()
    wrong = [row for row, value in enumerate(found) if is_missing(value)]
    if wrong:
        raise ValueError(f"{what} of {split}: the value of row {wrong[0]} is missing")
    return found


def _made(id: str, level: str, value: float, **facts: Any) -> Finding:
    return Finding.of(DATA, id, level, float(value), **facts)
