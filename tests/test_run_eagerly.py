"""compile(run_eagerly=True): Python runs steps, layers, losses and metrics on arrays."""

import numpy as np
import pytest

import handmill as keras
from handmill import layers, ops

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def made(cls=keras.Model, extra=(), **compile_arguments):
    keras.utils.set_random_seed(0)
    i = keras.Input((4,))
    y = layers.Dense(8, activation="tanh", kernel_regularizer="l2")(i)
    for layer in extra:
        y = layer()(y)
    model = cls(i, layers.Dense(1)(y))
    arguments = {"optimizer": keras.optimizers.Adam(0.05), "loss": "mse", "metrics": ["mae"]}
    model.compile(**{**arguments, **compile_arguments})
    return model


def trained(**arguments):
    model = made(**arguments)
    found = model.fit(X, Y, batch_size=10, epochs=2, verbose=0, validation_split=0.25)
    return found.history, model


@pytest.mark.parametrize(
    "extra",
    ((), (layers.BatchNormalization,), (lambda: layers.Dropout(0.3, seed=1),)),
    ids=("dense", "batch_normalization", "dropout"),
)
def test_the_same_numbers_as_the_program(extra):
    program, model = trained(extra=extra)
    eager, twin = trained(extra=extra, run_eagerly=True)
    assert list(program) == list(eager)
    for name, values in program.items():
        np.testing.assert_allclose(values, eager[name], rtol=1e-4, err_msg=name)
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    want = model.predict(X, verbose=0)
    np.testing.assert_allclose(want, twin.predict(X, verbose=0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(want, twin.predict_on_batch(X), rtol=1e-3, atol=1e-4)
    twin.run_eagerly = False
    np.testing.assert_allclose(want, twin.predict(X, verbose=0), rtol=1e-3, atol=1e-4)


def median_error(y_true, y_pred):
    return np.full(len(y_true), np.median(np.abs(np.asarray(y_true) - np.asarray(y_pred))))


def test_a_metric_of_numpy():
    history, model = trained(metrics=[median_error], run_eagerly=True)
    assert history["median_error"][1] < history["median_error"][0]
    found = model.evaluate(X, Y, batch_size=48, verbose=0, return_dict=True)
    want = np.median(np.abs(Y - model.predict(X, verbose=0)))
    np.testing.assert_allclose(found["median_error"], want, rtol=1e-5)
    assert model.train_on_batch(X, Y, return_dict=True)["median_error"] > 0
    with pytest.raises(TypeError, match=r"(?s)test_run_eagerly.py:.*run_eagerly=True"):
        trained(metrics=[median_error])


def test_control_flow_on_values_and_numpy_in_a_step():
    taken = []

    class Choosing(keras.Model):
        def train_step(self, data):
            x, y = data
            with keras.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(x, y, y_pred)
                if loss > 1.0:
                    loss = loss * 2.0
            taken.append(type(x))
            weights = self.trainable_weights
            grads = [np.clip(g, -1, 1) for g in tape.gradient(loss, weights)]
            self.optimizer.apply(grads, weights)
            return {"loss": loss, "norm": np.sqrt(sum((g**2).sum() for g in grads))}

    history, _ = trained(cls=Choosing, run_eagerly=True)
    assert taken == [np.ndarray] * 8
    assert history["loss"][1] < history["loss"][0]
    assert history["norm"][0] > 0
    with pytest.raises(TypeError, match="run_eagerly=True"):
        trained(cls=Choosing)


def test_layers_run_python_on_arrays():
    seen = []

    class Looks(layers.Layer):
        def call(self, inputs):
            seen.append(float(np.asarray(inputs).max()))
            return inputs * (2.0 if seen[-1] > 100 else 1.0)

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [layers.Dense(8, activation="tanh"), Looks(), layers.Dense(1)]

        def call(self, x):
            for part in self.parts:
                x = part(x)
            return x

    keras.utils.set_random_seed(0)
    model = Own()
    model.compile("sgd", "mse", run_eagerly=True)
    history = model.fit(X, Y, batch_size=16, epochs=2, verbose=0).history
    assert len(seen) == 6
    assert history["loss"][1] < history["loss"][0]
    assert model.predict(X, batch_size=24, verbose=0).shape == (48, 1)
    assert len(seen) == 8


def test_two_tapes_in_a_step():
    class Two(keras.Model):
        def train_step(self, data):
            x, y = data
            for layer in self.layers[1:]:
                with keras.GradientTape() as tape:
                    loss = ops.mean(ops.square(self(x, training=True) - y))
                weights = layer.trainable_weights
                self.optimizers[layer.name].apply(tape.gradient(loss, weights), weights)
            return {"loss": loss}

    runs = []
    for eagerly in (False, True):
        model = made(cls=Two, run_eagerly=eagerly)
        model.optimizers = {x.name: keras.optimizers.SGD(0.05) for x in model.layers[1:]}
        runs.append(model.fit(X, Y, batch_size=10, epochs=2, shuffle=False, verbose=0).history)
    np.testing.assert_allclose(runs[0]["loss"], runs[1]["loss"], rtol=1e-4)


def test_compile_config_keeps_it(tmp_path):
    model = made(run_eagerly=True)
    model.save(tmp_path / "model.hmill")
    assert keras.models.load_model(tmp_path / "model.hmill").run_eagerly
