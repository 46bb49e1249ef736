"""Values and columns of the inputs: missing, constant, codes, ids, scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.strategy.data_wordings import DATA
from handmill.strategy.findings import Finding
from handmill.strategy.inputs import BLOCK, Inputs, Part

FAR_APART = 100.0
"""Deviations of columns may differ by so much."""
NEARLY_ALL = 0.999
"""A column that holds one value in more rows than this is nearly constant."""
FEW_CODES = 20
"""Whole numbers of fewer values may be codes of categories."""
LARGE = 20.0
"""Columns of one scale that reach beyond this are not scaled; the limit of ``fit``'s warnings."""

_LEAST_ROWS = 20


@dataclass(frozen=True)
class Columns:
    """What the columns of an array hold; all arrays have one entry a column.

    Attributes:
        part: the array.
        low: the least value, NaN left out; high: the greatest.
        deviation: the standard deviation.
        whole: whether all values are whole numbers.
    """

    part: Part
    low: Array
    high: Array
    deviation: Array
    whole: Array

    @property
    def is_like_pixels(self) -> bool:
        """Whether columns are many and share one scale: constant ones are then usual."""
        varied = self.deviation > 0
        if len(self.low) < 16 or not varied.any():
            return False
        span = self.high[varied] - self.low[varied]
        # Pixels of digits: all begin at 0, and most reach the same greatest value.
        return bool(
            (self.low[varied] == np.min(self.low[varied])).mean() > 0.5
            and np.median(span) > 0.3 * span.max()
            and (self.whole[varied].all() or np.max(self.high[varied]) <= 1)
        )


def check_columns(splits: dict[str, Inputs]) -> Iterator[Finding]:
    """Looks at the values of all splits, and at the columns of the first."""
    for name, inputs in splits.items():
        for part in inputs.parts:
            yield from _missing(part, name)
    inputs = next(iter(splits.values()))
    seen = []
    for part in inputs.numbers:
        columns = _summary(part)
        if not part.is_table or part.values.dtype.kind == "u":
            yield from _unscaled(columns)
            if not part.is_table:
                continue
        seen.append(columns)
    if inputs.rows < _LEAST_ROWS:
        return
    yield from _constant(seen)
    yield from _whole_numbers(seen)
    yield from _scales(seen)


def _missing(part: Part, split: str) -> Iterator[Finding]:
    if part.is_text:
        rows = np.flatnonzero([text is None for text in part.values])
        if len(rows):
            facts = {"row": rows[0], "place": part.place(0), "split": split}
            yield _made("values.missing", "note", len(rows), rows=rows, **facts)
        return
    if part.values.dtype.kind != "f":
        return
    wrong, count = [], 0
    step = max(1, BLOCK // max(1, part.width))
    for begin in range(0, len(part.values), step):
        bad = ~np.isfinite(part.flat(begin, begin + step))
        count += int(np.count_nonzero(bad))
        wrong.append(begin + np.flatnonzero(bad.any(axis=1)))
    rows = np.concatenate(wrong)
    if count:
        column = int(np.argmin(np.isfinite(part.flat(rows[0], rows[0] + 1)[0])))
        facts = {"row": rows[0], "place": part.place(column), "split": split}
        yield _made("values.nonfinite", "error", count, rows=rows, **facts)


def _summary(part: Part) -> Columns:
    """Least, greatest value and deviation of each column, in blocks of rows."""
    width = part.width
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    count, total, square = np.zeros(width), np.zeros(width), np.zeros(width)
    whole = np.ones(width, bool)
    center = np.nan_to_num(part.flat(0, 1)[0].astype(np.float64), posinf=0, neginf=0)
    step = max(1, BLOCK // max(1, width))
    for begin in range(0, len(part.values), step):
        rows = part.flat(begin, begin + step).astype(np.float64)
        finite = np.isfinite(rows)
        low = np.minimum(low, np.where(finite, rows, np.inf).min(axis=0))
        high = np.maximum(high, np.where(finite, rows, -np.inf).max(axis=0))
        if part.values.dtype.kind == "f":
            whole &= (~finite | (rows == np.floor(rows))).all(axis=0)
        away = np.where(finite, rows - center, 0)
        count += finite.sum(axis=0)
        total += away.sum(axis=0)
        square += (away**2).sum(axis=0)
    count = np.maximum(count, 1)
    variance = np.maximum(square / count - (total / count) ** 2, 0)
    deviation = np.where(low == high, 0.0, np.sqrt(variance))
    return Columns(part, low, high, deviation, whole)


def _unscaled(columns: Columns) -> Iterator[Finding]:
    part = columns.part
    reach = float(max(abs(columns.low.min()), abs(columns.high.max())))
    if reach <= LARGE or not np.isfinite(reach):
        return
    is_bytes = 100 < reach <= 255 and columns.low.min() >= 0
    call = "layers.Rescaling(1/255)" if is_bytes else "layers.Normalization()"
    yield _made("values.unscaled", "warning", reach, place=part.name or "x", call=call, limit=LARGE)


def _constant(seen: Sequence[Columns]) -> Iterator[Finding]:
    constant: list[tuple[Columns, Array]] = []
    nearly: list[tuple[Columns, Array]] = []
    quiet = True
    for columns in seen:
        still = columns.low == columns.high
        most = _share_of_most_frequent(columns) > NEARLY_ALL
        constant.append((columns, np.flatnonzero(still)))
        nearly.append((columns, np.flatnonzero(most & ~still)))
        # A pixel at the edge that is never lit says nothing; one that is always lit does.
        dark = columns.is_like_pixels and (columns.low[still] <= columns.low.min()).all()
        quiet &= bool(dark or not (still | most).any())
    level = "note" if quiet else "warning"
    yield from _named("columns.constant", level, constant)
    yield from _named("columns.nearly_constant", "note", nearly)


def _share_of_most_frequent(columns: Columns) -> Array:
    """The share of the most frequent value of each column, if it is above a half: the median."""
    part, found = columns.part, np.zeros(len(columns.low))
    step = max(1, BLOCK // len(part.values))
    for begin in range(0, part.width, step):
        block = part.flat()[:, begin : begin + step]
        middle = np.partition(block, len(block) // 2, axis=0)[len(block) // 2]
        found[begin : begin + step] = (block == middle).mean(axis=0)
    return found


def _whole_numbers(seen: Sequence[Columns]) -> Iterator[Finding]:
    codes: list[tuple[Columns, Array]] = []
    ids: list[tuple[Columns, Array]] = []
    for columns in seen:
        values, rows = columns.part.flat(), len(columns.part.values)
        span = columns.high - columns.low
        narrow = columns.whole & (span >= 3) & (span < 1000) & ~np.array(columns.is_like_pixels)
        few = [j for j in np.flatnonzero(narrow) if 2 < len(np.unique(values[:, j])) < FEW_CODES]
        codes.append((columns, np.array(few, np.int64)))
        # As many values as rows, without gaps: 0, 1, 2, ... in any order.
        dense = columns.whole & (span == rows - 1)
        every = [j for j in np.flatnonzero(dense) if len(np.unique(values[:, j])) == rows]
        ids.append((columns, np.array(every, np.int64)))
    yield from _named("columns.ids", "warning", ids)
    yield from _named("columns.codes", "note", codes)


def _scales(seen: Sequence[Columns]) -> Iterator[Finding]:
    names, deviations = [], []
    for columns in seen:
        varied = np.flatnonzero(columns.deviation > 0)
        if columns.is_like_pixels:  # one scale: judged by how far it reaches
            if columns.part.values.dtype.kind != "u":
                yield from _unscaled(columns)
            varied = varied[np.argmax(columns.deviation[varied])][None]
        names += [columns.part.place(int(j)) for j in varied]
        deviations += columns.deviation[varied].tolist()
    if len(deviations) < 2:
        return
    small, large = int(np.argmin(deviations)), int(np.argmax(deviations))
    apart = deviations[large] / deviations[small]
    if apart > FAR_APART:
        facts = {
            "small": f"{names[small]} {deviations[small]:.3g}",
            "large": f"{names[large]} {deviations[large]:.3g}",
        }
        yield _made("columns.scales", "warning", apart, limit=FAR_APART, **facts)


def _named(id: str, level: str, found: Sequence[tuple[Columns, Array]]) -> Iterator[Finding]:
    """A finding about columns of all arrays together, where there are any."""
    names = [columns.part.place(int(j)) for columns, numbers in found for j in numbers]
    if not names:
        return
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    numbers = [int(j) for _, chosen in found for j in chosen]
    total = sum(columns.part.width for columns, _ in found)
    facts: dict[str, Any] = {"names": shown, "total": total, "columns": numbers}
    yield _made(id, level, len(names), **facts)


def _made(id: str, level: str, value: float, **facts: Any) -> Finding:
    return Finding.of(DATA, id, level, value, **facts)
