"""Functions of ops called on tensors of the functional API."""

from __future__ import annotations

import numpy as np
import pytest

import handmill as keras
from handmill import ops


@pytest.mark.parametrize("reverse", (False, True))
def test_an_associative_scan_of_open_length(reverse):
    """One slice after the other gives what the tree of a known length gives, but for rounding."""
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 3, 6)).astype("float32")

    def combine(p, q):
        return p[0] * q[0], p[1] * q[0] + q[1]

    def scanned(x, y):
        return ops.associative_scan(combine, (x, y), reverse, axis=1)

    inputs = [keras.Input((None,)), keras.Input((None,))]
    outputs = scanned(*inputs)
    assert [y.shape for y in outputs] == [(None, None)] * 2
    model = keras.Model(inputs, list(outputs))
    for length in (6, 1, 4):
        want = scanned(a[:, :length], b[:, :length])
        for found, one in zip(model([a[:, :length], b[:, :length]]), want, strict=True):
            np.testing.assert_allclose(found, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "want"),
    (
        (ops.flip, lambda x: x[::-1, ::-1]),
        (lambda x: x[:, 3:0:-1], lambda x: x[:, 3:0:-1]),
        (lambda x: ops.tril(x, 1), lambda x: np.tril(x, 1)),
        (lambda x: ops.triu(x, -1), lambda x: np.triu(x, -1)),
        (lambda x: ops.vander(x[:, 0]), lambda x: np.vander(x[:, 0])),
        (lambda x: ops.vander(x[0], 3, True), lambda x: np.vander(x[0], 3, True)),
        (lambda x: ops.diag(x[0], 2), lambda x: np.diag(x[0], 2)),
        (lambda x: ops.diag(x[:, 0], -1), lambda x: np.diag(x[:, 0], -1)),
        (ops.diagflat, np.diagflat),
        (
            lambda x: ops.diagonal(ops.matmul(x, ops.transpose(x)), -2),
            lambda x: np.diagonal(x @ x.T, -2),
        ),
        (
            lambda x: ops.trace(ops.matmul(ops.transpose(x), x), 1),
            lambda x: np.trace(x.T @ x, 1),
        ),
        (lambda x: ops.repeat(x, [1, 0, 2, 1], 0), lambda x: np.repeat(x, [1, 0, 2, 1], 0)),
        (
            lambda x: ops.extract_sequences(x, 2, 1),
            lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, -1),
        ),
        (
            lambda x: ops.slice_update(x, [1, -2], np.zeros((2, 2), "float32")),
            lambda x: np.where(np.outer(np.isin(range(4), [1, 2]), np.arange(5) > 2), 0, x),
        ),
        (lambda x: ops.sum(ops.sparsemax(x), -1), lambda x: np.ones(4)),
    ),
)
def test_sizes_of_inputs_may_be_open_in_functional_models(function, want):
    """They become operators of a model that can be copied, with symbols where they have sizes."""
    x = np.random.default_rng(3).integers(-3, 4, (4, 5)).astype("float32")
    inputs = keras.Input(batch_shape=(None, None))
    model = keras.Model(inputs, function(inputs))
    np.testing.assert_allclose(model(x), want(x), rtol=1e-6)
    np.testing.assert_array_equal(keras.models.clone_model(model)(x), model(x))


@pytest.mark.parametrize(
    ("call", "message"),
    (
        (lambda x: ops.inner(x, x[:, :2]), "inner: the last dimensions differ"),
        (lambda x: ops.where(x > 0, x), r"both should be `None`.*got x2=None"),
        (lambda x: ops.swapaxes(x, 5, 0), "swapaxes: axis 5 is out of bounds"),
        (lambda x: ops.einsum("ii", x[:, :2]), r"takes the diagonal of axes of sizes 4 and 2"),
    ),
)
def test_what_does_not_fit_is_said(call, message):
    for x in (np.ones((4, 3), "float32"), keras.KerasTensor((4, 3))):
        with pytest.raises(ValueError, match=message):
            call(x)


@pytest.mark.parametrize("name", ("cumsum", "cumprod", "nancumsum", "nancumprod"))
def test_running_sums_go_along_one_axis(name):
    x = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
    np.testing.assert_array_equal(getattr(ops, name)(x, axis=(1,)), getattr(np, name)(x, axis=1))
    for axis in ((), (0, 1)):
        with pytest.raises(TypeError, match="`axis` must be an integer or None"):
            getattr(ops, name)(x, axis=axis)


def test_operands_of_an_extreme_share_the_gradient_at_a_tie():
    """Half for each, as JAX gives; all of it to the one that is taken elsewhere."""
    x, y = np.float32([[1, 2, 3], [3, 2, 1]])
    for function, shares in ((ops.maximum, [0, 0.5, 1]), (ops.minimum, [1, 0.5, 0])):
        a, b = keras.Variable(x), keras.Variable(y)
        with keras.GradientTape() as tape:
            total = ops.sum(function(a, b) * np.float32([2, 4, 6]))
        da, db = tape.gradient(total, [a, b])
        np.testing.assert_array_equal(da, np.float32([2, 4, 6]) * shares)
        np.testing.assert_array_equal(db, np.float32([2, 4, 6]) * (1 - np.float32(shares)))
