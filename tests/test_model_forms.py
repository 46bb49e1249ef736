"""Forms that models take: layers without a graph, optional inputs, nested inputs, their checks."""

import warnings

import numpy as np
import pytest

import handmill
from handmill import layers, ops

X = np.arange(6, dtype="float32").reshape(3, 2)


class AddIfThere(layers.Layer):
    """Adds its second input, if there is one."""

    def call(self, x, other=None):
        return x if other is None else x + other


def with_option(nested):
    first = handmill.Input((2,), name="first")
    second = handmill.Input((2,), name="second", optional=True)
    return handmill.Model(nested(first, second), AddIfThere()(first, second))


FORMS = {"list": lambda a, b: [a, b], "dict": lambda a, b: {"first": a, "second": b}}


@pytest.mark.parametrize("form", FORMS)
def test_optional_input(form):
    nested = FORMS[form]
    model = with_option(nested)
    np.testing.assert_array_equal(model(nested(X, None)), X)
    np.testing.assert_array_equal(model(nested(X, X)), 2 * X)
    np.testing.assert_array_equal(model.predict(nested(X, None), verbose=0), X)
    model.compile("sgd", "mse")
    assert model.evaluate(nested(X, None), X, verbose=0) == 0.0
    assert model.evaluate(nested(X, X), 2 * X, verbose=0) == 0.0
    with pytest.raises(ValueError, match=r"'first' of model .* is not optional"):
        model(nested(None, X))


def test_optional_input_in_training_and_config():
    model = with_option(FORMS["dict"])
    again = handmill.Model.from_config(
        model.get_config(), custom_objects={"AddIfThere": AddIfThere}
    )
    assert again.inputs[1].history.operation.optional
    np.testing.assert_array_equal(again({"first": X, "second": None}), X)
    first = handmill.Input((2,), name="first")
    second = handmill.Input((2,), name="second", optional=True)
    outputs = layers.Dense(1)(AddIfThere()(first, second))
    trained = handmill.Model({"first": first, "second": second}, outputs)
    trained.compile("sgd", "mse")
    batches = ({"first": X, "second": other} for other in (None, X, None))
    history = trained.fit(((x, X[:, :1]) for x in batches), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert int(trained.optimizer.iterations.numpy()) == 3


def test_required_input_in_fit():
    model = handmill.Sequential([handmill.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    before = model.get_weights()
    with pytest.raises(ValueError, match="is not optional"):
        model.fit([None], X[:, :1], verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_inputs_that_cannot_be_told_apart():
    a, b = handmill.Input((2,), name="a"), handmill.Input((2,), name="b")
    model = handmill.Model({"b": b, "a": a}, layers.subtract([a, b]))
    with pytest.raises(ValueError, match="structure of `inputs` doesn't match"):
        model([X, X])
    with pytest.raises(ValueError, match=r"Missing data for input 'b'.*keys \['a', 'c'\]"):
        model({"a": X, "c": X})
    in_order = handmill.Model({"a": a, "b": b}, layers.subtract([a, b]))
    with pytest.warns(UserWarning, match="structure of `inputs` doesn't match"):
        np.testing.assert_array_equal(in_order([2 * X, X]), X)


@pytest.mark.parametrize("x", ([X, X + 1], {"a": X, "b": X + 1}), ids=("list", "dict"))
def test_sequential_of_nested_inputs(x):
    class Doubled(layers.Layer):
        def call(self, inputs):
            return handmill.tree.map_structure(lambda t: 2 * t, inputs)

    model = handmill.Sequential([Doubled(), Doubled()])
    found = model(x)
    assert type(found) is type(x)
    flat = handmill.tree.flatten(found)
    np.testing.assert_array_equal(flat[1], 4 * (X + 1))
    predicted = handmill.tree.flatten(model.predict(x, verbose=0))
    np.testing.assert_array_equal(predicted[0], 4 * X)
    model.summary(print_fn=lambda text: None)


def test_sequential_of_layers_that_cannot_tell_their_shape():
    class Opaque(layers.Layer):
        def call(self, inputs):
            return inputs + 1.0

        def compute_output_spec(self, *args, **kwargs):
            raise NotImplementedError

    model = handmill.Sequential([Opaque(), layers.Dense(2, kernel_initializer="identity")])
    np.testing.assert_allclose(model(X), X + 1.0)
    model.compile("sgd", "mse")
    assert model.fit(X, X + 1.0, verbose=0).history["loss"] == [0.0]


def test_sequential_needs_layers_of_one_input():
    class Two(layers.Layer):
        def call(self, first, second):
            return first + second

    model = handmill.Sequential([Two()])
    with pytest.raises(ValueError, match=r"single positional .*\['first', 'second'\]"):
        model.build((None, 2))


@pytest.mark.parametrize("kind", ("functional", "sequential"))
def test_sequential_after_a_built_model_is_built(kind):
    x = handmill.Input((3, 2))
    inner = handmill.Model(x, layers.Dense(4)(x))
    if kind == "sequential":
        inner = handmill.Sequential([handmill.Input((3, 2)), layers.Dense(4)])
    model = handmill.Sequential([inner, layers.Flatten(), layers.Dense(1)])
    assert model.built
    assert all(layer.built for layer in model.layers)
    assert model.output_shape == (None, 1)
    whole = handmill.Input((3,), dtype="int32")
    table = handmill.Model(whole, layers.Embedding(5, 2)(whole))
    assert handmill.Sequential([table, layers.Flatten()]).inputs[0].dtype == "int32"


def test_models_made_of_tensors_are_functional():
    class Own(handmill.Model):
        pass

    x = handmill.Input((2,))
    functional = type(handmill.Model(x, x + 1))
    assert isinstance(Own(x, x + 1), functional)
    assert not isinstance(Own(), functional)
    assert not isinstance(handmill.Sequential([handmill.Input((2,)), layers.Dense(1)]), functional)


@pytest.mark.parametrize("phase", ("fit", "evaluate", "predict"))
def test_batches_of_long_executions(phase):
    """Callbacks are told of each execution; the last is numbered as if it were whole."""
    seen = []

    class Note(handmill.callbacks.Callback):
        def _begin(self, batch, logs=None):
            seen.append(batch)

        def _end(self, batch, logs=None):
            seen.append(batch)
            if phase == "predict":
                rows.append(len(logs["outputs"]))

        on_train_batch_begin = on_test_batch_begin = on_predict_batch_begin = _begin
        on_train_batch_end = on_test_batch_end = on_predict_batch_end = _end

    rows = []
    model = handmill.Sequential([handmill.Input((2,)), layers.Dense(2)])
    model.compile("sgd", "mse", steps_per_execution=3)
    data = np.ones((100, 2), "float32")
    arguments = {"fit": (data, data), "evaluate": (data, data), "predict": (data,)}[phase]
    getattr(model, phase)(*arguments, batch_size=16, verbose=0, callbacks=[Note()])
    assert seen == [0, 2, 3, 5, 6, 8]
    assert rows in ([], [48, 48, 4])


def test_more_keys_than_inputs_are_told_of():
    x = handmill.Input((2,), name="a")
    model = handmill.Model({"a": x}, ops.multiply(x, 5.0))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(model({"a": X, "b": X}), 5 * X)
    assert len(found) == 1
    assert "structure of `inputs` doesn't match" in str(found[0].message)


@pytest.mark.parametrize(
    ("sources", "match"),
    (
        ({"p": "q", "q": "p"}, r"loop: \['p', 'q'\]"),
        ({"p": "nobody", "q": "p"}, "Missing node: nobody: .* lacks layer 'nobody'.* layer 'p'"),
    ),
    ids=("loop", "missing"),
)
def test_configs_of_keras_2_that_lead_nowhere(sources, match):
    start = {"batch_input_shape": [None, 3], "dtype": "float32", "name": "x"}
    entries = [{"class_name": "InputLayer", "name": "x", "config": start, "inbound_nodes": []}]
    for name, source in sources.items():
        dense = {"class_name": "Dense", "name": name, "config": {"units": 3, "name": name}}
        entries.append({**dense, "inbound_nodes": [[[source, 0, 0, {}]]]})
    config = {"name": "m", "layers": entries}
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [["q", 0, 0]]}
    with pytest.raises(ValueError, match=match):
        handmill.Model.from_config({**config, **ends})
    entries[1]["inbound_nodes"], entries[2]["inbound_nodes"] = (
        [[["x", 0, 0, {}]]],
        [[["p", 0, 0, {}]]],
    )
    assert handmill.Model.from_config({**config, **ends}).count_params() == 24


@pytest.mark.parametrize("form", (list, tuple))
def test_outputs_in_a_list_of_one(form):
    """Such a model returns the array itself, and its tensors in the list, as Keras's does."""
    inputs = handmill.Input((2,))
    model = handmill.Model(inputs, form([inputs * 2]))
    for found in (model(X), model.predict(X, verbose=0), model.predict_on_batch(X)):
        np.testing.assert_array_equal(found, 2 * X)
    (tensor,) = model(inputs)
    assert tensor.shape == (None, 2)
    assert type(model(inputs)) is type(model.output) is form
    around = handmill.Model(inputs, model(inputs)[0] + 1)
    np.testing.assert_array_equal(around(X), 2 * X + 1)
    model.compile("sgd", "mse")
    for targets in (2 * X, [2 * X]):
        assert model.evaluate(X, targets, verbose=0) == 0.0
    again = handmill.Model.from_config(model.get_config())
    np.testing.assert_array_equal(again.predict(X, verbose=0), 2 * X)


def test_outputs_in_a_dict_of_one():
    inputs = handmill.Input((2,))
    found = handmill.Model(inputs, {"twice": inputs * 2}).predict(X, verbose=0)
    np.testing.assert_array_equal(found["twice"], 2 * X)


def test_list_that_holds_itself():
    """Lists in themselves are entered once: weights, training and files know each layer."""

    class Round(handmill.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [layers.Dense(2)]
            self.blocks.append(({"all": self.blocks}, self.blocks))

        def call(self, x):
            return self.blocks[0](x)

    model = Round()
    model.compile("sgd", "mse")
    model.fit(X, X, verbose=0)
    assert len(model.weights) == 2
    model.blocks.append(layers.Dense(3))
    assert len(model.layers) == 2


def test_input_that_does_not_fit_is_named():
    inputs = [{"a": handmill.Input((3,), name="given")}]
    model = handmill.Model(inputs, inputs[0]["a"] + 1)
    with pytest.raises(ValueError, match=r"name 'given' and path '0\.a'"):
        model([{"a": X}])


def test_errors_of_calls_name_the_batch_size():
    """Of data that lie there, all sizes are known; a batch of `fit` is one of many."""
    model = handmill.Sequential([handmill.Input((4,)), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"found shape=\(3, 2\)"):
        model(X)
    with pytest.raises(ValueError, match=r"received input with shape \(3, 2\)"):
        model.layers[0](X)
    model.input_spec = layers.InputSpec(shape=(None, 5))
    with pytest.raises(ValueError, match=r"expected shape=\(None, 5\), found shape=\(3, 4\)"):
        model(np.zeros((3, 4), "float32"))


def test_number_of_inputs():
    first, second = handmill.Input((2,), name="first"), handmill.Input((2,), name="second")
    for nested, expected in (
        ([first, second], r"expects 2 inputs \(first, second\), but received 1 inputs"),
        ({"a": first, "b": second}, r"named input\(s\) with keys \['a', 'b'\], but received 1"),
    ):
        model = handmill.Model(nested, first + second)
        with pytest.raises(ValueError, match=expected):
            model(X)
