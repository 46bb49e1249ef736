"""Whole models with integer weights: what is quantized, what is refused, what is the same."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import layers, ops, quantizers
from handmill.models import calibration
from handmill.models.quantization import QuantizationReport

RNG = np.random.default_rng(11)


def normal(*shape):
    return RNG.standard_normal(shape).astype("float32")


def dense():
    return handmill.Sequential(
        [layers.Input((20,)), layers.Dense(32, "relu"), layers.Dense(4, name="head")]
    )


def convolutional():
    return handmill.Sequential([
        layers.Input((10, 10, 3)),
        layers.Conv2D(8, 3, activation="relu", padding="same"),
        layers.Conv2D(8, 3, strides=2),
        layers.Flatten(),
        layers.Dense(4),
    ])  # fmt: skip


def static(x, **how):
    return quantizers.Int8StaticQuantizationConfig(x, **how)


def state(model):
    return [(v.path, v.dtype, v.numpy().tobytes()) for v in model.weights]


def test_the_report_names_every_layer_with_weights():
    model = handmill.Sequential([
        layers.Input((6, 6, 2)), layers.Conv2D(3, 3), layers.BatchNormalization(),
        layers.Flatten(), layers.Dense(16, name="body"), layers.Dense(4, name="head"),
    ])  # fmt: skip
    report = model.quantize("int8", filters="body")
    assert isinstance(report, QuantizationReport)
    assert [path.rpartition("/")[2] for path, *_ in report.quantized] == ["body"]
    assert len(report.skipped) == 3
    assert "filtered out" in dict(report.skipped).values()
    assert report.bytes_after < report.bytes_before
    with pytest.warns(UserWarning, match="1 layer keeps float weights"):
        again = model.quantize("int8", filters=["body", "conv", "norm"])
    assert again.quantized == []
    assert "already quantized: int8_from_float32" in dict(again.skipped).values()


FOUR_BITS_BY_ROWS = quantizers.Int4QuantizationConfig(
    activation_quantizer=quantizers.AbsMaxQuantizer(), block_size=-1
)
"""Weights of 4 bits, inputs of 8, products of whole numbers."""


def test_numpy_gives_the_same_bits():
    for model, x, config in (
        (dense(), normal(9, 20), quantizers.Int8QuantizationConfig()),
        (dense(), normal(9, 20), FOUR_BITS_BY_ROWS),
        (convolutional(), normal(40, 10, 10, 3), None),
    ):
        model.quantize(config=config or static(x))
        want = model.predict(x, verbose=0)
        with handmill.use_backend("numpy"):
            np.testing.assert_array_equal(model.predict(x, verbose=0), want)
        parts = [model.predict(x[i : i + 3], verbose=0) for i in range(0, len(x), 3)]
        np.testing.assert_array_equal(np.concatenate(parts), want)


@pytest.mark.parametrize("observer", quantizers._OBSERVERS)
def test_static_steps_are_close_and_return_from_files(observer, tmp_path):
    model, x = convolutional(), normal(48, 10, 10, 3)
    want = model.predict(x, verbose=0)
    model.quantize(config=static(x, observer=observer))
    found = model.predict(x, verbose=0)
    assert np.abs(found - want).max() < 0.1 * np.abs(want).max()
    for v in model.weights:
        if v.name == "inputs_scale":
            assert v.numpy() > 0
    model.save(tmp_path / "m.hmill")
    loaded = handmill.models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), found)


def test_masks_and_exemptions_stay_with_their_weights():
    """Both are kept by position; the kernels before them are gone."""
    model, x = dense(), normal(64, 20)
    optimizer = handmill.optimizers.AdamW(0.01, weight_decay=0.5)
    model.compile(optimizer, "mse")
    head, bias = model.layers[1], model.layers[1].bias
    optimizer.exclude_from_weight_decay(var_list=[bias])
    model.fit(x, x[:, :4], verbose=0)
    handmill.compress.prune(model, 0.5, scope="layer")
    gone = head.kernel.numpy() == 0
    model.quantize("int8", filters=lambda layer: layer is not head)
    model.fit(x, x[:, :4], epochs=2, verbose=0)
    assert gone.sum() > 10
    np.testing.assert_array_equal(head.kernel.numpy()[gone], 0)
    assert np.count_nonzero(head.kernel.numpy()[~gone])
    assert model.optimizer.decay_of(bias) is None
    assert model.optimizer.decay_of(head.kernel) == 0.5
    model.quantize("int8")
    assert "masked" not in model.optimizer.get_config()
    model.fit(x, x[:, :4], verbose=0)


@pytest.mark.parametrize("rows", (100, 2000))
def test_zeros_of_a_relu_do_not_narrow_the_range(rows):
    """All numbers of a relu tell as much: half of them are 0, which every step holds exactly."""
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(rows, 20)), 0)
    for given in (x, -x, np.where(rng.random(x.shape) < 0.8, 0, rng.normal(size=x.shape))):
        counts = np.histogram(given, 2048, (given.min(), given.max()))[0]
        low, high = calibration._entropy(counts, given.min(), given.max())
        assert high - low > 0.8 * np.ptp(given)  # 0.3 to 0.5 with the zeros
    outlier = np.append(np.repeat(x, 20), 1000 * x.max())
    counts = np.histogram(outlier, 2048, (0.0, outlier.max()))[0]
    assert calibration._entropy(counts, 0.0, outlier.max())[1] < 0.31 * outlier.max()


def test_bytes_go_from_layer_to_layer():
    """An int8 convolution hands bytes to the next one: same numbers, no float image between."""
    model, x = convolutional(), normal(40, 10, 10, 3)
    model.quantize(config=static(x))
    first, second = model.layers[0], model.layers[1]
    middle = first(x)
    assert middle.dtype == "float32"
    whole = handmill.Sequential([layers.Input((10, 10, 3)), first, second])
    np.testing.assert_array_equal(whole(x), second(middle))


def test_pixels_are_bytes_already():
    x = RNG.integers(0, 256, (5, 30)).astype("uint8")
    model = handmill.Sequential([layers.Input((30,), dtype="uint8"), layers.Dense(7)])
    kernel = model.layers[0].kernel.numpy()
    model.quantize("int8")
    q, scale = quantizers.abs_max_quantize(kernel, 0, to_numpy=True)
    want = (x.astype(int) @ q.astype(int)).astype("float32") * (np.float32(1) / scale[0])
    np.testing.assert_array_equal(model(x), want)


def test_attention_is_quantized_by_its_projections(tmp_path):
    inputs = layers.Input((5, 8))
    model = handmill.Model(inputs, layers.MultiHeadAttention(2, 4)(inputs, inputs))
    x = normal(2, 5, 8)
    want = model(x)
    assert len(model.quantize("int8").quantized) == 4
    assert np.abs(model(x) - want).max() < 0.05 * np.abs(want).max()
    model.save(tmp_path / "m.hmill")
    loaded = handmill.models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize(
    "optimizer",
    (
        lambda: handmill.optimizers.Adam(0.01),
        lambda: handmill.optimizers.SGD(0.01, momentum=0.9, use_ema=True),
        lambda: handmill.optimizers.LossScaleOptimizer(handmill.optimizers.AdamW(0.01)),
    ),
)
def test_the_optimizer_goes_on_with_what_is_left(optimizer):
    model, x = dense(), normal(64, 20)
    model.compile(optimizer(), "mse")
    model.fit(x, x[:, :4], epochs=2, verbose=0)
    model.optimizer.learning_rate = 0.003
    was = {v.name: v.numpy() for v in model.optimizer.variables}
    model.quantize("int8", filters="head")
    now = {v.name: v.numpy() for v in model.optimizer.variables}
    gone = set(was) - set(now)
    assert gone
    assert all("head_kernel" in name for name in gone)
    for name, value in now.items():
        np.testing.assert_array_equal(value, was[name], name)
    assert any("bias" in name and value.any() for name, value in now.items())
    model.fit(x, x[:, :4], verbose=0)
    assert int(model.optimizer.iterations) == 3 * 2  # batches of 32 rows


def test_what_is_left_is_trained():
    model, x = dense(), normal(64, 20)
    y = x[:, :4]
    model.compile("adam", "mse")
    model.fit(x, y, epochs=1, verbose=0)
    model.quantize("int8")
    model.layers[0].enable_lora(2)
    model.compile("adam", "mse")
    frozen = model.layers[0]._kernel.numpy()
    losses = model.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(model.layers[0]._kernel, frozen)


def test_gradient_goes_through_to_inputs():
    model, x = handmill.Sequential([layers.Input((20,)), layers.Dense(7)]), normal(3, 20)
    exact = handmill.Sequential([layers.Input((20,)), layers.Dense(7)])
    exact.set_weights(model.get_weights())
    model.quantize("int8")

    def slope(net):
        v = handmill.Variable(x)
        with handmill.GradientTape() as tape:
            loss = ops.sum(net(v.value))
        return np.asarray(tape.gradient(loss, v))

    # Each weight is half a step of 1/127 of its column's largest away, at most.
    most = np.abs(exact.get_weights()[0]).max(0).sum() / 254
    assert 0 < np.abs(slope(model) - slope(exact)).max() <= 1.01 * most


def test_merged_lora_is_stored(tmp_path):
    pytest.importorskip("h5py")
    model, x = dense(), normal(8, 20)
    model.quantize("int8")
    model.layers[0].enable_lora(2)
    model.layers[0].lora_kernel_b.assign(0.1 * normal(2, 32))
    want = model(x)
    model.save_weights(tmp_path / "m.weights.h5")
    plain = dense()
    plain.quantize("int8")
    plain.load_weights(tmp_path / "m.weights.h5")
    assert np.abs(plain(x) - want).max() < 0.05 * np.abs(want).max()


@pytest.mark.parametrize(
    ("config", "message"),
    (
        (static(None), "calibration_data"),
        (static(np.zeros((0, 20), "float32")), "holds no rows"),
        (static(np.full((40, 20), np.nan, "float32")), r"holds nan in row 0 at \(0,\)"),
        (static([]), "holds no rows"),
        (static(3.0), "calibration_data.*Received: 3.0"),
        (static("rows"), "calibration_data.*Received: 'rows'"),
        (static([[1.0] * 20] * 40), r"arrays of rows.*Received a batch of \[1.0"),
        (static(["rows"]), "Received a batch of 'rows'"),
        (static(np.full((40, 20), -3e38, "float32")), r"layer 'head' reach|inputs of layer"),
        (static(normal(40, 20) * np.float32(8e37)), "ranges need finite numbers. Scale"),
    ),
)
def test_data_that_say_nothing_are_refused(config, message):
    model = dense()
    before = state(model)
    with pytest.raises(ValueError, match=message):
        model.quantize(config=config)
    assert state(model) == before


def test_few_and_constant_rows_are_warned_of():
    with pytest.warns(UserWarning, match="only 4 rows"):
        dense().quantize(config=static(normal(4, 20)))
    with pytest.warns(UserWarning, match="one and the same number"):
        dense().quantize(config=static(np.ones((64, 20), "float32")))
    with pytest.warns(UserWarning, match="only 6 rows were there, of 512"):
        dense().quantize(config=static(iter([normal(3, 20), (normal(3, 20), "labels")])))


def test_weights_that_are_not_finite_are_refused_before_anything_is_changed():
    model = dense()
    kernel = model.get_weights()
    kernel[2][1, 1] = np.inf
    model.set_weights(kernel)
    before = state(model)
    with pytest.raises(ValueError, match=r'"head".* 1 of its 128 weights are NaN or infinite'):
        model.quantize("int8")
    assert state(model) == before
    assert model.layers[0].quantization_mode is None


def test_wrong_requests_are_refused():
    for filters in ("(", ["head", "*"], [3]):
        with pytest.raises(ValueError, match="`filters` holds no regular expressions"):
            dense().quantize("int8", filters=filters)
    model = dense()
    with pytest.raises(ValueError, match="Invalid quantization mode"):
        model.quantize("int7")
    with pytest.raises(ValueError, match="is not supported"):
        model.quantize("gptq")
    with pytest.raises(ValueError, match="Contradictory"):
        model.quantize("int8", config=quantizers.Int4QuantizationConfig())
    with pytest.raises(ValueError, match="either `mode` or `config`"):
        model.quantize()
    with pytest.raises(ValueError, match="`filters`"):
        model.quantize("int8", filters=3)
    with pytest.raises(ValueError, match="isn't yet built"):
        handmill.Sequential([layers.Dense(3)]).quantize("int8")
    with pytest.raises(ValueError, match="isn't yet built"):
        layers.Dense(3).quantize("int8")
    with pytest.raises(ValueError, match="call `model"):
        model.layers[0].quantize(config=static(normal(40, 20)))
    with pytest.raises(NotImplementedError, match="does not have a `quantize"):
        layers.Flatten().quantize("int8")
    assert model.layers[0].quantization_mode is None
    model.quantize("int8")
    with pytest.raises(ValueError, match="already quantized"):
        model.layers[0].quantize("int8")


def test_not_while_training():
    model, x = dense(), normal(32, 20)
    model.compile("sgd", "mse")

    class Quantizing(handmill.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            model.quantize("int8")

    with pytest.raises(RuntimeError, match="while it is trained"):
        model.fit(x, x[:, :4], verbose=0, callbacks=[Quantizing()])
    assert model.layers[0].quantization_mode is None


def test_models_with_static_steps_are_not_trained():
    model, x = dense(), normal(40, 20)
    model.quantize(config=static(x))
    model.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match="are called, not trained"):
        model.fit(x, x[:, :4], verbose=0)


def test_channels_of_zeros_stay_zero():
    model, x = dense(), normal(4, 20)
    weights = model.get_weights()
    weights[2][:, 1] = 0.0
    model.set_weights(weights)
    model.quantize("int8")
    np.testing.assert_array_equal(model(x)[:, 1], np.float32(weights[3][1]))


def test_a_shared_layer_is_quantized_once():
    inputs = layers.Input((6,))
    shared = layers.Dense(6)
    model = handmill.Model(inputs, shared(shared(inputs)))
    assert len(model.quantize("int8").quantized) == 1


@pytest.mark.parametrize("units", (3, 4))
def test_groups_need_not_fit(units):
    model = handmill.Sequential([layers.Input((10,)), layers.Dense(units)])
    x = normal(3, 10)
    want = model(x)
    model.quantize(config=quantizers.Int4QuantizationConfig(block_size=4))
    assert model.layers[0]._kernel.shape == (10, 2)
    assert model.layers[0].kernel_scale.shape == (3, units)
    assert np.abs(model(x) - want).max() < 0.35 * np.abs(want).max()


def test_mixed_bfloat16_keeps_its_dtype():
    pytest.importorskip("ml_dtypes")
    model = handmill.Sequential(
        [layers.Input((20,)), layers.Dense(8, dtype="mixed_bfloat16", activation="relu")]
    )
    model.quantize("int8")
    assert model.layers[0].dtype_policy.name == "int8_from_mixed_bfloat16"
    assert model(normal(2, 20)).dtype.name == "bfloat16"


def test_a_copy_is_quantized_too():
    model, x = dense(), normal(3, 20)
    model.quantize("int8")
    copy = handmill.models.clone_model(model)
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy(x), model(x))
    assert layers.Dense(3, dtype="int8").quantization_mode is None
    fresh = handmill.Sequential([layers.Input((4,)), layers.Dense(3, dtype="int8_from_float32")])
    np.testing.assert_array_equal(fresh(normal(2, 4)), np.zeros((2, 3)))


@pytest.mark.parametrize("bad", (0.0, -1.0, np.nan, np.inf, 1e-35))
def test_scales_in_files_are_looked_at(bad, tmp_path):
    model, fresh = dense(), dense()
    model.quantize("int8")
    fresh.quantize("int8")
    scale = model.layers[1].kernel_scale
    scale.assign(np.where(np.arange(4) == 2, np.float32(bad), scale.numpy()))
    before = state(fresh)
    model.save(tmp_path / "m.hmill")
    model.save_weights(tmp_path / "m.weights.hmill")
    with pytest.raises(ValueError, match=r'"head".* scales are finite numbers above 0'):
        handmill.models.load_model(tmp_path / "m.hmill")
    with pytest.raises(ValueError, match=r'"head".* scales are finite numbers above 0'):
        fresh.load_weights(tmp_path / "m.weights.hmill")
    assert state(fresh) == before


def test_groups_in_files_are_looked_at(tmp_path):
    model, fresh = dense(), dense()
    for net in (model, fresh):
        net.quantize(config=quantizers.Int4QuantizationConfig(block_size=8))
    model.layers[0].g_idx.assign(np.full(20, 7.0, "float32"))
    model.save_weights(tmp_path / "m.weights.hmill")
    with pytest.raises(ValueError, match="in groups that are no whole numbers from 0 to 2"):
        fresh.load_weights(tmp_path / "m.weights.hmill")


def test_float_files_do_not_fit_quantized_models(tmp_path):
    model, fresh = dense(), dense()
    model.save_weights(tmp_path / "m.weights.hmill")
    fresh.quantize("int8")
    told = r"holds 4 tensors, but the model has 6 variables.* load them before"
    with pytest.raises(ValueError, match=told):
        fresh.load_weights(tmp_path / "m.weights.hmill")
    fresh.save_weights(tmp_path / "m.weights.hmill")
    with pytest.raises(ValueError, match=r"holds 6 tensors.* quantize the model in the same way"):
        model.load_weights(tmp_path / "m.weights.hmill")


@pytest.mark.parametrize("saved", (None, "int8", "int4"))
@pytest.mark.parametrize("here", (None, "int8", "int4"))
def test_weights_of_a_model_that_is_quantized_otherwise_say_so(saved, here, tmp_path):
    if saved == here:
        return
    pytest.importorskip("h5py")
    models = [dense(), dense()]
    for model, mode in zip(models, (saved, here), strict=True):
        if mode is not None:
            model.quantize(mode, verbose=False)
    path = tmp_path / "m.weights.h5"
    models[0].save_weights(path)
    before = state(models[1])
    wanted = "quantized otherwise"
    with pytest.raises(ValueError, match=wanted):
        models[1].load_weights(path)
    with pytest.raises(ValueError, match=wanted):
        models[1].set_weights(models[0].get_weights())
    assert state(models[1]) == before
