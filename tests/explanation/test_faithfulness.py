"""Infidelity and sensitivity: zero where they must be, by their formulas where not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import explanation, layers

X = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
CHANGES = np.random.default_rng(1).normal(0, 0.3, (4, 3, 5))


def net(*inner: Any) -> Any:
    model = handmill.Sequential([handmill.Input((5,)), *inner])
    draw = np.random.default_rng(3)
    model.set_weights([draw.normal(0, 0.5, w.shape) for w in model.get_weights()])
    return model


def test_of_a_linear_model() -> None:
    linear = net(layers.Dense(2))
    weights = linear.get_weights()[0][:, 1]
    slopes = explanation.input_x_gradient(linear, X, 1)
    slopes.values = np.broadcast_to(weights, X.shape)
    np.testing.assert_allclose(explanation.infidelity(slopes, linear, CHANGES), 0, atol=1e-10)
    slopes.values = 3 * slopes.values
    want = ((2 * (CHANGES * weights).sum(2)) ** 2).mean(0)
    np.testing.assert_allclose(explanation.infidelity(slopes, linear, CHANGES), want, rtol=1e-4)
    scaled = explanation.infidelity(slopes, linear, CHANGES, normalized=True)
    np.testing.assert_allclose(scaled, 0, atol=1e-10)
    assert not explanation.max_sensitivity(explanation.saliency, linear, X, 1).any()
    moved = explanation.max_sensitivity(
        explanation.input_x_gradient, linear, X, 1, perturbations=CHANGES
    )
    size = np.sqrt(((X * weights) ** 2).sum(1))
    want = (np.sqrt(((CHANGES * weights) ** 2).sum(2)) / size).max(0)
    np.testing.assert_allclose(moved, want, rtol=1e-4)


def test_of_functions_differences_and_probabilities() -> None:
    model = net(layers.Dense(8, "tanh"), layers.Dense(3, "softmax"))

    def predict(rows: Any) -> Any:
        return model.predict(rows.astype("float32"), verbose=0)

    shared = explanation.shap(predict, X, 0.0, (1, 0))
    found = explanation.infidelity(shared, predict, CHANGES)
    changed = predict((X - CHANGES).reshape(-1, 5)).reshape(4, 3, 3).astype(float)
    before = predict(X).astype(float)
    happened = (before[:, 1] - before[:, 0]) - (changed[..., 1] - changed[..., 0])
    want = (((CHANGES * shared.values).sum(2) - happened) ** 2).mean(0)
    np.testing.assert_allclose(found, want, rtol=1e-4)
    assert (found < explanation.infidelity(shared, predict, 10 * CHANGES)).all()
    first = explanation.infidelity(shared, predict, samples=3)
    assert first.tolist() == explanation.infidelity(shared, predict, samples=3).tolist()
    assert (first != explanation.infidelity(shared, predict, samples=3, seed=1)).all()
    weights = [w.tobytes() for w in model.get_weights()]
    explanation.max_sensitivity(explanation.integrated_gradients, model, X, baseline=0)
    assert weights == [w.tobytes() for w in model.get_weights()]


def test_refusals() -> None:
    linear = net(layers.Dense(2))
    found = explanation.input_x_gradient(linear, X, 1)
    with pytest.raises(ValueError, match=r"shape \(samples, 3, 5\). Received: \(3, 5\)"):
        explanation.infidelity(found, linear, CHANGES[0])
    with pytest.raises(ValueError, match="shape"):
        explanation.max_sensitivity(explanation.saliency, linear, X, perturbations=CHANGES[:0])
    grouped = explanation.shap(linear, X, 0.0, 1, groups=[[0, 1], [2, 3, 4]])
    grouped.data = X
    with pytest.raises(ValueError, match=r"values have the shape \(3, 2\), the data \(3, 5\)"):
        explanation.infidelity(grouped, linear)
