"""``handmill.inspect``: values and gradients of one step by name, and nothing learned by it."""

from __future__ import annotations

import numpy as np
import pytest

import handmill as keras
from handmill import config, layers, ops

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(6, 1)).astype("float32")


def network() -> keras.Model:
    inputs = keras.Input((4,), name="features")
    encoder = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, activation="relu", name="hidden")], name="encoder"
    )
    output = layers.Dense(1, name="head", kernel_regularizer=keras.regularizers.L2(0.1))
    model = keras.Model(inputs, output(layers.Dropout(0.0, name="drop")(encoder(inputs))))
    model.compile(keras.optimizers.Adam(), "mse", metrics=["mae"])
    return model


def test_values_and_gradients_are_those_of_the_formula() -> None:
    model = network()
    seen = keras.inspect(model, X, Y)
    w1, b1, w2, b2 = model.get_weights()
    before = X @ w1 + b1
    hidden = np.maximum(before, 0)
    out = hidden @ w2 + b2
    for name, want in (
        ("features", X),
        ("y_true", Y),
        ("encoder/hidden/add", before),
        ("encoder/hidden", hidden),
        ("encoder", hidden),
        ("drop", hidden),
        ("head", out),
        ("head/kernel", w2),
    ):
        np.testing.assert_allclose(seen[name].value, want, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(seen.loss, np.mean((out - Y) ** 2) + 0.1 * np.sum(w2**2), rtol=1e-5)
    d_out = 2 * (out - Y) / len(X)
    d_hidden = d_out @ w2.T
    d_before = d_hidden * (before > 0)
    for name, want in (
        ("loss", 1.0),
        ("head", d_out),
        ("head/kernel", hidden.T @ d_out + 0.2 * w2),
        ("head/bias", d_out.sum(0)),
        ("encoder", d_hidden),
        ("encoder/hidden/add", d_before),
        ("encoder/hidden/kernel", X.T @ d_before),
        ("features", d_before @ w1.T),
    ):
        found = seen[name].gradient
        np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-5, err_msg=name)
        assert found.shape == seen[name].value.shape


def test_it_is_a_mapping_and_a_table() -> None:
    seen = keras.inspect(network(), X, Y)
    assert list(seen)[:2] == ["features", "y_true"]
    assert list(seen)[-1] == "loss"
    assert set(seen.gradients) < set(seen.values) == set(seen)
    text = repr(seen).splitlines()
    assert text[0].split() == "name kind shape mean std zeros gradient (rms)".split()  # noqa: SIM905
    assert any(line.startswith("encoder/hidden ") for line in text)
    assert not any(" operator " in line for line in text)
    assert any(line.startswith("encoder/hidden/matmul ") for line in seen.table().splitlines())
    with pytest.raises(KeyError, match=r"no value is called 'heed'.*'head'"):
        seen["heed"]


def test_nothing_is_learned() -> None:
    inputs = keras.Input((4,))
    hidden = layers.BatchNormalization()(layers.Dropout(0.5, seed=1, name="dropout")(inputs))
    model = keras.Model(inputs, layers.Dense(1)(hidden))
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(X, Y, verbose=0)
    state = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    results = model.get_metrics_result()
    first, second = keras.inspect(model, X, Y), keras.inspect(model, X, Y)
    for name in first:
        np.testing.assert_array_equal(first[name].value, second[name].value)
    after = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    for a, b in zip(state, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.get_metrics_result() == results
    assert (first["dropout"].value == 0).any()
    assert (keras.inspect(model, X, Y, training=False)["dropout"].value != 0).all()


def test_a_shared_layer_has_a_value_for_each_call() -> None:
    encoder = layers.Dense(3, name="encoder")
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    model = keras.Model([a, b], ops.sum(encoder(a) * encoder(b), axis=-1))
    seen = keras.inspect(model, [X, X[::-1]])
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(seen["encoder"].value, X @ kernel + bias, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(seen["encoder:2"].value, seen["encoder"].value[::-1])
    assert seen.loss is None
    assert seen.gradients == {}


def test_a_model_by_subclassing_with_add_loss_and_weights_of_samples() -> None:
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = layers.Dense(1, name="head")

        def call(self, inputs, training=None):
            found = self.head(inputs)
            self.add_loss(0.5 * ops.mean(ops.square(found)))
            return found

    model = Own()
    model.compile("sgd", "mse")
    weight = np.array([1, 0, 1, 0, 1, 0], "float32")
    seen = keras.inspect(model, X, Y, weight)
    out = seen["head"].value
    want = np.mean(weight[:, None] * (out - Y) ** 2) + 0.5 * np.mean(out**2)
    np.testing.assert_allclose(seen.loss, want, rtol=1e-5)
    rows = (2 * weight[:, None] * (out - Y) + out) / len(X)
    np.testing.assert_allclose(seen["head"].gradient, rows, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not config.has_kernels(), reason="compares kernels with NumPy")
def test_both_executors_see_the_same() -> None:
    model = network()
    seen = keras.inspect(model, X, Y)
    with keras.use_backend("numpy"):
        other = keras.inspect(model, X, Y)
    assert list(other) == list(seen)
    for name in seen:
        np.testing.assert_allclose(other[name].value, seen[name].value, rtol=1e-4, atol=1e-5)


def test_targets_need_a_loss() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    with pytest.raises(ValueError, match=r"no loss to differentiate: compile it"):
        keras.inspect(model, X, Y)
    assert keras.inspect(model, X).loss is None
