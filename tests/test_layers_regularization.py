"""Layers of the folder regularization: noise, dropout of parts, penalties on outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from layer_parity import check_config, check_layer, errors_of, normal

NOISY: dict[str, Any] = {
    "noise": (lambda k, **g: k.GaussianNoise(0.3, seed=5, **g), (64, 50)),
    "gaussian": (lambda k, **g: k.GaussianDropout(0.3, seed=5, **g), (64, 50)),
    "alpha": (lambda k, **g: k.AlphaDropout(0.3, seed=5, **g), (64, 50)),
    "alpha_shared": (
        lambda k, **g: k.AlphaDropout(0.3, noise_shape=(None, 1, None), seed=5, **g),
        (32, 5, 50),
    ),
    "dropout_shared": (
        lambda k, **g: k.Dropout(0.3, noise_shape=(None, 1, None), seed=5, **g),
        (32, 5, 50),
    ),
    "dropout_sizes": (lambda k, **g: k.Dropout(0.3, noise_shape=[None, 50], seed=5, **g), (64, 50)),
    "spatial_1d": (lambda k, **g: k.SpatialDropout1D(0.3, seed=5, **g), (32, 5, 50)),
    "spatial_2d": (lambda k, **g: k.SpatialDropout2D(0.3, seed=5, **g), (32, 3, 2, 50)),
    "spatial_2d_first": (
        lambda k, **g: k.SpatialDropout2D(0.3, "channels_first", seed=5, **g),
        (32, 50, 3, 2),
    ),
    "spatial_3d": (lambda k, **g: k.SpatialDropout3D(0.3, seed=5, **g), (32, 3, 2, 2, 50)),
    "spatial_3d_first": (
        lambda k, **g: k.SpatialDropout3D(0.3, "channels_first", seed=5, **g),
        (32, 50, 3, 2, 2),
    ),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", NOISY)
def test_configs_are_those_of_keras_and_inference_changes_nothing(keras: Any, name: str) -> None:
    make, size = NOISY[name]
    ours, theirs = make(layers), make(keras.layers)
    check_config(keras, theirs, ours)
    x = normal(*size)
    np.testing.assert_array_equal(ours(x), x)
    assert ours.supports_masking == theirs.supports_masking
    assert [w.name for w in ours.variables] == [w.name for w in theirs.variables]


@pytest.mark.parametrize("name", NOISY)
def test_noise_is_the_same_however_it_runs(name: str) -> None:
    make, size = NOISY[name]
    x = normal(*size)
    first = make(layers)(x, training=True)
    layer = make(layers)
    np.testing.assert_array_equal(layer(x, training=True), first)
    assert not np.array_equal(layer(x, training=True), first)
    with handmill.use_backend("numpy"):
        np.testing.assert_allclose(make(layers)(x, training=True), first, rtol=2e-5, atol=2e-6)
    # In a model of open batch size and lengths, traced or run in Python, it is this one too.
    shape = (None, *size[2:]) if len(size) == 3 else size[1:]
    for eagerly in (False, True):
        inputs = handmill.Input(shape)
        model = handmill.Model(inputs, make(layers)(inputs))
        seen: list[Any] = []
        model.compile("sgd", lambda y, p: ops.mean(ops.square(p - y)), run_eagerly=eagerly)
        seen.append(model.train_on_batch(x, np.zeros_like(x)))
        np.testing.assert_allclose(seen[0], np.square(first).mean(), rtol=1e-4)


@pytest.mark.parametrize("name", NOISY)
def test_plans_have_no_host_node_and_gradients_see_the_same_noise(name: str) -> None:
    make, size = NOISY[name]
    x = normal(*size)
    inputs = handmill.Input(size[1:])
    scaled = layers.Dense(size[-1])
    model = handmill.Model(inputs, make(layers)(scaled(inputs)))
    model.compile(handmill.optimizers.SGD(1.0), lambda y, p: ops.sum(p * y, axis=-1))
    kernel, bias = model.get_weights()
    y = normal(*size, seed=1)
    model.train_on_batch(x, y)
    moved = bias - model.get_weights()[1]
    # d loss / d bias = mean over samples of dy times d noise / d input, seen through the layer.
    h = x @ kernel + bias
    again = make(layers)
    step = np.float32(0.5)
    low = again(h, training=True)
    again.seed_generator.state.assign(np.array([5, 0]))
    slope = (again(h + step, training=True) - low) / step
    want = (slope * y).reshape(-1, size[-1]).sum(0) * size[-1] / y.size
    np.testing.assert_allclose(moved, want, rtol=2e-3, atol=2e-3)
    program, _ = model.step_to_compare(x, y)
    assert [s["kernel"] for s in program.plan(x, y).summary() if s["host"]] == []


def test_moments_of_the_noise() -> None:
    x = normal(400, 500)
    added = layers.GaussianNoise(0.5, seed=1)(x, training=True) - x
    assert abs(added.mean()) < 0.01
    assert abs(added.std() - 0.5) < 0.01
    factor = layers.GaussianDropout(0.2, seed=1)(np.ones_like(x), training=True)
    assert abs(factor.mean() - 1) < 0.01
    assert abs(factor.std() - 0.5) < 0.01
    alpha = layers.AlphaDropout(0.3, seed=1)(x, training=True)
    assert abs(alpha.mean()) < 0.02
    assert abs(alpha.std() - 1) < 0.02


@pytest.mark.peers
def test_alpha_dropout_maps_numbers_as_keras_does(keras: Any) -> None:
    x = np.full((200, 50), 2.0, "float32")
    found = np.unique(layers.AlphaDropout(0.3, seed=1)(x, training=True))
    want = np.unique(np.asarray(keras.layers.AlphaDropout(0.3, seed=1)(x, training=True)))
    np.testing.assert_allclose(found, want, rtol=1e-6)


@pytest.mark.parametrize("name", [n for n in NOISY if "spatial" in n or "shared" in n])
def test_whole_slices_share_a_decision(name: str) -> None:
    make, size = NOISY[name]
    layer = make(layers)
    y = layer(np.ones(size, "float32"), training=True)
    axis = 1 if "first" in name else -1
    if "spatial" in name:
        y = np.moveaxis(y, axis, 1)
        y = y.reshape(*y.shape[:2], -1)
    else:
        y = np.moveaxis(y, 1, 2)
    assert (y == y[..., :1]).all()
    values = np.unique(y)
    assert len(values) == 2
    assert 0.2 < (y == values[0]).mean() < 0.4
    if "alpha" not in name:
        np.testing.assert_allclose(values, [0, 1 / 0.7], rtol=1e-6)


def test_dropout_of_nan_and_infinity_is_zero() -> None:
    x = np.full((50, 4, 8), np.inf, "float32")
    y = layers.Dropout(0.5, noise_shape=(None, 1, None), seed=1)(x, training=True)
    assert set(np.unique(y)) == {0.0, np.inf}


@pytest.mark.parametrize("rate", (0, 0.0, np.float32(0.5), 1))
def test_rates_at_the_ends(rate: Any) -> None:
    x = normal(3, 4)
    for cls in (layers.Dropout, layers.GaussianDropout, layers.AlphaDropout):
        layer = cls(rate)
        assert isinstance(layer.get_config()["rate"], int | float)
        if rate == 1 and cls is not layers.Dropout:
            with pytest.raises(ValueError, match="rate below 1"):
                layer(x, training=True)
        elif rate == 0:
            np.testing.assert_array_equal(layer(x, training=True), x)
        np.testing.assert_array_equal(layer(x), x)


@pytest.mark.peers
@pytest.mark.parametrize(
    "call",
    (
        lambda k: k.Dropout(1.5),
        lambda k: k.GaussianDropout(-0.1),
        lambda k: k.GaussianNoise(1.5),
        lambda k: k.AlphaDropout(2),
        lambda k: k.SpatialDropout1D(1.2),
        lambda k: k.Dropout(0.5, noise_shape="abc"),
        lambda k: k.Dropout(0.5, noise_shape=3),
        lambda k: k.Dropout(0.5, noise_shape=(None, 0)),
        lambda k: k.Dropout(0.5, noise_shape=(None, 1.5)),
        lambda k: k.SpatialDropout1D(0.5)(np.ones((2, 3), "float32")),
        lambda k: k.SpatialDropout2D(0.5)(np.ones((2, 3), "float32")),
        lambda k: k.SpatialDropout2D(0.5, data_format="first"),
        lambda k: k.SpatialDropout1D(0.5, trainable=True),
    ),
    ids=map(str, range(13)),
)
def test_what_keras_refuses_is_refused(keras: Any, call: Any) -> None:
    errors_of(keras, lambda library: call(library.layers))


def test_a_noise_shape_that_does_not_fit_is_named() -> None:
    for shape in ((None, 3), (None, 1, None)):
        with pytest.raises(ValueError, match="`noise_shape` needs an entry for each axis"):
            layers.Dropout(0.5, noise_shape=shape)(normal(6, 4), training=True)
    with pytest.raises(ValueError, match=r"noise_shape=\(6, 1\) .* sizes \(5, 4\)"):
        layers.Dropout(0.5, noise_shape=(6, 1))(normal(5, 4), training=True)
    with pytest.raises(ValueError, match="fixes the batch size to 6"):
        layers.Dropout(0.5, noise_shape=(6, 1))(layers.Input((4,)), training=True)


@pytest.mark.peers
@pytest.mark.parametrize("given", ({}, {"l1": 0.1}, {"l2": 0.2}, {"l1": 0.1, "l2": 0.2}))
def test_activity_regularization_is_that_of_keras(keras: Any, given: Any, tmp_path: Any) -> None:
    check_layer(
        keras,
        lambda k: k.layers.ActivityRegularization(**given),
        normal(6, 5, 4),
        saved=tmp_path / "model.hmill",
    )


@pytest.mark.parametrize("name", NOISY)
def test_bfloat16(name: str) -> None:
    make, size = NOISY[name]
    layer = make(layers, dtype="mixed_bfloat16")
    again = type(layer).from_config(layer.get_config())
    assert again.compute_dtype == "bfloat16"
    x = normal(*size)
    y = layer(x, training=True)
    assert ops.dtype(y) == "bfloat16"
    want = make(layers)(x, training=True)
    np.testing.assert_allclose(y.astype("float32"), want, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("draw", ("normal", "uniform", "truncated_normal"))
def test_numbers_drawn_on_the_host_can_be_bfloat16(draw: str) -> None:
    function = getattr(handmill.random, draw)
    found = function((50,), dtype="bfloat16", seed=1)
    assert ops.dtype(found) == "bfloat16"
    np.testing.assert_allclose(found.astype("float32"), function((50,), seed=1), rtol=0.005)


def test_masks_pass_and_files_keep_the_counter(tmp_path: Any) -> None:
    x = normal(4, 5, 50)
    x[1, 2:] = 0
    inputs = handmill.Input((5, 50))
    y = layers.Masking()(inputs)
    for name in ("noise", "alpha", "gaussian", "spatial_1d", "dropout_shared"):
        y = NOISY[name][0](layers)(y)
    assert y.mask is not None
    model = handmill.Model(inputs, y)
    model.compile("sgd", "mse")
    model.fit(x, x, verbose=0)
    model.save(tmp_path / "model.hmill")
    again = handmill.models.load_model(tmp_path / "model.hmill")
    np.testing.assert_array_equal(again(x, training=True), model(x, training=True))
