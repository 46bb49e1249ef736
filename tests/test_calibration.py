"""calibrate: the temperature of L-BFGS, its figures, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers
from handmill.strategy import calibrate
from handmill.strategy.calibration import _best_temperature, _scores, _softmax


def case(seed: int, classes: int, scale: float) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(400, classes))
    y = (_softmax(z).cumsum(axis=1) > rng.random((400, 1))).argmax(axis=1)
    return z * scale, y


def loss(z: Any, y: Any, inverse: float) -> float:
    return -float(np.mean(np.log(_softmax(inverse * z)[np.arange(len(y)), y])))


def test_temperature_is_the_minimum() -> None:
    for seed, (classes, scale) in enumerate([(2, 3.0), (3, 0.2), (10, 8.0), (10, 1.0)]):
        z, y = case(seed, classes, scale)
        temperature, reason = _best_temperature(z, y)
        assert reason == ""
        assert temperature is not None
        assert temperature == pytest.approx(scale, rel=0.4)  # four standard errors
        here = loss(z, y, 1 / temperature)
        for factor in (1 - 1e-3, 1 + 1e-3):
            assert loss(z, y, factor / temperature) > here


def test_temperature_equals_that_of_lbfgs() -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="no scipy")
    for seed in range(10):
        z, y = case(seed, 2 + seed, 0.5 + seed)

        def f(t: Any, z: Any = z, y: Any = y) -> float:
            return loss(z, y, 1 / float(t[0]))

        found = optimize.minimize(f, [1.5], method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-10})
        temperature = _best_temperature(z, y)[0]
        assert temperature == pytest.approx(float(found.x[0]), abs=1e-4 * max(1, found.x[0]))


def test_figures_are_those_of_their_definitions() -> None:
    p = np.array([[0.6, 0.4], [0.9, 0.1], [0.95, 0.05], [0.3, 0.7]])
    y = np.array([0, 1, 0, 0])
    scores = _scores(p, y, 10, 0)
    # Bins (0.5, 0.6], (0.8, 0.9], (0.9, 1], (0.6, 0.7] of one row each.
    assert scores.ece == pytest.approx((0.4 + 0.9 + 0.05 + 0.7) / 4)
    assert scores.nll == pytest.approx(-np.log([0.6, 0.1, 0.95, 0.3]).mean())
    assert scores.brier == pytest.approx(2 * np.mean([0.16, 0.81, 0.0025, 0.49]))
    low, high = scores.ece_interval
    assert 0.05 <= low <= high <= 0.9


def network(outputs: int, activation: str | None, z: Any, from_logits: bool = False) -> Any:
    """A network that gives its inputs."""
    width = z.shape[1]
    model = handmill.Sequential([handmill.Input((width,)), layers.Dense(outputs, activation)])
    model.set_weights([np.eye(width, outputs, dtype="float32"), np.zeros(outputs)])
    if from_logits:
        model.compile("sgd", handmill.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def test_probabilities_and_logits_find_the_same() -> None:
    z, y = case(0, 4, 3.0)
    z = z.astype("float32")
    model = network(4, "softmax", z)
    before = [w.tobytes() for w in model.get_weights()]
    found = calibrate(model, z, y)
    logits = calibrate(network(4, None, z, from_logits=True), z, np.eye(4)[y])
    assert found.temperature == pytest.approx(_best_temperature(z.astype(float), y)[0], abs=1e-4)
    assert found.temperature == pytest.approx(logits.temperature, abs=1e-4)
    assert found.after.nll < found.before.nll
    assert found.after.ece < found.before.ece
    p = found.predict(z)
    np.testing.assert_allclose(p, _softmax(z / found.temperature), atol=1e-5)
    np.testing.assert_allclose(found.apply(model.predict(z, verbose=0)), p, atol=1e-6)
    assert np.array_equal(p.argmax(axis=1), z.argmax(axis=1))
    assert [w.tobytes() for w in model.get_weights()] == before
    line = str(found)
    assert re.match(
        r"note calibration: ECE 0\.\d+ \[0\.\d+, 0\.\d+\], 0\.\d+ at temperature \d\.", line
    )
    assert "温度" in str(found.report("zh"))


def test_sigmoids_keep_their_shape() -> None:
    z, y = case(1, 2, 2.0)
    margin = (z[:, 1:] - z[:, :1]).astype("float32")
    found = calibrate(network(1, "sigmoid", margin), margin, y)
    assert found.temperature == pytest.approx(_best_temperature(z, y)[0], abs=1e-3)
    p = found.predict(margin)
    assert p.shape == (400, 1)
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-margin / found.temperature)), atol=1e-5)


def test_where_there_is_no_temperature_it_says_why() -> None:
    z, _ = case(2, 3, 2.0)
    z = z.astype("float32")
    model = network(3, "softmax", z)
    right = calibrate(model, z, z.argmax(axis=1))
    assert right.temperature is None
    assert right.reason == "every row is right, so that a lower temperature is always better"
    wrong = calibrate(model, z, z.argmin(axis=1))
    assert wrong.temperature is None
    assert "no better than chance" in wrong.reason
    assert "no temperature: the probabilities are no better" in str(wrong)
    with pytest.raises(ValueError, match="there is no temperature to apply: every row is right"):
        right.predict(z)


def refused(text: str, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        calibrate(*args, **kwargs)


def test_bad_calls_are_refused() -> None:
    z, y = case(3, 3, 2.0)
    z = z.astype("float32")
    model = network(3, "softmax", z)
    training = np.concatenate([np.ones((2, 3), "float32"), z[5:7]])
    refused("row 5 of x is row 2 of the training data (2 rows in all)",
            model, z, y, training_data=(training, None))  # fmt: skip
    refused("the output of the model: expected numbers from 0 to 1", network(3, None, z), z, y)
    refused("x has 400 rows, y has 399: expected as many", model, z, y[1:])
    refused("expected class numbers from 0 to 2, got 3 in row 0", model, z, np.r_[3, y[1:]])
    refused("got texts", model, z, np.array(["a", "b", "c"])[y])
    refused("expected rows of shape (2,) as in x, got (3,)", model, z, y, training_data=z[:, 1:])
    refused("bins must be a whole number of 1 or more", model, z, y, bins=0)
