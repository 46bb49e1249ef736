"""The advisor: what of all this pays for a model, on its data and this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from handmill import tree
from handmill.arguments import real_number, whole_number
from handmill.compress.candidates import Candidate, candidates
from handmill.compress.measuring import BATCHES, Score, Times, front, score_of, times_beside
from handmill.compress.quantization_aware import refuse_adapted
from handmill.compress.sizes import raw_bytes, zipped_bytes
from handmill.errors import keep_warnings
from handmill.layers.layer import all_layers
from handmill.saving.atomic_file import write_bytes
from handmill.strategy.clones import untouched

FASTER, SMALLER = 1.1, 0.9
"""Of the time at one of the batch sizes, and of the bytes: what counts as a gain."""

_LARGEST_TIMED = 256


@dataclass(frozen=True)
class Row:
    """One candidate, measured.

    Attributes:
        name: short; ``"float"`` is the model itself.
        call: the code that makes it.
        score: the accuracy, or the mean squared error.
        low: end of its interval of 95 %.
        high: the other end.
        drop: points of accuracy lost, or growth of the error relative to the model's.
        p: of being as good as the model on the same rows (McNemar); NaN for errors.
        bytes: of the weights.
        zipped: of the weights, compressed.
        seconds: of a call, by batch size.
        speedup: times as fast as the model, by batch size; medians of ratios in turns.
        is_front: whether no other is at least as good in accuracy, bytes and time.
        verdict: in words.
    """

    name: str
    call: str
    score: float
    low: float
    high: float
    drop: float
    p: float
    bytes: int
    zipped: int
    seconds: dict[int, float]
    speedup: dict[int, float]
    is_front: bool
    verdict: str


@dataclass(frozen=True)
class Advice:
    """What :func:`search` found; printed, a table.

    Attributes:
        kind: ``"accuracy"`` or ``"error"``.
        rows: the model first, then the candidates that were measured.
        left_out: (name, why) of those that were not.
        best: the name of the one to take: ``"float"`` if none pays.
        max_drop: what may be lost.
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
        heads = ["candidate", self.kind, "95 %", "drop", "kB", "zipped"]
        heads += [f"us at {batch}" for batch in BATCHES] + ["verdict"]
        table = [heads]
        for row in self.rows:
            timed = [f"{row.seconds[b] * 1e6:.1f} ({row.speedup[b]:.2f}x)" for b in BATCHES]
            table.append(
                [
                    ("* " if row.is_front else "  ") + row.name,
                    f"{row.score:.4f}",
                    f"{row.low:.4f} to {row.high:.4f}",
                    f"{row.drop:+.4f}",
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
        lines.append(self.advice)
        return "\n".join(lines)

    @property
    def advice(self) -> str:
        """What to do, in a sentence."""
        if self.best == "float":
            return (
                f"Keep float: no candidate loses at most {self.max_drop:g} of {self.kind} on these "
                f"{self.count} rows and is {FASTER - 1:.0%} faster or {1 - SMALLER:.0%} smaller."
            )
        row = next(row for row in self.rows if row.name == self.best)
        return f"Take {row.name!r}: {row.call}. {row.verdict}."

    def to_json(self) -> str:
        """The table, as data."""
        rows = [asdict(row) for row in self.rows]
        for row in rows:
            row["p"] = None if np.isnan(row["p"]) else row["p"]
        left_out = [list(pair) for pair in self.left_out]
        return json.dumps(
            {"kind": self.kind, "best": self.best, "advice": self.advice, "rows": rows,
             "left_out": left_out}
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

    Tried are bfloat16, int8 (where models can be quantized), shrinking by 25, 50 and 75 %, two low
    ranks, blocks of 16 zeros at 75 %, and clustering. Each is measured on the rows given: accuracy
    with its interval (or mean squared error), bytes as they are and zipped, time of a call at
    batch 1, 32 and 256 in turns with the model. Where none is worth it, the advice is to keep the
    model as it is. Times are those of a moment: differences of a few percent are noise.

    Args:
        model: a built functional or sequential model; it stays as it is, and so do seeds.
        x: inputs that the model was not trained on (rows, ...).
        y: their targets: classes, one-hot rows, or numbers.
        budget: seconds; candidates that are not reached are listed.
        max_drop: points of accuracy that may be lost, such as 0.01; of errors, the part by which
            they may grow.
        train: (x, y) to train shrunk, factorized and pruned candidates on for ``epochs`` before
            they are measured, with the model's own loss and optimizer; None: they are not.
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


def _searched(
    model: Any, x: Any, y: Any, end: float, max_drop: float, train: Any, epochs: int,
    known: Sequence[Candidate],
) -> Advice:  # fmt: skip
    own = score_of(model.predict(x, verbose=0), y)
    few = tree.map_structure(lambda a: np.asarray(a)[:_LARGEST_TIMED], x)
    measured: list[tuple[str, str, Score, Any, Times]] = []
    left_out: list[tuple[str, str]] = []
    slowest = 0.0
    for candidate in known:
        begun = time.monotonic()
        if begun + slowest > end and measured:
            left_out.append((candidate.name, "the budget is spent"))
            continue
        try:
            with keep_warnings():
                made = candidate.make(model)
                if candidate.trains and train is not None:
                    made.fit(*train, epochs=epochs, verbose=0)
                score = score_of(made.predict(x, verbose=0), y)
        except ValueError as error:
            left_out.append((candidate.name, str(error).partition("\n")[0][:160]))
            continue
        times = times_beside(model, made, few)
        measured.append((candidate.name, candidate.call, score, made, times))
        slowest = max(slowest, time.monotonic() - begun)
    same = dict.fromkeys(BATCHES, 1.0)
    first = measured[0][-1] if measured else times_beside(model, model, few)
    every = [("float", "model", own, model, Times(first.seconds, same, same, same)), *measured]
    sizes = [raw_bytes(made) for *_, made, _ in every]
    points = [
        (-s.value if s.kind == "accuracy" else s.value, float(size), 1 / times.speedup[32])
        for (_, _, s, _, times), size in zip(every, sizes, strict=True)
    ]
    rows = []
    for (name, call, score, made, times), size, best in zip(
        every, sizes, front(points), strict=True
    ):
        drop = own.drop_to(score)
        seconds = {b: first.seconds[b] / times.speedup[b] for b in BATCHES}
        verdict = "as it is" if made is model else _verdict(drop, max_drop, size / sizes[0], times)
        rows.append(
            Row(
                name, call, score.value, *score.interval, drop, own.p_against(score), size,
                zipped_bytes(made), seconds, times.speedup, best, verdict,
            )
        )  # fmt: skip
    good = [row for row in rows[1:] if row.verdict.startswith("pays")]
    chosen = max(good, key=_gain, default=rows[0])
    models = {name: made for name, _, _, made, _ in every}
    return Advice(own.kind, tuple(rows), tuple(left_out), chosen.name, max_drop, len(y), models)


def _gain(row: Row) -> float:
    """How much is gained: the mean logarithm of the speedups."""
    return float(np.mean(np.log([row.speedup[b] for b in BATCHES])))


def _verdict(drop: float, max_drop: float, size: float, times: Times) -> str:
    """In words. A gain of time counts where all but one of the turns show it."""
    if drop > max_drop:
        return f"loses {drop:.3f}"
    gains = {b: times.speedup[b] for b in BATCHES if times.low[b] > 1}
    fastest = max(gains, key=lambda b: gains[b], default=None)
    losses = [b for b in BATCHES if times.speedup[b] < 1 / FASTER and times.high[b] < 1]
    slower = f", but slower at batch {losses[0]}" if losses else ""
    if fastest is not None and gains[fastest] >= FASTER:
        return f"pays: {gains[fastest]:.2f}x as fast at batch {fastest}{slower}"
    if size <= SMALLER and not losses:
        return f"pays: {size:.2f} of the bytes, no faster"
    return f"no gain{slower}"


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
