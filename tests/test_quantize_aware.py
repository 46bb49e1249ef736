"""Training with rounded weights: what it simulates is what quantizing makes; what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import compress, layers, ops, quantizers
from handmill.models.calibration import format_of

RNG = np.random.default_rng(5)
INT8 = quantizers.Int8QuantizationConfig
STATIC = quantizers.Int8StaticQuantizationConfig
INT4 = quantizers.Int4QuantizationConfig
ROWS_OF_4_BITS = INT4(activation_quantizer=quantizers.AbsMaxQuantizer(), block_size=-1)
CONFIGS = {
    "int8": INT8(),
    "int8 weights": INT8(activation_quantizer=None),
    "int8 narrow": INT8(quantizers.AbsMaxQuantizer(value_range=(-20, 100))),
    "static": STATIC(),
    "int4": INT4(block_size=8),
    "int4 one scale": INT4(block_size=-1),
    "int4 rows": ROWS_OF_4_BITS,
}
QUICK = ("int8", "static", "int4")
X = RNG.standard_normal((96, 20)).astype("float32")
Y = X[:, :4] - X[:, 4:8]


def dense(**compile_):
    handmill.utils.set_random_seed(3)
    model = handmill.Sequential(
        [layers.Input((20,)), layers.Dense(32, "relu", name="body"), layers.Dense(4, name="head")]
    )
    model.compile("adam", "mse", **compile_)
    return model


def convolutional():
    handmill.utils.set_random_seed(3)
    model = handmill.Sequential([
        layers.Input((10, 10, 3)),
        layers.Conv2D(16, 3, activation="relu", padding="same"),
        layers.Conv2D(16, 3, strides=2, use_bias=False),
        layers.BatchNormalization(),
        layers.Activation("relu"),
        layers.Conv2D(16, 3),
        layers.Flatten(),
        layers.Dense(4),
    ])  # fmt: skip
    model.compile("sgd", "mse")
    return model


def words(tied=False):
    handmill.utils.set_random_seed(3)
    inputs = layers.Input((6,), dtype="int32")
    if tied:
        table = layers.ReversibleEmbedding(30, 12)
        outputs = table(layers.Dense(12)(table(inputs)), reverse=True)
    else:
        x = layers.Embedding(30, 12)(inputs)
        x = layers.EinsumDense("abc,cde->abde", (6, 3, 4), bias_axes="de", activation="relu")(x)
        outputs = layers.Dense(30)(layers.Reshape((6, 12))(x))
    model = handmill.Model(inputs, outputs)
    loss = handmill.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    return model


def state(model):
    names = [(type(v).__name__, getattr(v, "quantize_aware", None)) for v in model.layers]
    return names, [(v.path, v.dtype, v.numpy().tobytes()) for v in model.weights]


def integers(layer):
    """The integers of a quantized table, from its bytes."""
    table = layer._table.numpy()
    if layer.quantization_mode == "int8":
        return table
    rows, columns = layer._table_matrix(layer._full_shape)
    return quantizers.unpack_int4(table, rows if layer._by_rows else columns, axis=-1)


def wanted(layer, table, config):
    """The integers of a float table, by NumPy alone."""
    by_rows = layer._by_rows
    matrix = table.T if by_rows else table.reshape(layer._table_matrix(table.shape))
    if config.mode == "int4" and (config.block_size or -1) > 0:
        grouped = quantizers.abs_max_quantize_grouped_with_zero_point
        found = grouped(matrix, config.block_size)[0]
    else:
        default = quantizers.AbsMaxQuantizer(
            value_range=(-127, 127) if config.mode == "int8" else (-8, 7)
        )
        found = (config.weight_quantizer or default)(matrix, axis=0, to_numpy=True)[0]
    return found.T if by_rows else found


def holds_its_contract(model, x, y, config, **how):
    """Trains a model, quantizes it, and compares what it said before and after."""
    report = compress.quantize_aware(model, config=config, **how)
    assert report.simulated
    model.fit(x, y, epochs=2, batch_size=32, verbose=0)
    simulated = model.predict(x, verbose=0)
    with handmill.use_backend("numpy"):
        twin = model.predict(x, verbose=0)
    # Sums of floats differ by roundings of their terms, which may be larger than the sums.
    most = float(np.abs(simulated).max())
    np.testing.assert_allclose(twin, simulated, atol=3e-6 * max(1.0, most), rtol=0)
    tables = {layer: layer._table.numpy() for layer in model.layers if layer.name in names(report)}
    optimizer = model.optimizer
    done = model.quantize(config.mode)
    assert [path for path, *_ in done.quantized] == list(report.simulated)
    assert model.optimizer is not optimizer  # of weights that are gone
    for layer, table in tables.items():
        want = wanted(layer, table, config)
        np.testing.assert_array_equal(integers(layer).reshape(want.shape), want)
        assert layer.quantize_aware is None
        assert "inputs_range" not in [v.name for v in layer.weights]
    # Sums of integers are exact in float32 too, and all else is the same operations.
    np.testing.assert_allclose(model.predict(x, verbose=0), simulated, atol=1e-6, rtol=1e-6)
    return done


def names(report):
    return [path.rpartition("/")[2] for path in report.simulated]


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CONFIGS]
)
def test_quantizing_makes_what_training_simulated(name):
    holds_its_contract(dense(), X, Y, CONFIGS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("tied", (False, True))
def test_vectors_of_words_too(name, tied):
    x = RNG.integers(0, 30, (64, 6))
    holds_its_contract(words(tied), x, x, CONFIGS[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "how"),
    (
        (STATIC(), {}),
        (STATIC(), {"freeze_after": 2, "momentum": 0.5}),
        (STATIC(RNG.random((48, 10, 10, 3), "float32")), {}),
        (STATIC(RNG.random((48, 10, 10, 3), "float32"), observer="minmax"), {"freeze_after": 0}),
    ),
)
def test_convolutions_too(config, how):
    x = RNG.random((96, 10, 10, 3), "float32")
    holds_its_contract(convolutional(), x, Y, config, **how)


@pytest.mark.slow
def test_sequences_other_dtypes_and_pixels():
    x = RNG.standard_normal((96, 12, 3)).astype("float32")
    model = handmill.Sequential([
        layers.Input((12, 3)), layers.Conv1D(8, 3, padding="causal", activation="relu"),
        layers.GlobalAveragePooling1D(), layers.Dense(4),
    ])  # fmt: skip
    model.compile("adam", "mse")
    holds_its_contract(model, x, Y, STATIC())
    for name in ("int8", "static", "int4"):
        half = handmill.Sequential([
            layers.Input((20,)), layers.Dense(32, "relu", dtype="mixed_bfloat16"), layers.Dense(4),
        ])  # fmt: skip
        half.compile("adam", "mse")
        holds_its_contract(half, X, Y, CONFIGS[name])
        pixels = RNG.integers(0, 256, (96, 20)).astype("uint8")
        bytes_ = handmill.Sequential([layers.Input((20,), dtype="uint8"), layers.Dense(4)])
        bytes_.compile("adam", "mse")
        holds_its_contract(bytes_, pixels, Y, CONFIGS[name])


def test_longest_sums_differ_by_rounding_alone():
    x = RNG.standard_normal((8, 6000)).astype("float32")
    model = handmill.Sequential([layers.Input((6000,)), layers.Dense(3)])
    compress.quantize_aware(model, "int8")
    simulated = model.predict(x, verbose=0)
    model.quantize("int8")
    np.testing.assert_allclose(model.predict(x, verbose=0), simulated, rtol=1e-5, atol=1e-5)


# --- gradients -----------------------------------------------------------------------------------


def slopes(layer, x, dy, training=False):
    v = handmill.Variable(x)
    with handmill.GradientTape() as tape:
        loss = ops.sum(ops.multiply(layer(v.value, training=training), dy))
    return [np.asarray(g) for g in tape.gradient(loss, [v, layer._table])]


@pytest.mark.slow
def test_gradients_go_straight_through():
    x, dy = X[:7], RNG.standard_normal((7, 4)).astype("float32")
    for name in ("int8", "int8 weights", "int4", "int4 one scale", "int4 rows"):
        model = handmill.Sequential([layers.Input((20,)), layers.Dense(4, use_bias=False)])
        compress.quantize_aware(model, config=CONFIGS[name])
        dx, dw = slopes(model.layers[0], x, dy)
        w = np.asarray(model.layers[0](np.eye(20, dtype="float32")))  # rows of 0 and 1 are exact
        rounds = name in ("int8", "int4 rows")
        q, scale = quantizers.abs_max_quantize(x, -1, to_numpy=True)
        np.testing.assert_allclose(dx, dy @ w.T, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(dw, (q / scale if rounds else x).T @ dy, rtol=1e-4, atol=1e-5)


def test_no_gradient_goes_beyond_a_range():
    model = handmill.Sequential([layers.Input((5,)), layers.Dense(2, use_bias=False)])
    compress.quantize_aware(model, config=STATIC())
    layer = model.layers[0]
    layer.inputs_range.assign([-1.0, 1.0])
    layer.inputs_seen.assign(1)
    x = np.array([[-3.0, -0.99, 0.0, 0.99, 3.0]], "float32")
    dy = np.ones((1, 2), "float32")
    dx, dw = slopes(layer, x, dy)
    w = np.asarray(layer(np.eye(5, dtype="float32")))
    np.testing.assert_allclose(dx[0], [0, *w.sum(1)[1:4], 0], rtol=1e-2)
    np.testing.assert_allclose(dw[:, 0], [-1, -0.99, 0, 0.99, 1], atol=0.01)  # of what is seen
    narrow = layers.Dense(1, use_bias=False)
    narrow.build((None, 3))
    narrow.set_weights([np.array([[-1.0], [1.0], [-0.1]], "float32")])
    narrow.simulate(quantizers.QuantizeAwareConfig(CONFIGS["int8 narrow"]))
    _, dw = slopes(narrow, np.ones((1, 3), "float32"), np.ones((1, 1), "float32"))
    np.testing.assert_allclose(dw[:, 0], [0, 1, 1], rtol=1e-5)


@pytest.mark.peers
def test_bytes_and_their_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch")
    bounds = -0.7, 1.9
    step, zero = format_of(*bounds)
    x = np.linspace(-1.5, 2.5, 4001).astype("float32")
    theirs = torch.tensor(x, requires_grad=True)
    rounded = torch.fake_quantize_per_tensor_affine(theirs, float(step), int(zero), 0, 255)
    rounded.sum().backward()
    model = handmill.Sequential([layers.Input((1,)), layers.Dense(1, use_bias=False)])
    model.set_weights([np.ones((1, 1), "float32")])
    compress.quantize_aware(model, config=STATIC())
    layer = model.layers[0]
    layer.inputs_range.assign(bounds)
    layer.inputs_seen.assign(1)
    np.testing.assert_allclose(layer(x[:, None])[:, 0], rounded.detach(), atol=1e-6)
    dx, _ = slopes(layer, x[:, None], np.ones((len(x), 1), "float32"))
    # torch lets half a step more through at each end.
    same = (dx[:, 0] > 0.5) == (theirs.grad.numpy() > 0.5)
    assert (~same).sum() <= 2 * np.ceil(0.5 * step / 0.001)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ("sgd", "rmsprop", "adamw", "lion"))
@pytest.mark.parametrize("name", ("int8", "static", "int4"))
def test_optimizers_train_it(optimizer, name):
    model = dense()
    rate = {"sgd": 0.05, "lion": 1e-3}.get(optimizer, 3e-3)
    model.compile(handmill.optimizers.get(optimizer), "mse")
    model.optimizer.learning_rate = rate
    compress.quantize_aware(model, config=CONFIGS[name])
    losses = model.fit(X, Y, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


def test_slots_stay_and_weights_are_float(tmp_path):
    model = dense()
    model.fit(X, Y, epochs=1, verbose=0)
    slots = [v.numpy() for v in model.optimizer.variables]
    compress.quantize_aware(model, "int8")
    for slot, now in zip(slots, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(slot, now.numpy())
    assert [v.dtype for v in model.weights] == ["float32"] * 4
    compress.strip_quantize_aware(model)
    handmill.utils.set_random_seed(9)
    losses = model.fit(X, Y, epochs=1, verbose=0).history["loss"]
    plain = dense()
    plain.fit(X, Y, epochs=1, verbose=0)
    handmill.utils.set_random_seed(9)
    assert plain.fit(X, Y, epochs=1, verbose=0).history["loss"] == pytest.approx(losses, rel=0.3)


# --- ranges --------------------------------------------------------------------------------------


def range_of(layer):
    return layer.inputs_range.numpy().tolist(), int(layer.inputs_seen.numpy())


def test_ranges_begin_with_the_first_batch_and_move():
    model = handmill.Sequential([layers.Input((20,)), layers.Dense(4)])
    model.compile("sgd", "mse")
    compress.quantize_aware(model, config=STATIC(), momentum=0.75, freeze_after=3)
    layer = model.layers[0]
    assert range_of(layer) == ([0.0, 0.0], -1)
    before = model.predict(X, verbose=0)  # inputs as they are, while no range is known
    assert range_of(layer) == ([0.0, 0.0], -1)
    want = None
    for i, batch in enumerate(np.split(X, 6)):
        model.train_on_batch(batch, Y[16 * i : 16 * i + 16])
        ends = np.array([batch.min(), batch.max()])
        if i < 3:
            want = ends if want is None else 0.75 * want + 0.25 * ends
        found, seen = range_of(layer)
        np.testing.assert_allclose(found, want, rtol=1e-6)
        assert seen == i + 1
    assert np.abs(model.predict(X, verbose=0) - before).max() > 0
    model.evaluate(X, Y, verbose=0)
    assert range_of(layer)[1] == 6


def test_frozen_layers_keep_their_range_and_weights():
    model = dense()
    compress.quantize_aware(model, config=STATIC())
    model.fit(X, Y, epochs=1, verbose=0)
    body, head = model.layers
    body.trainable = False
    model.compile("adam", "mse")
    before, kernel, moving = range_of(body), body._table.numpy(), range_of(head)
    model.fit(2 * X, Y, epochs=1, verbose=0)
    assert range_of(body) == before
    assert range_of(head) != moving
    np.testing.assert_array_equal(body._table.numpy(), kernel)
    simulated = model.predict(X, verbose=0)
    model.quantize("int8")
    np.testing.assert_allclose(model.predict(X, verbose=0), simulated, atol=1e-6)


def test_batches_that_are_not_finite_move_no_range():
    model = dense()
    compress.quantize_aware(model, config=STATIC())
    model.train_on_batch(X, Y)
    body = model.layers[0]
    before = range_of(body)
    weights = [v.numpy() for v in model.trainable_variables]
    bad = X.copy()
    bad[3, 3] = np.nan
    assert np.isnan(model.train_on_batch(bad, Y))  # as in any training, the loss says so
    assert range_of(body) == before
    for v, value in zip(model.trainable_variables, weights, strict=True):
        v.assign(value)
    model.quantize("int8")


def test_ranges_that_say_nothing():
    model = dense()
    compress.quantize_aware(model, config=STATIC())
    before = state(model)
    with pytest.raises(ValueError, match="'body' has seen no inputs yet"):
        model.quantize("int8")
    assert state(model) == before
    model.train_on_batch(np.zeros_like(X), Y)
    simulated = model.predict(X, verbose=0)
    with pytest.warns(UserWarning, match=r"'(body|head)' were 0\.0 in all steps"):
        model.quantize("int8")
    np.testing.assert_allclose(model.predict(X, verbose=0), simulated, atol=1e-6)
    for bounds in ([0.0, np.inf], [1.0, -1.0], [np.nan, 1.0]):
        model = dense()
        compress.quantize_aware(model, config=STATIC())
        model.train_on_batch(X, Y)
        model.layers[1].inputs_range.assign(bounds)
        before = state(model)
        with pytest.raises(ValueError, match="'head' have the range"):
            model.quantize("int8")
        assert state(model) == before


def test_calibration_says_where_ranges_begin():
    model = dense()
    compress.quantize_aware(model, config=STATIC(X, observer="minmax"), freeze_after=0)
    found, seen = range_of(model.layers[0])
    np.testing.assert_allclose(found, [X.min(), X.max()], atol=(X.max() - X.min()) / 255)
    assert seen == 0
    model.fit(2 * X, Y, epochs=1, verbose=0)
    assert range_of(model.layers[0])[0] == found
    before = state(model)
    with pytest.raises(ValueError, match="training found the ranges"):
        model.quantize(config=STATIC(X))
    assert state(model) == before
    report = model.quantize(config=STATIC())
    assert report.quantized[0][2].endswith("inputs by training")


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ("int8", "static", "int4"))
def test_files_and_copies_go_on_alike(name, tmp_path):
    model = dense()
    compress.quantize_aware(model, config=CONFIGS[name])
    model.fit(X, Y, epochs=1, verbose=0)
    want = model.predict(X, verbose=0)
    model.save(tmp_path / "m.hmill")
    loaded = handmill.models.load_model(tmp_path / "m.hmill")
    copy = handmill.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for other in (loaded, copy):
        np.testing.assert_array_equal(other.predict(X, verbose=0), want)
    more = [m.fit(X, Y, shuffle=False, verbose=0).history["loss"] for m in (model, loaded)]
    assert more[0] == more[1]
    for one in (model, loaded):
        one.quantize(CONFIGS[name].mode)
    np.testing.assert_array_equal(model.predict(X, verbose=0), loaded.predict(X, verbose=0))
    model.save(tmp_path / "q.hmill")
    again = handmill.models.load_model(tmp_path / "q.hmill")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


@pytest.mark.parametrize("bounds", ([np.nan, 1.0], [0.0, np.inf], [1.0, 0.0]))
def test_ranges_of_files_are_looked_at(bounds, tmp_path):
    model = dense()
    compress.quantize_aware(model, config=STATIC())
    model.layers[1].inputs_range.assign(bounds)
    model.save(tmp_path / "m.hmill")
    with pytest.raises(ValueError, match=r'"head".* as the range of its inputs'):
        handmill.models.load_model(tmp_path / "m.hmill")
    other = dense()
    compress.quantize_aware(other, config=STATIC())
    before = state(other)
    with pytest.raises(ValueError, match=r'"head".* as the range of its inputs'):
        other.load_weights(tmp_path / "m.hmill")
    assert state(other) == before


@pytest.mark.slow
def test_keras_files(tmp_path):
    pytest.importorskip("h5py")
    model = dense()
    compress.quantize_aware(model, config=STATIC())
    model.fit(X, Y, epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = handmill.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    compress.strip_quantize_aware(model)
    assert "quantize_aware" not in str(model.get_config())
    plain = dense()
    plain.set_weights(model.get_weights())
    np.testing.assert_array_equal(plain.predict(X, verbose=0), model.predict(X, verbose=0))


def test_lora_on_top():
    model = dense()
    compress.quantize_aware(model, "int8")
    model.layers[0].enable_lora(2)
    model.compile("adam", "mse")
    table = model.layers[0]._table.numpy()
    losses = model.fit(X, Y, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(model.layers[0]._table.numpy(), table)
    simulated = model.predict(X, verbose=0)
    model.quantize("int8")
    np.testing.assert_allclose(model.predict(X, verbose=0), simulated, atol=1e-5)


# --- choices and refusals ------------------------------------------------------------------------


def test_layers_that_were_left_out_stay_float():
    model = dense()
    report = compress.quantize_aware(model, "int4", filters="body")
    assert names(report) == ["body"]
    assert dict(report.skipped) == {model.layers[1].path: "filtered out"}
    assert "1 layers simulate it, 1 do not" in str(report)
    done = model.quantize("int4")
    assert [path for path, *_ in done.quantized] == [model.layers[0].path]
    assert "left out" in dict(done.skipped)[model.layers[1].path]
    assert len(model.quantize("int4", filters="head").quantized) == 1


def test_inner_layers_are_named():
    inputs = layers.Input((5, 8))
    x = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    model = handmill.Model(inputs, layers.Dense(3)(x))
    report = compress.quantize_aware(model, "int8")
    assert len(report.simulated) == 1
    assert sum("inside another layer" in why for _, why in report.skipped) == 4


def test_other_ways_than_trained_are_refused():
    model = dense()
    compress.quantize_aware(model, config=INT4(block_size=8))
    before = state(model)
    for how in ({"mode": "int8"}, {"config": INT4(block_size=16)}, {"config": STATIC(X)}):
        with pytest.raises(ValueError, match=r"was trained for Int4Quantiz.*block_size=8"):
            model.quantize(**how)
        assert state(model) == before
    assert model.quantize(config=INT4(block_size=8)).quantized


def test_twice():
    model = dense()
    compress.quantize_aware(model, "int8", filters="body")
    assert compress.quantize_aware(model, "int8").skipped[0][1] == "already trained for it"
    before = state(model)
    with pytest.raises(ValueError, match=r"no layer left to simulate.*already trained for it"):
        compress.quantize_aware(model, "int8")
    with pytest.raises(ValueError, match="strip_quantize_aware"):
        compress.quantize_aware(model, "int4")
    assert state(model) == before
    model.quantize("int8")
    with pytest.raises(ValueError, match="already quantized"):
        compress.quantize_aware(model, "int8")


def test_while_it_is_trained():
    model, found = dense(), []

    def end(step, logs):
        for call in (
            lambda: compress.quantize_aware(model, "int8"),
            lambda: compress.strip_quantize_aware(model),
            lambda: model.quantize("int8"),
        ):
            with pytest.raises(RuntimeError, match="while it is trained"):
                call()
            found.append(step)

    model.fit(X, Y, verbose=0, callbacks=[handmill.callbacks.LambdaCallback(on_epoch_end=end)])
    assert found == [0, 0, 0]
    compress.quantize_aware(model, "int8")


@pytest.mark.slow
def test_smaller_models_are_made_before():
    model = dense()
    compress.quantize_aware(model, "int8", filters="body")
    before = state(model)
    for call in (
        lambda: compress.shrink(model, 0.5),
        lambda: compress.factorize(model, rank=2),
        lambda: compress.search(model, X, Y, budget=1),
    ):
        with pytest.raises(ValueError, match=r"\['body'\] .* simulate quantization"):
            call()
    assert state(model) == before
    compress.prune(model, 0.5)  # the mask is a part of the update, and zeros are integers
    model.fit(X, Y, epochs=1, verbose=0)
    model.quantize("int8")
    assert (integers(model.layers[0]) == 0).mean() >= 0.5


@pytest.mark.slow
def test_shards_agree_on_ranges():
    model = dense()
    compress.quantize_aware(model, config=STATIC())
    with handmill.distribution.DataParallel(shards=4).scope():
        model.fit(X, Y, epochs=1, verbose=0)
    body = model.layers[0]
    (low, high), seen = range_of(body)
    assert X.min() <= low < 0 < high <= X.max()
    assert seen == 3
    simulated = model.predict(X, verbose=0)
    model.quantize("int8")
    np.testing.assert_allclose(model.predict(X, verbose=0), simulated, atol=1e-6)


@pytest.mark.slow
def test_rows_of_tables_and_frozen_parts_that_are_kept():
    x = RNG.integers(0, 30, (64, 6))
    model = handmill.Sequential([
        layers.Input((6,), dtype="int32"), layers.Embedding(30, 12, sparse_rows=True),
        layers.Flatten(), layers.Dense(4),
    ])  # fmt: skip
    model.compile("adam", "mse")
    holds_its_contract(model, x, Y[:64], CONFIGS["int4"])
    model = dense()
    compress.quantize_aware(model, config=STATIC())
    model.fit(X, Y, epochs=1, verbose=0)
    model.layers[0].trainable = False
    model.compile("adam", "mse")
    twin = handmill.models.clone_model(model)
    twin.set_weights(model.get_weights())
    twin.compile("adam", "mse")
    losses = [
        m.fit(X, Y, epochs=2, verbose=0, shuffle=False, cache_frozen=cached).history["loss"]
        for m, cached in ((model, True), (twin, False))
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("how", "message"),
    (
        ({}, "either `mode` or `config`"),
        ({"mode": "int3"}, "int3"),
        ({"config": STATIC(), "momentum": 1.0}, "`momentum`"),
        ({"config": STATIC(), "momentum": float("nan")}, "`momentum`"),
        ({"config": STATIC(), "freeze_after": -1}, "`freeze_after`"),
        ({"config": STATIC(), "freeze_after": 2.5}, "`freeze_after`"),
        ({"config": STATIC(), "freeze_after": 0}, "`freeze_after=0`"),
        ({"mode": "int8", "momentum": 0.9}, "ranges of inputs"),
        ({"mode": "int4", "freeze_after": 5}, "ranges of inputs"),
        ({"config": STATIC(np.full((40, 20), np.nan, "float32"))}, "holds nan in row 0"),
        ({"config": STATIC(np.zeros((0, 20), "float32"))}, "holds no rows"),
        ({"mode": "int8", "filters": "nothing"}, "no layer left to simulate"),
        ({"config": INT8(quantizers.Quantizer())}, "simulates AbsMaxQuantizer"),
        ({"config": INT8(None, quantizers.AbsMaxQuantizer(axis=0))}, "simulates AbsMaxQuantizer"),
    ),
)
def test_bad_arguments_change_nothing(how, message):
    model = dense()
    before = state(model)
    with pytest.raises(ValueError, match=message):
        compress.quantize_aware(model, **how)
    assert state(model) == before


def test_bad_models():
    with pytest.raises(ValueError, match="isn't yet built"):
        compress.quantize_aware(handmill.Sequential([layers.Dense(3)]), "int8")
    model = dense()
    kernels = model.get_weights()
    kernels[2][0, 0] = np.nan
    model.set_weights(kernels)
    before = state(model)
    with pytest.raises(ValueError, match=r'"head".* are NaN or infinite'):
        compress.quantize_aware(model, "int8")
    assert str(state(model)) == str(before)
    with pytest.raises(ValueError, match="no layer left to simulate"):
        compress.quantize_aware(convolutional(), "int4", filters="norm")
    with pytest.raises(TypeError, match="`config` must be a QuantizationConfig"):
        quantizers.QuantizeAwareConfig("int8")
    with pytest.raises(TypeError, match="`quantize_aware` must be a QuantizeAwareConfig"):
        layers.Dense(3, quantize_aware=INT8())
    aware = quantizers.QuantizeAwareConfig(INT8())
    with pytest.raises(ValueError, match="`quantize_aware` is for float weights"):
        layers.Dense(3, dtype="int8_from_float32", quantize_aware=aware)


@pytest.mark.parametrize("config", (INT8(), STATIC()), ids=("int8", "static"))
def test_layers_that_are_quantized_after_training_only(config):
    """They stay as they are, in training and where the others become integers."""
    model = handmill.Sequential([
        layers.Input((8, 8, 2)),
        layers.DepthwiseConv2D(3, name="depths"),
        layers.Reshape((6, 12)),
        layers.GRU(5, name="steps"),
        layers.Dense(4, name="head"),
    ])  # fmt: skip
    model.compile("adam", "mse")
    report = compress.quantize_aware(model, config=config)
    head = model.get_layer("head").path
    assert report.simulated == (head,)
    assert {why for _, why in report.skipped} >= {"quantized after training only"}
    x = RNG.standard_normal((16, 8, 8, 2)).astype("float32")
    model.fit(x, np.zeros((16, 4)), verbose=0)
    report = model.quantize("int8", config=config)
    assert [path for path, *_ in report.quantized] == [head]
    assert model.get_layer("depths").quantization_mode is None


def test_what_is_no_model_is_refused():
    for bad in ("model", None, layers.Dense(3), [1]):
        for call in (
            lambda m: compress.quantize_aware(m, "int8"),
            compress.strip_quantize_aware,
            lambda m: compress.shrink(m, 0.5),
            lambda m: compress.factorize(m, rank=2),
            lambda m: compress.search(m, np.ones((3, 4)), np.ones(3)),
        ):
            with pytest.raises(TypeError, match="a model is needed"):
                call(bad)


def test_layers_that_are_left_float_are_quantized_by_a_second_call():
    model = handmill.Sequential([layers.Input((6, 4)), layers.GRU(8), layers.Dense(16)])
    compress.quantize_aware(model, "int8")
    first = model.quantize("int8")
    assert [path.rpartition("/")[2] for path, _ in first.skipped] == ["gru_cell"]
    assert "a second `quantize` takes it too" in first.skipped[0][1]
    assert [path.rpartition("/")[2] for path, *_ in model.quantize("int8").quantized] == [
        "gru_cell"
    ]
