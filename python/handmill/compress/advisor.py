"""The advisor: what of all this pays for a model, on its data and this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from handmill import random, tree
from handmill.arguments import real_number, whole_number
from handmill.compress.candidates import Candidate, candidates, copied
from handmill.compress.measuring import (
    BATCHES,
    Drop,
    Score,
    Times,
    front,
    score_of,
    times_beside,
)
from handmill.compress.quantization_aware import refuse_adapted
from handmill.compress.sizes import raw_bytes, zipped_bytes
from handmill.compress.verdicts import FASTER, SMALLER, change_of, verdict_of
from handmill.errors import keep_warnings
from handmill.layers.layer import all_layers
from handmill.saving.atomic_file import write_bytes
from handmill.strategy.clones import untouched

_LARGEST_TIMED = 256
_FLOAT, _TRAINED = "float", "float, trained on"


@dataclass(frozen=True)
class Row:
    """One candidate, measured.

    Attributes:
        name: short; ``"float"`` is the model itself, ``"float, trained on"`` a copy of it that was
            trained as candidates were.
        call: the code that makes it.
        beside: the name of the one it is compared with, which had the same training.
        score: the accuracy, or the mean squared error.
        low: end of its interval of 95 %.
        high: the other end.
        drop: accuracy lost, or growth of the error relative to that of ``beside``.
        drop_low: end of the interval of 95 % of ``drop``, from the differences row by row.
        drop_high: the other end.
        p: of being as good as ``beside`` on the same rows (McNemar); NaN for errors.
        bytes: of the weights.
        zipped: of the weights, compressed.
        seconds: of a call, by batch size.
        speedup: times as fast as the model, by batch size; medians of ratios in turns.
        speedup_low: the second smallest of nine such ratios: the median is above with 96 %.
        speedup_high: the second largest.
        is_front: whether no other is at least as good in accuracy, bytes and time.
        gains: of ``"bytes"``, ``"zipped"``, ``"time"`` and ``"accuracy"`` or ``"error"`` what is
            better than in the model: 10 % and more of bytes and time, where intervals say so.
        losses: likewise what is worse.
        verdict: in words.
    """

    name: str
    call: str
    beside: str
    score: float
    low: float
    high: float
    drop: float
    drop_low: float
    drop_high: float
    p: float
    bytes: int
    zipped: int
    seconds: dict[int, float]
    speedup: dict[int, float]
    speedup_low: dict[int, float]
    speedup_high: dict[int, float]
    is_front: bool
    gains: tuple[str, ...]
    losses: tuple[str, ...]
    verdict: str

    @property
    def pays(self) -> bool:
        """Whether it gains something at the loss that was accepted."""
        return self.verdict.startswith("pays")


@dataclass(frozen=True)
class Advice:
    """What :func:`search` found; printed, a table.

    Attributes:
        kind: ``"accuracy"`` or ``"error"``.
        rows: the model first, then the candidates that were measured.
        left_out: (name, why) of those that were not.
        best: the name of the one to take: ``"float"`` if none pays.
        max_drop: what may be lost: accuracy, or the part by which the error may grow.
        count: rows of data.
        models: by name.
    """

    kind: str
    rows: tuple[Row, ...]
    left_out: tuple[tuple[str, str], ...]
    best: str
    max_drop: float
    count: int
    models: dict[str, Any]

    @property
    def model(self) -> Any:
        """The model to take: the smaller one, or the model that was given."""
        return self.models[self.best]

    def __str__(self) -> str:
        heads = ["candidate", self.kind, "95 %", "kB", "zipped"]
        heads += [f"us at {batch}" for batch in BATCHES] + ["verdict"]
        table = [heads]
        for row in self.rows:
            timed = [f"{row.seconds[b] * 1e6:.1f} ({row.speedup[b]:.2f}x)" for b in BATCHES]
            table.append(
                [
                    ("* " if row.is_front else "  ") + row.name,
                    f"{row.score:.4f}",
                    f"{row.low:.4f} to {row.high:.4f}",
                    f"{row.bytes / 1e3:.1f}",
                    f"{row.zipped / 1e3:.1f}",
                    *timed,
                    row.verdict,
                ]
            )
        widths = [max(len(line[i]) for line in table) for i in range(len(heads))]
        lines = [
            "  ".join(f"{c:{w}}" for c, w in zip(line, widths, strict=True)).rstrip()
            for line in table
        ]
        lines += [f"  {name}: left out: {why}" for name, why in self.left_out]
        lines.append(f"* no other is as good in {self.kind}, bytes and time at batch 32 at once.")
        if beside := [repr(row.name) for row in self.rows if row.beside == _TRAINED]:
            lines.append(
                f"Compared with {_TRAINED!r}, which had their training: {', '.join(beside)}."
            )
        lines.append(self.advice)
        return "\n".join(lines)

    @property
    def advice(self) -> str:
        """What to do, in a sentence or two."""
        found = {row.name: row for row in self.rows}
        also = ""
        if (trained := found.get(_TRAINED)) is not None and trained.gains:
            also = f" Training on alone: {trained.verdict}; the model was not at its best yet."
        if self.best == _FLOAT:
            return (
                f"Keep float: no candidate loses at most {self.max_drop:g} of {self.kind} on these "
                f"{self.count} rows and gains in bytes ({1 - SMALLER:.0%} fewer), in time "
                f"({FASTER - 1:.0%} faster, beyond its interval) or in {self.kind}.{also}"
            )
        row = found[self.best]
        for objective, words in (("bytes", "Smallest"), ("time", "Fastest")):
            name = self.best_by.get(objective, self.best)
            if name != self.best:
                also = f" {words}: {name!r}, {found[name].call}.{also}"
        return f"Take {row.name!r}: {row.call}. It {row.verdict}.{also}"

    @property
    def best_by(self) -> dict[str, str]:
        """Of those that pay, the name of the one that gains most in each of its ``gains``."""
        best: dict[str, str] = {}
        good = [row for row in self.rows if row.pays]
        for gain, measure in _MOST.items():
            some = [row for row in good if gain in row.gains]
            if some:
                best[gain] = min(some, key=measure).name
        return best

    def to_json(self) -> str:
        """The table, as data."""
        rows = [asdict(row) for row in self.rows]
        for row in rows:  # JSON has neither NaN nor infinities
            row.update(
                {k: None for k, v in row.items() if isinstance(v, float) and not isfinite(v)}
            )
        left_out = [list(pair) for pair in self.left_out]
        return json.dumps(
            {"kind": self.kind, "best": self.best, "best_by": self.best_by,
             "advice": self.advice, "rows": rows, "left_out": left_out}
        )  # fmt: skip

    def picture(self, to_file: Any = None) -> str:
        """Draws time at batch 32 against the score, as SVG.

        Args:
            to_file: where it is written, a path that ends in ``.svg``; None: nowhere.

        Returns:
            The text of the picture; circles have the area of the bytes, those of the front are
            filled.
        """
        text = _drawn(self)
        if to_file is not None:
            if Path(to_file).suffix.lower() != ".svg":
                raise ValueError(f"a picture ends in .svg. Received: {str(to_file)!r}")
            write_bytes(Path(to_file), [text.encode()])
        return text


def search(
    model: Any,
    x: Any,
    y: Any,
    budget: float = 60.0,
    max_drop: float = 0.01,
    train: tuple[Any, Any] | None = None,
    epochs: int = 1,
    only: Sequence[str] | None = None,
) -> Advice:
    """Makes smaller models of a model and measures what each loses and gains, on this machine.

    Tried are bfloat16, int8 and int4 (where models can be quantized), shrinking by 25, 50 and 75 %,
    two low ranks, blocks of 16 zeros at 75 %, and clustering. Each is measured on the rows given:
    accuracy with its interval (or mean squared error), bytes as they are and zipped, time of a call
    at batch 1, 32 and 256 in turns with the model. What training brings is not counted as theirs:
    candidates that are trained on are compared, row by row, with a copy of the model that was
    trained likewise, in the same order of rows. A candidate pays if it gains in bytes, time or
    accuracy at the loss that is accepted, and the verdict says in which; where none does, the
    advice is to keep the model as it is. Intervals are of the rows and the moment: another training
    may differ by more, and differences of a few percent of time are noise.

    Args:
        model: a built functional or sequential model; it stays as it is, and so do seeds.
        x: inputs that the model was not trained on (rows, ...).
        y: their targets: classes, one-hot rows, or numbers.
        budget: seconds; candidates that are not reached are listed.
        max_drop: accuracy that may be lost, such as 0.01, a point; of errors, the part by which
            they may grow.
        train: (x, y) to train shrunk, factorized and pruned candidates on for ``epochs`` before
            they are measured, with the model's own loss and optimizer, and a copy of the model
            beside them; None: they are not.
        epochs: of that training.
        only: names of candidates to try, such as ``["bfloat16", "shrink 50 %"]``; default: all.

    Returns:
        An :class:`Advice`: print it; ``.model`` is what to take, ``.picture("advice.svg")`` draws.

    Raises:
        ValueError: for arguments out of range, data that do not fit, a model without a graph.

    Example:
        >>> import numpy as np, handmill
        >>> model = handmill.Sequential([handmill.Input((4,)), handmill.layers.Dense(3)])
        >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
        >>> y = model.predict(x, verbose=0).argmax(axis=1)
        >>> handmill.compress.search(model, x, y, budget=5, only=["shrink 50 %"]).best
        'float'
    """
    budget = real_number("`budget`", budget)
    max_drop = real_number("`max_drop`", max_drop)
    if not budget > 0 or not max_drop >= 0:
        raise ValueError(
            "`budget` must be positive and `max_drop` not negative. Received: "
            f"{budget} and {max_drop}"
        )
    epochs = whole_number("`epochs`", epochs, 1)
    if train is not None and not (isinstance(train, list | tuple) and len(train) == 2):
        raise ValueError(f"`train` must be a pair (x, y). Received: {type(train).__name__}")
    if train is not None and not getattr(model, "compiled", False):
        raise ValueError("`train` needs a compiled model: call model.compile() before")
    refuse_adapted(model, "search smaller versions of")
    if whole := [v.name for v in all_layers(model) if v.quantization_mode is not None]:
        raise ValueError(
            f"layers {whole[:5]} of model {model.name!r} are quantized: give the float model, "
            "which smaller ones are made of and compared with"
        )
    known = list(candidates())
    if only is not None:
        names = [c.name for c in known]
        if unknown := [name for name in only if name not in names]:
            raise ValueError(f"`only` names {unknown}; there are {names}")
        known = [c for c in known if c.name in only]
    if isinstance(y, dict) or len(getattr(model, "outputs", None) or [y]) > 1:
        raise ValueError(
            "search() measures one output, by its accuracy or its error. Received a model with "
            f"{len(model.outputs)} outputs: give keras.Model(model.inputs, model.outputs[0])"
        )
    end = time.monotonic() + budget
    with untouched():
        return _searched(model, x, np.asarray(y), end, max_drop, train, epochs, known)


class _Measured(NamedTuple):
    """A model, and what was measured of it; ``beside``: the score that it is compared with."""

    name: str
    call: str
    beside: str
    score: Score
    model: Any
    times: Times


def _searched(
    model: Any, x: Any, y: Any, end: float, max_drop: float, train: Any, epochs: int,
    known: Sequence[Candidate],
) -> Advice:  # fmt: skip
    seeds = random.state()

    def scored(made: Any, trains: bool) -> Score:
        if trains:
            random.restore_state(seeds)  # the same order of rows for all of them
            made.fit(*train, epochs=epochs, verbose=0)
        return score_of(made.predict(x, verbose=0), y)

    few = tree.map_structure(lambda a: np.asarray(a)[:_LARGEST_TIMED], x)
    own = scored(model, False)
    trained: _Measured | None = None
    measured: list[_Measured] = []
    left_out: list[tuple[str, str]] = []
    slowest = 0.0
    for candidate in known:
        begun = time.monotonic()
        if begun + slowest > end and measured:
            left_out.append((candidate.name, "the budget is spent"))
            continue
        trains = candidate.trains and train is not None
        try:
            with keep_warnings():
                made = candidate.make(model)
                if trains and trained is None:
                    copy = copied(model)
                    call = f"model.fit(*train, epochs={epochs})"
                    score = scored(copy, True)
                    trained = _Measured(_TRAINED, call, _FLOAT, score, copy, _even(1.0))
                score = scored(made, trains)
        except ValueError as error:
            left_out.append((candidate.name, str(error).partition("\n")[0][:160]))
            continue
        times = times_beside(model, made, few)
        beside = _TRAINED if trains else _FLOAT
        found = _Measured(candidate.name, candidate.call, beside, score, made, times)
        measured.append(found)
        slowest = max(slowest, time.monotonic() - begun)
    seconds = (measured[0].times if measured else times_beside(model, model, few)).seconds
    first = _Measured(_FLOAT, "model", _FLOAT, own, model, _even(1.0))
    every = [first, *([] if trained is None else [trained]), *measured]
    rows = _rows(every, seconds, max_drop)
    chosen = max((row for row in rows if row.pays), key=_gain, default=rows[0])
    models = {one.name: one.model for one in every}
    return Advice(own.kind, tuple(rows), tuple(left_out), chosen.name, max_drop, len(y), models)


def _even(ratio: float) -> Times:
    same = dict.fromkeys(BATCHES, ratio)
    return Times({}, same, same, same)


def _rows(every: Sequence[_Measured], seconds: dict[int, float], max_drop: float) -> list[Row]:
    sizes = [(raw_bytes(one.model), zipped_bytes(one.model)) for one in every]
    whole, whole_zipped = (max(size, 1) for size in sizes[0])
    scores = {one.name: one.score for one in every}
    points = [
        (
            -one.score.value if one.score.kind == "accuracy" else one.score.value,
            float(size),
            1 / one.times.speedup[32],
        )
        for one, (size, _) in zip(every, sizes, strict=True)
    ]
    rows = []
    for one, (size, zipped), best in zip(every, sizes, front(points), strict=True):
        score, times = one.score, one.times
        drop = scores[one.beside].drop_to(score)
        gains, losses, words = verdict_of(
            score.kind, drop, max_drop, size / whole, zipped / whole_zipped, times
        )
        if one.name == _FLOAT:
            gains, losses, words = (), (), "as it is"
        elif one.name == _TRAINED:
            gains, losses, words = _by_training(score.kind, drop)
        took = {b: seconds[b] / times.speedup[b] for b in BATCHES}
        rows.append(
            Row(
                one.name, one.call, one.beside, score.value, *score.interval, drop.value,
                *drop.interval, drop.p, size, zipped, took, times.speedup, times.low, times.high,
                best, gains, losses, words,
            )
        )  # fmt: skip
    return rows


def _by_training(kind: str, drop: Drop) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """What training on alone brought: it is no gain of a smaller model."""
    gains = (kind,) if drop.interval.high < 0 else ()
    losses = (kind,) if drop.interval.low > 0 else ()
    return gains, losses, change_of(kind, drop)


_MOST: dict[str, Callable[[Row], float]] = {
    "bytes": lambda row: row.bytes,
    "zipped": lambda row: row.zipped,
    "time": lambda row: -max(row.speedup_low.values()),
    "accuracy": lambda row: row.drop,
    "error": lambda row: row.drop,
}
"""What is least in the row that gains most."""


def _gain(row: Row) -> tuple[bool, float]:
    """How much is gained: of time what its interval leaves, and of bytes, as logarithms.

    What is smaller only when it is zipped comes after what gains without.
    """
    only_zipped = row.gains == ("zipped",)
    size = row.zipped if only_zipped else row.bytes
    surest = [max(1.0, row.speedup_low[b]) * min(1.0, row.speedup_high[b]) for b in BATCHES]
    told = np.log(surest)
    return not only_zipped, float(np.mean(told)) - float(np.log(max(size, 1)))


_W, _H, _LEFT, _TOP = 640, 400, 70, 30


def _drawn(advice: Advice) -> str:
    times = np.log10([row.seconds[32] * 1e6 for row in advice.rows])
    scores = np.array([row.score for row in advice.rows])
    largest = max(row.bytes for row in advice.rows) or 1

    def spread(values: Any, size: float) -> Any:
        width = float(np.ptp(values)) or 1.0
        return (values - np.min(values)) / width * (size * 0.8) + size * 0.1

    xs = _LEFT + spread(times, _W - _LEFT - 20)
    ys = _H - 50 - spread(scores, _H - _TOP - 60)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_W}" height="{_H}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_W}" height="{_H}" fill="white"/>',
        f'<line x1="{_LEFT}" y1="{_H - 50}" x2="{_W - 20}" y2="{_H - 50}" stroke="black"/>',
        f'<line x1="{_LEFT}" y1="{_TOP}" x2="{_LEFT}" y2="{_H - 50}" stroke="black"/>',
        f'<text x="{_W / 2}" y="{_H - 12}">microseconds at batch 32 (logarithm)</text>',
        f'<text x="{_LEFT - 60}" y="{_TOP - 10}">{advice.kind}</text>',
    ]
    for row, x, y in zip(advice.rows, xs, ys, strict=True):
        fill = "#2a6fbb" if row.is_front else "none"
        label = escape(f"{row.name} ({row.seconds[32] * 1e6:.0f} us, {row.score:.3f})")
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{4 + 10 * (row.bytes / largest) ** 0.5:.1f}" '
            f'fill="{fill}" fill-opacity="0.6" stroke="#2a6fbb"/>'
        )
        parts.append(f'<text x="{x + 8:.1f}" y="{y - 8:.1f}">{label}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
