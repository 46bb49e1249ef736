"""Arguments that methods must refuse by name, or that mean something defined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import explanation, layers

X = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
IMAGES = np.random.default_rng(1).normal(size=(2, 8, 8)).astype("float32")


@pytest.fixture(scope="module")
def model() -> Any:
    handmill.utils.set_random_seed(0)
    return handmill.Sequential(
        [handmill.Input((6,)), layers.Dense(4, "relu"), layers.Dense(3, "softmax")]
    )


def first(rows: Any) -> Any:
    return rows[:, 0]


BY_SEED: dict[str, Callable[[Any, Any], Any]] = {
    "smooth_grad": lambda m, seed: explanation.smooth_grad(m, X, samples=2, seed=seed),
    "expected_gradients": lambda m, seed: explanation.expected_gradients(
        m, X, background=X, seed=seed
    ),
    "deep_shap": lambda m, seed: explanation.deep_shap(m, X, background=X, seed=seed),
    "lime": lambda m, seed: explanation.lime(m, X, X, num_samples=50, seed=seed),
    "shap": lambda m, seed: explanation.shap(m, X, X, seed=seed),
    "rise": lambda m, seed: explanation.rise(lambda x: x.sum((1, 2)), IMAGES, seed=seed),
    "feature_ablation": lambda m, seed: explanation.feature_ablation(m, X, X, seed=seed),
    "permutation_importance": lambda m, seed: explanation.permutation_importance(
        m, X, np.zeros(20, int), seed=seed
    ),
}


@pytest.mark.parametrize("name", BY_SEED)
def test_a_seed_is_a_whole_number(name: str, model: Any) -> None:
    for seed in (None, 1.5, "a"):
        with pytest.raises(ValueError, match=r"`seed` must be a whole number\. Received"):
            BY_SEED[name](model, seed)


def test_options_that_do_not_exist_are_named(model: Any) -> None:
    with pytest.raises(TypeError, match=r"saliency: Unknown option: 'scores'"):
        explanation.saliency(model, X, scores="logit")


@pytest.mark.parametrize("tolerance", (-1.0, float("nan")))
def test_the_tolerance_of_a_path(tolerance: float, model: Any) -> None:
    with pytest.raises(ValueError, match="integrated_gradients: `tolerance` must"):
        explanation.integrated_gradients(model, X, baseline=0.0, tolerance=tolerance)


def test_what_rows_are_compared_with_is_finite(model: Any) -> None:
    bad = X.copy()
    bad[3, 2] = np.nan
    for method in (explanation.expected_gradients, explanation.deep_shap):
        with pytest.raises(ValueError, match=r"`background` holds nan in row 3, at \(2,\)"):
            method(model, X, background=bad)
    with pytest.raises(ValueError, match=r"`background` holds nan in row 3, at \(2,\)"):
        explanation.lime(model, X, bad)
    for method in (explanation.integrated_gradients, explanation.deep_lift):
        with pytest.raises(ValueError, match=r"`baseline` must hold finite numbers\. Rec"):
            method(model, X, baseline=float("nan"))
        with pytest.raises(ValueError, match=r"`baseline` holds inf in row 0, at \(1,\)"):
            method(model, X[:1], baseline=np.array([[0, np.inf, 0, 0, 0, 0]]))
    for method in (explanation.occlusion, explanation.rise):
        with pytest.raises(ValueError, match=r"`baseline` holds nan in row 0"):
            method(lambda x: x.sum((1, 2)), IMAGES, baseline=float("nan"))


def test_a_background_of_another_kind_of_numbers(model: Any) -> None:
    whole = (X * 5).astype("int64")
    found = explanation.shap(model, X[:2], whole)
    np.testing.assert_allclose(
        found.values, explanation.shap(model, X[:2], whole.astype("float32")).values, atol=1e-6
    )
    np.testing.assert_allclose(found.values.sum(1), found.scores - found.base_values, atol=1e-5)
    again = explanation.shap(first, X[:2].astype("float64"), whole)
    np.testing.assert_allclose(again.values[:, 0], X[:2, 0] - whole[:, 0].mean(), atol=1e-6)


def test_exact_values_keep_to_their_evaluations() -> None:
    with pytest.raises(ValueError, match="max_evaluations=63 is too few for exact values: row 0"):
        explanation.shap(first, X[:1], X, method="exact", max_evaluations=63)
    assert explanation.shap(first, X[:1], X, method="exact", max_evaluations=64).complete
    sampled = explanation.shap(first, X[:1], X, max_evaluations=63)
    assert sampled.method == "permutation SHAP"
    assert sampled.details["evaluations"] <= 64 * len(X)


def test_lime_names_what_it_cannot_sample() -> None:
    for width in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="kernel_width must be"):
            explanation.lime(first, X[:1], X, kernel_width=width)
    with pytest.raises(ValueError, match="`background` holds <U1 values, not numbers"):
        explanation.lime(first, X[:1], np.full((4, 6), "a"))
    found = explanation.lime(first, X[:1] > 0, X > 0, num_samples=200)
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize(
    ("groups", "message"),
    (
        (5, "`groups` must be lists of columns, such as"),
        ([[0.5], [1, 2, 3, 4, 5]], r"a column of `groups` must be a whole number\. Received"),
    ),
)
def test_groups_that_are_none(groups: Any, message: str) -> None:
    for method in (explanation.shap, explanation.feature_ablation):
        with pytest.raises(ValueError, match=message):
            method(first, X[:1], 0.0, groups=groups)


def test_importance_needs_answers_and_numbers(model: Any) -> None:
    with pytest.raises(ValueError, match="`y` is missing: importance is measured by"):
        explanation.permutation_importance(model, X, None)
    with pytest.raises(ValueError, match="`y` has no rows, and `x` 20"):
        explanation.permutation_importance(model, X, 3)
    y = np.zeros(20)
    y[4] = np.nan
    with pytest.raises(ValueError, match="`y` is nan in row 4: leave the row out"):
        explanation.permutation_importance(first, X, y)
    with pytest.raises(ValueError, match="the model returned inf for row 7, whose inputs are"):
        explanation.permutation_importance(
            lambda x: np.where(x[:, 0] == X[7, 0], np.inf, x[:, 0]), X, X[:, 0]
        )


def test_a_model_that_says_nothing_of_a_row() -> None:
    with pytest.raises(ValueError, match=r"returned no number for any of 21 rows: \(21, 0\)"):
        explanation.shap(lambda x: np.ones((len(x), 0)), X[:1], X)


def test_an_array_that_the_model_has_no_input_for() -> None:
    inputs = {"a": handmill.Input((6,), name="a"), "b": handmill.Input((6,), name="b")}
    both = layers.Concatenate()(list(inputs.values()))
    two = handmill.Model(inputs, layers.Dense(2, "softmax")(both))
    given = {"a": X, "b": X, "c": X}
    for explain in (
        lambda: explanation.shap(two, given, 0.0),
        lambda: explanation.permutation_importance(two, given, np.zeros(20, int)),
    ):
        with pytest.raises(ValueError, match="`x` holds 3 arrays, but the model has 2 inputs"):
            explain()


@pytest.mark.parametrize("method", ("shap", "lime", "feature_ablation", "permutation_importance"))
def test_functions_that_overwrite_what_they_are_given(method: str) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(40, 4)).astype("float32"), np.float32([1, -2, 3, 0.5])

    def score(rows: np.ndarray) -> np.ndarray:
        return rows @ w

    def overwriting(rows: np.ndarray) -> np.ndarray:
        found = rows @ w
        rows[...] = 7
        return found

    def explained(function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        if method == "shap":
            return explanation.shap(function, x[:2], background=x[10:20]).values
        if method == "lime":
            return explanation.lime(function, x[:2], background=x).values
        if method == "feature_ablation":
            return explanation.feature_ablation(function, x[:2], baseline=x[10:20]).values
        return explanation.permutation_importance(function, x, x @ w).values

    before = x.copy()
    np.testing.assert_array_equal(explained(overwriting), explained(score))
    np.testing.assert_array_equal(x, before)
