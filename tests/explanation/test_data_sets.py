"""What is told of whole data sets, and counterfactuals: importance, curves, changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import explanation
from handmill.ir.op import Array

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4))


def score(rows: Array) -> Array:
    return np.asarray(2 * rows[:, 0] - rows[:, 2])


def test_importance_by_formula() -> None:
    """The mean squared error of a linear model grows by w^2 times that of the shuffled column."""
    orders = np.stack([np.random.default_rng(s).permutation(120) for s in range(3)])
    found = explanation.permutation_importance(
        score, X, score(X), "mean_squared_error", permutations=orders
    )
    for column, weight in ((0, 2.0), (1, 0.0), (2, -1.0), (3, 0.0)):
        want = [weight**2 * np.mean((X[o, column] - X[:, column]) ** 2) for o in orders]
        np.testing.assert_allclose(found.details["repeats"][:, column], want, atol=1e-12)
        assert found.error[0, column] == pytest.approx(np.std(want, ddof=1) / np.sqrt(3))
    assert found.scores == pytest.approx(0)


def test_importance_as_sklearn() -> None:
    """With the orders that sklearn draws."""
    inspection = pytest.importorskip("sklearn.inspection")
    from sklearn.linear_model import LinearRegression

    y = score(X) + RNG.normal(size=120)
    model = LinearRegression().fit(X, y)
    theirs = inspection.permutation_importance(model, X, y, n_repeats=4, random_state=3)
    seed = np.random.RandomState(3).randint(np.iinfo(np.int32).max + 1)
    state = np.random.RandomState(seed)
    shuffled, order, orders = np.arange(120), np.arange(120), []
    for _ in range(4):  # it shuffles one order further and further, and a column that is shuffled
        state.shuffle(shuffled)
        order = order[shuffled]
        orders.append(order)
    ours = explanation.permutation_importance(model, X, y, permutations=np.array(orders))
    np.testing.assert_allclose(ours.details["repeats"].T, theirs.importances, atol=1e-6)


def test_importance_of_groups_inputs_and_metrics() -> None:
    y = (score(X) > 0).astype(int)

    def classes(rows: Array) -> Array:
        p = 1 / (1 + np.exp(-score(rows)))
        return np.stack([1 - p, p], axis=1)

    found = explanation.permutation_importance(classes, X, y, groups={"a": [0, 2], "b": [1, 3]})
    assert found.score == "accuracy"
    assert found.scores == 1
    assert found.values[0, 0] > 0.3
    assert found.values[0, 1] == 0
    loss = explanation.permutation_importance(classes, X, y, "log_loss")
    own = explanation.permutation_importance(
        classes, X, y, handmill.losses.SparseCategoricalCrossentropy()
    )
    np.testing.assert_allclose(own.values, loss.values, atol=1e-5)
    both = explanation.permutation_importance(
        lambda x: x["image"].sum((1, 2)),
        {"image": X.reshape(120, 2, 2), "sound": X},
        X.sum(1),
    )
    assert both.feature_names == ["image", "sound"]
    assert both.values[0, 0] > 1
    assert both.values[0, 1] == 0


def test_importance_of_labels_and_of_one_sigmoid() -> None:
    class Estimator:
        classes_ = np.array(["no", "yes"])

        def predict_proba(self, rows: Array) -> Array:
            yes = (score(rows) > 0).astype(float)
            return np.stack([1 - yes, yes], axis=1)

    y = np.where(score(X) > 0, "yes", "no")
    assert explanation.permutation_importance(Estimator(), X, y).scores == 1
    with pytest.raises(ValueError, match="which is no class of the estimator"):
        explanation.permutation_importance(Estimator(), X, np.repeat("maybe", 120))
    model = handmill.Sequential(
        [handmill.Input((4,)), handmill.layers.Dense(1, activation="sigmoid")]
    )
    model.set_weights([np.array([[2.0], [0], [-1], [0]]), np.zeros(1)])
    found = explanation.permutation_importance(model, X, (score(X) > 0).astype(int))
    assert (found.score, found.scores[0]) == ("accuracy", 1.0)
    assert found.values[0, 1] == 0


def test_importance_asks_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from handmill.explanation import composition

    whole = explanation.permutation_importance(score, X, score(X))
    monkeypatch.setattr(composition, "_CALLED_ROWS", 50)
    blocks = explanation.permutation_importance(score, X, score(X))
    np.testing.assert_allclose(whole.values, blocks.values, atol=1e-12)


def test_curves_of_an_additive_model() -> None:
    """Partial dependence is the term and a constant; individual curves are parallel."""

    def additive(rows: Array) -> Array:
        return np.asarray(np.sin(rows[:, 1]) + rows[:, 0] ** 2 + rows[:, 3])

    grid = np.linspace(-2, 2, 9)
    found = explanation.partial_dependence(additive, X, 1, grid=grid)
    rest = (X[:, 0] ** 2 + X[:, 3]).mean()
    np.testing.assert_allclose(found.values[0], np.sin(grid) + rest, atol=1e-12)
    single = explanation.partial_dependence(additive, X, 1, grid=grid, kind="individual")
    np.testing.assert_allclose(np.diff(single.values, axis=1).std(0), 0, atol=1e-12)
    centred = explanation.partial_dependence(
        additive, X, 1, grid=grid, kind="individual", centered=True
    )
    np.testing.assert_allclose(
        centred.values, np.tile(np.sin(grid) - np.sin(-2), (120, 1)), atol=1e-12
    )
    surface = explanation.partial_dependence(additive, X, [1, 0], grid=[grid, [0.0, 1.0]])
    np.testing.assert_allclose(surface.values[0, :, 1] - surface.values[0, :, 0], 1, atol=1e-12)
    np.testing.assert_allclose(found.error[0], (X[:, 0] ** 2 + X[:, 3]).std(ddof=1) / 120**0.5)
    own = explanation.partial_dependence(lambda r: r[:, 0], np.array([[1], [3], [1]]), 0)
    assert own.details["grid"].tolist() == [1, 3]


def test_curves_as_sklearn() -> None:
    inspection = pytest.importorskip("sklearn.inspection")
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(X, score(X) > 0)
    theirs = inspection.partial_dependence(model, X, [2], kind="average", method="brute")
    grid = theirs["grid_values"][0]
    ours = explanation.partial_dependence(model, X, 2, 1, grid=grid)
    np.testing.assert_allclose(ours.values, theirs["average"], atol=1e-6)


def test_counterfactuals_of_linear_models() -> None:
    """l2: the change is along w * unit^2; l1: one feature, that with the largest |w| * unit."""
    weights = np.array([1.0, -2.0, 0.5, 0.1])
    unit = np.median(np.abs(X - np.median(X, axis=0)), axis=0)
    x = np.zeros((1, 4))
    options: dict[str, Any] = {"wanted": 1.5, "bounds": (-100, 100)}
    short = explanation.counterfactual(lambda r: r @ weights, x, X, distance="l2", **options)
    want = 1.5 * weights * unit**2 / ((weights * unit) ** 2).sum()
    np.testing.assert_allclose(short.values[0], want, rtol=1e-4, atol=1e-6)
    few = explanation.counterfactual(lambda r: r @ weights, x, X, **options)
    np.testing.assert_allclose(few.values[0], [0, -0.75, 0, 0], atol=1e-5)
    held = explanation.counterfactual(lambda r: r @ weights, x, X, fixed=[1], **options)
    assert held.values[0, 1] == 0
    np.testing.assert_allclose(held.details["scores_after"], 1.5, atol=1e-4)
    down = explanation.counterfactual(lambda r: r @ weights, x, X, wanted=-1.0)
    assert down.details["scores_after"] <= -1.0


@pytest.mark.slow
def test_counterfactuals_of_steps_groups_and_networks() -> None:
    tree = lambda r: np.stack([r[:, 0] + r[:, 1] <= 1, r[:, 0] + r[:, 1] > 1], 1).astype(float)  # noqa: E731
    found = explanation.counterfactual(tree, X[:5], X)
    after = tree(found.details["counterfactuals"]).argmax(1)
    assert (after != tree(X[:5]).argmax(1)).all()
    assert not found.values[:, 2:].any()  # what is not needed is given back
    hot = np.eye(3)[RNG.integers(0, 3, 60)]
    train = np.column_stack([hot, RNG.normal(size=60)])
    groups = [[0, 1, 2], [3]]
    one = explanation.counterfactual(
        lambda r: r[:, 2], np.array([[1.0, 0, 0, 0]]), train, wanted=1.0, groups=groups
    )
    assert one.details["counterfactuals"].tolist() == [[0, 0, 1, 0]]
    handmill.utils.set_random_seed(1)
    model = handmill.Sequential(
        [
            handmill.Input((4,)),
            handmill.layers.Dense(8, "tanh"),
            handmill.layers.Dense(3, "softmax"),
        ]
    )
    before = [v.numpy().tobytes() for v in model.variables]
    predicted = model.predict(X[:3], verbose=0).argmax(1)
    other = (predicted + 1) % 3
    changed = explanation.counterfactual(model, X[:3], X, target=other)
    ok = changed.details["found"]
    there = model.predict(changed.details["counterfactuals"][ok], verbose=0).argmax(1)
    assert (there == other[ok]).all()
    assert ok.sum() >= 2
    assert before == [v.numpy().tobytes() for v in model.variables]
    nowhere = explanation.counterfactual(lambda r: r[:, 0], X[:1], X, wanted=1e9)
    assert np.isnan(nowhere.values).all()
    assert "1 of 1 rows have no counterfactual" in nowhere.notes[0]


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    (
        ("permutation_importance", {"y": X[:5, 0]}, "`y` has 5 rows, and `x` 120"),
        ("permutation_importance", {"y": X[:, 0], "metric": "auc"}, "`metric` must be one of"),
        ("permutation_importance", {"y": X[:, 0], "repeats": 0}, "repeats must be"),
        ("permutation_importance", {"y": X[:, 0], "permutations": [[0, 0]]}, r"\(repeats, 120\)"),
        ("permutation_importance", {"x": X[:1], "y": X[:1, 0]}, "2 rows or more"),
        ("partial_dependence", {"features": 4}, "column 4"),
        ("partial_dependence", {"features": [0, 1, 2]}, "one column, or two"),
        ("partial_dependence", {"features": 0, "kind": "both"}, "`kind` must be one of"),
        ("partial_dependence", {"features": 0, "grid": []}, "`grid` must be"),
        ("partial_dependence", {"features": 0, "model": lambda r: r}, "say whose curve"),
        ("counterfactual", {"background": X}, "say which is wanted"),
        ("counterfactual", {"background": X[:, :2], "wanted": 1.0}, r"shape \(2,\)"),
        ("counterfactual", {"background": X, "wanted": 1.0, "distance": "l0"}, "`distance` must"),
        ("counterfactual", {"background": X, "wanted": 1.0, "bounds": (1, 0)}, "`bounds` must"),
        ("counterfactual", {"background": X, "wanted": 1.0, "model": lambda r: r}, "one number"),
    ),
)
def test_refusals(method: str, arguments: dict[str, Any], message: str) -> None:
    given = {"model": score, "x": X} | arguments
    with pytest.raises(ValueError, match=message):
        getattr(explanation, method)(**given)
