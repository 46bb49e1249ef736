"""Models: sequential, functional, subclassed, nested; structure, configs, summary."""

import copy
import json
import pickle

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from handmill.runtime import watch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4)).astype("float32")


@pytest.fixture(autouse=True)
def _fresh_names():
    handmill.utils.set_random_seed(0)
    handmill.utils.clear_session()


def small():
    return handmill.Sequential(
        [handmill.Input((4,)), layers.Dense(3, activation="tanh"), layers.Dense(2)]
    )


def test_sequential_with_input_is_built_at_once():
    model = small()
    assert model.built
    assert model.input_shape == (None, 4)
    assert model.output_shape == (None, 2)
    assert [layer.name for layer in model.layers] == ["dense", "dense_1"]
    assert model.count_params() == 23
    assert model(X).shape == (20, 2)


def test_sequential_without_input_is_built_by_data():
    model = handmill.Sequential([layers.Dense(3), layers.Dense(2)])
    assert not model.built
    with pytest.raises(AttributeError, match="no defined"):
        _ = model.output_shape
    assert model(X).shape == (20, 2)
    assert model.output_shape == (None, 2)


def test_sequential_with_the_older_input_shape():
    model = handmill.Sequential()
    model.add(layers.Flatten(input_shape=(2, 2)))
    model.add(layers.Dense(3))
    assert model.output_shape == (None, 3)
    assert handmill.Sequential([layers.Dense(2, input_dim=4)]).output_shape == (None, 2)


def test_sequential_add_and_pop():
    model = small()
    model.pop()
    assert model.output_shape == (None, 3)
    model.add(layers.Dense(5, name="wide"))
    assert model(X).shape == (20, 5)
    with pytest.raises(ValueError, match="unique names"):
        model.add(layers.Dense(5, name="wide"))
    with pytest.raises(ValueError, match="Only instances"):
        model.add("dense")


def test_functional_shared_layers_and_several_outputs():
    a, b = handmill.Input((4,), name="a"), handmill.Input((4,), name="b")
    shared = layers.Dense(3)
    joined = layers.concatenate([shared(a), shared(b)])
    model = handmill.Model([a, b], [layers.Dense(1, name="y")(joined), joined])
    assert type(model).__name__ == "Functional"
    assert len(model.weights) == 4
    y, j = model([X, X])
    assert y.shape == (20, 1)
    np.testing.assert_allclose(j[:, :3], j[:, 3:])
    y2, _ = model({"a": X, "b": X})
    np.testing.assert_array_equal(y, y2)
    assert model.output_names == ["y", "concatenate"]
    with pytest.raises(ValueError, match="Missing data for input 'b'"):
        model({"a": X})


def test_functional_with_dict_structures():
    a, b = handmill.Input((4,), name="a"), handmill.Input((4,), name="b")
    model = handmill.Model({"a": a, "b": b}, {"sum": a + b, "difference": a - b})
    out = model({"a": X, "b": 2 * X})
    np.testing.assert_allclose(out["sum"], 3 * X, rtol=1e-6)
    np.testing.assert_allclose(out["difference"], -X, rtol=1e-6)
    assert set(model.predict({"a": X, "b": X}, verbose=0)) == {"sum", "difference"}


def test_ops_on_symbolic_tensors_become_layers():
    x = handmill.Input((4,))
    y = ops.relu(x * 2.0 - 1.0) + ops.mean(x, axis=-1, keepdims=True)
    model = handmill.Model(x, ops.concatenate([y, x[:, 1:3]], axis=-1))
    want = np.concatenate([np.maximum(2 * X - 1, 0) + X.mean(1, keepdims=True), X[:, 1:3]], 1)
    np.testing.assert_allclose(model(X), want, rtol=1e-5, atol=1e-6)
    again = handmill.Model.from_config(json.loads(json.dumps(model.get_config())))
    np.testing.assert_array_equal(again(X), model(X))


def test_sub_model_from_inner_tensors():
    model = small()
    inner = handmill.Model(model.inputs, model.get_layer("dense").output)
    np.testing.assert_allclose(inner(X), np.tanh(X @ model.layers[0].get_weights()[0]), rtol=1e-4)
    tail = handmill.Model(model.get_layer("dense").output, model.output)
    np.testing.assert_allclose(tail(inner(X)), model(X), rtol=1e-5, atol=1e-6)
    assert tail.layers[-1] is model.layers[-1]


def test_nested_models_share_weights():
    encoder = small()
    x = handmill.Input((4,))
    outer = handmill.Model(x, layers.Dense(4)(encoder(x)))
    outer.compile("sgd", "mse")
    before = encoder.get_weights()
    outer.fit(X, X, verbose=0)
    assert any((a != b).any() for a, b in zip(before, encoder.get_weights(), strict=True))
    assert outer.get_layer("sequential") is encoder
    stack = handmill.Sequential([encoder, layers.Dense(1)])
    assert stack(X).shape == (20, 1)


def test_frozen_inner_model():
    encoder = small()
    encoder.trainable = False
    x = handmill.Input((4,))
    outer = handmill.Model(x, layers.Dense(1)(encoder(x)))
    assert len(outer.trainable_weights) == 2
    outer.compile("sgd", "mse")
    before = encoder.get_weights()
    outer.fit(X, X[:, :1], verbose=0)
    for a, b in zip(before, encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


class Residual(handmill.Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.inner = layers.Dense(units, activation="tanh")
        self.drop = layers.Dropout(0.5)

    def call(self, inputs, training=None):
        return inputs + self.drop(self.inner(inputs), training=training)


def test_subclassed_model():
    model = Residual()
    model.compile("adam", "mse")
    history = model.fit(X, X, epochs=3, verbose=0)
    assert len(history.history["loss"]) == 3
    assert model.predict(X, verbose=0).shape == (20, 4)
    paths = [v.path for v in model.trainable_weights]
    assert paths == ["residual/dense/kernel", "residual/dense/bias"]
    with pytest.raises(AttributeError, match="no defined"):
        _ = model.output_shape


def test_subclass_with_functional_constructor():
    class Named(handmill.Model):
        def doubled(self, x):
            return 2 * self(x)

    x = handmill.Input((4,))
    model = Named(x, layers.Dense(2)(x), name="named")
    assert model.doubled(X).shape == (20, 2)


def test_overridden_loss_and_metrics():
    class Custom(handmill.Model):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.gap = handmill.metrics.Mean(name="gap")

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            self.gap.update_state(ops.absolute(y - y_pred))
            return ops.mean(ops.square(y - y_pred)) + ops.sum(self.losses)

    x = handmill.Input((4,))
    model = Custom(x, layers.Dense(2, kernel_regularizer="l2")(x))
    model.compile("sgd")
    logs = model.fit(X, X[:, :2], epochs=2, verbose=0).history
    assert list(logs) == ["gap", "loss"]
    assert logs["loss"][1] < logs["loss"][0]


def test_add_loss_in_a_layer_counts():
    class Penalty(layers.Layer):
        def call(self, inputs):
            self.add_loss(3.0 * ops.mean(ops.square(inputs)))
            return inputs

    model = handmill.Sequential([handmill.Input((4,)), Penalty()])
    model.compile("sgd", "mse")
    np.testing.assert_allclose(model.evaluate(X, X, verbose=0), 3 * (X**2).mean(), rtol=1e-5)


def test_get_layer_errors():
    model = small()
    assert model.get_layer(index=0) is model.layers[0]
    for arguments, message in (
        ({"name": "nope"}, "Existing layers are"),
        ({"index": 9}, "only has 2 layers"),
        ({}, "Provide either"),
        ({"name": "dense", "index": 1}, "Provide only"),
    ):
        with pytest.raises(ValueError, match=message):
            model.get_layer(**arguments)


def test_disconnected_graph():
    a, b = handmill.Input((4,)), handmill.Input((4,))
    with pytest.raises(ValueError, match="Graph disconnected"):
        handmill.Model(a, layers.Add()([a, b]))
    with pytest.raises(ValueError, match=r"Output with path `v\.1` is not connected"):
        handmill.Model(a, {"u": a * 2, "v": [a + 1, layers.Dense(1)(b)]})
    with pytest.raises(ValueError, match="must be KerasTensors"):
        handmill.Model(a, X)


def test_json_and_clone():
    model = small()
    text = model.to_json()
    again = handmill.models.model_from_json(text)
    assert again.get_config() == model.get_config()
    copy = handmill.models.clone_model(model)
    assert copy.layers[0] is not model.layers[0]
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy(X), model(X))


@pytest.mark.slow
def test_a_model_from_inner_tensors_may_be_deep():
    """Between the tensors lie more calls than Python's stack has room for."""
    x = handmill.Input((3,))
    start = y = x * 2.0
    for _ in range(1500):
        y = y + 1.0
    model = handmill.Model(start, [y, start * 3.0])
    deep, flat = model(np.ones((2, 3), "float32"))
    np.testing.assert_array_equal(deep, 1501.0)
    np.testing.assert_array_equal(flat, 3.0)


def test_a_layer_that_does_not_fit_is_not_added():
    model = small()
    before = model(X)
    with pytest.raises(ValueError, match="must be unchanged"):
        model.add(layers.Reshape((5, 7)))
    assert [layer.name for layer in model.layers] == ["dense", "dense_1"]
    assert model.output_shape == (None, 2)
    np.testing.assert_array_equal(model(X), before)
    model.add(layers.Dense(3))
    assert model(X).shape == (20, 3)
    late = handmill.Sequential()
    with pytest.raises(ValueError, match="expected min_ndim=2"):
        late.add(layers.Dense(2, input_shape=()))
    assert late.layers == []


def test_summary(capsys):
    model = small()
    model.summary()
    text = capsys.readouterr().out
    assert 'Model: "sequential"' in text
    assert "dense (Dense)" in text
    assert "(None, 3)" in text
    assert "Total params: 23 (92.00 B)" in text
    lines = []
    model.compile("adam", "mse")
    model.fit(X, X[:, :2], verbose=0)
    model.summary(print_fn=lines.append, show_trainable=True)
    assert "Optimizer params" in lines[0]
    assert "Loss: mse" in lines[0]
    encoder = small()
    outer = handmill.Sequential([encoder, layers.Dense(1)])
    outer.summary(print_fn=lines.append, expand_nested=True)
    assert "  dense_2 (Dense)" in lines[1]
    model.summary(print_fn=lines.append, layer_range=("dense_1", "dense_1"))
    assert "dense (Dense)" not in lines[2]


def test_summary_of_a_subclassed_model():
    """Shapes that are known after the first call are shown, and showing them changes nothing."""

    class Both(layers.Layer):
        def call(self, x, other):
            return x + other

    class Net(handmill.Model):
        def __init__(self):
            super().__init__()
            self.wide = layers.Dense(7, activation="relu")
            self.drop = layers.Dropout(0.5)
            self.both = Both()
            self.out = layers.Dense(2)

        def call(self, x):
            return self.out(self.both(self.drop(self.wide(x)), self.wide(x)))

    def shapes():
        lines = []
        model.summary(print_fn=lines.append)
        rows = [line.split("│") for line in lines[0].splitlines() if line.startswith("│")]
        return [row[2].strip() for row in rows]

    model = Net()
    assert shapes() == ["?"] * 4
    before = model(X)
    now = watch.now
    # What another layer's call takes beside its first argument is not known.
    assert shapes() == ["(None, 7)", "(None, 7)", "?", "(None, 2)"]
    assert watch.now == now
    np.testing.assert_array_equal(model(X), before)


def test_single_sample_ranks_are_adjusted():
    model = handmill.Sequential([handmill.Input((1,)), layers.Dense(1)])
    assert model(np.ones(5, "float32")).shape == (5, 1)


def test_data_is_converted_to_the_declared_dtype():
    x = handmill.Input((4,), dtype="float32")
    model = handmill.Model(x, x / 2)
    np.testing.assert_array_equal(model(np.full((1, 4), 3, "uint8")), np.full((1, 4), 1.5))


@pytest.mark.parametrize("how", ("deepcopy", "pickle"))
def test_copies_train_on_independently(how):
    model = small()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(X, X[:, :2], verbose=0)
    copied = copy.deepcopy(model) if how == "deepcopy" else pickle.loads(pickle.dumps(model))
    before = model.get_weights()
    want = copied.fit(X, X[:, :2], epochs=2, verbose=0).history
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.fit(X, X[:, :2], epochs=2, verbose=0).history == want
    for a, b in zip(copied.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_both_executors_agree_over_training():
    histories = []
    for backend in ("native", "numpy"):
        with handmill.use_backend(backend):
            handmill.utils.set_random_seed(5)
            model = handmill.Sequential(
                [
                    handmill.Input((4,)),
                    layers.Dense(8, activation="tanh"),
                    layers.Dropout(0.2),
                    layers.Dense(3, activation="softmax"),
                ]
            )
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
            y = np.arange(20) % 3
            histories.append(model.fit(X, y, batch_size=4, epochs=10, verbose=0).history)
    native, numpy = histories
    np.testing.assert_allclose(native["loss"], numpy["loss"], rtol=1e-4)


def test_compare_names_no_error():
    model = small()
    assert handmill.compare(model, X).ok
    model.compile("adam", "mse")
    assert handmill.compare(model, X, X[:, :2]).ok


def test_loss_weights_that_are_no_numbers():
    x = handmill.Input((4,))
    model = handmill.Model(x, [layers.Dense(1)(x), layers.Dense(1)(x)])
    model.compile("sgd", "mse", loss_weights=[1, np.float32(0.5)])
    for weights in ([np.ones(2), 1.0], [1.0, "x"], {"a": object()}):
        with pytest.raises(ValueError, match="each of the `loss_weights` must be a number"):
            model.compile("adam", "mse", loss_weights=weights)
    assert type(model.optimizer).__name__ == "SGD"


def test_nested_outputs():
    """Losses may be nested as the outputs are; a tuple stays one in a config."""
    x = handmill.Input((4,))
    a, b, c = (layers.Dense(n, name=f"d{n}")(x) for n in (1, 2, 3))
    model = handmill.Model(x, (a, [b, c]))
    y = (X[:, :1], [X[:, :2], X[:, :3]])
    results = []
    for loss in (("mse", ["mae", "mse"]), ["mse", "mae", "mse"]):
        model.compile("sgd", loss, loss_weights=[1.0, [2.0, 3.0]])
        results.append(model.evaluate(X, y, return_dict=True, verbose=0))
    assert results[0] == results[1]
    names = ("d1", "1/d2", "1/d3")
    found = [results[0][f"{name}_loss"] * n for n, name in enumerate(names, 1)]
    assert results[0]["loss"] == pytest.approx(sum(found), rel=1e-5)
    again = handmill.Model.from_config(model.get_config())
    made = again(X)
    assert isinstance(made, tuple)
    assert isinstance(made[1], list)
    assert len(model.metrics_variables) == 8
    single = handmill.Model(x, [a])
    single.compile("sgd", [["mse"]])
    assert single.evaluate(X, [X[:, :1]], verbose=0) > 0
    single.compile("sgd", {"d1": ["mse"]})
    assert single.evaluate(X, [X[:, :1]], verbose=0) > 0
    model.compile("sgd", {"d9": "mse"})
    with pytest.raises(ValueError, match=r"Invalid `loss`.*d9.*Expected keys.*d1"):
        model.fit(X, y, verbose=0)


def test_build_does_not_contradict_the_input():
    model = small()
    model.build((None, 4))
    model.build((7, 4))
    for shape in ((None, 5), (None, 4, 1)):
        with pytest.raises(ValueError, match="already been configured to use input shape"):
            model.build(shape)
    assert model.built


def test_layers_cannot_be_replaced():
    for model, hint in ((small(), "Use `add"), (handmill.Model(), "use another name")):
        with pytest.raises(AttributeError, match=f"reserved(.|\n)*{hint}"):
            model.layers = []


def test_inputs_of_another_structure_warn():
    """As in Keras: what a dict holds besides, and lists where names are wanted."""
    a, b = handmill.Input((4,), name="a"), handmill.Input((4,), name="b")
    model = handmill.Model({"a": a, "b": b}, a - b)
    wanted = model({"a": X, "b": 2 * X})
    for given in ([X, 2 * X], {"a": X, "b": 2 * X, "c": X}):
        with pytest.warns(UserWarning, match="doesn't match the expected structure"):
            made = model(given)
        np.testing.assert_array_equal(made, wanted)


@pytest.mark.parametrize("ending", (".hmill", ".json"))
def test_a_layer_whose_config_lacks_its_name(tmp_path, ending):
    """Calls refer to layers by the names in the model's config, whatever the copies are called."""

    class Scaled(layers.Layer):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def call(self, x):
            return x * self.factor

        def get_config(self):
            return {"factor": self.factor}

    x = handmill.Input((4,))
    first, second = Scaled(2.0), Scaled(5.0)
    model = handmill.Model(x, layers.Dense(2)(second(first(x)) + x))
    known = {"Scaled": Scaled}
    if ending == ".json":
        copy = handmill.models.model_from_json(model.to_json(), custom_objects=known)
        copy.set_weights(model.get_weights())
    else:
        model.save(tmp_path / f"m{ending}")
        copy = handmill.models.load_model(tmp_path / f"m{ending}", custom_objects=known)
    np.testing.assert_array_equal(copy(X), model(X))
