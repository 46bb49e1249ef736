"""Attention: averages of values by the softmax of scores, without a matrix of scores in memory.

Queries are ``(B, T, N, H)``, keys ``(B, S, K, H)``, values ``(B, S, K, V)``; head n of the queries
reads head ``n // (N // K)`` of keys and values. The operands after them are there where attributes
say so: ``mask`` (bool, four dimensions that broadcast to (B, N, T, S)), ``lengths`` and ``start``
(int32, (B,)), ``rows`` (int32, (B, S): of which row each key and value is read; what lies beyond is
the nearest row), and the seed state where ``rate`` is not 0. ``window`` 0 is none.

What is kept for the gradient are, of each row, its largest score m and 1 / sum of exp(s - m): the
weights are then computed again from the argument that exp had, where one logarithm of a sum would
lose a unit of its own size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import same
from handmill.ir.op import EPS32, Array, Attrs, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives import channels
from handmill.primitives.philox import philox_words

OPTIONS = ("mask", "lengths", "start", "rows")


def _check(name: str, q: Spec, k: Spec, v: Spec, *more: Spec, **attrs: Any) -> None:
    given = {"query": q, "key": k, "value": v}
    if any(len(x.shape) != 4 for x in given.values()):
        raise shape_error(name, "four dimensions were expected", given)
    pairs = [(q, k, 0), (k, v, 0), (k, v, 1), (k, v, 2), (q, k, 3)]
    if not all(same(x.shape[a], y.shape[a]) for x, y, a in pairs):
        raise shape_error(name, "(B, T, N, H), (B, S, K, H), (B, S, K, V) were expected", given)
    if not 0 <= attrs["rate"] < 1:
        raise shape_error(name, f"`rate` must be in [0, 1), got rate={attrs['rate']}", given)
    wanted = sum(attrs[option] for option in OPTIONS) + (attrs["rate"] > 0)
    if len(more) != wanted:
        raise shape_error(name, f"{wanted} operands beside these were expected", given)
    others = iter(more)
    if attrs["mask"]:
        mask, wide = next(others), (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
        fits = len(mask.shape) == 4 and all(
            m == 1 or same(m, d) for m, d in zip(mask.shape, wide, strict=True)
        )
        if not fits or mask.dtype != "bool":
            problem = f"a bool mask that broadcasts to (B, N, T, S) = {wide} was expected"
            raise shape_error(name, problem, {**given, "mask": mask})
    for option in ("lengths", "start"):
        if attrs[option]:
            each = next(others)
            if each.dtype != "int32" or len(each.shape) != 1 or not same(each.shape[0], q.shape[0]):
                problem = f"`{option}` of the dtype int32 and of shape (B,) was expected"
                raise shape_error(name, problem, {**given, option: each})
    if attrs["rows"]:
        rows = next(others)
        fits = len(rows.shape) == 2 and all(map(same, rows.shape, k.shape))
        if not fits or rows.dtype != "int32":
            problem = "`rows` of the dtype int32 and of shape (B, S) was expected"
            raise shape_error(name, problem, {**given, "rows": rows})


def _infer(q: Spec, k: Spec, v: Spec, *more: Spec, **attrs: Any) -> tuple[Spec, Spec]:
    _check("attention", q, k, v, *more, **attrs)
    return Spec((*q.shape[:3], v.shape[3]), q.dtype), Spec((*q.shape[:3], 2), q.dtype)


def _grad_infer(
    q: Spec, k: Spec, v: Spec, y: Spec, stats: Spec, dy: Spec, *more: Spec, **attrs: Any
) -> tuple[Spec, Spec, Spec]:
    _check("attention_grad", q, k, v, *more, **attrs)
    return q, k, v


class _Scores:
    """Scores of all queries and keys, which is seen, and what dropout makes of the weights."""

    def __init__(self, q: Array, k: Array, v: Array, more: Sequence[Array], attrs: Attrs) -> None:
        (b, t, n, _), (_, s, heads, _) = q.shape, k.shape
        self.heads, self.times = heads, n // max(heads, 1)
        # What nobody sees is not multiplied: NaN may stand there.
        given = iter(more)
        seen: Any = np.ones((b, n, t, s), bool)
        if attrs["mask"]:
            seen = seen & next(given).astype(bool)
        places = np.arange(t)[:, None]
        if attrs["lengths"]:
            seen = seen & (np.arange(s) < next(given)[:, None, None, None])
        if attrs["start"]:
            places = next(given)[:, None, None, None] + places
        if attrs["rows"]:
            rows = np.clip(next(given), 0, b - 1).astype(np.int64)
            k, v = k[rows, np.arange(s)], v[rows, np.arange(s)]
        ahead = np.arange(s) - places
        if attrs["causal"]:
            seen = seen & (ahead <= 0)
        if attrs["window"]:
            seen = seen & (np.abs(ahead) < attrs["window"])
        self.seen = seen
        shown = seen.any((1, 2))[:, :, None, None]
        zero = np.zeros((), q.dtype)
        self.rows = np.moveaxis(seen.any(3), 1, 2)[..., None]
        self.q = np.where(self.rows, q, zero) * q.dtype.type(attrs["scale"])
        self.k, self.v = np.where(shown, k, zero), np.where(shown, v, zero)
        self.scores = np.einsum("btnh,bsnh->bnts", self.q, self.wide(self.k))
        self.kept: Array = np.ones((), q.dtype)
        if attrs["rate"]:
            state = next(given)
            words = philox_words(int(state[0]), int(state[1]), b * n * t * s).reshape(seen.shape)
            keep = words >= np.uint32(int(attrs["rate"] * 2**32))
            scale = np.float32(1 / (1 - attrs["rate"])).astype(q.dtype)
            self.kept = np.where(keep, scale, zero)

    def wide(self, x: Array) -> Array:
        """One head of keys or values for each head of queries."""
        return np.repeat(x, self.times, axis=2)

    def narrow(self, x: Array) -> Array:
        """The sum over the heads of queries that share a head of keys."""
        b, s, _, width = x.shape
        summed: Array = x.reshape(b, s, self.heads, self.times, width).sum(3)
        return summed


def _reference(q: Array, k: Array, v: Array, *more: Array, **attrs: Any) -> tuple[Array, Array]:
    x = _Scores(q, k, v, more, attrs)
    scores = np.where(x.seen, x.scores, -np.inf)
    top = scores.max(axis=3, initial=-np.inf)
    some = x.seen.any(3)
    top = np.where(some, top, np.zeros((), q.dtype))
    e = np.where(x.seen, np.exp(scores - top[..., None]), np.zeros((), q.dtype))
    total = e.sum(3)
    inverse = np.where(some, 1 / np.where(some, total, 1), np.zeros((), q.dtype))
    y = np.einsum("bnts,bsnv->btnv", e * x.kept, x.wide(x.v))
    y = y * np.moveaxis(inverse, 1, 2)[..., None]
    stats = np.moveaxis(np.stack([top, inverse], axis=-1), 1, 2)
    return y.astype(q.dtype), stats.astype(q.dtype)


def _grad_reference(
    q: Array, k: Array, v: Array, y: Array, stats: Array, dy: Array, *more: Array, **attrs: Any
) -> tuple[Array, Array, Array]:
    x = _Scores(q, k, v, more, attrs)
    zero = np.zeros((), q.dtype)
    dy = np.where(x.rows, dy, zero)
    top, inverse = np.moveaxis(stats, 3, 0).swapaxes(2, 3)
    p = np.where(x.seen, np.exp(x.scores - top[..., None]), zero) * inverse[..., None]
    dp = np.einsum("btnv,bsnv->bnts", dy, x.wide(x.v)) * x.kept
    d = np.einsum("btnv,btnv->bnt", dy, np.where(x.rows, y, zero))
    ds = np.where(x.seen, p * (dp - d[..., None]), zero)
    dq = np.einsum("bnts,bsnh->btnh", ds, x.wide(x.k)) * q.dtype.type(attrs["scale"])
    dk = x.narrow(np.einsum("bnts,btnh->bsnh", ds, x.q))
    dv = x.narrow(np.einsum("bnts,btnv->bsnv", p * x.kept, dy))
    return dq.astype(q.dtype), dk.astype(q.dtype), dv.astype(q.dtype)


def _vjp(inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> Any:
    dy, dstats = dys
    if dstats is not None:
        raise shape_error(
            "attention", "what is kept for the gradient has none itself", {"stats": outputs[1].spec}
        )
    q, k, v, *more = inputs
    none = [None] * len(more)
    if not attrs["rows"]:
        return (*apply(ATTENTION_GRAD, q, k, v, *outputs, dy, *more, **attrs), *none)
    from handmill.ops.nn.attention import rows_added, rows_taken

    rows = more.pop(sum(attrs[option] for option in OPTIONS[:-1]))
    k, v = (rows_taken(x, rows) for x in (k, v))
    attrs = {**attrs, "rows": False}
    dq, dk, dv = apply(ATTENTION_GRAD, q, k, v, *outputs, dy, *more, **attrs)
    return (dq, rows_added(dk, rows), rows_added(dv, rows), *none)


def _composite(q: Any, k: Any, v: Any, *more: Any, **attrs: Any) -> Any:
    from handmill.ops.nn.attention import outcome

    return outcome((q, k, v), more, attrs)


def _grad_composite(
    q: Any, k: Any, v: Any, y: Any, stats: Any, dy: Any, *more: Any, **attrs: Any
) -> Any:
    # What was kept follows from q and k: the derivative goes through them.
    from handmill.ops.nn.attention import gradients

    return gradients((q, k, v), dy, more, attrs)


class _Errors:
    """What the errors of both directions are made of, for one row of scores each."""

    def __init__(self, inputs: Sequence[Array], more: Sequence[Array], attrs: Attrs) -> None:
        q, k, v = (np.abs(x) for x in inputs[:3])
        x = self.of = _Scores(inputs[0], inputs[1], inputs[2], more, attrs)
        size = _Scores(q, k, v, more, attrs)
        self.q, self.k, self.v = size.q, size.wide(size.k), size.wide(size.v)
        width, s = q.shape[3], k.shape[1]
        scores = np.where(x.seen, x.scores, -np.inf)
        top = np.where(x.seen.any(3), scores.max(3, initial=-np.inf), 0.0)[..., None]
        # A score: its products and sums, and the scale; twice where fma is two roundings. That of
        # the largest comes off it, and the difference rounds.
        sums = np.where(x.seen, (2 * width + 4) * size.scores, 0.0)
        self.score = sums.max(3, initial=0.0) * EPS32
        ahead = np.where(x.seen, np.abs(scores - top), 0.0)
        own = (sums + ahead).max(3, initial=0.0)
        # Of a weight: twice that of its exponent, 2 units of exp, the sum of S of them with a
        # rescaling each 256, the division.
        self.weight = (2 * own * EPS32 + self.score + (s + s / 128 + 12) * EPS32) * 2
        e = np.where(x.seen, np.exp(scores - top), 0.0)
        self.p = e / np.maximum(e.sum(3, keepdims=True), 1e-300)


class _OutputBound:
    """Of y: the errors of weights and of the sum over keys. Twice, for terms of second order."""

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        e = _Errors(inputs, inputs[3:], attrs)
        terms = e.p * e.of.kept * (e.weight + 2 * inputs[1].shape[1] * EPS32)[..., None]
        bound: Array = 2 * np.einsum("bnts,bsnv->btnv", terms, e.v) + 1e-44
        return bound


class _StatsBound:
    """Of the largest score: its own error; of the inverse sum: that of a weight."""

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        e = _Errors(inputs, inputs[3:], attrs)
        kinds = [np.moveaxis(x, 1, 2) for x in (e.score, e.weight)]
        return np.stack([2 * kinds[0], 2 * kinds[1] * np.abs(want[..., 1])], axis=-1)


class _GradBound:
    """Of dq, dk or dv: ``|ds| <= p (|dp| + |d|)``, with the errors of weights and of all sums."""

    def __init__(self, position: int) -> None:
        self.position = position

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        e = _Errors(inputs, inputs[6:], attrs)
        t, s, width = inputs[0].shape[1], inputs[1].shape[1], inputs[2].shape[3]
        dy = np.where(e.of.rows, np.abs(inputs[5]), 0.0)
        dp = np.einsum("btnv,bsnv->bnts", dy, e.v) * e.of.kept
        ds = e.p * (dp + (e.p * dp).sum(3, keepdims=True))
        rows = t * e.of.times
        # The products of dp and d, the weights in both, and the last sum.
        sums = (4 * width + 4 * s + 4 * rows + 16) * EPS32
        bound: Any
        error = ds * (3 * e.weight + sums)[..., None]
        if self.position == 0:
            bound = np.einsum("bnts,bsnh->btnh", error, e.k) * abs(attrs["scale"])
        elif self.position == 1:
            bound = e.of.narrow(np.einsum("bnts,btnh->bsnh", error, e.q))
        else:
            weights = e.p * e.of.kept * (e.weight + sums)[..., None]
            bound = e.of.narrow(np.einsum("bnts,btnv->bsnv", weights, dy))
        widest: Array = 2 * bound + 1e-44
        return widest


PLAIN: Attrs = {
    "causal": False,
    "window": 0,
    "scale": 0.3125,  # exact in float32, as constants of a graph are
    "rate": 0.0,
    "mask": False,
    "lengths": False,
    "start": False,
    "rows": False,
}


def _case(sizes: tuple[int, ...], mask: tuple[int, ...] | None, attrs: Attrs) -> Any:
    """A maker of operands of sizes B, T, S, N, K, H, V."""
    b, t, s, n, k, h, v = sizes

    def make(rng: np.random.Generator) -> tuple[Array, ...]:
        shapes = ((b, t, n, h), (b, s, k, h), (b, s, k, v))
        arrays: list[Any] = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
        if mask is not None:
            arrays.append(rng.random(mask) < 0.6)
        if attrs["lengths"]:
            arrays.append(rng.integers(0, s + 1, b).astype(np.int32))
        if attrs["start"]:
            arrays.append(rng.integers(0, max(s - t, 0) + 1, b).astype(np.int32))
        if attrs["rows"]:
            arrays.append(rng.integers(-1, b + 1, (b, s)).astype(np.int32))
        if attrs["rate"]:
            arrays.append(np.array([1234567890123, 7], np.int64))
        return tuple(arrays)

    return make


def _samples(change: Any = None) -> Iterable[Sample]:
    def sample(name: str, sizes: Any, mask: Any = None, bench: bool = False, **more: Any) -> Sample:
        attrs = {**PLAIN, "mask": mask is not None, **more}
        if change is not None:
            attrs["rows"] = False
        make = _case(sizes, mask, attrs)
        make = make if change is None else change(make, attrs)
        return Sample(name, make, attrs, smooth=False, bench=bench)

    yield sample("one", (1, 1, 1, 1, 1, 1, 1))
    yield sample("odd", (2, 5, 7, 2, 2, 9, 5))
    yield sample("grouped", (2, 13, 21, 6, 2, 8, 16), causal=True)
    yield sample("blocks", (1, 70, 300, 2, 1, 16, 20), causal=True, start=True, lengths=True)
    yield sample("long", (1, 9, 530, 1, 1, 20, 8), window=270, start=True)
    yield sample("window", (1, 40, 40, 1, 1, 24, 24), causal=True, window=7)
    yield sample("band", (2, 33, 29, 2, 2, 4, 4), window=5)
    yield sample("mask", (2, 19, 35, 2, 2, 12, 12), (2, 2, 19, 35))
    yield sample("mask_of_keys", (3, 7, 18, 4, 2, 8, 8), (3, 1, 1, 18), causal=True)
    yield sample("mask_of_queries", (2, 7, 9, 1, 1, 8, 8), (1, 1, 7, 1))
    yield sample("dropout", (2, 21, 33, 2, 1, 16, 16), rate=0.3, causal=True)
    yield sample("dropout_mask", (1, 6, 270, 2, 2, 8, 8), (1, 1, 6, 270), rate=0.5, lengths=True)
    yield sample("rows", (3, 1, 70, 2, 2, 16, 16), rows=True, causal=True, start=True)
    yield sample("rows_grouped", (2, 5, 300, 4, 2, 9, 8), rows=True)
    everything: Attrs = {"causal": True, "window": 9, "lengths": True, "start": True, "rate": 0.2}
    everything["rows"] = True
    yield sample("everything", (2, 8, 24, 2, 1, 8, 8), (2, 1, 8, 24), **everything)
    yield sample("no_keys", (2, 3, 0, 1, 1, 4, 4))
    yield sample("no_queries", (2, 0, 3, 1, 1, 4, 4))
    yield sample("bench_128", (16, 128, 128, 4, 4, 32, 32), causal=True, bench=True)
    yield sample("bench_1024", (1, 1024, 1024, 12, 12, 64, 64), causal=True, bench=True)


def _with_gradient(make: Any, attrs: Attrs) -> Any:
    def made(rng: np.random.Generator) -> tuple[Array, ...]:
        q, k, v, *more = make(rng)
        y, stats = map(np.ascontiguousarray, _reference(q, k, v, *more, **attrs))
        dy = np.asarray(rng.normal(size=y.shape), np.float32)
        return q, k, v, y, stats, dy, *more

    return made


def _native(floats: int) -> Any:
    def native(specs: Sequence[Spec], attrs: Attrs) -> bool:
        dtypes = {"mask": "bool", "rate": "int64"}
        wanted = [(dtypes.get(option, "int32"), option) for option in (*OPTIONS, "rate")]
        others = [dtype for dtype, option in wanted if attrs[option]]
        return [s.dtype for s in specs] == ["float32"] * floats + others

    return native


def _flops(products: int) -> Any:
    def flops(inputs: Sequence[Spec], outputs: Sequence[Spec], attrs: Attrs) -> int:
        b, t, n, h = inputs[0].shape
        whole: Any = products * b * t * n * inputs[1].shape[1] * h
        return int(whole) // (2 if attrs["causal"] else 1)

    return flops


ATTENTION: Op = register(
    Op(
        "attention",
        infer=_infer,
        reference=_reference,
        samples=_samples,
        bound=(_OutputBound(), _StatsBound()),
        vjp=_vjp,
        composite=_composite,
        channels=channels.attended,
        kernel="attention",
        native=_native(3),
        flops=_flops(4),
        grad_none=(3, 4, 5, 6, 7),
    )
)

ATTENTION_GRAD: Op = register(
    Op(
        "attention_grad",
        infer=_grad_infer,
        reference=_grad_reference,
        samples=lambda: _samples(_with_gradient),
        bound=(_GradBound(0), _GradBound(1), _GradBound(2)),
        composite=_grad_composite,
        kernel="attention_grad",
        native=_native(6),
        flops=_flops(10),
        grad_none=(6, 7, 8, 9),
    )
)
