"""Convolutions whose weights alone are integers: 4 bits in groups or not, and 8 bits."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import handmill
from handmill import compress, layers, quantizers

RNG = np.random.default_rng(29)
SUFFIXES = ("hmill", "keras") if importlib.util.find_spec("h5py") else ("hmill",)
INT4, INT8 = quantizers.Int4QuantizationConfig, quantizers.Int8QuantizationConfig
CONFIGS = {
    "groups": INT4(),
    "short groups": INT4(block_size=5),
    "one scale": INT4(block_size=-1),
    "8 bits": INT8(activation_quantizer=None),
}
KINDS = {
    "Conv1D": ((12, 3), lambda: layers.Conv1D(5, 3, padding="causal", dilation_rate=2)),
    "Conv2D": ((9, 9, 3), lambda: layers.Conv2D(6, 3, strides=2, activation="relu")),
    "groups": ((9, 9, 4), lambda: layers.Conv2D(6, 3, groups=2, padding="same")),
    "Conv3D": ((5, 5, 5, 2), lambda: layers.Conv3D(3, 2)),
    "channels_first": ((3, 9, 9), lambda: layers.Conv2D(5, 3, data_format="channels_first")),
    "DepthwiseConv1D": ((12, 3), lambda: layers.DepthwiseConv1D(5, dilation_rate=2)),
    "DepthwiseConv2D": ((9, 9, 3), lambda: layers.DepthwiseConv2D(3, depth_multiplier=3)),
    "SeparableConv1D": ((12, 3), lambda: layers.SeparableConv1D(4, 3, padding="same")),
    "SeparableConv2D": ((9, 9, 3), lambda: layers.SeparableConv2D(7, 3, depth_multiplier=2)),
}


def normal(*shape):
    return RNG.standard_normal(shape).astype("float32")


def made(kind):
    shape, layer = KINDS[kind]
    model = handmill.Sequential([layers.Input(shape), layer()])
    model.layers[0].bias.assign(normal(*model.layers[0].bias.shape))
    return model, normal(3, *shape)


def rounded(kernel, config, axes):
    """The numbers that the integers of a kernel stand for, by NumPy alone, and their bytes."""
    outputs = int(np.prod(kernel.shape[-axes:]))
    matrix = kernel.reshape(-1, outputs)
    one = np.float32(1)
    if config.mode == "int8":
        scale = np.float32(127) / (np.abs(matrix).max(0) + np.float32(1e-7))
        q, count = np.clip(np.round(matrix * scale), -127, 127), matrix.size + 4 * outputs
        return (q / scale).astype("float32").reshape(kernel.shape), count
    packed = len(matrix) * ((outputs + 1) // 2)
    if config.block_size == -1:
        scale = np.float32(7) / (np.abs(matrix).max(0) + np.float32(1e-7))
        q = np.clip(np.round(matrix * scale), -8, 7)
        return (q / scale).astype("float32").reshape(kernel.shape), packed + 4 * outputs
    found = np.empty_like(matrix)
    starts = range(0, len(matrix), config.block_size)
    for start in starts:
        part = matrix[start : start + config.block_size]
        low, high = np.minimum(part.min(0), 0), np.maximum(part.max(0), 0)
        step = (high - low + np.float32(1e-7)) / np.float32(15)
        zero = np.clip(np.round(-low / step) - 8 * one, -8, 7)
        q = np.clip(np.round(part / step) + zero, -8, 7)
        found[start : start + config.block_size] = (q - zero) * step
    return found.reshape(kernel.shape), packed + 5 * outputs * len(starts)


CASES = [
    pytest.param(kind, name, marks=() if name == "groups" and "2D" in kind else pytest.mark.slow)
    for kind in KINDS
    for name in CONFIGS
]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_they_compute_with_the_numbers_that_integers_stand_for(kind, name, tmp_path):
    (model, x), config = made(kind), CONFIGS[name]
    float_model = handmill.models.clone_model(model)
    weights, size = [], 0
    for variable in model.layers[0].weights:
        array = variable.numpy()
        if "kernel" in variable.name:
            alone = "depthwise" in variable.path or kind.startswith("Depthwise")
            array, count = rounded(array, config, 2 if alone else 1)
            size += count
        else:
            size += array.nbytes
        weights.append(array)
    float_model.set_weights(weights)
    want = float_model.predict(x, verbose=0)
    report = model.quantize(config=config, verbose=False)
    assert not report.skipped
    assert report.quantized[0][1] == config.mode
    assert f"weights of {config.mode[-1]} bits" in report.quantized[0][2]
    assert "float inputs" in report.quantized[0][2]
    found = model.predict(x, verbose=0)
    np.testing.assert_array_equal(found, want)
    assert report.bytes_after == size
    with handmill.use_backend("numpy"):
        np.testing.assert_allclose(model.predict(x, verbose=0), found, atol=2e-5)
    for suffix in SUFFIXES:
        model.save(tmp_path / f"m.{suffix}")
        loaded = handmill.models.load_model(tmp_path / f"m.{suffix}")
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), found)
        assert [v.dtype for v in loaded.weights] == [v.dtype for v in model.weights]
    again = handmill.models.clone_model(model)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again.predict(x, verbose=0), found)


def test_each_layer_says_what_was_done():
    model = handmill.Sequential([
        layers.Input((8, 8, 2)), layers.Conv2D(4, 3, name="first"),
        layers.BatchNormalization(name="norm"),
        layers.DepthwiseConv2D(3, name="depths"), layers.Conv2DTranspose(3, 2, name="back"),
        layers.Reshape((25, 3)), layers.RNN(layers.LSTMCell(4, name="cell")),
        layers.Dense(4, name="head"), layers.Dense(2, name="last"),
    ])  # fmt: skip
    with pytest.warns(UserWarning, match="1 layer keeps float weights"):
        first = model.quantize("int8", filters="head|cell|back", verbose=False)
    with pytest.warns(UserWarning, match="keeps? float weights"):
        second = model.quantize("int4", filters="first|depths|norm|back|head", verbose=False)
    for report in (first, second):
        named = [path for path, *_ in (*report.quantized, *report.skipped)]
        assert len(named) == len(set(named)) == 7
    done = {
        path.rpartition("/")[2]: mode for path, mode, _ in (*first.quantized, *second.quantized)
    }
    assert done == {"head": "int8", "cell": "int8", "first": "int4", "depths": "int4"}
    left = {path.rpartition("/")[2]: why for path, why in second.skipped}
    assert left["head"] == "already quantized: int8_from_float32"
    assert left["last"] == "filtered out"
    assert left["back"] == "no quantize support"
    assert left["norm"].startswith("one number for each feature")
    assert np.isfinite(model.predict(normal(2, 8, 8, 2), verbose=0)).all()


def test_what_is_refused():
    model, x = made("Conv2D")
    rows = INT4(activation_quantizer=quantizers.AbsMaxQuantizer(), block_size=-1)
    for config in (INT8(), rows):
        for kind in ("Conv2D", "DepthwiseConv2D"):
            layer = made(kind)[0].layers[0]
            with pytest.raises(NotImplementedError, match=r"steps that data decide.*weights alone"):
                layer.quantize(config=config)
    first = made("channels_first")[0]
    with pytest.raises(NotImplementedError, match="channels last; weights alone"):
        first.layers[0]._check_quantizable(quantizers.Int8StaticQuantizationConfig(x), True)
    layer = model.layers[0]
    kernel = layer.kernel.numpy()
    kernel[0, 0, 0, 0] = np.nan
    layer.kernel.assign(kernel)
    with pytest.raises(ValueError, match="NaN or infinite"):
        layer.quantize("int4")
    assert layer.quantization_mode is None
    np.testing.assert_array_equal(layer.kernel.numpy(), kernel)


def test_biases_and_what_lora_adds_are_trained():
    model, x = made("Conv2D")
    model.quantize("int4", verbose=False)
    before = model.predict(x, verbose=0)
    handmill.utils.set_random_seed(1)
    model.layers[0].enable_lora(2)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    model.compile(handmill.optimizers.Adam(0.05), "mse")
    model.fit(x, before + 1, epochs=20, verbose=0)
    assert np.square(model.predict(x, verbose=0) - before - 1).mean() < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_training_simulates_it(name):
    config = CONFIGS[name]
    handmill.utils.set_random_seed(3)
    model = handmill.Sequential([
        layers.Input((10, 10, 3)), layers.Conv2D(16, 3, activation="relu"),
        layers.DepthwiseConv2D(3, name="depths"), layers.Conv2D(8, 3, strides=2),
        layers.Flatten(), layers.Dense(4),
    ])  # fmt: skip
    model.compile("sgd", "mse")
    report = compress.quantize_aware(model, config=config)
    assert len(report.simulated) == 3
    assert report.skipped == ((model.get_layer("depths").path, "quantized after training only"),)
    x = normal(32, 10, 10, 3)
    before = model.layers[0].kernel.numpy()
    model.fit(x, x[:, :4, 0, 0], epochs=2, verbose=0)
    assert not np.array_equal(model.layers[0].kernel.numpy(), before)
    simulated = model.predict(x, verbose=0)
    done = model.quantize(config.mode, verbose=False)
    assert len(done.quantized) == 3
    np.testing.assert_array_equal(model.predict(x, verbose=0), simulated)


@pytest.mark.slow
@pytest.mark.peers
def test_they_are_exported_as_floats(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model, x = made("SeparableConv2D")
    model.quantize("int4", verbose=False)
    want = model.predict(x, verbose=0)
    model.export(tmp_path / "m.onnx", format="onnx")
    session = runtime.InferenceSession(tmp_path / "m.onnx")
    found = session.run(None, {session.get_inputs()[0].name: x})[0]
    np.testing.assert_allclose(found, want, atol=1e-5)
