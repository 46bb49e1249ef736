"""Layers of the folder normalization, and the functions that they are made of."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from layer_parity import check_config, check_layer, check_policy, errors_of, normal, same_weights

PENALTIES = {
    "beta_regularizer": "l2",
    "gamma_regularizer": "l1",
    "beta_constraint": "non_neg",
    "gamma_constraint": "max_norm",
}
STARTS = {"beta_initializer": "ones", "gamma_initializer": "zeros"}

RENORM = {"renorm": True, "renorm_momentum": 0.9, "momentum": 0.95}

CASES: dict[str, Any] = {
    "batch_renorm": (lambda k: k.BatchNormalization(**RENORM), (6, 5, 4), (5, 4)),
    "batch_renorm_clipped": (
        lambda k: k.BatchNormalization(
            **RENORM, renorm_clipping={"rmin": 0.5, "rmax": 1.5, "dmax": 0.7}
        ),
        (6, 4),
        (4,),
    ),
    "batch_renorm_first": (
        lambda k: k.BatchNormalization(axis=1, center=False, **RENORM),
        (6, 4, 3),
        (4, 3),
    ),
    "batch_renorm_no_scale": (
        lambda k: k.BatchNormalization(
            scale=False, moving_variance_initializer="zeros", renorm_clipping={"rmax": 2}, **RENORM
        ),
        (6, 4),
        (4,),
    ),
    "layer": (lambda k: k.LayerNormalization(), (6, 5, 4), (5, 4)),
    "layer_lengths": (lambda k: k.LayerNormalization(), (6, 5, 4), (None, 4)),
    "layer_vector": (lambda k: k.LayerNormalization(epsilon=0.1), (6, 4), (4,)),
    "layer_axis": (lambda k: k.LayerNormalization(axis=1), (6, 5, 4), (5, 4)),
    "layer_axes": (lambda k: k.LayerNormalization(axis=[1, 2]), (6, 5, 4), (5, 4)),
    "layer_axes_other": (lambda k: k.LayerNormalization(axis=(2, 1)), (6, 5, 4), (5, 4)),
    "layer_axes_apart": (lambda k: k.LayerNormalization(axis=(1, 3)), (6, 5, 3, 4), (5, 3, 4)),
    "layer_no_center": (lambda k: k.LayerNormalization(center=False), (6, 4), (4,)),
    "layer_no_scale": (lambda k: k.LayerNormalization(scale=False), (6, 4), (4,)),
    "layer_neither": (lambda k: k.LayerNormalization(-1, 1e-3, False, False), (6, 4), (4,)),
    "layer_penalties": (lambda k: k.LayerNormalization(**PENALTIES), (6, 4), (4,)),
    "layer_starts": (lambda k: k.LayerNormalization(**STARTS), (6, 4), (4,)),
    "rms": (lambda k: k.RMSNormalization(), (6, 5, 4), (None, 4)),
    "rms_epsilon": (lambda k: k.RMSNormalization(epsilon=0.5), (6, 4), (4,)),
    "rms_axes": (lambda k: k.RMSNormalization(axis=[1, 2]), (6, 5, 4), (5, 4)),
    "unit": (lambda k: k.UnitNormalization(), (6, 5, 4), (None, 4)),
    "unit_axis": (lambda k: k.UnitNormalization(axis=1), (6, 5, 4), (5, 4)),
    "unit_axes": (lambda k: k.UnitNormalization(axis=(1, 2)), (6, 5, 4), (5, 4)),
    "group": (lambda k: k.GroupNormalization(2), (6, 5, 4), (None, 4)),
    "group_vector": (lambda k: k.GroupNormalization(groups=2, epsilon=0.1), (6, 8), (8,)),
    "group_one": (lambda k: k.GroupNormalization(1), (6, 3, 5, 4), (3, 5, 4)),
    "group_each": (lambda k: k.GroupNormalization(-1), (6, 3, 5, 4), (3, 5, 4)),
    "group_first": (lambda k: k.GroupNormalization(2, axis=1), (6, 4, 3, 5), (4, 3, 5)),
    "group_middle": (lambda k: k.GroupNormalization(2, axis=-2), (6, 3, 4, 5), (3, 4, 5)),
    "group_neither": (
        lambda k: k.GroupNormalization(2, center=False, scale=False),
        (6, 5, 4),
        (5, 4),
    ),
    "group_penalties": (lambda k: k.GroupNormalization(2, **PENALTIES), (6, 4), (4,)),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", CASES)
def test_as_keras(keras: Any, name: str, tmp_path: Any) -> None:
    make, size, shape = CASES[name]
    check_layer(
        keras,
        lambda library: make(library.layers),
        3 * normal(*size) + 1,
        [shape],
        rtol=1e-4,
        atol=1e-5,
        saved=tmp_path / "model.hmill",
    )
    check_config(keras, make(keras.layers), make(layers))


@pytest.mark.parametrize("make", (layers.LayerNormalization, lambda: layers.GroupNormalization(1)))
def test_a_large_mean_costs_no_digits(make: Any) -> None:
    x = normal(8, 64)
    far = (x + 4096.0).astype("float32")
    exact = far.astype("float64")
    exact = exact - exact.mean(-1, keepdims=True)
    exact /= np.sqrt((exact**2).mean(-1, keepdims=True) + 1e-3)
    # The mean is off by at most half a unit of 4096, 2^-12, and so is each difference.
    np.testing.assert_allclose(make()(far), exact, atol=2.0**-11)


def test_infinite_channels_have_infinite_means() -> None:
    """As in Keras, whatever row holds the infinity; rows are joined in parts."""
    for rows, at in ((7, 0), (100, 3), (100, 99), (5000, 40), (5000, 4999)):
        x = normal(rows, 5)
        x[at, 1], x[at, 2], x[at, 3] = np.inf, -np.inf, np.nan
        x[0, 4], x[rows - 1, 4] = np.inf, -np.inf
        layer = layers.BatchNormalization(momentum=0.0)
        layer(x, training=True)
        mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
        np.testing.assert_allclose(mean[0], x[:, 0].mean(), atol=1e-6)
        np.testing.assert_array_equal(mean[1:], [np.inf, -np.inf, np.nan, np.nan])
        np.testing.assert_array_equal(np.isnan(variance), [False, True, True, True, True])


@pytest.mark.parametrize("size", ((6, 5, 4), (3, 1), (1, 7)))
def test_rms_normalization_scales_along_its_axis(size: Any) -> None:
    x = normal(*size)
    layer = layers.RMSNormalization(axis=1)
    layer.build(size)
    scale = np.arange(1, size[1] + 1, dtype="float32")
    layer.set_weights([scale])
    want = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6)
    want = want * scale.reshape(1, -1, *[1] * (len(size) - 2))
    np.testing.assert_allclose(layer(x), want, rtol=1e-5, atol=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize(
    "call",
    (
        lambda k: k.LayerNormalization(axis="1"),
        lambda k: k.UnitNormalization(axis={1: 2}),
        lambda k: k.UnitNormalization(axis=3).compute_output_shape((2, 3)),
        lambda k: k.GroupNormalization(groups=0),
        lambda k: k.GroupNormalization(groups=-2),
        lambda k: k.GroupNormalization(groups=2.0),
        lambda k: k.GroupNormalization(groups=3).build((None, 4)),
        lambda k: k.GroupNormalization(groups=8).build((None, 4)),
        lambda k: k.GroupNormalization(2).build((None, None)),
        lambda k: k.SpectralNormalization(k.Dense(2), power_iterations=0),
        lambda k: k.SpectralNormalization(2),
        lambda k: k.SpectralNormalization(k.LayerNormalization()).build((None, 4)),
    ),
    ids=map(str, range(12)),
)
def test_what_keras_refuses_is_refused(keras: Any, call: Any) -> None:
    errors_of(keras, lambda library: call(library.layers))


@pytest.mark.parametrize("cls", (layers.LayerNormalization, layers.RMSNormalization))
def test_axes_that_do_not_exist_or_are_open_are_named(cls: Any) -> None:
    with pytest.raises(ValueError, match="Axis 3 is out of bounds"):
        cls(axis=3)(normal(2, 3))
    with pytest.raises(ValueError, match=r"axis 1 .* should have a defined dimension"):
        cls(axis=1)(handmill.Input((None, 3)))


def test_rms_scaling_of_older_models_is_kept(keras: Any) -> None:
    x = normal(6, 4)
    found = []
    for library in (keras, handmill):
        with pytest.warns(UserWarning, match="rms_scaling"):
            layer = library.layers.LayerNormalization(rms_scaling=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras says it at each call
            found.append(np.asarray(layer(x)))
        assert [w.name for w in layer.weights] == ["gamma"]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize(
    "make",
    (
        lambda k, d: k.layers.LayerNormalization(dtype=d),
        lambda k, d: k.layers.RMSNormalization(dtype=d),
        lambda k, d: k.layers.UnitNormalization(dtype=d),
        lambda k, d: k.layers.GroupNormalization(2, dtype=d),
    ),
    ids=("layer", "rms", "unit", "group"),
)
def test_bfloat16(keras: Any, make: Any) -> None:
    check_policy(keras, make, normal(6, 5, 8))


def test_masks_are_carried_where_keras_carries_them(keras: Any) -> None:
    for name in ("layer", "unit", "group", "rms"):
        for library in (keras, handmill):
            tensor = library.layers.Masking()(library.Input((5, 4)))
            layer = CASES[name][0](library.layers)
            if name == "rms":
                with pytest.warns(UserWarning, match="does not support masking"):
                    found = layer(tensor)
            else:
                found = layer(tensor)
            mask = found.mask if library is handmill else getattr(found, "_keras_mask", None)
            assert (mask is None) == (name == "rms")


@pytest.mark.peers
@pytest.mark.parametrize("axis", (-1, 1, (1, 2)))
@pytest.mark.parametrize("dtype", ("float32", "int32"))
def test_functions_are_those_of_keras(keras: Any, axis: Any, dtype: str) -> None:
    x = (5 * normal(6, 5, 4)).astype(dtype)
    axes = (axis,) if isinstance(axis, int) else axis
    size = tuple(x.shape[a] for a in axes)
    gamma, beta = normal(*size, seed=1), normal(*size, seed=2)
    for given in ({}, {"epsilon": 0.1}):
        for arguments in ((), (gamma,), (gamma, beta)):
            want = keras.ops.layer_normalization(x, *arguments, axis=axis, **given)
            found = ops.layer_normalization(x, *arguments, axis=axis, **given)
            assert found.dtype == np.asarray(want).dtype
            np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)
        want = keras.ops.rms_normalization(x, axis=axis, **given)
        np.testing.assert_allclose(
            ops.rms_normalization(x, axis=axis, **given), want, rtol=1e-5, atol=1e-6
        )


SPECTRAL: dict[str, Any] = {
    "dense": (lambda k: k.SpectralNormalization(k.Dense(3)), (6, 4)),
    "iterations": (lambda k: k.SpectralNormalization(k.Dense(3), power_iterations=4), (6, 4)),
    "einsum": (
        lambda k: k.SpectralNormalization(k.EinsumDense("abc,cde->abde", (None, 2, 3))),
        (6, 5, 4),
    ),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", SPECTRAL)
def test_spectral_normalization_called_in_training_is_that_of_keras(keras: Any, name: str) -> None:
    make, size = SPECTRAL[name]
    x = normal(*size)
    theirs, ours = make(keras.layers), make(layers)
    for layer in (theirs, ours):
        layer.build(size)
    same_weights(theirs, ours)
    check_config(keras, theirs, ours)
    for training in (False, True, True, False):
        want = np.asarray(theirs(x, training=training))
        np.testing.assert_allclose(ours(x, training=training), want, rtol=2e-5, atol=2e-6)
        for a, b in zip(ours.weights, theirs.weights, strict=True):
            np.testing.assert_allclose(a.numpy(), np.asarray(b.value), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("backend", ("native", "numpy"))
def test_a_training_step_moves_the_divided_kernel(backend: str, tmp_path: Any) -> None:
    x, y = normal(6, 4), normal(6, 3, seed=1)
    handmill.utils.set_random_seed(0)  # 20 turns are too few where two singular values are near
    with handmill.use_backend(backend):
        model = handmill.Sequential(
            [handmill.Input((4,)), layers.SpectralNormalization(layers.Dense(3), 20)]
        )
        kernel, _, bias = (5 * w for w in model.get_weights())
        u = np.ones((1, 3), "float32")
        model.set_weights([kernel, u, bias])
        model.compile(handmill.optimizers.SGD(0.1), "mse")
        model.train_on_batch(x, y)
        divided = kernel / np.linalg.norm(kernel, 2)
        error = 2 * (x @ divided + bias - y) / y.size
        found = model.get_weights()
        np.testing.assert_allclose(found[0], divided - 0.1 * x.T @ error, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[2], bias - 0.1 * error.sum(0), rtol=1e-4, atol=1e-5)
        model.fit(x, y, epochs=3, verbose=0)
        model.save(tmp_path / "model.hmill")
        again = handmill.models.load_model(tmp_path / "model.hmill")
        np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    program, _ = model.step_to_compare(x, y)
    assert [s["kernel"] for s in program.plan(x, y).summary() if s["host"]] == []


def test_spectral_normalization_of_embeddings_and_of_zeros() -> None:
    ids = np.array([[0, 1, 2], [2, 2, 3]], "int32")
    layer = layers.SpectralNormalization(layers.Embedding(4, 3), 30)
    layer(ids)
    table = normal(4, 3)
    layer.layer.set_weights([table])
    found = layer(ids, training=True)
    np.testing.assert_allclose(found, (table / np.linalg.norm(table, 2))[ids], rtol=1e-4)
    zeros = layers.SpectralNormalization(layers.Dense(3, kernel_initializer="zeros"))
    np.testing.assert_array_equal(zeros(normal(2, 4), training=True), np.zeros((2, 3)))
    assert np.isfinite(zeros.vector_u.numpy()).all()


def test_in_models_by_subclassing() -> None:
    class Net(handmill.Model):
        def __init__(self) -> None:
            super().__init__()
            self.parts = [
                layers.SpectralNormalization(layers.Dense(8)),
                layers.LayerNormalization(),
                layers.GroupNormalization(2),
                layers.RMSNormalization(),
                layers.UnitNormalization(),
            ]

        def call(self, x: Any) -> Any:
            for part in self.parts:
                x = part(x)
            return x

    x, y = normal(32, 4), normal(32, 8)
    results = []
    for eagerly in (False, True):
        handmill.utils.set_random_seed(0)
        net = Net()
        net.compile("sgd", "mse", run_eagerly=eagerly)
        results.append(net.fit(x, y, epochs=2, verbose=0, shuffle=False).history["loss"])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)


@pytest.mark.peers
@pytest.mark.parametrize(
    "given",
    (
        {"renorm": True, "renorm_clipping": {"max": 3.0}},
        {"renorm": True, "renorm_clipping": {"rmax": 1.0, "rmin": 2.0}},
        {"renorm": True, "renorm_clipping": {"dmax": -1.0}},
        {"synchronized": True},
    ),
)
def test_arguments_of_batch_normalization_that_mean_nothing(keras: Any, given: Any) -> None:
    theirs, ours = errors_of(keras, lambda k: k.layers.BatchNormalization(**given))
    assert ours[:20] == theirs[:20]
