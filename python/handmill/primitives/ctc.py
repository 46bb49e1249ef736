"""The labels that outputs of CTC spell. Runs in NumPy: no kernel.

At each step a sequence says one of the classes, or nothing (the blank). Steps that repeat the one
before are joined, blanks left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.op import Array, Exact, Op, Sample, Ulp, never_native, register
from handmill.ir.shapes import Spec

NOTHING = -1
"""What stands behind the labels of a sequence."""


def _infer(x: Spec, lengths: Spec, *, paths: int, **_: Any) -> tuple[Spec, Spec]:
    if x.rank != 3 or lengths.rank != 1:
        raise shape_error(
            "ctc_decode",
            "expected outputs of shape (batch, steps, classes) and lengths of shape (batch,)",
            {"inputs": x, "sequence_lengths": lengths},
        )
    batch, steps = x.shape[:2]
    return Spec((paths, batch, steps), "int32"), Spec((batch, paths), x.dtype)


def _decode(
    x: Array, lengths: Array, *, width: int, paths: int, merge: bool, blank: int
) -> tuple[Array, Array]:
    batch, steps = x.shape[:2]
    labels = np.full((paths, batch, steps), NOTHING, np.int32)
    scores = np.full((batch, paths), -np.inf if width else 0.0)
    wide = x.astype(np.float64)
    for b, count in enumerate(np.clip(lengths, 0, steps)):
        rows = wide[b, :count]
        found = search(rows, width, paths, blank) if width else [say(rows, merge, blank)]
        for place, (said, score) in enumerate(found):
            labels[place, b, : len(said)] = said
            scores[b, place] = score
    return labels, scores.astype(x.dtype)


def say(rows: Array, merge: bool, blank: int) -> tuple[list[int], float]:
    """The best class of each step, and the negative sum of what it has."""
    if not rows.size:
        return [], 0.0
    best = rows.argmax(-1)
    kept = best != blank
    if merge:
        kept[1:] &= best[1:] != best[:-1]
    return best[kept].tolist(), -float(rows.max(-1).sum())


def search(rows: Array, width: int, paths: int, blank: int) -> list[tuple[tuple[int, ...], float]]:
    """The most probable labels among those that stayed among the ``width`` best at each step.

    Each labels' probability is kept in two parts: of the ways that end with a blank, after which
    its last label may be said again, and of those that do not.

    Returns:
        Labels and the logarithms of their probabilities, the best first; of equal ones, those that
        name the smaller classes first.
    """
    top = rows.max(-1, keepdims=True, initial=-np.inf)
    chances = rows - top - np.log(np.exp(rows - top).sum(-1, keepdims=True))
    if np.isnan(chances).any():  # of NaN and infinite logits
        return [((), np.nan)] * paths
    known: list[tuple[int, ...]] = [()]
    quiet, loud = np.zeros(1), np.full(1, -np.inf)
    for chance in chances:
        both = np.logaddexp(quiet, loud)
        last = np.array([said[-1] if said else blank for said in known])
        grown = both[:, None] + chance
        named = np.flatnonzero(last != blank)
        grown[named, last[named]] = quiet[named] + chance[last[named]]
        grown[:, blank] = -np.inf
        place = {said: i for i, said in enumerate(known)}
        quiet, stays = both + chance[blank], loud + chance[last]
        for i in named:  # what becomes labels that are known already
            parent = place.get(known[i][:-1])
            if parent is not None:
                stays[i] = np.logaddexp(stays[i], grown[parent, last[i]])
                grown[parent, last[i]] = -np.inf
        totals = np.concatenate([np.logaddexp(quiet, stays), grown.ravel()])
        enough = np.partition(totals, -width)[-width] if totals.size > width else -np.inf
        chosen = [
            (totals[i], known[i], quiet[i], stays[i])
            if i < len(known)
            else (
                totals[i],
                (*known[(i - len(known)) // len(chance)], (i - len(known)) % len(chance)),
                -np.inf,
                totals[i],
            )
            for i in np.flatnonzero((totals >= enough) & (totals > -np.inf))
        ]
        chosen.sort(key=_rank)
        known = [said for _, said, _, _ in chosen[:width]]
        quiet = np.array([q for *_, q, _ in chosen[:width]])
        loud = np.array([q for *_, q in chosen[:width]])
    totals = np.logaddexp(quiet, loud)
    ranked = sorted(zip(totals.tolist(), known, strict=True), key=_rank)
    return [(said, score) for score, said in ranked[:paths]]


def _rank(candidate: tuple[Any, ...]) -> tuple[float, tuple[float, ...]]:
    # Behind the smaller classes comes, as the last, that nothing more is said.
    return -candidate[0], (*candidate[1], np.inf)


def _samples() -> Iterable[Sample]:
    def make(rng: np.random.Generator) -> tuple[Array, ...]:
        return rng.normal(size=(4, 6, 3)).astype(np.float32), np.array([6, 4, 1, 0], np.int32)

    greedy: dict[str, Any] = {"width": 0, "paths": 1, "merge": True, "blank": 0}
    yield Sample("greedy", make, greedy, smooth=False)
    yield Sample("repeated", make, {**greedy, "merge": False, "blank": 2}, smooth=False)
    yield Sample("beams", make, {**greedy, "width": 5, "paths": 2}, smooth=False)


CTC_DECODE = register(
    Op(
        "ctc_decode",
        infer=_infer,
        reference=_decode,
        samples=_samples,
        bound=(Exact(), Ulp(0.5)),
        native=never_native,
    )
)
