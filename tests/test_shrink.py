"""Shrinking: the smaller model is the masked one, for random networks; state, refusals."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import compress, layers
from handmill.compress.shrinking import drawn_inputs, masked
from handmill.compress.structure import structure_of


def randomize(model, seed):
    """Random weights, so that statistics of normalizations and biases matter."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        array = rng.normal(size=weight.shape).astype("float32") * 0.5
        weight.assign(np.abs(array) + 0.5 if "variance" in weight.name else array)


def random_net(seed):
    rng = np.random.default_rng(seed)

    def pick(*choices):
        return choices[rng.integers(len(choices))]

    x = inputs = handmill.Input((12, 12, 3))
    act = pick("relu", "gelu", "sigmoid", "tanh")
    x = layers.Conv2D(16, 3, padding="same", activation=act)(x)
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.integers(7)
        size = x.shape[-1]
        if kind == 0:
            y = layers.Conv2D(size, 3, padding="same", use_bias=False)(x)
            y = layers.BatchNormalization()(y)
            x = layers.Add()([x, layers.Activation(act)(y)])
        elif kind == 1:
            y = layers.Conv2D(8, 1)(x)
            x = layers.Concatenate()([x, y, x] if rng.integers(2) else [y, x])
        elif kind == 2:
            x = layers.DepthwiseConv2D(3, depth_multiplier=pick(1, 2), padding="same")(x)
        elif kind == 3:
            x = layers.SeparableConv2D(24, 3, padding="same")(layers.PReLU(shared_axes=[1, 2])(x))
        elif kind == 4:
            gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
            gate = layers.Conv2D(16, 1, activation="relu")(gate)
            gate = layers.Conv2D(size, 1, activation="sigmoid")(gate)
            x = layers.Multiply()([x, gate])
        elif kind == 5:
            x = layers.GroupNormalization(pick(2, 4))(x)
        else:
            x = layers.Conv2DTranspose(16, 2, strides=1, padding="same")(x)
    x = pick(layers.MaxPooling2D, layers.AveragePooling2D)(3)(x)
    tail = rng.integers(3)
    if tail == 0:
        x = layers.Flatten()(x)
    elif tail == 1:
        x = layers.GlobalMaxPooling2D()(x)
    else:
        x = layers.Reshape((16, -1))(x)
        y = layers.Dense(16)(x)
        y = layers.MultiHeadAttention(4, 8, attention_axes=1)(y, y)
        x = pick(layers.LSTM, layers.GRU, layers.SimpleRNN)(16)(y)
    x = layers.Dense(32, activation=act)(x)
    return handmill.Model(inputs, layers.Dense(3, activation="softmax")(layers.Dropout(0.3)(x)))


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_are_the_masked_ones(seed):
    model = random_net(seed)
    randomize(model, seed)
    before = model.get_weights()
    ratio = (0.25, 0.5, 0.75)[seed % 3]
    report = compress.shrink_report(model, ratio, round_to=(1, 4)[seed % 2])  # compares itself
    assert all(map(np.array_equal, before, model.get_weights()))
    assert report.parameters[1] < report.parameters[0]
    assert any(after < units for _, units, after, _ in report.rows)
    x = drawn_inputs(model)[0]
    assert report.model.predict(x, verbose=0).shape == (4, 3)


def test_the_model_is_the_masked_one_within_roundings_of_sums():
    model = handmill.Sequential(
        [
            handmill.Input((20,)),
            layers.Dense(32, "sigmoid"),
            layers.Dense(48, "relu"),
            layers.Dense(3),
        ]
    )
    randomize(model, 1)
    made = compress.shrink(model, 0.5, round_to=1)
    structure = structure_of(model)
    gone = []
    for group, kernel in zip(
        structure.groups[:2], (model.weights[0], model.weights[2]), strict=True
    ):
        small = made.weights[0 if kernel is model.weights[0] else 2].numpy()
        columns = {c.tobytes() for c in small.T}
        lost = group.size - small.shape[1]
        assert lost == group.size // 2
        assert len(columns) == small.shape[1]
        scores = structure.scores(
            group, [np.square(w.numpy(), dtype="float64") for w in model.weights]
        )
        gone.append(group.units[np.argsort(scores, kind="stable")[:lost]])
    x = np.random.default_rng(2).normal(size=(64, 20)).astype("float32")
    want = masked(model, structure, np.concatenate(gone)).predict(x, verbose=0)
    np.testing.assert_allclose(made.predict(x, verbose=0), want, rtol=1e-5, atol=1e-5)


def test_tied_units_go_together():
    x = inputs = handmill.Input((8, 8, 16))
    a = layers.Conv2D(16, 3, padding="same", name="a")(x)
    shared = layers.Conv2D(16, 3, padding="same", name="shared")
    y = layers.Add()([shared(shared(a)), a])
    z = layers.Concatenate()([y, layers.Conv2D(16, 1, name="b")(y)])
    model = handmill.Model(inputs, layers.Dense(2, name="out")(layers.Flatten()(z)))
    rows = {name.split("/")[0]: (n, m) for name, n, m, _ in compress.shrink_report(model, 0.5).rows}
    assert rows == {"a": (16, 8), "b": (16, 8), "out": (2, 2)}
    made = compress.shrink(model, 0.5)
    assert made.get_layer("out").kernel.shape == (8 * 8 * 16, 2)
    # What reads the input through a sum has the input's width.
    y = layers.Add()([layers.Conv2D(16, 1, name="c")(inputs), inputs])
    model = handmill.Model(inputs, layers.GlobalAveragePooling2D()(y))
    with pytest.raises(ValueError, match=r"no unit .* c/kernel: .*given length"):
        compress.shrink(model, 0.5)


def test_whole_heads_go_and_a_norm_over_features_holds_them():
    x = inputs = handmill.Input((None, 24))
    y = layers.MultiHeadAttention(4, 8, name="mha")(x, x)
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    y = layers.Dense(24, name="down")(layers.Dense(64, activation="gelu", name="up")(x))
    model = handmill.Model(inputs, layers.RMSNormalization()(layers.Add()([x, y])))
    made = compress.shrink(model, 0.5)
    assert made.get_layer("mha").query_dense.kernel.shape == (24, 2, 8)
    assert made.get_layer("up").kernel.shape == (24, 32)
    assert made.get_layer("down").kernel.shape == (32, 24)


@pytest.mark.slow
def test_layers_inside_of_others_are_made_smaller():
    """Wrappers and cells: their configs hold those of layers, and sizes that they were built at."""
    cells = [layers.LSTMCell(32), layers.GRUCell(24), layers.SimpleRNNCell(16)]
    model = handmill.Sequential([
        layers.Input((5, 12)),
        layers.TimeDistributed(layers.Dense(48, "relu")),
        layers.TimeDistributed(layers.BatchNormalization()),
        layers.Bidirectional(layers.GRU(32, return_sequences=True)),
        layers.RNN(cells),
        layers.Dense(3),
    ])  # fmt: skip
    randomize(model, 0)
    report = compress.shrink_report(model, 0.5, round_to=4)  # compares itself
    units = [v.shape for v in report.model.weights if "kernel" in v.name]
    assert units[0] == (12, 24)
    assert units[1] == (24, 3 * 16)
    assert report.model.count_params() < 0.35 * model.count_params()
    again = type(model).from_config(report.model.get_config())
    assert [w.shape for w in again.weights] == [w.shape for w in report.model.weights]


def test_nested_models_are_rebuilt():
    inner = handmill.Sequential([handmill.Input((8,)), layers.Dense(32, "relu"), layers.Dense(32)])
    model = handmill.Sequential([handmill.Input((8,)), inner, layers.Dense(2)])
    assert [w.shape for w in compress.shrink(model, 0.5).weights] == [
        (8, 16), (16,), (16, 16), (16,), (16, 2), (2,),
    ]  # fmt: skip


def test_state_of_the_optimizer_is_cut_and_training_goes_on(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 10)).astype("float32")
    model = handmill.Sequential([handmill.Input((10,)), layers.Dense(32, "relu"), layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(x, x[:, 0], epochs=2, verbose=0)
    compress.prune(model, 0.5)
    made = compress.shrink(model, 0.5)
    kept = np.flatnonzero(
        (model.weights[0].numpy()[:, :, None] == made.weights[0].numpy()[:, None]).all(0).any(1)
    )
    assert len(kept) == 16
    for old, new in zip(model.optimizer.variables, made.optimizer.variables, strict=True):
        array = old.numpy()
        if array.shape == (10, 32):
            array = array[:, kept]
        elif array.shape[:1] == (32,):
            array = array[kept]
        np.testing.assert_array_equal(new.numpy(), array)
    made.fit(x, x[:, 0], verbose=0)
    assert (made.weights[0].numpy()[model.weights[0].numpy()[:, kept] == 0] == 0).all()
    made.save(tmp_path / "m.hmill")
    again = handmill.models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(again.predict(x, verbose=0), made.predict(x, verbose=0))


def test_rounding_and_keep():
    model = handmill.Sequential(
        [
            handmill.Input((4,)),
            layers.Dense(50, name="a"),
            layers.Dense(20, name="b"),
            layers.Dense(2),
        ]
    )
    shapes = [w.shape for w in compress.shrink(model, 0.5).weights[::2]]
    assert shapes == [(4, 32), (32, 16), (16, 2)]  # 25 -> 32; 10 -> 16, by eights
    shapes = [w.shape for w in compress.shrink(model, 0.5, round_to=1, keep=["a"]).weights[::2]]
    assert shapes == [(4, 50), (50, 10), (10, 2)]
    assert compress.shrink(model, 0.99, round_to=1).weights[0].shape == (4, 1)  # one stays
    assert [w.shape for w in compress.shrink(model, 0.0).weights] == [
        w.shape for w in model.weights
    ]


def test_importances():
    model = handmill.Sequential(
        [handmill.Input((4,)), layers.Dense(16), layers.BatchNormalization(), layers.Dense(2)]
    )
    model.compile("sgd", "mse")
    randomize(model, 0)
    gamma = np.linspace(2, 1, 16).astype("float32")
    model.layers[1].gamma.assign(gamma)
    made = compress.shrink(model, 0.5, "bn", round_to=1)
    np.testing.assert_array_equal(made.layers[1].gamma.numpy(), gamma[:8])
    kernel = model.layers[2].kernel.numpy()
    kernel[:5] = 0  # nothing reads these units, so the loss does not depend on them
    model.layers[2].kernel.assign(kernel)
    x, y = np.ones((8, 4), "float32"), np.ones((8, 2), "float32")
    made = compress.shrink(model, 5 / 16, "taylor", round_to=1, x=x, y=y)
    np.testing.assert_array_equal(made.layers[1].gamma.numpy(), gamma[5:])
    np.testing.assert_allclose(
        made.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-5
    )
    shapes = {
        compress.shrink(model, 0.5, name, round_to=1).count_params() for name in ("l1", "random")
    }
    assert len(shapes) == 1


def test_refusals():
    model = handmill.Sequential([handmill.Input((4,)), layers.Dense(16), layers.Dense(2)])
    for ratio in (-0.5, 1.0, float("nan")):
        with pytest.raises(ValueError, match="ratio"):
            compress.shrink(model, ratio)
    with pytest.raises(ValueError, match="importance"):
        compress.shrink(model, 0.5, "l3")
    with pytest.raises(ValueError, match="needs `x`, `y`"):
        compress.shrink(model, 0.5, "taylor")
    with pytest.raises(ValueError, match="round_to"):
        compress.shrink(model, 0.5, round_to=0)
    with pytest.raises(ValueError, match="no weight has 'head'"):
        compress.shrink(model, 0.5, keep=["head"])
    with pytest.raises(TypeError, match="`keep`"):
        compress.shrink(model, 0.5, keep="head")
    model.weights[0].assign(np.full((4, 16), np.inf, "float32"))
    with pytest.raises(ValueError, match="NaN or infinite"):
        compress.shrink(model, 0.5)
    only = handmill.Sequential([handmill.Input((4,)), layers.Dense(16)])
    with pytest.raises(ValueError, match="outputs of the model"):
        compress.shrink(only, 0.5)

    model = handmill.Sequential([handmill.Input((4,)), layers.Dense(16), layers.Dense(2)])
    model.quantize("int8")
    with pytest.raises(ValueError, match=r"quantized: shrink the float model"):
        compress.shrink(model, 0.5)
    with pytest.raises(ValueError, match="Do it before you quantize"):
        compress.prune(model, 0.5)

    class Own(handmill.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    own = Own()
    own(np.ones((1, 2), "float32"))
    with pytest.raises(ValueError, match="functional or sequential"):
        compress.shrink(own, 0.5)


def test_data_dependent_structure_is_named():
    from handmill import ops

    x = inputs = handmill.Input((8,))
    y = layers.Dense(16, name="scores")(x)
    y = ops.take_along_axis(y, ops.argsort(y, axis=-1), axis=-1)
    model = handmill.Model(inputs, layers.Dense(2, name="out")(y))
    with pytest.raises(ValueError, match=r"scores/kernel: kept: .*no rule"):
        compress.shrink(model, 0.5)
    y = layers.Softmax()(layers.Dense(16, name="weights")(x))
    model = handmill.Model(inputs, layers.Dense(2)(y))
    with pytest.raises(ValueError, match=r"weights/kernel: kept: .*all others along"):
        compress.shrink(model, 0.5)


def test_adapted_models_are_refused():
    """Tables of LoRA have no units of their own."""
    model = handmill.Sequential([handmill.Input((64,)), layers.Dense(64, "relu"), layers.Dense(3)])
    model.layers[0].enable_lora(4)
    for call in (
        lambda: compress.shrink(model, 0.5),
        lambda: compress.factorize(model, rank=2),
        lambda: compress.search(model, np.ones((3, 64), "float32"), np.ones(3), budget=1),
    ):
        with pytest.raises(ValueError, match=r"adapted by LoRA: .* before `enable_lora`"):
            call()


def test_models_with_a_call_of_their_own_are_refused():
    class Own(handmill.Model):
        def __init__(self):
            super().__init__()
            self.only = layers.Dense(64)

        def call(self, x):
            return self.only(x)

    model = Own()
    model(np.ones((2, 64), "float32"))
    for call in (lambda: compress.factorize(model, rank=2), lambda: compress.shrink(model, 0.5)):
        with pytest.raises(ValueError, match="functional or sequential model") as caught:
            call()
        assert "<function" not in str(caught.value)
