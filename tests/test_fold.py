"""Batch normalizations as a part of the layers before them, and statistics that stay."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import handmill
from handmill import compress, layers, quantizers
from handmill.layers.layer import all_layers

RNG = np.random.default_rng(31)
STATIC = quantizers.Int8StaticQuantizationConfig


def normal(*shape):
    return RNG.standard_normal(shape).astype("float32")


def moved(model):
    """Lets normalizations have seen something: factors of both signs, one of them 0."""
    for layer in all_layers(model):
        if isinstance(layer, layers.BatchNormalization):
            size = layer.moving_mean.shape[0]
            layer.moving_mean.assign(normal(size))
            layer.moving_variance.assign(RNG.uniform(0.2, 3, size).astype("float32"))
            if layer.gamma is not None:
                gamma = normal(size)
                gamma[0] = 0
                layer.gamma.assign(gamma)
            if layer.beta is not None:
                layer.beta.assign(normal(size))
    return model


def network():
    handmill.utils.set_random_seed(5)
    x = i = layers.Input((10, 10, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="one")(x)
    x = y = layers.ReLU()(layers.BatchNormalization(name="n1")(x))
    x = layers.DepthwiseConv2D(3, padding="same", name="two")(x)
    x = layers.ReLU()(layers.BatchNormalization(scale=False, name="n2")(x))
    x = layers.SeparableConv2D(8, 3, padding="same", name="three")(x)
    x = layers.BatchNormalization(center=False, name="n3")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    x = layers.BatchNormalization(name="n4")(layers.Dense(6, name="four")(x))
    return moved(handmill.Model(i, layers.Dense(3)(x)))


def near(found, want, part=1e-5):
    assert np.abs(found - want).max() <= part * np.abs(want).max()


def test_floats_compute_the_same():
    model, x = network(), normal(5, 10, 10, 3)
    before, want = model.get_weights(), model.predict(x, verbose=0)
    report = compress.fold_report(model)
    assert [row[:2] for row in report.rows if not row[2]] == [
        ("n1", "one"), ("n2", "two"), ("n3", "three"), ("n4", "four"),
    ]  # fmt: skip
    made = report.model
    near(made.predict(x, verbose=0), want)
    assert all(map(np.array_equal, before, model.get_weights()))
    assert not [v for v in made.layers if isinstance(v, layers.BatchNormalization)]
    assert made.get_layer("one").use_bias
    made.compile("sgd", "mse")
    made.fit(x, want, verbose=0)
    with pytest.raises(ValueError, match=r"no batch normalization that can be folded$"):
        compress.fold_batch_normalization(made)


def test_nested_first_and_sequential():
    inner = handmill.Sequential([
        layers.Input((3, 8, 8)), layers.Conv2D(5, 3, data_format="channels_first"),
        layers.BatchNormalization(axis=1), layers.Activation("relu"),
    ])  # fmt: skip
    model = handmill.Sequential(
        [inner, layers.Flatten(), layers.Dense(4), layers.BatchNormalization()]
    )
    x = normal(3, 3, 8, 8)
    model(x)
    moved(model)
    report = compress.fold_report(model)
    assert str(report).startswith("2 of 2 batch normalizations folded")
    near(report.model.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.slow
@pytest.mark.parametrize("config", (
    quantizers.Int8QuantizationConfig(activation_quantizer=None),
    quantizers.Int4QuantizationConfig(block_size=7),
    quantizers.Int4QuantizationConfig(block_size=-1),
    "static",
), ids=("8 bits", "groups", "one scale", "static"))  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*keeps? float weights")
def test_integers_stay_what_they_are(config):
    """With a scale for each output it is the same to round before or after."""
    model, x = network(), normal(40, 10, 10, 3)
    folded_first = compress.fold_batch_normalization(model)
    for one in (model, folded_first):
        one.quantize(config=STATIC(x) if config == "static" else config, verbose=False)
    want = model.predict(x, verbose=0)
    report = compress.fold_report(model)
    made = report.model
    near(made.predict(x, verbose=0), want, 1e-2 if config == "static" else 1e-5)
    assert sum(v.numpy().nbytes for v in made.weights) < sum(
        v.numpy().nbytes for v in model.weights
    )
    if getattr(config, "block_size", 0) == -1:  # -8 cannot be turned
        assert all("-8" in why for *_, why in report.rows if why)
        return
    assert not [why for *_, why in report.rows if why]
    layer, other = (m.get_layer("one") for m in (made, folded_first))
    if not getattr(config, "block_size", 0):
        differ = layer._table.numpy().astype(int) - other._table.numpy()
        assert np.abs(differ).max() <= 1  # where the 1e-7 of the magnitude counts
        assert (differ == 0).mean() > 0.995
        live = layer.kernel_scale.numpy() > 0
        live[0] = False  # a factor of 0 leaves no number to compare
        a, b = layer.kernel_scale.numpy()[live], other.kernel_scale.numpy()[live]
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_what_stays_says_why():
    i = layers.Input((6,))
    norm = layers.BatchNormalization
    shared = layers.Dense(6, name="shared")
    used = layers.Dense(6, name="used")(i)
    outputs = [
        norm(name="a")(layers.Dense(6, "relu")(i)),
        norm(name="b")(i),
        norm(name="c")(used), used,
        norm(name="d")(shared(i)), shared(shared(i)),
        norm(name="e", axis=1)(layers.Conv1D(3, 2)(layers.Reshape((6, 1))(i))),
        norm(name="f")(layers.Dense(6)(i)),
        norm(name="g", axis=2)(layers.Dense(4)(layers.Reshape((3, 2))(i))),
    ]  # fmt: skip
    model = handmill.Model(i, outputs)
    why = {name: reason for name, _, reason in compress.fold_report(model).rows}
    assert why["a"].endswith("has an activation before it")
    assert why["b"] == "there is no dense or convolutional layer right before it"
    assert why["c"] == "others use what 'used' gives, too"
    assert why["d"] == "it or the layer before it is used several times"
    assert why["e"] == "it normalizes axis 1, which is not that of the channels"
    assert why["f"] == why["g"] == ""
    bad = network()
    bad.get_layer("n1").moving_variance.assign(np.full(8, np.nan, "float32"))
    assert "NaN" in dict((n, w) for n, _, w in compress.fold_report(bad).rows)["n1"]
    only = handmill.Sequential([layers.Input((6,)), norm(name="b")])
    with pytest.raises(ValueError, match="can be folded: b: there is no dense"):
        compress.fold_batch_normalization(only)
    aware = network()
    compress.quantize_aware(aware, "int4")
    with pytest.raises(ValueError, match="simulate quantization: fold normalizations of"):
        compress.fold_batch_normalization(aware)


def small(seed=7):
    handmill.utils.set_random_seed(seed)
    model = handmill.Sequential([
        layers.Input((10, 10, 3)), layers.Conv2D(8, 3, use_bias=False), layers.BatchNormalization(),
        layers.ReLU(), layers.Conv2D(8, 3, use_bias=False), layers.BatchNormalization(),
        layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax"),
    ])  # fmt: skip
    loss = "sparse_categorical_crossentropy"
    model.compile(handmill.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def test_statistics_stay_from_a_step_on():
    x, y = normal(64, 10, 10, 3), RNG.integers(0, 3, 64)
    model = small()
    norms = [v for v in model.layers if isinstance(v, layers.BatchNormalization)]
    seen = []

    class Note(handmill.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append([norms[0].moving_mean.numpy(), norms[0].gamma.numpy()])

    freeze = handmill.callbacks.FreezeStatistics(after=5)
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[freeze, Note()])
    means, gammas = zip(*seen, strict=True)
    moves = [not np.array_equal(a, b) for a, b in itertools.pairwise(means)]
    assert moves == [True] * 4 + [False] * 3
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(gammas))
    assert not norms[0].statistics_frozen
    # The last steps computed what inference does.
    held = model.get_weights()
    twin = small()
    twin.set_weights(held)
    for layer in twin.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.statistics_frozen = True
    loss = twin.train_on_batch(x[:16], y[:16])[0]
    twin.set_weights(held)
    assert loss == pytest.approx(twin.evaluate(x[:16], y[:16], verbose=0)[0], rel=1e-5)
    plain = handmill.Sequential([layers.Input((3,)), layers.Dense(1)])
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match="nothing to freeze"):
        plain.fit(x[:, 0, 0], y, verbose=0, callbacks=[freeze])
    with pytest.raises(ValueError, match="after"):
        handmill.callbacks.FreezeStatistics(-1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*keeps? float weights")
def test_training_quantizing_and_folding_agree():
    """What training measured is what the model without normalizations gives."""
    x = normal(256, 10, 10, 3)
    y = (x[..., 0].mean(axis=(1, 2)) > 0).astype("int32") + (x[:, 0, 0, 1] > 1)
    model = small()
    model.fit(x, y, epochs=2, verbose=0)
    compress.quantize_aware(model, config=STATIC(x[:64]), freeze_after=20)
    freeze = handmill.callbacks.FreezeStatistics(after=24)
    model.fit(x, y, epochs=3, verbose=0, callbacks=[freeze])
    simulated, accuracy = model.predict(x, verbose=0), model.evaluate(x, y, verbose=0)[1]
    model.quantize("int8", verbose=False)
    np.testing.assert_allclose(model.predict(x, verbose=0), simulated, atol=1e-6)
    made = compress.fold_batch_normalization(model)
    found = made.predict(x, verbose=0)
    assert np.abs(found - simulated).max() < 2e-2
    assert np.mean(found.argmax(1) == y) == pytest.approx(accuracy, abs=0.005)
