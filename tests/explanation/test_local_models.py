"""LIME: exact where the model is linear in what is hidden, steady, and as lime computes it."""

from __future__ import annotations

import html
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import explanation
from handmill.explanation.local_linear import fit_local
from handmill.explanation.table_samples import BinnedSamples, normal_quantile
from handmill.ir.op import Array

RNG = np.random.default_rng(0)
TRAIN = RNG.normal(size=(300, 6))


def two_classes(rows: Array) -> Array:
    p = 1 / (1 + np.exp(-(2 * rows[:, 1] - rows[:, 4])))
    return np.stack([1 - p, p], axis=1)


def test_a_linear_game_is_found_exactly() -> None:
    """Without a penalty, any M + 1 samples of rank M + 1 give the coefficients."""
    weights = np.array([3.0, -1.0, 0.0, 0.5])
    for samples in (8, 64, 1000):
        design = (np.random.default_rng(1).random((samples, 4)) < 0.5).astype(float)
        found = fit_local(design, design @ weights + 2, np.ones(samples), 4, "none", alpha=0.0)
        np.testing.assert_allclose(found.coefficients, weights, atol=1e-10)
        assert found.intercept == pytest.approx(2)
        assert found.r2 == pytest.approx(1)


def test_selection_takes_what_explains_most() -> None:
    rng = np.random.default_rng(2)
    design = rng.normal(size=(400, 9))
    scores = 5 * design[:, 7] - 3 * design[:, 2] + 0.1 * rng.normal(size=400)
    for selection in ("forward_selection", "highest_weights"):
        found = fit_local(design, scores, np.ones(400), 2, selection)
        assert set(np.flatnonzero(found.coefficients)) == {2, 7}
        assert found.stability[[2, 7]].tolist() == [1.0, 1.0]


def test_forward_selection_is_the_slow_one() -> None:
    """Each step adds the feature with which a fit of all samples explains most."""
    rng = np.random.default_rng(3)
    design = (rng.random((200, 10)) < 0.5).astype(float)
    scores = design @ rng.normal(size=10) + rng.normal(size=200)
    weights = rng.random(200) + 0.1
    chosen: list[int] = []
    for _ in range(4):
        missed = []
        for j in range(10):
            if j in chosen:
                missed.append(np.inf)
                continue
            columns = np.column_stack([np.ones(200), design[:, [*chosen, j]]])
            root = np.sqrt(weights)
            fit = np.linalg.lstsq(columns * root[:, None], scores * root, rcond=None)[0]
            missed.append(float((weights * (scores - columns @ fit) ** 2).sum()))
        chosen.append(int(np.argmin(missed)))
    found = fit_local(design, scores, weights, 4, "forward_selection", alpha=1e-9)
    assert set(np.flatnonzero(found.coefficients)) == set(chosen)


def test_as_lime_computes_it() -> None:
    base = pytest.importorskip("lime.lime_base")
    rng = np.random.default_rng(4)
    for samples, features, most in ((200, 8, 3), (500, 20, 6), (500, 20, 10), (300, 12, 12)):
        design = (rng.random((samples, features)) < 0.5).astype(float)
        design[0] = 1
        scores = design @ rng.normal(size=features) + rng.normal(size=samples)
        distances, width = np.sqrt((1 - design).sum(1)), 0.75 * np.sqrt(features)
        theirs = base.LimeBase(
            lambda d, w=width: np.sqrt(np.exp(-(d**2) / w**2)),
            random_state=np.random.RandomState(0),
        )
        intercept, pairs, r2, local = theirs.explain_instance_with_data(
            design, np.stack([scores, scores], 1), distances, 1, most
        )
        weights = np.exp(-(distances**2) / (2 * width**2))
        ours = fit_local(design, scores, weights, most)
        order = np.argsort(-np.abs(ours.coefficients), kind="stable")[:most]
        assert [j for j, _ in pairs] == order.tolist()
        np.testing.assert_allclose([c for _, c in pairs], ours.coefficients[order], atol=1e-6)
        np.testing.assert_allclose(
            [intercept, r2, local[0]], [ours.intercept, ours.r2, ours.prediction], atol=1e-6
        )


def test_numbers_that_lime_gave_once() -> None:
    """The ridge regression of lime 0.2.0.1 on eight samples, written down."""
    design = np.array([[1, 1], [0, 1], [1, 0], [0, 0], [1, 1], [0, 1], [1, 0], [0, 0]], float)
    scores = np.array([3.0, 1.0, 2.0, 0.0, 3.5, 1.0, 2.5, 0.0])
    found = fit_local(design, scores, np.ones(8), 2)
    # centred: gram diag(2, 2), products (4.5, 2); ridge 1 -> 4.5/3 and 2/3.
    np.testing.assert_allclose(found.coefficients, [1.5, 2 / 3], atol=1e-12)
    assert found.intercept == pytest.approx(1.625 - 0.75 - 1 / 3)


def test_samples_of_a_table_are_spread_as_its_rows() -> None:
    rng = np.random.default_rng(5)
    train = np.column_stack([rng.normal(3, 2, 4000), rng.integers(0, 3, 4000) * 10.0])
    source = BinnedSamples(train, [1], ["a", "b"])
    drawn = source.draw(20_000, 0, np.dtype("float64"))
    for q in (25, 50, 75):
        assert abs((drawn[:, 0] <= np.percentile(train[:, 0], q)).mean() - q / 100) < 0.015
    outer = train[train[:, 0] > np.percentile(train[:, 0], 75), 0]
    normal = NormalDist(outer.mean(), outer.std())
    low, high = normal.cdf(np.percentile(train[:, 0], 75)), normal.cdf(train[:, 0].max())
    middle = normal.inv_cdf((low + high) / 2)  # of a normal distribution cut at its ends
    assert abs(np.quantile(drawn[:, 0], 0.875) - middle) < 0.05
    assert drawn[:, 0].min() >= train[:, 0].min()
    values, counts = np.unique(drawn[:, 1], return_counts=True)
    assert values.tolist() == [0, 10, 20]
    assert np.abs(counts / 20_000 - 1 / 3).max() < 0.03
    assert abs(source.design(drawn, train[0]).mean(0)[0] - 0.25) < 0.02
    assert normal_quantile(np.array([0.5, 0.975])).round(4).tolist() == [0.0, 1.96]


def test_a_table() -> None:
    rows = TRAIN[(np.abs(TRAIN[:, [1, 4]]) > 0.9).all(1)][:3]  # in outer quarters
    found = explanation.lime(two_classes, rows, TRAIN, target=1, num_features=2)
    for row in range(3):
        assert set(np.flatnonzero(found.values[row])) == {1, 4}
        assert "x1" in found.conditions_of(row)[1]
    assert np.sign(found.values[:, 1]).tolist() == np.sign(rows[:, 1]).tolist()
    assert np.sign(found.values[:, 4]).tolist() == (-np.sign(rows[:, 4])).tolist()
    assert (found.details["stability"][:, [1, 4]] == 1).all()
    assert (found.details["r2"] > 0.4).all()
    assert [name.count("x") for name, _ in found.as_list()] == [1, 1]
    alone = explanation.lime(two_classes, rows[1:2], TRAIN, target=1, num_features=2)
    assert alone.values.tobytes() == found.values[1:2].tobytes()  # rows share samples, not results


def test_conditions_are_told_kept_and_drawn(tmp_path: Path) -> None:
    found = explanation.lime(two_classes, TRAIN[:2], TRAIN, target=1, num_features=2)
    name = found.as_list()[0][0]
    assert name in str(found)
    assert html.escape(name) in str(found.picture())
    assert "A simple rule" in explanation.report(found)
    found.save(tmp_path / "found.npz")
    assert explanation.Explanation.load(tmp_path / "found.npz").as_list() == found.as_list()


def test_errors_shrink_and_until_asks_for_more() -> None:
    few = explanation.lime(two_classes, TRAIN[:1], TRAIN, num_samples=1000)
    more = explanation.lime(two_classes, TRAIN[:1], TRAIN, num_samples=1000, until=0.02)
    assert more.details["evaluations"] > 3 * few.details["evaluations"]
    assert more.error.max() < 0.7 * few.error.max()


def test_standard_errors_are_those_of_other_seeds() -> None:
    found = [
        explanation.lime(two_classes, TRAIN[:1], TRAIN, num_samples=800, seed=s) for s in range(30)
    ]
    spread = np.std([f.values[0, 1] for f in found], ddof=1)
    told = np.mean([f.error[0, 1] for f in found])
    assert 0.6 < told / spread < 1.6


def test_numbers_instead_of_bins() -> None:
    found = explanation.lime(lambda x: x @ np.arange(6.0), TRAIN[:1], TRAIN, bins=False, alpha=0.0)
    np.testing.assert_allclose(found.values[0], np.arange(6) * TRAIN.std(0), atol=1e-9)


def test_images_point_at_the_planted_segment() -> None:
    images = RNG.random((2, 12, 12, 1)).astype("float32")
    found = explanation.lime(
        lambda x: x[:, 4:8, 8:, 0].sum((1, 2)), images, 0.0, segments=4, alpha=0.0, num_features=9
    )
    want = images[:, 4:8, 8:, 0].sum((1, 2))
    np.testing.assert_allclose(found.details["coefficients"][:, 5], want, rtol=1e-5)
    assert (np.abs(np.delete(found.details["coefficients"], 5, axis=1)) < 1e-4).all()
    assert found.values.shape == (2, 12, 12)


def test_texts_point_at_the_planted_word() -> None:
    def bad(texts: list[str]) -> Any:
        return [[1 - 0.8 * ("bad" in t.split()), 0.8 * ("bad" in t.split())] for t in texts]

    found = explanation.lime(bad, ["a bad film , bad and dull", "good"], target=1, num_samples=400)
    assert found.as_list()[0][0] == "bad"
    assert found.as_list()[0][1] > 20 * abs(found.as_list()[1][1])
    assert not found.values[1].any()
    assert "bad" in str(found)


def test_calls_as_of_lime() -> None:
    explainer = explanation.LimeTabularExplainer(
        TRAIN.tolist(), feature_names=list("abcdef"), class_names=["no", "yes"]
    )
    found = explainer.explain_instance(TRAIN[0], two_classes, top_labels=2, num_features=2)
    assert sorted(found.classes.tolist()) == [0, 1]
    assert found.as_list(0)[0][1] == pytest.approx(-found.as_list(1)[0][1])
    assert any(name in found.as_list(1)[0][0] for name in "be")
    assert set(found.targets) == {"no", "yes"}
    number = explanation.LimeTabularExplainer(TRAIN, mode="regression")
    assert len(number.explain_instance(TRAIN[0], lambda x: x[:, 0])) == 1
    image = explanation.LimeImageExplainer().explain_instance(
        RNG.random((9, 9, 3)), lambda x: x.mean((1, 2)), top_labels=2, num_samples=100
    )
    assert image.values.shape == (2, 9, 9)
    text = explanation.LimeTextExplainer(class_names=["no", "yes"]).explain_instance(
        "not good", lambda ts: [[0.0, float("good" in t)] for t in ts], num_samples=100
    )
    assert text.as_list(1)[0][0] == "good"
    with pytest.raises(ValueError, match="no row explains class 0"):
        text.as_list(0)


def test_a_model_same_bytes_for_any_threads_and_seed() -> None:
    handmill.utils.set_random_seed(0)
    model = handmill.Sequential(
        [handmill.Input((6,)), handmill.layers.Dense(40, "relu"), handmill.layers.Dense(3)]
    )
    before = [v.numpy().tobytes() for v in model.variables]
    threads = handmill.config.num_threads()
    found = []
    try:
        for count in (1, 2, 3, 7):
            handmill.config.set_num_threads(count)
            found.append(explanation.lime(model, TRAIN[:2], TRAIN, seed=3).values.tobytes())
    finally:
        handmill.config.set_num_threads(threads)
    assert len(set(found)) == 1
    assert explanation.lime(model, TRAIN[:2], TRAIN, seed=4).values.tobytes() != found[0]
    assert before == [v.numpy().tobytes() for v in model.variables]


def test_a_constant_model_and_no_rows() -> None:
    constant = explanation.lime(lambda x: np.full(len(x), 2.0), TRAIN[:1], TRAIN)
    assert not constant.values.any()
    assert constant.base_values == pytest.approx(2)
    assert len(explanation.lime(lambda x: x[:, 0], TRAIN[:0], TRAIN)) == 0


def test_columns_alike_are_told() -> None:
    doubled = np.column_stack([TRAIN[:, 0], TRAIN[:, 0] * 0 + 1, TRAIN[:, 0]])
    design = np.repeat((RNG.random((50, 1)) < 0.5).astype(float), 2, axis=1)
    assert fit_local(design, design[:, 0], np.ones(50), 2).alike == [(0, 1)]
    with pytest.warns(UserWarning, match="columns 0 and 1 are the same in every sample"):
        explanation.lime(
            lambda x: x[:, 0], np.ones((1, 2, 2)), 0.0, segments=np.array([[0, 0], [1, 1]]),
            num_samples=3, seed=1,
        )  # fmt: skip
    assert doubled.shape == (300, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    (
        ({"background": None}, "`background` is missing: LIME draws"),
        ({"background": TRAIN[:, :5]}, "training rows of 6 features"),
        ({"num_samples": 6}, "6 samples cannot tell 6 features apart"),
        ({"selection": "lasso"}, "`selection` must be one of"),
        ({"num_features": 0}, "num_features must be"),
        ({"categorical": ["x9"]}, "no column is called 'x9'"),
        ({"categorical": [0], "bins": False}, "need bins=True"),
        ({"feature_names": ["a"]}, "1 names for 6 features"),
        ({"x": "a text"}, r"pass \[text\]"),
        ({"x": ["..."], "background": None}, "text 0 has no words"),
        ({"x": ["a b"]}, "texts need no `background`"),
        ({"x": TRAIN[0]}, r"pass x\[None\]"),
        ({"target": 2}, "`target` 2 is no class"),
    ),
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    given = {"x": TRAIN[:1], "background": TRAIN} | arguments
    with pytest.raises(ValueError, match=message):
        explanation.lime(lambda x: np.zeros((len(x), 2)), **given)
