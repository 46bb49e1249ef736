"""Decompositions and equations of matrices. These operators run in NumPy: no kernels.

Everything is computed in float64 and rounded once, so that a badly conditioned matrix loses its
digits where float32 has none. A matrix that has no result (singular, not positive definite) gives
NaN; the others of a stack keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import NotDifferentiableError, shape_error
from handmill.ir.dims import Shape
from handmill.ir.op import Array, Exact, Op, Sample, Ulp, never_native, register
from handmill.ir.shapes import Spec, broadcast_shapes
from handmill.ir.trace import apply
from handmill.primitives.emit import (
    matmul,
    multiply,
    negative,
    reshape,
    swap_last,
    unbroadcast,
    where,
)
from handmill.primitives.samples import both, given, uniform

# Kernel and reference round the same float64 numbers.
_ROUNDED = Ulp(0.5)


def _matrices(op: str, square: bool, **operands: Spec) -> None:
    for x in operands.values():
        if x.rank < 2:
            raise shape_error(op, "Expected input to have rank >= 2", operands)
        if not x.is_float:
            raise shape_error(op, f"a floating dtype was expected, got {x.dtype}", operands)
    first = next(iter(operands.values()))
    if square and first.shape[-1] != first.shape[-2]:
        raise shape_error(op, "Expected a square matrix", operands)
    if not all(isinstance(n, int) for n in first.shape[-2:]) and not square:
        problem = "Input should have its last 2 dimensions fully-defined"
        raise shape_error(op, problem, operands)


def _wide(*arrays: Array) -> list[Array]:
    return [np.asarray(a, np.float64) for a in arrays]


def _each(
    function: Callable[..., Array], shape: Sequence[int], result_rank: int, *arrays: Array
) -> Array:
    """A function of stacks of matrices; NaN for those on which it fails."""
    try:
        return np.asarray(function(*arrays))
    except np.linalg.LinAlgError:
        y = np.full(shape, np.nan)
        for i in np.ndindex(*shape[: len(shape) - result_rank]):
            try:
                y[i] = function(*(a[i] for a in arrays))
            except np.linalg.LinAlgError:
                continue
        return y


def _narrow(x: Array, *like: Array) -> Array:
    return x.astype(like[0].dtype)


def _stack(
    shape: tuple[int, ...], diagonal: float = 0.0, symmetric: bool = False
) -> Callable[[np.random.Generator], tuple[Array, ...]]:
    """Makes matrices; a large diagonal keeps them far from singular."""

    def make(rng: np.random.Generator) -> tuple[Array, ...]:
        x = rng.uniform(-1, 1, shape)
        if symmetric:
            x = (x + np.swapaxes(x, -1, -2)) / 2
        x = x + np.eye(shape[-2], shape[-1]) * diagonal
        return (x.astype(np.float32),)

    return make


_SINGULAR = given([[[1.0, 2.0], [2.0, 4.0]], [[2.0, 0.0], [0.0, -1.0]]])


def _square_samples(symmetric: bool = False) -> Callable[[], Iterable[Sample]]:
    def samples() -> Iterable[Sample]:
        yield Sample("5x5", _stack((5, 5), 4.0, symmetric))
        yield Sample("2x3x4x4", _stack((2, 3, 4, 4), 4.0, symmetric))
        yield Sample("singular", _SINGULAR, smooth=False)
        yield Sample("none", _stack((0, 3, 3)), smooth=False)

    return samples


def _op(name: str, infer: Any, reference: Any, samples: Any, vjp: Any = None, **fields: Any) -> Op:
    return register(
        Op(
            name,
            infer=infer,
            reference=reference,
            samples=samples,
            bound=fields.pop("bound", _ROUNDED),
            vjp=vjp,
            native=never_native,
            **fields,
        )
    )


def _square_infer(name: str, drop: int = 0) -> Callable[..., Spec]:
    def infer(x: Spec) -> Spec:
        _matrices(name, True, x=x)
        return Spec(x.shape[: x.rank - drop], x.dtype)

    return infer


# --- cholesky ------------------------------------------------------------------------------------


def _cholesky(x: Array) -> Array:
    (a,) = _wide(x)
    a = (a + np.swapaxes(a, -1, -2)) / 2
    return _narrow(_each(np.linalg.cholesky, x.shape, 2, a), x)


def _lower(x: Any) -> Any:
    """The lower triangles; zeros above."""
    return multiply(x, np.tri(*x.shape[-2:], dtype=np.float32))


def _cholesky_vjp(inputs: Any, outputs: Any, dys: Any) -> Any:
    # dA = L^-T phi(L^T dL) L^-1, made symmetric; phi takes the lower half, and half the diagonal.
    factor, dy = outputs[0], _lower(dys[0])
    n = factor.shape[-1]
    half = np.tri(n, dtype=np.float32) - np.eye(n, dtype=np.float32) / 2
    middle = multiply(matmul(factor, dy, transpose_a=True), half)
    left = apply(SOLVE_TRIANGULAR, swap_last(factor), middle, lower=False)
    whole = swap_last(apply(SOLVE_TRIANGULAR, swap_last(factor), swap_last(left), lower=False))
    return (multiply(whole + swap_last(whole), 0.5),)


CHOLESKY = _op(
    "cholesky",
    _square_infer("cholesky"),
    _cholesky,
    _square_samples(symmetric=True),
    _cholesky_vjp,
)

# --- equations -----------------------------------------------------------------------------------


def _solve_infer(name: str) -> Callable[..., Spec]:
    def infer(a: Spec, b: Spec, **attrs: bool) -> Spec:
        _matrices(name, True, a=a, b=b)
        if a.shape[-1] != b.shape[-2]:
            problem = "Incompatible shapes: one row of `b` for each of `a` was expected"
            raise shape_error(name, problem, {"a": a, "b": b})
        try:
            stack = broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError as error:
            raise shape_error(name, str(error), {"a": a, "b": b}) from error
        return Spec((*stack, *b.shape[-2:]), b.dtype)

    return infer


def _solve(a: Array, b: Array) -> Array:
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    both = [np.broadcast_to(x, (*stack, *x.shape[-2:])) for x in _wide(a, b)]
    return _narrow(_each(np.linalg.solve, both[1].shape, 2, *both), b)


def _solve_vjp(inputs: Any, outputs: Any, dys: Any) -> Any:
    db = apply(SOLVE, swap_last(inputs[0]), dys[0])
    da = negative(matmul(db, outputs[0], transpose_b=True))
    return unbroadcast(da, inputs[0].shape), unbroadcast(db, inputs[1].shape)


def _solve_samples(**attrs: bool) -> Callable[[], Iterable[Sample]]:
    def samples() -> Iterable[Sample]:
        yield Sample("4x4_4x2", both(_stack((4, 4), 3.0), uniform((4, 2))), attrs)
        yield Sample("3x2x2_3x2x1", both(_stack((3, 2, 2), 3.0), uniform((3, 2, 1))), attrs)
        yield Sample("2x2_3x2x1", both(_stack((2, 2), 3.0), uniform((3, 2, 1))), attrs)
        yield Sample("3x2x2_2x1", both(_stack((3, 2, 2), 3.0), uniform((2, 1))), attrs)
        zeros = both(given(np.zeros((2, 2, 2), np.float32)), uniform((2, 2, 1)))
        yield Sample("singular", zeros, attrs, smooth=False)

    return samples


SOLVE = _op("solve", _solve_infer("solve"), _solve, _solve_samples(), _solve_vjp)


def _solve_triangular(a: Array, b: Array, *, lower: bool) -> Array:
    return _solve(np.tril(a) if lower else np.triu(a), b)


def _solve_triangular_vjp(inputs: Any, outputs: Any, dys: Any, *, lower: bool) -> Any:
    db = apply(SOLVE_TRIANGULAR, swap_last(inputs[0]), dys[0], lower=not lower)
    da = negative(matmul(db, outputs[0], transpose_b=True))
    da = _lower(da) if lower else swap_last(_lower(swap_last(da)))
    return unbroadcast(da, inputs[0].shape), unbroadcast(db, inputs[1].shape)


def _solve_triangular_samples() -> Iterable[Sample]:
    for lower in (True, False):
        for sample in _solve_samples(lower=lower)():
            yield Sample(
                f"{sample.name}_{'lower' if lower else 'upper'}",
                sample.make,
                sample.attrs,
                smooth=sample.smooth,
            )


SOLVE_TRIANGULAR: Op = _op(
    "solve_triangular",
    _solve_infer("solve_triangular"),
    _solve_triangular,
    _solve_triangular_samples,
    _solve_triangular_vjp,
)

INV: Op = _op(
    "inv",
    _square_infer("inv"),
    lambda x: _narrow(_each(np.linalg.inv, x.shape, 2, *_wide(x)), x),
    _square_samples(),
    # d(A^-1) = -A^-1 dA A^-1
    lambda inputs, outputs, dys: (
        negative(
            matmul(matmul(outputs[0], dys[0], transpose_a=True), outputs[0], transpose_b=True)
        ),
    ),
)


def _per_matrix(x: Any) -> Any:
    """One number for each matrix, so that it broadcasts over its elements."""
    return reshape(x, (*x.shape, 1, 1))


DET = _op(
    "det",
    _square_infer("det", drop=2),
    lambda x: _narrow(np.asarray(np.linalg.det(_wide(x)[0])), x),
    _square_samples(),
    # d(det A) = det A tr(A^-1 dA)
    lambda inputs, outputs, dys: (
        multiply(_per_matrix(dys[0] * outputs[0]), swap_last(apply(INV, inputs[0]))),
    ),
)


def _slogdet_infer(x: Spec) -> tuple[Spec, Spec]:
    spec = _square_infer("slogdet", drop=2)(x)
    return spec, spec


def _slogdet(x: Array) -> tuple[Array, Array]:
    side, size = np.linalg.slogdet(_wide(x)[0])
    return _narrow(np.asarray(side), x), _narrow(np.asarray(size), x)


def _slogdet_vjp(inputs: Any, outputs: Any, dys: Any) -> Any:
    # d log|det A| = tr(A^-1 dA); the sign is constant.
    if dys[1] is None:
        return (None,)
    return (multiply(_per_matrix(dys[1]), swap_last(apply(INV, inputs[0]))),)


SLOGDET = _op(
    "slogdet",
    _slogdet_infer,
    _slogdet,
    _square_samples(),
    _slogdet_vjp,
    bound=(Exact(), _ROUNDED),
)

# --- decompositions ------------------------------------------------------------------------------


def _eigen_infer(name: str) -> Callable[..., tuple[Spec, Spec]]:
    def infer(x: Spec) -> tuple[Spec, Spec]:
        _matrices(name, True, x=x)
        return Spec(x.shape[:-1], x.dtype), x

    return infer


def _eig(x: Array) -> tuple[Array, Array]:
    w, v = np.linalg.eig(_wide(x)[0])
    if np.iscomplexobj(w) and np.any(w.imag):
        raise ValueError(
            "eig: a matrix has eigenvalues that are not real, and handmill has no complex numbers; "
            "use eigh for symmetric matrices, numpy.linalg.eig for others"
        )
    return _narrow(w.real, x), _narrow(v.real, x)


EIG = _op(
    "eig",
    _eigen_infer("eig"),
    _eig,
    lambda: [
        Sample("4x4", _stack((4, 4), symmetric=True), smooth=False),
        Sample("2x3x3", _stack((2, 3, 3), symmetric=True), smooth=False),
    ],
    bound=(_ROUNDED, _ROUNDED),
)


def _eigh(x: Array) -> tuple[Array, Array]:
    (a,) = _wide(x)
    w, v = np.linalg.eigh((a + np.swapaxes(a, -1, -2)) / 2)
    return _narrow(w, x), _narrow(v, x)


def _eigh_vjp(inputs: Any, outputs: Any, dys: Any) -> Any:
    # dA = V (diag(dw) + F * (V^T dV)) V^T with F_ij = 1 / (w_j - w_i), made symmetric.
    w, v = outputs
    n = v.shape[-1]
    middle: Any = None
    if dys[0] is not None:
        middle = multiply(reshape(dys[0], (*dys[0].shape, 1)), np.eye(n, dtype=np.float32))
    if dys[1] is not None:
        same = np.eye(n, dtype=bool)
        gaps = reshape(w, (*w.shape[:-1], 1, n)) - reshape(w, (*w.shape, 1))
        turned = where(same, 0.0, matmul(v, dys[1], transpose_a=True) / where(same, 1.0, gaps))
        middle = turned if middle is None else middle + turned
    whole = matmul(matmul(v, middle), v, transpose_b=True)
    return (multiply(whole + swap_last(whole), 0.5),)


EIGH = _op(
    "eigh",
    _eigen_infer("eigh"),
    _eigh,
    lambda: [
        Sample("4x4", _stack((4, 4), symmetric=True)),
        Sample("2x3x3", _stack((2, 3, 3), symmetric=True)),
        Sample("none", _stack((0, 3, 3)), smooth=False),
    ],
    _eigh_vjp,
    bound=(_ROUNDED, _ROUNDED),
)


def _ends(x: Spec) -> tuple[Shape, int, int]:
    rows, columns = x.shape[-2:]
    return x.shape[:-2], int(rows), int(columns)


def _qr_infer(x: Spec, *, complete: bool) -> tuple[Spec, Spec]:
    _matrices("qr", False, x=x)
    stack, m, n = _ends(x)
    k = m if complete else min(m, n)
    return Spec((*stack, m, k), x.dtype), Spec((*stack, k, n), x.dtype)


def _qr(x: Array, *, complete: bool) -> tuple[Array, Array]:
    q, r = np.linalg.qr(_wide(x)[0], mode="complete" if complete else "reduced")
    return _narrow(q, x), _narrow(r, x)


def _qr_vjp(inputs: Any, outputs: Any, dys: Any, *, complete: bool) -> Any:
    # dA = (dQ + Q sym(M)) R^-T with M = R dR^T - dQ^T Q, of whose lower half sym() makes both.
    q, r = outputs
    if q.shape[-1] != r.shape[-1]:
        raise NotDifferentiableError(
            "qr: the gradient is known for matrices with at least as many rows as columns, in "
            "the mode 'reduced'"
        )
    middle: Any = None
    if dys[1] is not None:
        middle = matmul(r, dys[1], transpose_b=True)
    if dys[0] is not None:
        other = matmul(dys[0], q, transpose_a=True)
        middle = negative(other) if middle is None else middle - other
    n = r.shape[-1]
    lower = _lower(middle)
    below = multiply(middle, np.tri(n, k=-1, dtype=np.float32))
    whole = matmul(q, lower + swap_last(below))
    if dys[0] is not None:
        whole = whole + dys[0]
    return (swap_last(apply(SOLVE_TRIANGULAR, r, swap_last(whole), lower=False)),)


QR = _op(
    "qr",
    _qr_infer,
    _qr,
    lambda: [
        Sample("4x3", _stack((4, 3), 2.0), {"complete": False}),
        Sample("2x3x5", _stack((2, 3, 5)), {"complete": False}, smooth=False),
        Sample("4x3_complete", _stack((4, 3)), {"complete": True}, smooth=False),
    ],
    _qr_vjp,
    bound=(_ROUNDED, _ROUNDED),
)


def _svd_infer(x: Spec, *, full: bool) -> tuple[Spec, Spec, Spec]:
    _matrices("svd", False, x=x)
    stack, m, n = _ends(x)
    k = min(m, n)
    shapes = (m, m if full else k), (k,), (n if full else k, n)
    u, s, vh = (Spec((*stack, *shape), x.dtype) for shape in shapes)
    return u, s, vh


def _svd(x: Array, *, full: bool) -> tuple[Array, ...]:
    return tuple(_narrow(y, x) for y in np.linalg.svd(_wide(x)[0], full_matrices=full))


def _svd_vjp(inputs: Any, outputs: Any, dys: Any, *, full: bool) -> Any:
    du, ds, dvh = dys
    if du is not None or dvh is not None or full:
        raise NotDifferentiableError(
            "svd: only the gradient of the singular values is known, with full_matrices=False; "
            "use eigh of x x^T where singular vectors are learned"
        )
    u, _, vh = outputs
    return (matmul(multiply(u, reshape(ds, (*ds.shape[:-1], 1, ds.shape[-1]))), vh),)


SVD = _op(
    "svd",
    _svd_infer,
    _svd,
    lambda: [
        Sample("4x3", _stack((4, 3)), {"full": False}, smooth=False),
        Sample("2x3x5_full", _stack((2, 3, 5)), {"full": True}, smooth=False),
    ],
    _svd_vjp,
    bound=(_ROUNDED, _ROUNDED, _ROUNDED),
)


def _lu_infer(x: Spec) -> tuple[Spec, Spec]:
    _matrices("lu_factor", False, x=x)
    stack, m, n = _ends(x)
    return x, Spec((*stack, min(m, n)), "int32")


def _lu_factor(x: Array) -> tuple[Array, Array]:
    """Gauss's elimination with the largest pivot of each column, as LAPACK's getrf."""
    m, n = x.shape[-2:]
    lu = np.array(x, np.float64).reshape(-1, m, n)
    pivots = np.zeros((lu.shape[0], min(m, n)), np.int32)
    stack = np.arange(lu.shape[0])
    for k in range(min(m, n)):
        best = k + np.argmax(np.abs(lu[:, k:, k]), axis=1)
        pivots[:, k] = best
        chosen = lu[stack, best].copy()
        lu[stack, best] = lu[:, k]
        lu[:, k] = chosen
        pivot = lu[:, k, k, None]
        factors = np.where(pivot == 0, 0.0, lu[:, k + 1 :, k] / np.where(pivot == 0, 1.0, pivot))
        lu[:, k + 1 :, k] = factors
        lu[:, k + 1 :, k + 1 :] -= factors[:, :, None] * lu[:, None, k, k + 1 :]
    return _narrow(lu.reshape(x.shape), x), pivots.reshape((*x.shape[:-2], min(m, n)))


LU_FACTOR = _op(
    "lu_factor",
    _lu_infer,
    _lu_factor,
    lambda: [
        Sample("4x3", _stack((4, 3)), smooth=False),
        Sample("2x3x4", _stack((2, 3, 4)), smooth=False),
        Sample("singular", _SINGULAR, smooth=False),
    ],
    bound=(_ROUNDED, _ROUNDED),
)


def _pinv_infer(x: Spec, *, rcond: float) -> Spec:
    _matrices("pinv", False, x=x)
    return Spec((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)


def _pinv_vjp(inputs: Any, outputs: Any, dys: Any, *, rcond: float) -> Any:
    # Golub and Pereyra, 1973: dP = -P dA P + P P^T dA^T (I - A P) + (I - P A) dA^T P^T P.
    a, p, dy = inputs[0], outputs[0], swap_last(dys[0])
    turned = swap_last(p)
    gram_left, gram_right = matmul(p, turned), matmul(turned, p)
    first = negative(matmul(matmul(turned, dys[0]), turned))
    outside = dy - matmul(matmul(a, p), dy)
    inside = dy - matmul(dy, matmul(p, a))
    return (first + matmul(outside, gram_left) + matmul(gram_right, inside),)


PINV = _op(
    "pinv",
    _pinv_infer,
    lambda x, *, rcond: _narrow(np.asarray(np.linalg.pinv(_wide(x)[0], rcond=rcond)), x),
    lambda: [
        Sample("4x3", _stack((4, 3), 2.0), {"rcond": 1e-5}),
        Sample("2x3x5", _stack((2, 3, 5), 2.0), {"rcond": 1e-5}),
        Sample("singular", _SINGULAR, {"rcond": 1e-5}, smooth=False),
    ],
    _pinv_vjp,
)
