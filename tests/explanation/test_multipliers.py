"""Shares of every operator sum to what it explains: a test over the registry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill.ops  # noqa: F401  (fills the registry)
from handmill.errors import NotDifferentiableError
from handmill.explanation.multipliers import along_path, has_rule, multipliers
from handmill.ir.graph import current_graph
from handmill.ir.op import REGISTRY, Op, Sample
from handmill.runtime.function import TracedFunction

# Differentiable operators without a rule: shared along a path, or refused (loops).
WITHOUT = {
    "arctan2", "cholesky", "cumprod", "det", "dropout", "eigh", "floor_divide",
    "fmod", "inv", "ldexp", "max_pool_gather", "max_pool_grad", "mod", "pinv", "power",
    "qr", "reduce_prod", "scan", "segment_max", "segment_min", "segment_prod", "slogdet",
    "softmax_cross_entropy", "solve", "solve_triangular", "sparse_softmax_cross_entropy", "switch",
    "while_loop", "softmax_grad", "log_softmax_grad", "erfc", "erfinv", "custom_gradient",
    "nextafter", "sparse_softmax_cross_entropy_grad", "softmax_cross_entropy_grad", "svd",
    "bessel_i", "lu_factor", "product_logsumexp",
    # Opened, step by step, before rules are asked for.
    "simple_rnn", "gru", "gru_before", "lstm",
    "simple_rnn_saved", "gru_saved", "gru_before_saved", "lstm_saved",
}  # fmt: skip


def shares_of(op: Op, sample: Sample, path: bool = False) -> tuple[float, float, float] | None:
    """The sum of the shares, what they ought to sum to, and the size of its terms."""
    a = [np.asarray(v) for v in sample.make(np.random.default_rng(1))]
    b = [np.asarray(v) for v in sample.make(np.random.default_rng(2))]
    floats = [i for i, v in enumerate(a) if v.dtype == np.float32 and i not in op.grad_none]
    varying = [i in floats for i in range(len(a))]
    if not floats or not (path or has_rule(op, varying)):
        return None
    b = [y if moves else x for x, y, moves in zip(a, b, varying, strict=True)]
    ys = op.reference(*a, **sample.attrs)
    draw = np.random.default_rng(3)
    dys = [
        draw.normal(size=np.shape(y)).astype(np.float32)
        for y in (ys if isinstance(ys, tuple) else (ys,))
    ]
    n, attrs = len(a), dict(sample.attrs)

    def trace(*values: Any) -> Any:
        graph = current_graph()
        assert graph is not None
        x, z, dy = values[:n], values[n : 2 * n], values[2 * n :]
        z = tuple(q if moves else p for p, q, moves in zip(x, z, varying, strict=True))
        runs = [graph.emit(op, list(v), attrs) for v in (x, z)]
        y, w = (r if isinstance(r, tuple) else (r,) for r in runs)
        if path:
            found = along_path(graph, op, attrs, x, z, dy, varying)
        else:
            found = multipliers(graph, op, attrs, x, z, y, w, dy, varying)
        made = [x[i] * 0.0 if found[i] is None else found[i] for i in floats]
        return (*made, *y, *w)

    found = TracedFunction(trace, op.name, batched=False)(*a, *b, *dys)
    found = found if isinstance(found, tuple) else (found,)
    k, m = len(floats), len(dys)
    shares, y, w = found[:k], found[k : k + m], found[k + m :]
    left = sum(
        np.sum(m.astype(np.float64) * (a[i].astype(np.float64) - b[i]))
        for m, i in zip(shares, floats, strict=True)
    )
    terms = [d * (p.astype(np.float64) - q) for d, p, q in zip(dys, y, w, strict=True)]
    return (
        float(left),
        float(sum(t.sum() for t in terms)),
        float(sum(np.abs(t).sum() for t in terms)),
    )


OPERATORS = [op for op in REGISTRY.values() if op.vjp is not None or op.composite is not None]


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.name)
def test_shares_are_complete(op: Op) -> None:
    seen = 0
    for sample in op.samples():
        if not sample.smooth or sample.bench:
            continue
        found = shares_of(op, sample)
        if found is None:
            continue
        seen += 1
        left, right, size = found
        assert abs(left - right) <= 1e-5 * size + 1e-6, sample.name
    smooth = [s for s in op.samples() if s.smooth and not s.bench]
    if smooth and not seen:
        kinds = [np.asarray(v).dtype for v in smooth[0].make(np.random.default_rng(1))]
        fused = op.name.endswith("_update") or op.name.endswith("_grad")
        assert op.name in WITHOUT or fused or np.float32 not in kinds


def test_path_stands_in_for_a_rule() -> None:
    for name in ("power", "arctan2", "softmax", "cumprod", "inv"):
        op = REGISTRY[name]
        sample = next(s for s in op.samples() if s.smooth)
        found = shares_of(op, sample, path=True)
        assert found is not None
        left, right, size = found
        assert abs(left - right) <= 1e-3 * size + 1e-6, name


def test_loop_is_refused_by_name() -> None:
    op = REGISTRY["scan"]
    with pytest.raises(NotDifferentiableError, match=r"scan has no rule .* integrated_gradients"):
        multipliers(None, op, {}, (), (), (), (), (None,), ())  # type: ignore[arg-type]
