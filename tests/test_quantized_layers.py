"""Depthwise, separable and recurrent layers with integer weights."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import handmill
from handmill import layers, ops, quantizers

RNG = np.random.default_rng(23)
SUFFIXES = ("hmill", "keras") if importlib.util.find_spec("h5py") else ("hmill",)
RECURRENT = (layers.SimpleRNN, layers.GRU, layers.LSTM)


def normal(*shape):
    return RNG.standard_normal(shape).astype("float32")


def recurrent(kind, **arguments):
    return handmill.Sequential(
        [
            layers.Input((6, 5)),
            layers.Masking(),
            kind(7, return_sequences=True, **arguments),
            layers.Bidirectional(kind(4, **arguments)),
            layers.Dense(3),
        ]
    )


def depthwise():
    return handmill.Sequential(
        [
            layers.Input((9, 9, 3)),
            layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu"),
            layers.SeparableConv2D(6, 3, strides=2, depth_multiplier=2),
            layers.Reshape((16, 6)),
            layers.DepthwiseConv1D(5, dilation_rate=2),
            layers.SeparableConv1D(4, 3, padding="same"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def static(x):
    return quantizers.Int8StaticQuantizationConfig(x)


def check_everywhere(model, x, found, folder):
    """The same bits in NumPy, in parts, and after files."""
    with handmill.use_backend("numpy"):
        np.testing.assert_array_equal(model.predict(x, verbose=0), found)
    parts = [model.predict(x[i : i + 4], verbose=0) for i in range(0, len(x), 4)]
    np.testing.assert_array_equal(np.concatenate(parts), found)
    for suffix in SUFFIXES:
        model.save(folder / f"m.{suffix}")
        loaded = handmill.models.load_model(folder / f"m.{suffix}")
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), found)
        assert [v.dtype for v in loaded.weights] == [v.dtype for v in model.weights]


@pytest.mark.parametrize(
    "kind", (*(pytest.param(x, marks=pytest.mark.slow) for x in RECURRENT[:2]), layers.LSTM)
)
def test_recurrent_layers(kind, tmp_path):
    model, x = recurrent(kind), normal(18, 6, 5)
    x[3, 4:] = 0
    want = model.predict(x, verbose=0)
    report = model.quantize("int8")
    assert len(report.quantized) == 4
    assert not report.skipped
    found = model.predict(x, verbose=0)
    assert 0 < np.abs(found - want).max() < 0.05 * np.abs(want).max()
    check_everywhere(model, x, found, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ({"activation": "relu"}, {"reset_after": False}))
def test_steps_of_other_gates(arguments, tmp_path):
    kind = layers.GRU if "reset_after" in arguments else layers.LSTM
    model, x = recurrent(kind, **arguments), normal(5, 6, 5)
    want = model.predict(x, verbose=0)
    model.quantize("int8")
    found = model.predict(x, verbose=0)
    assert 0 < np.abs(found - want).max() < 0.05 * np.abs(want).max()
    model.save(tmp_path / "m.hmill")
    loaded = handmill.models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), found)


def test_a_cell_and_a_layer_are_quantized_by_themselves():
    layer, x = layers.LSTM(8), normal(4, 3, 5)
    want = layer(x)
    layer.quantize("int8")
    names = [(v.name, v.dtype) for v in layer.weights]
    assert names == [
        ("bias", "float32"),  # what is trained comes first
        ("kernel", "int8"),
        ("kernel_scale", "float32"),
        ("recurrent_kernel", "int8"),
        ("recurrent_kernel_scale", "float32"),
    ]
    assert 0 < np.abs(layer(x) - want).max() < 0.03
    with pytest.raises(ValueError, match="already quantized"):
        layer.quantize("int8")
    again = layers.LSTM.from_config(layer.get_config())
    again.build((None, 3, 5))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), layer(x))


@pytest.mark.slow
def test_biases_of_quantized_layers_are_trained():
    model, x = recurrent(layers.GRU, recurrent_dropout=0.2, dropout=0.1), normal(32, 6, 5)
    model.quantize("int8")
    model.compile(handmill.optimizers.Adam(0.05), "mse")
    kernels = [v.numpy() for v in model.weights if v.dtype == "int8"]
    losses = model.fit(x, np.ones((32, 3), "float32"), epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    after = [v.numpy() for v in model.weights if v.dtype == "int8"]
    for a, b in zip(kernels, after, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", RECURRENT)
def test_gradient_goes_through_the_numbers_of_the_kernel(kind):
    exact, x = kind(6), normal(3, 4, 5)
    exact(x)
    small = kind(6)
    small(x)
    small.set_weights(exact.get_weights())
    small.quantize("int8")

    def slope(layer):
        v = handmill.Variable(x)
        with handmill.GradientTape() as tape:
            loss = ops.sum(layer(v.value))
        return np.asarray(tape.gradient(loss, v))

    want = slope(exact)
    assert 0 < np.abs(slope(small) - want).max() < 0.1 * np.abs(want).max()


@pytest.mark.slow
def test_depthwise_layers(tmp_path):
    model, x = depthwise(), normal(40, 9, 9, 3)
    want = model.predict(x, verbose=0)
    report = model.quantize(config=static(x))
    assert len(report.quantized) == 5
    assert not report.skipped
    found = model.predict(x, verbose=0)
    assert 0 < np.abs(found - want).max() < 0.1 * np.abs(want).max()
    check_everywhere(model, x, found, tmp_path)


def test_bytes_go_from_layer_to_layer():
    x = normal(40, 8, 8, 3)
    inner = [layers.DepthwiseConv2D(3, activation="relu"), layers.Conv2D(4, 1)]
    model = handmill.Sequential([layers.Input((8, 8, 3)), *inner])
    model.quantize(config=static(x))
    np.testing.assert_array_equal(model(x), inner[1](inner[0](x)))


def test_what_cannot_be_quantized_is_refused():
    model = depthwise()
    with pytest.warns(UserWarning, match="4 layers keep float weights"):
        report = model.quantize("int8")
    assert "steps that data decide" in " ".join(reason for _, reason in report.skipped)
    x = normal(40, 4, 5)
    model = handmill.Sequential([layers.Input((4, 5)), layers.LSTM(3), layers.Dense(2)])
    with pytest.warns(UserWarning, match="keeps? float weights"):
        report = model.quantize("int4")
    assert model.layers[0].cell.quantization_mode is None
    with pytest.raises(NotImplementedError, match="8 bits only"):
        model.layers[0].quantize("int4")
    with pytest.raises(NotImplementedError, match="states are measured at each step"):
        model.layers[0].quantize(config=static(x))
    own = quantizers.Int8QuantizationConfig(
        weight_quantizer=quantizers.AbsMaxQuantizer(value_range=(-100, 100))
    )
    with pytest.raises(NotImplementedError, match="no quantizers but its own"):
        model.layers[0].quantize(config=own)
    with pytest.raises(ValueError, match="isn't yet built"):
        layers.LSTM(3).quantize("int8")
    with pytest.raises(ValueError, match="call `model"):
        depthwise().layers[0].quantize(config=static(normal(40, 9, 9, 3)))
    first = handmill.Sequential(
        [layers.Input((3, 9, 9)), layers.DepthwiseConv2D(3, data_format="channels_first")]
    )
    with pytest.warns(UserWarning, match="keeps? float weights"):
        report = first.quantize(config=static(normal(40, 3, 9, 9)))
    assert "channels last" in report.skipped[0][1]


def test_weights_that_are_not_finite_are_refused_before_anything_is_changed():
    layer = layers.LSTM(3)
    layer.build((None, 4, 5))
    weights = layer.get_weights()
    weights[1][1, 1] = np.nan
    layer.set_weights(weights)
    with pytest.raises(ValueError, match="1 of its 36 weights of 'recurrent_kernel' are NaN"):
        layer.quantize("int8")
    assert layer.cell.quantization_mode is None
    np.testing.assert_array_equal(layer.get_weights()[0], weights[0])


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    (
        ("depthwise_kernel_scale", 0.0, "scales are finite numbers above 0"),
        ("inputs_scale", np.inf, "scales are finite numbers above 0"),
        ("inputs_zero", 3.5, "a whole number from 0 to 255"),
    ),
)
def test_numbers_in_files_are_looked_at(name, bad, message, tmp_path):
    x = normal(40, 8, 8, 3)
    model = handmill.Sequential([layers.Input((8, 8, 3)), layers.SeparableConv2D(4, 3)])
    model.quantize(config=static(x))
    variable = getattr(model.layers[0], name)
    variable.assign(np.full(variable.shape, bad, "float32"))
    model.save(tmp_path / "m.hmill")
    with pytest.raises(ValueError, match=message):
        handmill.models.load_model(tmp_path / "m.hmill")


def test_attention_of_groups_is_quantized_by_its_projections(tmp_path):
    inputs = layers.Input((5, 12))
    attention = layers.GroupQueryAttention(6, 4, 2)
    model = handmill.Model(inputs, attention(inputs, inputs))
    x = normal(3, 5, 12)
    want = model(x)
    assert len(model.quantize("int8").quantized) == 4
    assert np.abs(model(x) - want).max() < 0.05 * np.abs(want).max()
    model.save(tmp_path / "m.hmill")
    loaded = handmill.models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(loaded(x), model(x))
