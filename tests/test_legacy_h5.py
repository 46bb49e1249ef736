"""Whole models of Keras 2, and of Keras 3's older saver, in one `.h5` file.

The files are made here, as the versions named wrote them.
"""

import json

import numpy as np
import pytest

import handmill
from handmill import models

h5py = pytest.importorskip("h5py", reason="these files are HDF5")

RNG = np.random.default_rng(11)
X = RNG.normal(size=(6, 4)).astype("float32")


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def write(path, model, weights, training=None, optimizer=None, version="2.2.4", top=True):
    """Writes a file of Keras 2: attributes are bytes, names of weights end in ``:0``."""

    def group_of(parent, name, arrays):
        group = parent.create_group(name)
        group.attrs["weight_names"] = [key.encode() for key in arrays]
        for key, array in arrays.items():
            group.create_dataset(key, data=array)

    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version.encode()
        file.attrs["backend"] = b"tensorflow"
        if model is not None:
            file.attrs["model_config"] = json.dumps(model).encode()
        if training is not None:
            file.attrs["training_config"] = json.dumps(training).encode()
        parent = file.create_group("model_weights") if model is not None else file
        parent.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            group_of(parent, name, arrays)
        if top and version >= "2.6":
            group_of(parent, "top_level_model_weights", {})
        if optimizer is not None:
            group_of(file, "optimizer_weights", optimizer)


def dense_of_2_2(name, units, activation, **more):
    return {
        "class_name": "Dense",
        "config": {
            "name": name,
            "trainable": True,
            "units": units,
            "activation": activation,
            "use_bias": True,
            "kernel_initializer": {
                "class_name": "VarianceScaling",
                "config": {
                    "scale": 1.0,
                    "mode": "fan_avg",
                    "distribution": "uniform",
                    "seed": None,
                },
            },
            "bias_initializer": {"class_name": "Zeros", "config": {}},
            "kernel_regularizer": {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.25}},
            "bias_regularizer": None,
            "activity_regularizer": None,
            "kernel_constraint": None,
            "bias_constraint": None,
            **more,
        },
    }


@pytest.mark.filterwarnings("ignore::handmill.errors.TrainingWarning")
@pytest.mark.parametrize("as_list", (True, False))
def test_sequential_of_2_2(tmp_path, as_list):
    layers = [
        dense_of_2_2("dense_1", 3, "relu", batch_input_shape=[None, 4], dtype="float32"),
        {"class_name": "Dropout", "config": {"name": "drop", "trainable": True, "rate": 0.5,
                                             "noise_shape": None, "seed": None}},
        dense_of_2_2("dense_2", 2, "softmax"),
    ]  # fmt: skip
    config = {"class_name": "Sequential"}
    config["config"] = layers if as_list else {"name": "sequential_1", "layers": layers}
    a, b, c, d = normal(4, 3), normal(3), normal(3, 2), normal(2)
    training = {
        "optimizer_config": {
            "class_name": "Adam",
            "config": {"lr": 0.02, "beta_1": 0.8, "beta_2": 0.9, "decay": 0.0, "epsilon": None,
                       "amsgrad": False},
        },
        "loss": "categorical_crossentropy",
        "metrics": ["accuracy"],
        "sample_weight_mode": None,
        "loss_weights": None,
    }  # fmt: skip
    write(
        tmp_path / "m.h5",
        config,
        {
            "dense_1": {"dense_1/kernel:0": a, "dense_1/bias:0": b},
            "drop": {},
            "dense_2": {"dense_2/kernel:0": c, "dense_2/bias:0": d},
        },
        training,
    )
    model = models.load_model(tmp_path / "m.h5")
    scores = np.maximum(X @ a + b, 0) @ c + d
    want = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict(X, verbose=0), want, rtol=1e-4, atol=1e-6)
    assert float(model.optimizer.learning_rate) == np.float32(0.02)
    assert (model.optimizer.beta_1, model.optimizer.epsilon) == (0.8, 1e-7)
    assert float(model.layers[0].kernel_regularizer.l2) == 0.25
    assert model.loss == "categorical_crossentropy"
    model.fit(X, want, verbose=0)
    assert "accuracy" in model.history.history


def layer(name, cls, inbound, **config):
    return {
        "class_name": cls,
        "config": {"name": name, **config},
        "name": name,
        "inbound_nodes": inbound,
    }


def functional_of_2_11():
    """Two inputs, one layer used twice, tf.keras's words."""
    dense = dense_of_2_2("shared", 3, "linear", dtype="float32")["config"]
    del dense["name"]
    policy = {"class_name": "Policy", "config": {"name": "float32"}}
    return {
        "class_name": "Functional",
        "config": {
            "name": "model",
            "trainable": True,
            "layers": [
                layer("in_1", "InputLayer", [], batch_input_shape=[None, 4], dtype="float32",
                      sparse=False, ragged=False),
                layer("in_2", "InputLayer", [], batch_input_shape=[None, 4], dtype="float32",
                      sparse=False, ragged=False),
                layer("shared", "Dense", [[["in_1", 0, 0, {}]], [["in_2", 0, 0, {}]]], **dense),
                layer("leaky", "LeakyReLU", [[["shared", 1, 0, {}]]], alpha=0.5, dtype=policy,
                      trainable=True),
                layer("norm", "BatchNormalization", [[["shared", 0, 0, {"training": False}]]],
                      axis=[1], momentum=0.99, epsilon=0.001, center=True, scale=True,
                      beta_initializer={"class_name": "Zeros", "config": {}},
                      gamma_initializer={"class_name": "Ones", "config": {}},
                      moving_mean_initializer={"class_name": "Zeros", "config": {}},
                      moving_variance_initializer={"class_name": "Ones", "config": {}},
                      beta_regularizer=None, gamma_regularizer=None, beta_constraint=None,
                      gamma_constraint=None, dtype="float32", trainable=True),
                layer("sum", "Add", [[["leaky", 0, 0, {}], ["norm", 0, 0, {}]]], dtype="float32",
                      trainable=True),
            ],
            "input_layers": [["in_1", 0, 0], ["in_2", 0, 0]],
            "output_layers": [["sum", 0, 0]],
        },
    }  # fmt: skip


def test_functional_of_2_11(tmp_path):
    kernel, bias = normal(4, 3), normal(3)
    gamma, beta, mean, variance = normal(3), normal(3), normal(3), normal(3) ** 2
    training = {
        "loss": {"class_name": "MeanSquaredError",
                 "config": {"reduction": "auto", "name": "mean_squared_error", "fn": "mse"}},
        "metrics": [[{"class_name": "MeanMetricWrapper",
                      "config": {"name": "mae", "dtype": "float32", "fn": "mean_absolute_error"}}]],
        "weighted_metrics": None,
        "loss_weights": None,
        "optimizer_config": {
            "class_name": "SGD",
            "config": {"name": "SGD", "weight_decay": None, "clipnorm": None, "use_ema": False,
                       "global_clipnorm": None, "clipvalue": None, "ema_momentum": 0.99,
                       "ema_overwrite_frequency": 100, "jit_compile": True, "momentum": 0.9,
                       "is_legacy_optimizer": False, "nesterov": True, "decay": 0.5,
                       "learning_rate": 0.25},
        },
    }  # fmt: skip
    write(
        tmp_path / "m.h5",
        functional_of_2_11(),
        {
            "in_1": {},
            "in_2": {},
            "shared": {"shared/kernel:0": kernel, "shared/bias:0": bias},
            "leaky": {},
            "norm": {
                "norm/gamma:0": gamma,
                "norm/beta:0": beta,
                "norm/moving_mean:0": mean,
                "norm/moving_variance:0": variance,
            },
            "sum": {},
        },
        training,
        {"iteration:0": np.array(7), "learning_rate:0": np.float32(0.25)},
        version="2.11.0",
    )
    with pytest.warns(UserWarning, match=r"state of the optimizer.*starts anew"):
        model = models.load_model(tmp_path / "m.h5")
    a, b = X, -X
    first, second = a @ kernel + bias, b @ kernel + bias
    want = np.where(second > 0, second, second / 2) + (
        (first - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    )
    np.testing.assert_allclose(model.predict([a, b], verbose=0), want, rtol=1e-3, atol=1e-5)
    rates = [float(model.optimizer.learning_rate)]
    model.fit([a, b], want, verbose=0, batch_size=6)
    rates.append(float(model.optimizer.learning_rate))
    assert rates == [0.25, pytest.approx(0.25 / 1.5)]
    assert "mae" in model.history.history


def test_weights_alone_in_order_and_by_name(tmp_path):
    kernel, bias, other = normal(4, 3), normal(3), normal(3, 2)
    write(
        tmp_path / "w.h5",
        None,
        {"b": {"b/kernel:0": kernel, "b/bias:0": bias}, "a": {"a/kernel:0": other}},
    )

    def model(first, second):
        return handmill.Sequential(
            [
                handmill.Input((4,)),
                handmill.layers.Dense(3, name=first),
                handmill.layers.Dense(2, use_bias=False, name=second),
            ]
        )

    by_order = model("x", "y")
    by_order.load_weights(tmp_path / "w.h5")
    np.testing.assert_array_equal(by_order(X), (X @ kernel + bias) @ other)
    by_name = model("b", "z")
    before = by_name.get_weights()
    by_name.load_weights(tmp_path / "w.h5", by_name=True)
    np.testing.assert_array_equal(by_name.get_weights()[0], kernel)
    np.testing.assert_array_equal(by_name.get_weights()[2], before[2])
    swapped = model("a", "b")
    before = swapped.get_weights()
    with pytest.raises(ValueError, match="layer 'b' has 1 weights, but 2 are stored"):
        swapped.load_weights(tmp_path / "w.h5", by_name=True)
    for a, b in zip(before, swapped.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="describes no model"):
        models.load_model(tmp_path / "w.h5")
    with pytest.raises(ValueError, match="by_name is only supported"):
        by_name.load_weights(tmp_path / "w.weights.hmill", by_name=True)


def test_lambdas_of_keras_2_are_not_run(tmp_path):
    code = ["4wEAAAAAAAAA", None, None]
    config = {
        "class_name": "Sequential",
        "config": {
            "name": "s",
            "layers": [
                {
                    "class_name": "Lambda",
                    "config": {
                        "name": "l",
                        "batch_input_shape": [None, 4],
                        "function": code,
                        "function_type": "lambda",
                        "module": "__main__",
                        "output_shape": None,
                        "output_shape_type": "raw",
                        "arguments": {},
                    },
                }
            ],
        },
    }
    write(tmp_path / "m.h5", config, {"l": {}})
    with pytest.raises(ValueError, match="stored as Python code, which handmill never runs"):
        models.load_model(tmp_path / "m.h5")


def test_losses_and_metrics_that_are_functions(tmp_path):
    model = handmill.Sequential([handmill.Input((4,)), handmill.layers.Dense(1)])
    model.compile("sgd", handmill.losses.mean_squared_error, [handmill.losses.mean_absolute_error])
    model.save(tmp_path / "m.h5")
    loaded = models.load_model(tmp_path / "m.h5")
    assert loaded.loss is handmill.losses.mean_squared_error
    loaded.fit(X, X[:, :1], verbose=0)
    assert "mean_absolute_error" in loaded.history.history


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_files_of_keras_3_and_for_it(tmp_path, keras):
    def make(library):
        x = library.Input((4,))
        inner = library.Sequential([library.Input((4,)), library.layers.Dense(3)], name="inner")
        y = library.layers.BatchNormalization()(inner(x))
        model = library.Model(x, library.layers.Dense(2)(y))
        model.compile(library.optimizers.Adam(0.01), "mean_squared_error")
        model.optimizer.build(model.trainable_variables)
        return model

    def same(ours, theirs):
        for a, b in zip(ours.weights, theirs.weights, strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(ours.optimizer.variables, theirs.optimizer.variables, strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))

    theirs = make(keras)
    for number, variable in enumerate(theirs.optimizer.variables):
        variable.assign(variable + number)
    theirs.save(tmp_path / "theirs.h5")
    ours = models.load_model(tmp_path / "theirs.h5")
    same(ours, theirs)
    ours.save(tmp_path / "ours.h5")
    back = keras.models.load_model(tmp_path / "ours.h5")
    back.optimizer.build(back.trainable_variables)  # which Keras leaves out: its state starts anew
    for a, b in zip(ours.weights, back.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    same(models.load_model(tmp_path / "ours.h5"), theirs)
    fresh = make(handmill)
    fresh.load_weights(tmp_path / "theirs.h5")
    np.testing.assert_array_equal(fresh.predict(X, verbose=0), ours.predict(X, verbose=0))
