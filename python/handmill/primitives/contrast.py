"""Log-sums of exponentials of all products of two sets of rows, and what leads back from them.

Contrastive losses compare each row with all others: ``s[i, j] = sum_d a[i, d] b[j, d]``, as many
numbers as the square of the batch. The kernels compute them block by block and keep none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import same
from handmill.ir.op import Accumulate, Array, Attrs, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.emit import equal, exp, matmul, reshape, where
from handmill.primitives.operands import Tensor, promote
from handmill.primitives.samples import name_of
from handmill.primitives.sizes import places


def _check_rows(name: str, a: Spec, b: Spec, skip_diagonal: bool) -> None:
    fits = a.rank == b.rank == 2 and a.is_float and a.dtype == b.dtype
    if not fits or not same(a.shape[1], b.shape[1]):
        raise shape_error(name, "floats (N, D) and (M, D) were expected", {"a": a, "b": b})
    if skip_diagonal and not same(a.shape[0], b.shape[0]):
        raise shape_error(name, "as many rows in both were expected", {"a": a, "b": b})


def _infer(a: Spec, b: Spec, *, skip_diagonal: bool) -> Spec:
    _check_rows("product_logsumexp", a, b, skip_diagonal)
    return Spec(a.shape[:1], a.dtype)


def _products(a: Array, b: Array, skip_diagonal: bool) -> Array:
    s = np.asarray(np.matmul(a, b.T))
    if skip_diagonal:
        np.fill_diagonal(s, -np.inf)
    return s


def _reference(a: Array, b: Array, *, skip_diagonal: bool) -> Array:
    s = _products(a, b, skip_diagonal)
    if s.shape[1] == 0:
        return np.full(s.shape[0], -np.inf, s.dtype)
    top = np.max(s, axis=1, keepdims=True)
    top = np.where(top == -np.inf, np.zeros_like(top), top)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.sum(np.exp(s - top), axis=1)) + top[:, 0])


def _vjp(inputs: Any, outputs: Any, dys: Any, *, skip_diagonal: bool) -> Any:
    (a, b), (y,), (dy,) = inputs, outputs, dys
    if a is b:  # one product less: s is its own transpose
        attrs = {"rows": True, "columns": True, "skip_diagonal": skip_diagonal}
        return apply(PRODUCT_LOGSUMEXP_GRAD, a, a, dy, y, dy, y, **attrs), None
    attrs = {"skip_diagonal": skip_diagonal}
    return (
        apply(PRODUCT_LOGSUMEXP_GRAD, a, b, dy, y, rows=True, columns=False, **attrs),
        apply(PRODUCT_LOGSUMEXP_GRAD, b, a, dy, y, rows=False, columns=True, **attrs),
    )


def _terms(inputs: Sequence[Array], attrs: Attrs) -> int:
    return int(inputs[0].shape[1]) + int(inputs[1].shape[0]) + 6


def _magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    # The error of the largest product, carried over; the sum's relative one is absolute in its
    # logarithm.
    size = np.abs(inputs[0]) @ np.abs(inputs[1]).T
    largest = np.max(size, axis=1) if size.shape[1] else np.zeros(len(size))
    return np.asarray(largest + 1 + np.log1p(size.shape[1]))


_SHAPES = ((1, 1, 1), (5, 3, 2), (17, 33, 15), (64, 64, 16), (7, 300, 40), (130, 129, 65))


def _rows(rng: np.random.Generator, *shape: int) -> Array:
    return rng.normal(0, 2 / np.sqrt(max(1, shape[-1])), shape).astype(np.float32)


def _samples() -> Iterable[Sample]:
    for n, m, d in _SHAPES:

        def make(rng: np.random.Generator, n: int = n, m: int = m, d: int = d) -> Any:
            return _rows(rng, n, d), _rows(rng, m, d)

        yield Sample(name_of((n, m, d)), make, {"skip_diagonal": False})
    for n, d in ((2, 3), (33, 8), (150, 20), (1, 4)):

        def both(rng: np.random.Generator, n: int = n, d: int = d) -> Any:
            return _rows(rng, n, d), _rows(rng, n, d)

        yield Sample(f"{n}x{d}_others", both, {"skip_diagonal": True}, smooth=n > 1)
    for n, m, d in ((0, 4, 3), (4, 0, 3), (3, 5, 0)):

        def empty(rng: np.random.Generator, n: int = n, m: int = m, d: int = d) -> Any:
            return np.ones((n, d), np.float32), np.ones((m, d), np.float32)

        yield Sample(name_of((n, m, d)), empty, {"skip_diagonal": False}, smooth=False)

    def far(rng: np.random.Generator) -> Any:
        return 30 * _rows(rng, 40, 9), 30 * _rows(rng, 160, 9)

    yield Sample("far", far, {"skip_diagonal": False}, smooth=False)

    def special(rng: np.random.Generator) -> Any:
        a = _rows(rng, 4, 3)
        a[1, 1], a[2, 0] = np.nan, np.inf
        return a, np.abs(_rows(rng, 140, 3))

    yield Sample("special", special, {"skip_diagonal": False}, smooth=False)

    def bench(rng: np.random.Generator) -> Any:
        return _rows(rng, 1024, 128), _rows(rng, 1024, 128)

    yield Sample("bench", bench, {"skip_diagonal": True}, smooth=False, bench=True)


# y_i = log sum_j exp(s_ij), s = a b^T, perhaps without j = i.
PRODUCT_LOGSUMEXP: Op = register(
    Op(
        "product_logsumexp",
        infer=_infer,
        reference=_reference,
        samples=_samples,
        bound=Accumulate(_terms, _magnitude),
        vjp=_vjp,
        kernel="product_logsumexp",
        flops=lambda inputs, outputs, attrs: (
            inputs[0].shape[0] * inputs[1].shape[0] * (2 * inputs[0].shape[1] + 20)
        ),
    )
)


def _softmax_infer(
    x: Spec, y: Spec, *rest: Spec, rows: bool, columns: bool, skip_diagonal: bool
) -> Spec:
    _check_rows("product_logsumexp_grad", x, y, skip_diagonal)
    sizes = [x.shape[0]] * (2 * rows) + [y.shape[0]] * (2 * columns)
    given = [spec.shape for spec in rest]
    fits = len(given) == len(sizes) and (rows or columns)
    if not fits or not all(
        len(s) == 1 and same(s[0], n) for s, n in zip(given, sizes, strict=True)
    ):
        raise shape_error(
            "product_logsumexp_grad",
            "a factor and a shift for each row, or each column, were expected",
            {"x": x, "y": y} | {f"operand {i}": spec for i, spec in enumerate(rest, 2)},
        )
    return x


def _weights(s: Array, rest: Sequence[Array], attrs: Attrs) -> list[tuple[Array, Array]]:
    """The terms of w: the exponents, and what they are multiplied by."""
    found = []
    if attrs["rows"]:
        found.append((s - rest[1][:, None], rest[0][:, None]))
    if attrs["columns"]:
        factor, shift = rest[-2:]
        found.append((s - shift, factor[None, :]))
    return found


def _softmax_reference(x: Array, y: Array, *rest: Array, **attrs: Any) -> Array:
    s = _products(x, y, attrs["skip_diagonal"])
    w = np.zeros_like(s)
    for exponent, factor in _weights(s, rest, attrs):
        w = w + np.where(s == -np.inf, np.zeros_like(s), np.exp(exponent) * factor)
    return np.asarray(w @ y)


def _softmax_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    x, y, *rest = inputs
    s = _products(x, y, attrs["skip_diagonal"])
    size = np.abs(x) @ np.abs(y).T
    w = np.zeros_like(s)
    for exponent, factor in _weights(s, rest, attrs):
        inside = np.where(s == -np.inf, 0.0, exponent)
        weight = np.where(s == -np.inf, 0.0, np.exp(inside) * np.abs(factor))
        w = w + weight * (1 + size + np.abs(inside))
    return np.asarray(w @ np.abs(y))


def _softmax_composite(x: Any, y: Any, *rest: Any, **attrs: Any) -> Any:
    n, m = x.shape[0], y.shape[0]
    s = matmul(x, y, transpose_b=True)
    if attrs["skip_diagonal"]:
        s = where(equal(*places(n, m)), np.asarray(-np.inf, np.float32), s)
    w = None
    if attrs["rows"]:
        w = exp(s - reshape(rest[1], (n, 1))) * reshape(rest[0], (n, 1))
    if attrs["columns"]:
        factor, shift = rest[-2:]
        by_column = exp(s - reshape(shift, (1, m))) * reshape(factor, (1, m))
        w = by_column if w is None else w + by_column
    return matmul(w, y)


def _softmax_samples() -> Iterable[Sample]:
    cases = [(n, m, d, r, c, False) for n, m, d in _SHAPES for r, c in ((1, 0), (0, 1))]
    cases += [(n, n, d, 1, 1, True) for n, d in ((2, 3), (33, 8), (150, 65))]
    cases += [(0, 4, 3, 1, 0, False), (4, 0, 3, 0, 1, False), (3, 5, 0, 1, 1, False)]
    cases += [(1024, 1024, 128, 1, 1, True)]
    for n, m, d, rows, columns, skip in cases:
        attrs = {"rows": bool(rows), "columns": bool(columns), "skip_diagonal": skip}

        def make(
            rng: np.random.Generator, n: int = n, m: int = m, d: int = d, attrs: Attrs = attrs
        ) -> Any:
            x, y = _rows(rng, n, d), _rows(rng, m, d)
            found = [x, y]
            for one, other, wanted in ((x, y, attrs["rows"]), (y, x, attrs["columns"])):
                if wanted:
                    factor = rng.normal(size=len(one)).astype(np.float32)
                    skip = attrs["skip_diagonal"]
                    found += [factor, _reference(one, other, skip_diagonal=skip)]
            return tuple(found)

        words = [name_of((n, m, d))] + [k for k in ("rows", "columns") if attrs[k]]
        is_bench = n == 1024
        smooth = n * m * d > 0 and not is_bench
        yield Sample(
            "bench" if is_bench else "_".join(words), make, attrs, smooth=smooth, bench=is_bench
        )


# z_i = sum_j w_ij y_j, with w_ij = exp(s_ij - shift_i) factor_i of the rows, and
# exp(s_ij - shift_j) factor_j of the columns, s = x y^T, perhaps without j = i. Both are there
# where x is y and each row meets each other one twice.
PRODUCT_LOGSUMEXP_GRAD: Op = register(
    Op(
        "product_logsumexp_grad",
        infer=_softmax_infer,
        reference=_softmax_reference,
        samples=_softmax_samples,
        bound=Accumulate(_terms, _softmax_magnitude),
        composite=_softmax_composite,
        kernel="product_softmax",
        flops=lambda inputs, outputs, attrs: (
            inputs[0].shape[0] * inputs[1].shape[0] * (4 * inputs[0].shape[1] + 20)
        ),
    )
)


def product_logsumexp(a: Tensor, b: Tensor, skip_diagonal: bool = False) -> Any:
    """Returns ``log(sum_j exp(a_i . b_j))`` for each row of ``a``; no matrix of products is kept.

    Where ``a`` and ``b`` are one tensor, the gradient costs a product less.

    Args:
        a: floats (N, D).
        b: floats (M, D).
        skip_diagonal: whether ``j = i`` is left out; N is M then.

    Example:
        >>> from handmill.primitives.contrast import product_logsumexp
        >>> product_logsumexp([[1.0, 0.0]], [[0.0, 1.0], [0.0, 2.0]]).round(4)
        array([0.6931], dtype=float32)
    """
    a, b = (a, a) if a is b else promote(a, b)
    return apply(PRODUCT_LOGSUMEXP, a, b, skip_diagonal=bool(skip_diagonal))
