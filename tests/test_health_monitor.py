"""``callbacks.HealthMonitor``: readings inside the step, and where NaN came from."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import callbacks, layers, optimizers
from handmill.datasets import digits


def data() -> tuple[Any, Any]:
    (x, y), _ = digits.load_data()
    return x[:640].reshape(-1, 64) / np.float32(16), y[:640]


def net(optimizer: Any = None, activation: str = "relu") -> Any:
    handmill.utils.set_random_seed(0)
    model = handmill.Sequential(
        [
            handmill.Input((64,)),
            layers.Dense(16, activation, name="first"),
            layers.Dropout(0.2),
            layers.Dense(10, "softmax", name="last"),
        ]
    )
    optimizer = optimizer or optimizers.Adam(0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    return model


def value(readings: Any, kind: str, layer: str) -> float:
    return next(r.value for r in readings if (r.kind, r.layer) == (kind, layer))


def test_readings_are_those_of_numpy_and_training_has_the_bits_it_has_without() -> None:
    x, y = data()
    plain, watched = net(), net()
    first = watched.get_weights()
    monitor = callbacks.HealthMonitor(every=1000)
    arguments: dict[str, Any] = {"epochs": 1, "verbose": 0, "shuffle": False}
    plain.fit(x, y, **arguments)
    watched.fit(x, y, **arguments, callbacks=[monitor])
    for one, other in zip(plain.get_weights(), watched.get_weights(), strict=True):
        assert one.tobytes() == other.tobytes()
    (found,) = monitor.readings  # of the first batch, before its update
    assert found["epoch"] == 0
    kernel, bias, kernel2, bias2 = (w.astype(np.float64) for w in first)
    batch = x[:32].astype(np.float64)
    hidden = np.maximum(batch @ kernel + bias, 0)
    scores = hidden @ kernel2 + bias2
    soft = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    grad = (soft - np.eye(10)[y[:32]]) / 32
    by_hidden = grad @ kernel2.T
    by_kernel = batch.T @ (by_hidden * (hidden > 0))
    wanted = {
        ("dead", "first"): np.mean(hidden.max(0) <= 0),
        ("output", "first"): np.sqrt(np.mean(hidden**2)),
        ("output_gradient", "first"): np.sqrt(np.mean(by_hidden**2)),
        ("kernel", "first"): np.linalg.norm(kernel),
        ("kernel_gradient", "first"): np.linalg.norm(by_kernel),
        ("kernel_gradient", "last"): np.linalg.norm(hidden.T @ grad),
    }
    for (kind, layer), number in wanted.items():
        assert value(found["mean"], kind, layer) == pytest.approx(number, rel=1e-4)
        assert value(found["largest"], kind, layer) == pytest.approx(number, rel=1e-4)
    second = net()
    second.fit(x[:32], y[:32], **arguments)
    moved = [a - b for a, b in zip(second.get_weights(), first, strict=True)]
    for layer, change, weight in (("first", moved[0], kernel), ("last", moved[2], kernel2)):
        flat, before = change.ravel(), weight.ravel()
        stride = max(1, flat.size // 256)
        ratio = np.linalg.norm(flat[::stride]) / np.linalg.norm(before[::stride])
        assert value(found["mean"], "update", layer) == pytest.approx(ratio, rel=1e-3)


def test_means_are_over_the_steps_that_were_due() -> None:
    x, y = data()
    monitor = callbacks.HealthMonitor(every=7)
    net().fit(x, y, epochs=3, verbose=0, callbacks=[monitor])
    assert [r["epoch"] for r in monitor.readings] == [0, 1, 2]
    for reading in monitor.readings:
        for mean, largest in zip(reading["mean"], reading["largest"], strict=True):
            assert (mean.kind, mean.layer) == (largest.kind, largest.layer)
            assert mean.value <= largest.value * (1 + 1e-5)
            assert mean.value > 0 or mean.kind == "dead"
    rare = callbacks.HealthMonitor(every=30)  # of 20 steps an epoch: due at 0, 30, 60
    net().fit(x, y, epochs=4, verbose=0, callbacks=[rare])
    assert [r["epoch"] for r in rare.readings] == [0, 1, 3]


def test_what_is_not_normal_is_told_once() -> None:
    x, y = data()
    model = net(optimizers.SGD(30.0), "tanh")
    monitor = callbacks.HealthMonitor(every=5)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(x, y, epochs=4, verbose=0, callbacks=[monitor])
    texts = [str(w.message) for w in told if w.category is handmill.TrainingWarning]
    assert (
        sum("outputs of layer 'first' are at the ends of its activation" in t for t in texts) == 1
    )
    assert sum("a step moves the kernel of layer 'last' by" in t for t in texts) <= 1
    assert "saturated" in {r.kind for r in monitor.readings[0]["mean"]}


def told_by(model: Any, *arrays: Any, **arguments: Any) -> str:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(*arrays, epochs=1, verbose=0, callbacks=[callbacks.HealthMonitor()], **arguments)
    return next(str(w.message) for w in told if "the loss became" in str(w.message))


def test_nan_is_traced_to_operator_layer_and_row() -> None:
    x, y = data()
    x = x + np.float32(0.5)
    x[417, 3] = -5
    handmill.utils.set_random_seed(0)
    inputs = handmill.Input((64,))
    logs = layers.Lambda(handmill.ops.log, name="logs")(inputs)
    hidden = layers.Dropout(0.1)(layers.Dense(8, "relu", name="first")(logs))
    model = handmill.Model(inputs, layers.Dense(10, "softmax")(hidden))
    model.compile("adam", "sparse_categorical_crossentropy")
    text = told_by(model, x, y)
    assert "Operator 'log' of layer 'logs' was the first to be NaN for row 417 of the data" in text


def test_the_trace_changes_nothing() -> None:
    x, y = data()
    x = x.copy()
    x[300, 0] = np.nan
    weights = []
    for watching in (True, False):
        model = net()
        if watching:
            assert "Input 'input_layer" in told_by(model, x, y)
        else:
            with pytest.warns(handmill.TrainingWarning, match="row 300 has NaN"):
                model.fit(x, y, epochs=1, verbose=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", handmill.TrainingWarning)
            model.fit(x[:32], y[:32], epochs=1, verbose=0)
        weights.append([w.tobytes() for w in model.get_weights()])
    assert weights[0] == weights[1]


def test_a_gradient_that_overflows_is_named() -> None:
    handmill.utils.set_random_seed(0)
    model = handmill.Sequential([handmill.Input((4,)), layers.Dense(1, name="only")])
    model.compile(optimizers.SGD(1e18), "mse")
    x = np.random.default_rng(0).normal(size=(320, 4)).astype("float32")
    text = told_by(model, x, x[:, :1])
    found = re.search(r"(Operator|The gradient|Weight).* was the first to be infinite", text)
    assert found, text
    assert "of the data" in text or "gradient" in text


def test_bad_arguments_are_refused() -> None:
    x, y = data()
    with pytest.raises(ValueError, match="`every`"):
        callbacks.HealthMonitor(every=2)
    eager = net()
    eager.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    with pytest.raises(ValueError, match="compiled with run_eagerly=True"):
        eager.fit(x, y, verbose=0, callbacks=[callbacks.HealthMonitor()])
    unbuilt = handmill.Sequential([layers.Dense(10, "softmax")])
    unbuilt.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="begin the model with an Input"):
        unbuilt.fit(x, y, verbose=0, callbacks=[callbacks.HealthMonitor()])
    assert unbuilt._health_monitor is None


def test_losses_of_several_outputs_are_counted_once() -> None:
    x, _ = data()

    def history(watched: bool) -> Any:
        handmill.utils.set_random_seed(0)
        inputs = handmill.Input((64,))
        hidden = layers.Dense(4, "tanh")(inputs)
        outputs = [layers.Dense(1, name=name)(hidden) for name in "ab"]
        model = handmill.Model(inputs, outputs)
        model.compile("adam", ["mse", "mae"], metrics=[["mae"], ["mse"]])
        watch = [callbacks.HealthMonitor(every=3)] if watched else []
        return model.fit(x, [x[:, :1], x[:, 1:2]], epochs=2, verbose=0, callbacks=watch).history

    assert history(True) == history(False)
