"""Tokens chosen from logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import same
from handmill.ir.op import Array, Attrs, Exact, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.primitives.samples import given, name_of

_LARGEST = 2.0**32


def _infer(logits: Spec, u: Spec, settings: Spec) -> Spec:
    operands = {"logits": logits, "u": u, "settings": settings}
    if any(spec.dtype != "float32" for spec in operands.values()):
        raise shape_error("choose_token", "float32 was expected", operands)
    if len(logits.shape) != 2 or len(u.shape) != 2 or settings.shape != (3,):
        raise shape_error("choose_token", "logits (B, V), u (B, 2), settings (3,)", operands)
    if not same(logits.shape[0], u.shape[0]) or u.shape[1] != 2:
        raise shape_error("choose_token", "two numbers for each row were expected", operands)
    return Spec(logits.shape[:1], "int32")


def _reference(logits: Array, u: Array, settings: Array) -> Array:
    rows = [_chosen(row, pair, settings) for row, pair in zip(logits, u, strict=True)]
    return np.array(rows, np.int32)


def _chosen(x: Array, u: Array, settings: Array) -> int:
    temperature, k, p = (float(n) for n in settings)
    best = int(np.argmax(x))
    if not np.isfinite(x[best]):  # NaN wins argmax
        return -1
    if k <= 1:
        return best
    with np.errstate(over="ignore", invalid="ignore"):
        weights = np.exp((x - x[best]) / x.dtype.type(temperature)) * x.dtype.type(_LARGEST)
    whole = weights.astype(np.int64)
    order = np.argsort(-x, kind="stable")  # equal logits: the lower token first
    kept = order[: int(min(k, len(x)))]
    if p < 1:
        before = np.cumsum(whole[order]) - whole[order]
        share = int(p * float(whole.sum()))
        kept = kept[: np.count_nonzero(before[: len(kept)] <= share)]
    kept = np.sort(kept)
    sums = np.cumsum(whole[kept])
    number = float(u[0]) + float(u[1]) * 2.0**-24
    wanted = int(number * float(sums[-1]))
    return int(kept[np.searchsorted(sums, wanted, side="right")])


def _samples() -> Iterable[Sample]:
    rng = np.random.default_rng(7)
    for shape, settings in (
        ((1, 1), (1.0, 5.0, 1.0)),
        ((3, 17), (1.0, 1.0, 1.0)),
        ((4, 16), (0.7, 16.0, 1.0)),
        ((5, 65), (1.0, 5.0, 1.0)),
        ((5, 65), (2.0, 65.0, 0.4)),
        ((7, 130), (0.9, 40.0, 0.8)),
        ((2, 4099), (1.0, 5.0, 1.0)),
        ((2, 5000), (3.0, 256.0, 1.0)),
        ((0, 3), (1.0, 2.0, 1.0)),
    ):
        logits = rng.normal(0, 3, shape).astype(np.float32)
        name = f"{name_of(shape)}_k{settings[1]:g}_p{settings[2]:g}"
        yield Sample(name, _with(logits, settings, rng), smooth=False)
    ties = np.array([[1, 3, 3, 0, 3], [2, 2, 2, 2, 2], [0, -np.inf, -0.0, 0, 0]], np.float32)
    yield Sample("ties", _with(ties, (1.0, 2.0, 1.0), rng), smooth=False)
    yield Sample("ties_p", _with(ties, (1.0, 5.0, 0.5), rng), smooth=False)
    # More ties than there is room for, and fewer.
    many = np.stack([np.zeros(4100), np.arange(4100) % 41]).astype(np.float32)
    yield Sample("many_ties", _with(many, (1.0, 7.0, 1.0), rng), smooth=False)
    refused = np.array([[1, np.nan], [-np.inf, -np.inf], [np.inf, 0], [-np.inf, 3]], np.float32)
    yield Sample("refused", _with(refused, (1.0, 2.0, 1.0), rng), smooth=False)
    large = rng.normal(0, 3, (8, 50257)).astype(np.float32)
    yield Sample("bench", _with(large, (1.0, 5.0, 1.0), rng), smooth=False, bench=True)


def _with(logits: Array, settings: Sequence[float], rng: np.random.Generator) -> Any:
    u = (rng.integers(0, 1 << 24, (len(logits), 2)) * 2.0**-24).astype(np.float32)
    return given(logits, u, np.array(settings, np.float32))


def _native(specs: Sequence[Spec], attrs: Attrs) -> bool:
    return True


# A token of each row of logits (B, V), drawn by two numbers of 24 bits each (B, 2); -1 where no
# logit is finite, or one is NaN or +inf. settings: temperature; how many of the likeliest tokens
# are kept (1: the likeliest, nothing is drawn); and of these those whose probability before them,
# likeliest first, is at most p.
CHOOSE_TOKEN: Op = register(
    Op(
        "choose_token",
        infer=_infer,
        reference=_reference,
        samples=_samples,
        bound=Exact(),
        kernel="choose_token",
        native=_native,
        grad_none=(0, 1, 2),
    )
)
