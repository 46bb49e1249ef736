"""clone_model: new layers, other layers, layers in between, models inside."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import layers, models, ops

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


def functional():
    x = handmill.Input((4,), name="x")
    shared = layers.Dense(4, name="shared")
    y = ops.relu(shared(shared(x))) + x
    return handmill.Model(x, layers.Dense(2, name="last")(y), name="net")


def sequential():
    return handmill.Sequential(
        [handmill.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")], name="seq"
    )


@pytest.mark.parametrize("make", (functional, sequential))
def test_copies(make):
    model = make()
    copy = models.clone_model(model)
    assert type(copy) is type(model)
    assert copy.name == model.name
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]
    assert not set(map(id, copy.weights)) & set(map(id, model.weights))
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(model.predict(X, verbose=0), copy.predict(X, verbose=0))
    assert len(copy.weights) == 4  # the shared layer is still one


@pytest.mark.parametrize("make", (functional, sequential))
def test_clone_function(make):
    def wider(layer):
        if layer.name in ("last", "b"):
            return layers.Dense(7, name=layer.name)
        return layer  # shared with the model

    model = make()
    copy = models.clone_model(model, clone_function=wider)
    assert copy.output_shape == (None, 7)
    assert copy.weights[0] is model.weights[0]


def test_call_function():
    seen = []

    def call(layer, *args, **kwargs):
        seen.append(layer.name)
        y = layer(*args, **kwargs)
        return layers.Dropout(0.5)(y) if layer.name == "shared" else y

    model = functional()
    copy = models.clone_model(model, call_function=call)
    assert seen == ["shared", "shared", "last"]
    assert sum(isinstance(layer, layers.Dropout) for layer in copy.layers) == 2
    copy.set_weights(model.get_weights())
    np.testing.assert_allclose(model(X), copy(X), rtol=1e-6)
    with pytest.raises(ValueError, match="Sequential"):
        models.clone_model(sequential(), call_function=call)


def test_input_tensors():
    start = handmill.Input((4,), name="other")
    for make in (functional, sequential):
        copy = models.clone_model(make(), input_tensors=start)
        assert copy.inputs[0] is start
    inner = start * 2.0
    copy = models.clone_model(sequential(), input_tensors=[inner])
    assert copy(X).shape == (6, 2)
    for make, wrong, problem in (
        (functional, X, "must be KerasTensors"),
        (functional, {"x": start}, "same structure"),
        (sequential, [start, start], "a single tensor"),
        (sequential, X, "must be a KerasTensor"),
    ):
        with pytest.raises(ValueError, match=problem):
            models.clone_model(make(), input_tensors=wrong)


def test_models_inside():
    x = handmill.Input((4,))
    inner = sequential()
    model = handmill.Model(x, layers.Dense(1)(inner(x)))

    def relu(layer):
        config = layer.get_config()
        if "activation" in config:
            config["activation"] = "relu"
        return type(layer).from_config(config)

    flat = models.clone_model(model, clone_function=relu)
    assert flat.layers[1].layers[0].activation.__name__ == "linear"
    deep = models.clone_model(model, clone_function=relu, recursive=True)
    assert [layer.activation.__name__ for layer in deep.layers[1].layers] == ["relu"] * 2
    assert deep.layers[-1].activation.__name__ == "relu"
    assert deep.layers[1] is not inner


def own_loss(y, y_pred):
    return ops.mean(ops.square(y - y_pred), axis=-1)


@pytest.mark.parametrize("loss", ("mse", own_loss))
def test_compiled_models(loss):
    model = sequential()
    model.compile(handmill.optimizers.Adam(0.125), loss, metrics=["mae"])
    copy = models.clone_model(model)
    assert copy.compiled
    assert copy.optimizer is not model.optimizer
    assert float(copy.optimizer.learning_rate.numpy()) == 0.125
    copy.set_weights(model.get_weights())
    a, b = (m.fit(X, X[:, :2], verbose=0, shuffle=False).history for m in (model, copy))
    assert a == b


def test_what_cannot_be_copied():
    model = sequential()
    model.compile("sgd", lambda y, p: ops.mean(ops.square(y - p), axis=-1))
    with pytest.warns(UserWarning, match="not compiled.*lambda"):
        assert not models.clone_model(model).compiled

    class Own(handmill.Model):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(units)

        def call(self, x):
            return self.dense(x)

    own = Own(3)
    own(X)
    assert models.clone_model(own)(X).shape == (6, 3)
    for given in ({"clone_function": lambda x: x}, {"call_function": lambda x: x}):
        with pytest.raises(ValueError, match="only supported for Sequential models or Functional"):
            models.clone_model(own, **given)


def test_input_of_a_tensor():
    start = handmill.Input((4,), name="start")
    inner = start + 1.0
    again = handmill.Input(tensor=inner)
    assert again is inner
    assert handmill.Input((4,), tensor=start) is start
    model = handmill.Model(again, layers.Dense(2)(again))
    assert model(X).shape == (6, 2)
    for given, problem in (
        ({"tensor": X}, "must be a KerasTensor"),
        ({"tensor": start, "batch_shape": (None, 5)}, "incompatible `batch_shape`"),
        ({"tensor": start, "shape": (5,)}, r"incompatible `shape` .* shape=\(4,\)"),
        ({"tensor": start, "batch_size": 2}, "incompatible `batch_size`"),
        ({"tensor": start, "dtype": "int32"}, "incompatible `dtype`"),
        ({"tensor": start, "sparse": True}, "`sparse=True` is not supported"),
    ):
        with pytest.raises(ValueError, match=problem):
            handmill.Input(**given)


@pytest.mark.parametrize("built", (False, True))
def test_recursive_into_sequential_models(built):
    """However deep, and before they are built too."""

    def marked(layer):
        made = type(layer).from_config(layer.get_config())
        made.marked = True
        return made

    inner = handmill.Sequential([layers.Dense(2), layers.Dense(2)])
    middle = handmill.Sequential([layers.Dense(2), inner])
    model = handmill.Sequential([middle, layers.Dense(2)])
    if built:
        model.build((None, 2))
    clone = handmill.models.clone_model(model, clone_function=marked, recursive=True)
    found = clone.layers[0].layers[1].layers
    assert len(found) == 2
    assert all(layer.marked for layer in (*found, clone.layers[0].layers[0], clone.layers[1]))
    assert not any(hasattr(layer, "marked") for layer in (*inner.layers, *middle.layers))
