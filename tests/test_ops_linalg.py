"""Linear algebra: against NumPy, in programs, with gradients, where there is no result."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import ops
from handmill.errors import NotDifferentiableError, ShapeError
from handmill.runtime.function import TracedFunction

RNG = np.random.default_rng(0)
A = (RNG.random((3, 4, 4)) + 2 * np.eye(4)).astype(np.float32)
SYMMETRIC = (A @ A.transpose(0, 2, 1)).astype(np.float32)
B = RNG.random((3, 4, 2)).astype(np.float32)
TALL = RNG.random((3, 5, 4)).astype(np.float32)
SINGULAR = np.array([[[1.0, 2.0], [2.0, 4.0]], [[2.0, 0.0], [0.0, 1.0]]], np.float32)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "args", "wanted"),
    (
        ("cholesky", (SYMMETRIC,), np.linalg.cholesky(SYMMETRIC)),
        ("det", (A,), np.linalg.det(A)),
        ("logdet", (A,), np.linalg.slogdet(A)[1]),
        ("logdet", (-SYMMETRIC,), np.linalg.slogdet(SYMMETRIC)[1]),
        ("inv", (A,), np.linalg.inv(A)),
        ("pinv", (TALL,), np.linalg.pinv(TALL)),
        ("solve", (A, B), np.linalg.solve(A, B)),
        ("solve", (A, B[..., 0]), np.linalg.solve(A, B)[..., 0]),
        ("solve", (A[0], B), np.linalg.solve(A[0], B)),
        ("solve_triangular", (A, B), np.linalg.solve(np.triu(A), B)),
        ("cholesky_inverse", (np.linalg.cholesky(SYMMETRIC),), np.linalg.inv(SYMMETRIC)),
        ("lstsq", (TALL[0], TALL[0, :, 0]), np.eye(4)[0]),
        ("matrix_rank", (TALL,), [4, 4, 4]),
        ("matrix_rank", (SINGULAR,), [1, 2]),
    ),
)
def test_numbers_are_those_of_numpy(name, args, wanted):
    function = getattr(ops, name)
    close(function(*args), wanted)
    close(TracedFunction(function, batched=False)(*args), wanted)
    doubled = function(*(x.astype(np.float64) for x in args))
    np.testing.assert_allclose(doubled, wanted, rtol=1e-3, atol=1e-3)
    assert doubled.dtype == (np.int32 if name == "matrix_rank" else np.float64)


def test_decompositions_give_back_the_matrix():
    w, v = ops.eigh(SYMMETRIC)
    close((v * w[:, None]) @ v.transpose(0, 2, 1), SYMMETRIC)
    w, v = ops.eig(SYMMETRIC)
    close(SYMMETRIC @ v, v * w[:, None])
    for mode, columns in (("reduced", 4), ("complete", 5)):
        q, r = ops.qr(TALL, mode)
        assert q.shape == (3, 5, columns)
        close(q @ r, TALL)
    u, s, vh = ops.svd(TALL, full_matrices=False)
    close((u * s[:, None]) @ vh, TALL)
    close(ops.svd(TALL, compute_uv=False), s)
    lu, pivots = ops.lu_factor(TALL[0])
    rows = list(range(5))
    for i, p in enumerate(pivots):
        rows[i], rows[p] = rows[p], rows[i]
    close((np.tril(lu, -1) + np.eye(5, 4)) @ np.triu(lu[:4]), TALL[0][rows])


@pytest.mark.parametrize("ord", (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf))
@pytest.mark.parametrize("keepdims", (False, True))
def test_norms_of_matrices(ord, keepdims):
    for axis in ((1, 2), (2, 0)):
        wanted = np.linalg.norm(TALL, ord, axis, keepdims)
        close(ops.norm(TALL, ord, axis, keepdims), wanted)


@pytest.mark.parametrize(
    "function",
    (
        lambda a: ops.sum(ops.cholesky(a) * B[0, 0, 0]),
        lambda a: ops.sum(ops.cholesky_inverse(a, upper=True)),
        lambda a: ops.logdet(a) + ops.det(a),
        lambda a: ops.sum(ops.solve(a, B[0]) * ops.solve_triangular(a, B[0], lower=True)),
        lambda a: ops.norm(a, 2) + ops.norm(a, "nuc"),
        lambda a: ops.sum(ops.lstsq(a, B[0]) ** 2),
        lambda a: ops.sum(ops.eigh(a)[0] ** 3),
    ),
)
def test_gradients_against_differences(function):
    a = SYMMETRIC[0].astype(np.float64)
    direction = RNG.normal(size=a.shape)
    direction = direction + direction.T
    slope = np.sum(handmill.grad(function)(a) * direction)
    step = 1e-5
    difference = (function(a + step * direction) - function(a - step * direction)) / (2 * step)
    np.testing.assert_allclose(slope, difference, rtol=1e-4)


def test_a_matrix_without_a_result_leaves_the_others_theirs():
    for found in (ops.inv(SINGULAR), ops.solve(SINGULAR, SINGULAR)):
        assert np.isnan(found[0]).all()
        assert np.isfinite(found[1]).all()
    bad = np.stack([SYMMETRIC[0], -SYMMETRIC[0]])
    with pytest.raises(ValueError, match="might not be a valid positive definite"):
        ops.cholesky(bad)
    found = TracedFunction(ops.cholesky, batched=False)(bad)
    assert np.isnan(found).any(axis=(1, 2)).tolist() == [False, True]


def test_slogdet_gives_signs_and_logarithms():
    turned = A[:, [1, 0, 2, 3]]
    for found in (ops.slogdet(turned), TracedFunction(ops.slogdet, batched=False)(turned)):
        for one, wanted in zip(found, np.linalg.slogdet(turned), strict=True):
            close(one, wanted)
    with np.errstate(all="ignore"):
        sign, size = ops.slogdet(SINGULAR)
    assert sign.tolist() == [0.0, 1.0]
    assert size.tolist() == [-np.inf, np.log(np.float32(2))]
    inputs = handmill.KerasTensor((2, 3, 3))
    assert [y.shape for y in ops.slogdet(inputs)] == [(2,), (2,)]
    x = handmill.Variable(turned)
    with handmill.GradientTape() as tape:
        sign, size = ops.slogdet(x)
        total = ops.sum(size * np.float32([1, 2, 3])) + ops.sum(sign)
    wanted = np.linalg.inv(turned).transpose(0, 2, 1) * np.float32([1, 2, 3])[:, None, None]
    close(tape.gradient(total, x), wanted)


def test_jvp_is_a_derivative_along_a_direction():
    x, t = TALL[0], TALL[1]

    def function(x):
        return {"e": ops.exp(x), "s": ops.sum(x * x, axis=1)}

    value, slope = ops.jvp(function, (x,), (t,))
    close(slope["e"], np.exp(x) * t)
    close(slope["s"], 2 * np.sum(x * t, axis=1))
    np.testing.assert_array_equal(value["e"], ops.exp(x))
    _, slope, aux = ops.jvp(lambda a, b: (a * b, 7), (x, t), (t, x), has_aux=True)
    close(slope, x * x + t * t)
    assert aux == 7
    traced = TracedFunction(lambda x, t: ops.jvp(ops.tanh, (x,), (t,))[1], batched=False)
    close(traced(x, t), t * (1 - np.tanh(x) ** 2))
    inputs = [handmill.Input((4,)), handmill.Input((4,))]
    found = ops.jvp(lambda x: (ops.sin(x), ops.sum(x, 1)), *[(i,) for i in inputs], has_aux=True)
    for one, wanted in zip(
        handmill.Model(inputs, found)([x, t]), (np.sin(x), t * np.cos(x), x.sum(1)), strict=True
    ):
        close(one, wanted)


def test_a_program_solves_for_each_row_of_a_batch():
    model = handmill.Sequential([handmill.layers.Lambda(lambda x: ops.solve(A[0], x))])
    assert model(B).shape == B.shape
    close(model(B), np.linalg.solve(A[0], B))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    (
        (lambda: ops.inv(TALL), ShapeError, "Expected a square matrix"),
        (lambda: ops.det(np.ones(3)), ShapeError, "rank >= 2"),
        (lambda: ops.solve(A, TALL), ShapeError, "one row of `b` for each of `a`"),
        (lambda: ops.qr(A, "raw"), ValueError, "Expected one of {'reduced', 'complete'}"),
        (lambda: ops.eig([[0.0, 1.0], [-1.0, 0.0]]), ValueError, "no complex numbers"),
        (lambda: ops.norm(A[0], 3), ValueError, "`ord` of matrices must be"),
        (
            lambda: handmill.grad(lambda a: ops.sum(ops.svd(a)[0]))(A[0]),
            NotDifferentiableError,
            "only the gradient of the singular values",
        ),
        (lambda: ops.jvp(ops.sin, (A,), (B,)), ShapeError, "shapes of the primals"),
    ),
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
