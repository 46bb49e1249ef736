"""Products by weights whose blocks are zero: the dense product's bits, whatever is passed over."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import compress, config, layers
from levels import levels

pytestmark = pytest.mark.skipif(not config.has_kernels(), reason="the NumPy executor is dense")

NEXT_TO_NOTHING = np.float32(1e-30)
"""Instead of a zero: no sum of numbers of usual size notices, and the product is dense."""


@pytest.fixture(autouse=True)
def _settings_as_before():
    level, threads = config.isa(), config.num_threads()
    yield
    config.set_isa(level)
    config.set_num_threads(threads)


def pruned(rng, terms, units, sparsity, block=16):
    kept = rng.random((terms, -(-units // block))) >= sparsity
    mask = np.repeat(kept, block, axis=1)[:, :units]
    return np.where(mask, rng.standard_normal((terms, units)), 0.0).astype("float32")


def dense_twin(kernel):
    return np.where(kernel == 0, NEXT_TO_NOTHING, kernel)


def layer_of(kernel, activation=None):
    layer = layers.Dense(kernel.shape[1], activation, use_bias=activation is not None)
    layer.build((None, kernel.shape[0]))
    bias = np.linspace(-1, 1, kernel.shape[1], dtype="float32")
    layer.set_weights([kernel] if activation is None else [kernel, bias])
    return layer


def assert_same_bits(got, expected):
    got, expected = np.asarray(got), np.asarray(expected)
    other = got.view("u4") != expected.view("u4")  # sums without any term
    np.testing.assert_array_less(np.abs(expected[other]), 1e-25)
    np.testing.assert_array_equal(got[other], 0.0)


@pytest.mark.parametrize("isa", levels())
@pytest.mark.parametrize(
    ("terms", "units"),
    (
        pytest.param(64, 64, marks=pytest.mark.slow),
        pytest.param(70, 61, marks=pytest.mark.slow),
        (300, 40),
        pytest.param(784, 130, marks=pytest.mark.slow),
    ),
)
def test_the_bits_of_the_dense_product(isa, terms, units):
    config.set_isa(isa)
    rng = np.random.default_rng(terms)
    for sparsity, block in ((0.6, 16), (0.95, 16), (0.75, 8)):
        kernel = pruned(rng, terms, units, sparsity, block)
        for activation in (None, "relu", "gelu"):
            sparse, dense = layer_of(kernel, activation), layer_of(dense_twin(kernel), activation)
            for rows in (1, 2, 3, 6, 7, 33):
                x = rng.standard_normal((rows, terms)).astype("float32")
                assert_same_bits(sparse(x), dense(x))


def test_some_columns_pruned_and_any_number_of_threads():
    rng = np.random.default_rng(1)
    kernel = pruned(rng, 600, 320, 0.8)
    kernel[:, 100:200] = rng.standard_normal((600, 100))  # dense panels beside sparse ones
    kernel[:, 300:] = 0.0
    sparse, dense = layer_of(kernel), layer_of(dense_twin(kernel))
    for rows in (1, 5, 300):
        x = rng.standard_normal((rows, 600)).astype("float32")
        found = []
        for threads in (1, 2, 3):
            config.set_num_threads(threads)
            found.append(np.asarray(sparse(x)))
            assert_same_bits(found[-1], dense(x))
        assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


@pytest.mark.parametrize("isa", levels())
@pytest.mark.parametrize("rows", (1, 4, 40))
def test_what_is_not_finite_meets_the_zeros(isa, rows):
    config.set_isa(isa)
    rng = np.random.default_rng(2)
    kernel = pruned(rng, 784, 100, 0.75)
    sparse = layer_of(kernel)
    x = rng.standard_normal((rows, 784)).astype("float32")
    usual = np.asarray(sparse(x))
    x[rows // 2, 5], x[-1, 700] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        expected = x @ kernel
    got = np.asarray(sparse(x))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(expected))
    fine = np.isfinite(x).all(axis=1)
    assert got[fine].tobytes() == usual[fine].tobytes()


def test_negative_zeros_are_zeros_and_weights_may_change():
    rng = np.random.default_rng(3)
    kernel = pruned(rng, 256, 64, 0.75)
    layer, x = layer_of(kernel), rng.standard_normal((8, 256)).astype("float32")
    first = np.asarray(layer(x))
    layer.set_weights([np.where(kernel == 0, np.float32(-0.0), kernel)])
    assert np.asarray(layer(x)).tobytes() == first.tobytes()
    whole = rng.standard_normal((256, 64)).astype("float32")
    for other in (whole, np.zeros_like(whole), kernel):
        layer.set_weights([other])
        np.testing.assert_allclose(layer(x), x @ other, rtol=1e-4, atol=1e-4)
    assert np.asarray(layer(x)).tobytes() == first.tobytes()


@pytest.mark.slow
def test_a_pruned_model_predicts_what_it_predicted():
    rng = np.random.default_rng(4)
    model = handmill.Sequential(
        [handmill.Input((100,)), layers.Dense(96, "relu"), layers.Dense(80, "tanh")]
    )
    model.compile("adam", "mse")
    x = rng.standard_normal((64, 100)).astype("float32")
    compress.prune(model, 0.75, "block", scope="layer")
    model.fit(x, x[:, :80], epochs=2, verbose=0)
    got = model.predict(x, verbose=0)
    assert all(np.mean(w.numpy() == 0) >= 0.74 for w in model.weights[::2])
    with handmill.use_backend("numpy"):
        np.testing.assert_allclose(got, model.predict(x, verbose=0), atol=1e-5)
    np.testing.assert_array_equal(got, np.asarray(model(x, training=False)))
