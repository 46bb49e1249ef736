"""Derivatives of functions, and functions with a gradient of their own."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from handmill.runtime.function import TracedFunction

X = np.linspace(-1.5, 1.5, 12, dtype=np.float32).reshape(4, 3)


def everywhere(function, *arrays):
    """The result on arrays and as a traced program, by both executors: the same."""
    got = function(*arrays)
    flat = handmill.tree.flatten(got)

    def traced(*values):
        return tuple(handmill.tree.flatten(function(*values)))

    others = [TracedFunction(traced, batched=False)(*arrays)]
    with handmill.use_backend("numpy"):
        others += [TracedFunction(traced, batched=False)(*arrays)]
        others += [tuple(handmill.tree.flatten(function(*arrays)))]
    for other in others:
        for a, b in zip(flat, other if isinstance(other, tuple) else (other,), strict=True):
            assert type(a) is np.ndarray
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    return got


def test_gradients_of_arguments():
    def f(x, w):
        return ops.sum(ops.tanh(x["a"] @ w) * x["b"])

    x = {"a": X, "b": np.float32(2.0)}
    w = np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2)
    value, (dx, dw) = handmill.value_and_grad(f, argnums=(0, 1))(x, w)
    y = np.tanh(X @ w)
    np.testing.assert_allclose(value, 2 * np.sum(y), rtol=1e-5)
    np.testing.assert_allclose(dx["a"], 2 * (1 - y * y) @ w.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx["b"], np.sum(y), rtol=1e-5)
    np.testing.assert_allclose(dw, 2 * X.T @ (1 - y * y), rtol=1e-4, atol=1e-6)
    (found,) = handmill.grad(f, argnums=(1,))(x, w)
    np.testing.assert_array_equal(found, dw)
    everywhere(handmill.grad(lambda a: f({"a": a, "b": 1.0}, w)), X)


def test_second_derivatives():
    hessian = handmill.jacobian(handmill.grad(lambda x: ops.sum(x**3) + x[0] * x[1]))
    x = np.float32([1, 2, 3])
    want = np.diag(6 * x)
    want[0, 1] = want[1, 0] = 1
    np.testing.assert_allclose(everywhere(hessian, x), want, rtol=1e-5)


def test_jacobian_of_several_arguments():
    def f(a, b):
        return ops.stack([ops.sum(a * b), ops.sum(a)])

    a, b = np.float32([1, 2]), np.float32([3, 4])
    da, db = everywhere(handmill.jacobian(f, argnums=(0, -1)), a, b)
    np.testing.assert_allclose(da, [[3, 4], [1, 1]])
    np.testing.assert_allclose(db, [[1, 2], [0, 0]])


def test_auxiliary_results_and_variables():
    v = handmill.Variable([1.0, 2.0])

    def f(v, x):
        y = v * x
        return ops.sum(y), {"y": y}

    (value, aux), dv = handmill.value_and_grad(f, has_aux=True)(v, 3.0)
    np.testing.assert_allclose(value, 9.0)
    np.testing.assert_allclose(aux["y"], [3, 6])
    assert type(aux["y"]) is np.ndarray
    np.testing.assert_allclose(dv, [3, 3])
    dv, aux = handmill.grad(f, has_aux=True)(v, 3.0)
    np.testing.assert_allclose(dv, [3, 3])


@pytest.mark.parametrize(
    ("message", "call"),
    (
        ("scalar", lambda: handmill.grad(lambda x: x * 2.0)(X)),
        ("float", lambda: handmill.grad(ops.sum)(np.arange(3))),
        ("argnums", lambda: handmill.grad(ops.sum, argnums=1)(X)),
    ),
)
def test_misuse_is_refused(message, call):
    with pytest.raises(ValueError, match=message):
        call()


@handmill.custom_gradient
def clipped_square(x, scale):
    """Its gradient is cut off at 1, and wrong by 10 for the scale, to be seen."""

    def gradient(dy):
        return dy * ops.clip(2.0 * x * scale, -1.0, 1.0), ops.sum(dy * x * x) * 10.0

    return x * x * scale, gradient


def test_custom_gradient():
    def both(x):
        return handmill.grad(lambda x, s: ops.sum(clipped_square(x, s)), (0, 1))(x, 0.5)

    dx, ds = everywhere(both, X)
    np.testing.assert_allclose(dx, np.clip(X, -1, 1), rtol=1e-6)
    np.testing.assert_allclose(ds, 10 * np.sum(X * X), rtol=1e-5)
    np.testing.assert_allclose(clipped_square(X, 0.5), X * X / 2)
    np.testing.assert_allclose(
        TracedFunction(lambda x: clipped_square(x, 0.5))(X), X * X / 2, rtol=1e-6
    )


@handmill.custom_gradient
def tripled(x):
    """Softplus, its gradient times 3, by what was computed on the way."""
    e = ops.exp(x)
    return ops.log(1.0 + e), lambda dy: 3.0 * dy * e / (1.0 + e)


class Tripled(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones", name="scale")

    def call(self, x):
        return tripled(x * self.scale)


class Enclosing(layers.Layer):
    """The gradient function uses what was computed before its own function was called."""

    def call(self, x):
        e = ops.exp(x)
        function = handmill.custom_gradient(
            lambda x: (ops.log(1.0 + e), lambda dy: 3.0 * dy * e / (1.0 + e))
        )
        return function(x)


def stepwise(x):
    return ops.scan(lambda carry, row: (carry, tripled(row)), 0.0, x)[1]


def kept(x):
    return ops.cond(ops.sum(x * x) > 0.0, lambda: tripled(x), lambda: x)


@pytest.mark.parametrize(
    "function",
    (
        Tripled(),
        Enclosing(),
        handmill.Sequential([Tripled(), layers.Identity()]),
        layers.TimeDistributed(Tripled()),
        layers.Lambda(stepwise),
        layers.Lambda(kept),
        stepwise,
        kept,
    ),
)
def test_custom_gradient_in_what_is_copied(function):
    """Programs of layers are copied into what a tape records, bodies of loops into their own."""
    x = X.reshape(1, *X.shape) if isinstance(function, layers.TimeDistributed) else X
    want = 3.0 / (1.0 + np.exp(-x))
    for _ in range(2):  # the second call has its program
        with handmill.GradientTape(persistent=True) as tape:
            given = tape.watch(x)
            y = ops.sum(function(given) + 0.0 * function(given + 1.0))
        np.testing.assert_allclose(tape.gradient(y, given), want, rtol=1e-5)
    found = TracedFunction(handmill.grad(lambda x: ops.sum(function(x))))(x)
    np.testing.assert_allclose(found, want, rtol=1e-5)
    if isinstance(function, Tripled):
        with handmill.GradientTape() as tape:
            y = ops.sum(function(x))
        (found,) = tape.gradient(y, function.trainable_variables)
        np.testing.assert_allclose(found, (want * x).sum(axis=0), rtol=1e-5)


def test_custom_gradient_of_what_has_none():
    @handmill.custom_gradient
    def straight_through(x):
        return ops.round(x), lambda dy: dy

    @handmill.custom_gradient
    def parts(x):
        return {"up": ops.floor(x) + 1.0, "down": ops.floor(x)}, lambda down, up: down + 2.0 * up

    np.testing.assert_array_equal(
        everywhere(handmill.grad(lambda x: ops.sum(straight_through(x * 3.0))), X),
        np.full_like(X, 3),
    )
    found = everywhere(handmill.grad(lambda x: ops.sum(parts(x)["up"])), X)
    np.testing.assert_array_equal(found, np.full_like(X, 2))


def test_custom_gradients_that_do_not_fit_are_refused():
    w = handmill.Variable(2.0, name="w")

    def with_gradient(rule, forward=lambda x: x * x):
        function = handmill.custom_gradient(lambda x: (forward(x), rule))
        return handmill.grad(lambda x: ops.sum(function(x)))(X)

    with pytest.raises(ValueError, match="returned 2 gradients"):
        with_gradient(lambda dy: (dy, dy))
    with pytest.raises(ValueError, match=r"shape \(\)"):
        with_gradient(ops.sum)
    with pytest.raises(TypeError, match="gradient function"):
        handmill.custom_gradient(lambda x: x)(X)
    with pytest.raises(ValueError, match="reads the variable 'w'"):
        with_gradient(lambda dy: dy, lambda x: x * w)
    function = handmill.ops.custom_gradient(lambda x, w: (x * w, lambda dy: (dy, ops.sum(dy))))
    np.testing.assert_allclose(handmill.grad(lambda w: ops.sum(function(X, w)))(w), 12)
    traced = TracedFunction(handmill.grad(lambda x: ops.sum(function(x, w))))
    np.testing.assert_allclose(traced(X), np.ones_like(X))


def test_stop_gradient():
    found = everywhere(handmill.grad(lambda x: ops.sum(handmill.stop_gradient(x) * x)), X)
    np.testing.assert_array_equal(found, X)


def test_gradients_of_soft_targets():
    """Probabilities that are targets are differentiated too, as in a distillation of both."""

    def f(t, x):
        return ops.sum(ops.categorical_crossentropy(t, x, from_logits=True))

    t = np.float32([[0.25, 0.75, 0.0]])
    x = np.float32([[1.0, 2.0, 3.0]])
    dt, dx = everywhere(handmill.grad(f, argnums=(0, 1)), t, x)
    p = np.exp(x) / np.sum(np.exp(x))
    np.testing.assert_allclose(dt, -np.log(p), rtol=1e-5)
    np.testing.assert_allclose(dx, p - t, rtol=1e-5)


def test_a_gradient_penalty():
    """Second derivatives through layers, activations and a cross-entropy."""
    handmill.utils.set_random_seed(1)
    dense = handmill.layers.Dense(2, activation="tanh")
    dense(X)
    y = np.array([0, 1, 1, 0])

    def penalty(kernel, x):
        def loss(x):
            h = ops.gelu(ops.matmul(x, kernel))
            return ops.sum(ops.sparse_categorical_crossentropy(y, h, from_logits=True))

        return ops.sum(ops.square(handmill.grad(loss)(x)))

    kernel = dense.kernel.numpy()
    found = everywhere(handmill.grad(penalty), kernel, X)
    step = np.float32(1e-2)
    for at in np.ndindex(kernel.shape):
        up, down = kernel.copy(), kernel.copy()
        up[at] += step
        down[at] -= step
        slope = (penalty(up, X) - penalty(down, X)) / (2 * step)
        np.testing.assert_allclose(found[at], slope, rtol=2e-2, atol=2e-2)
