"""GradientTape inside a step that is traced: the gradient is part of the program."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import ops
from handmill.runtime.function import TracedFunction

X = np.linspace(-1.5, 1.5, 12, dtype=np.float32).reshape(4, 3)


def run(step, *arrays, batched=True):
    """What ``step`` gives natively; the NumPy executor must give the same."""
    got = TracedFunction(step, batched=batched)(*arrays)
    with handmill.use_backend("numpy"):
        want = TracedFunction(step, batched=batched)(*arrays)
    for a, b in zip(np.atleast_1d(got), np.atleast_1d(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)
    return got


def test_variables_are_watched_when_they_are_read():
    w = handmill.Variable(np.ones((3, 2), np.float32), name="w")
    unused = handmill.Variable(np.ones(2, np.float32), name="unused")

    def step(x):
        with handmill.GradientTape() as tape:
            loss = ops.sum(ops.square(ops.matmul(x, w)))
        assert tape.watched_variables() == (w,)
        dw, none = tape.gradient(loss, [w, unused])
        assert none is None
        return dw

    np.testing.assert_allclose(run(step, X), 2 * X.T @ (X @ w.numpy()), rtol=1e-5)


def test_inputs_intermediate_values_and_seeds():
    seed = np.arange(12, dtype=np.float32).reshape(4, 3)

    def step(x, s):
        with handmill.GradientTape(persistent=True) as tape:
            tape.watch(x)
            hidden = ops.tanh(x)
            y = hidden * hidden
        found = tape.gradient(y, {"x": x, "h": hidden}, output_gradients=s)
        return found["x"], found["h"], tape.gradient(y, x)

    dx, dh, plain = run(step, X, seed)
    t = np.tanh(X)
    np.testing.assert_allclose(dh, 2 * t * seed, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, 2 * t * (1 - t * t) * seed, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(plain, 2 * t * (1 - t * t), rtol=1e-5, atol=1e-6)


def test_several_targets_are_added():
    def step(x):
        with handmill.GradientTape() as tape:
            tape.watch(x)
            targets = [ops.sum(x * 3.0), ops.square(x)]
        return tape.gradient(targets, x, output_gradients=[None, ops.ones_like(x) * 0.5])

    np.testing.assert_allclose(run(step, X), 3 + X, rtol=1e-6)


def test_nested_tapes_give_second_derivatives():
    def step(x):
        with handmill.GradientTape() as outer:
            outer.watch(x)
            with handmill.GradientTape() as inner:
                inner.watch(x)
                y = x * x * x
            first = inner.gradient(y, x)
        return first, outer.gradient(first, x)

    first, second = run(step, X)
    np.testing.assert_allclose(first, 3 * X * X, rtol=1e-5)
    np.testing.assert_allclose(second, 6 * X, rtol=1e-5)


def test_what_is_computed_while_stopped_or_outside_is_constant():
    def step(x):
        with handmill.GradientTape(persistent=True) as tape:
            tape.watch(x)
            with tape.stop_recording():
                factor = ops.square(x)
            y = factor * x
        outside = ops.square(y)
        assert tape.gradient(outside, x) is None
        zero = tape.gradient(outside, x, unconnected_gradients="zero")
        return tape.gradient(y, x), zero

    dx, zero = run(step, X)
    np.testing.assert_allclose(dx, X * X, rtol=1e-6)
    np.testing.assert_array_equal(zero, np.zeros_like(X))


def test_variables_can_be_left_unwatched():
    a = handmill.Variable(2.0, name="a")
    b = handmill.Variable(3.0, name="b")
    fixed = handmill.Variable(5.0, trainable=False, name="fixed")

    def step():
        with handmill.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([a, fixed])
            y = a * b * fixed
        da, db, df = tape.gradient(y, (a, b, fixed))
        assert db is None
        assert tape.watched_variables() == (a, fixed)
        return da, df

    np.testing.assert_allclose(run(step), (15.0, 6.0))


def test_jacobians():
    w = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)

    def whole(x):
        with handmill.GradientTape() as tape:
            tape.watch(x)
            y = ops.tanh(ops.matmul(x, w))
        return tape.jacobian(y, x)

    def by_rows(x):
        with handmill.GradientTape() as tape:
            tape.watch(x)
            y = ops.tanh(ops.matmul(x, w))
        return tape.batch_jacobian(y, x)

    slope = 1 - np.tanh(X @ w) ** 2
    rows = np.einsum("bj,ij->bji", slope, w)
    np.testing.assert_allclose(run(by_rows, X), rows, rtol=1e-5, atol=1e-6)
    full = run(whole, X, batched=False)
    assert full.shape == (4, 2, 4, 3)
    np.testing.assert_allclose(full, np.einsum("bji,bc->bjci", rows, np.eye(4)), atol=1e-6)
    with pytest.raises(ValueError, match="batch_jacobian"):
        run(whole, X)


@pytest.mark.parametrize(
    ("error", "message", "misuse"),
    (
        (RuntimeError, "persistent", lambda tape, x, y: [tape.gradient(y, x) for _ in "12"]),
        (RuntimeError, "not recording", lambda tape, x, y: tape.stop_recording().__enter__()),
        (TypeError, "ndarray", lambda tape, x, y: tape.gradient(y, np.ones(3, np.float32))),
        (TypeError, "float", lambda tape, x, y: tape.gradient(1.0, x)),
        (ValueError, "int32", lambda tape, x, y: tape.gradient(ops.cast(y, "int32"), x)),
        (ValueError, "'zero'", lambda tape, x, y: tape.gradient(y, x, unconnected_gradients="no")),
        (ValueError, "shape", lambda tape, x, y: tape.gradient(y, x, output_gradients=[1.0])),
        (ValueError, "int32", lambda tape, x, y: tape.watch(ops.cast(x, "int32"))),
    ),
)
def test_misuse_is_refused(error, message, misuse):
    def step(x):
        with handmill.GradientTape() as tape:
            tape.watch(x)
            y = ops.square(x)
        misuse(tape, x, y)
        return y

    with pytest.raises(error, match=message):
        TracedFunction(step)(X)
