"""Shapley values: exact ones against formulas and brute force, sampled ones against exact ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

import handmill
from handmill import explanation
from handmill.explanation.shapley_sampled import by_permutations, by_regression
from handmill.ir.op import Array


def by_definition(value: Callable[[Array], Array], players: int) -> Array:
    """Shapley's formula, coalition by coalition."""
    found = np.zeros(players)
    for player in range(players):
        for there in itertools.product((False, True), repeat=players):
            if there[player]:
                continue
            without, with_ = np.array([there]), np.array([there])
            with_[0, player] = True
            size = sum(there)
            weight = math.factorial(size) * math.factorial(players - size - 1)
            gain = value(with_)[0] - value(without)[0]
            found[player] += weight / math.factorial(players) * gain
    return found


def random_game(seed: int, players: int) -> Callable[[Array], Array]:
    table = np.random.default_rng(seed).normal(size=1 << players)
    return lambda there: table[there @ (1 << np.arange(players))]


def net(features: int, outputs: int = 3, seed: int = 0) -> handmill.Sequential:
    handmill.utils.set_random_seed(seed)
    return handmill.Sequential(
        [
            handmill.Input((features,)),
            handmill.layers.Dense(8, activation="tanh"),
            handmill.layers.Dense(outputs, activation="softmax"),
        ]
    )


def test_sums_are_the_definition() -> None:
    for players in range(1, 7):
        game = random_game(players, players)
        want = by_definition(game, players)
        np.testing.assert_allclose(
            explanation.shapley_of_game(game, players), want, rtol=0, atol=1e-14
        )


def test_sums_over_blocks_are_those_of_one_block() -> None:
    game = random_game(1, 14)  # four blocks
    low = explanation.shapley_of_game(game, 14)
    flipped = explanation.shapley_of_game(lambda t: game(t[:, ::-1]), 14)
    np.testing.assert_allclose(low, flipped[::-1], rtol=0, atol=1e-13)


def test_axioms() -> None:
    one, other = random_game(2, 5), random_game(3, 5)
    shapley = explanation.shapley_of_game
    np.testing.assert_allclose(  # additivity
        shapley(lambda t: one(t) + 2 * other(t), 5),
        shapley(one, 5) + 2 * shapley(other, 5),
        atol=1e-14,
    )
    dummy = shapley(lambda t: one(t & (np.arange(5) != 3)), 5)
    assert abs(dummy[3]) < 1e-16
    symmetric = shapley(lambda t: np.sin(t[:, 0] + t[:, 1]) * (1 + t[:, 2]), 3)
    assert symmetric[0] == symmetric[1]
    everyone, nobody = np.ones((1, 5), bool), np.zeros((1, 5), bool)
    assert shapley(one, 5).sum() == pytest.approx(one(everyone)[0] - one(nobody)[0], abs=1e-14)


@pytest.mark.parametrize("method", ("exact", "permutation", "kernel"))
def test_linear_model(method: str) -> None:
    """phi_i = w_i (x_i - mean of the background)."""
    rng = np.random.default_rng(0)
    weights, x, background = rng.normal(size=7), rng.normal(size=(4, 7)), rng.normal(size=(9, 7))
    found = explanation.shap(lambda rows: rows @ weights + 3, x, background, method=method)
    np.testing.assert_allclose(found.values, weights * (x - background.mean(0)), atol=1e-13)
    assert found.gap is not None
    assert np.abs(found.gap).max() < 1e-13


def test_any_number_of_players() -> None:
    """Every sampled method is exact on linear models, however few coalitions are drawn."""
    rng = np.random.default_rng(7)
    for players in (2, 3, 4, 17, 60):
        weights, x = rng.normal(size=players), rng.normal(size=(1, players))
        background = rng.normal(size=(3, players))
        for method in ("kernel", "permutation"):
            found = explanation.shap(lambda r, w=weights: r @ w, x, background, method=method)
            want = weights * (x - background.mean(0))
            np.testing.assert_allclose(found.values, want, atol=1e-11)


def test_exact_values_of_a_net_are_those_of_its_game() -> None:
    rng = np.random.default_rng(1)
    model, x = net(5), rng.normal(size=(2, 5)).astype("float32")
    background = rng.normal(size=(3, 5)).astype("float32")
    found = explanation.shap(model, x, background, target=[2, 0])
    for row, target in enumerate((2, 0)):

        def value(there: Array, row: int = row, target: int = target) -> Array:
            mixed = np.where(there[:, None], x[row], background)
            out = model.predict(mixed.reshape(-1, 5), verbose=0)[:, target].astype(float)
            return np.asarray(out.reshape(-1, 3).mean(1))

        np.testing.assert_allclose(found.values[row], by_definition(value, 5), atol=1e-7)


def test_the_size_of_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from handmill.explanation import composition

    rng = np.random.default_rng(2)
    x, background = rng.normal(size=(2, 6)), rng.normal(size=(11, 6))

    def curved(rows: Array) -> Array:
        return np.asarray(np.sin(rows).sum(1) ** 2 + rows[:, 0] * rows[:, 5])

    methods = ("exact", "permutation", "kernel")
    whole = [explanation.shap(curved, x, background, method=m).values for m in methods]
    for rows in (4, 30):  # a part of the background; a few coalitions of it
        monkeypatch.setattr(composition, "_CALLED_ROWS", rows)
        for method, want in zip(methods, whole, strict=True):
            found = explanation.shap(curved, x, background, method=method).values
            np.testing.assert_allclose(found, want, atol=1e-13)


def test_no_block_holds_all(monkeypatch: pytest.MonkeyPatch) -> None:
    from handmill.explanation import composition

    monkeypatch.setattr(composition, "_CALLED_ROWS", 64)
    sizes = []

    def model(rows: Array) -> Array:
        sizes.append(len(rows))
        return np.asarray(rows.sum(1))

    for method in ("exact", "permutation", "kernel"):
        explanation.shap(model, np.ones((1, 9)), np.zeros((20, 9)), method=method)
    assert max(sizes) <= 64


@pytest.mark.slow
def test_small_games_are_covered_by_their_intervals() -> None:
    """95 % intervals of sampled values hold the exact one in 90 to 99 % of 400 games."""
    for sample in (
        lambda game, v0, v1, key: by_permutations(game, 6, v0, v1, 16, 0.0, key),
        lambda game, v0, v1, key: by_regression(game, 6, v0, v1, 44, key),
    ):
        inside = total = 0
        for seed in range(400):
            game = random_game(seed, 6)
            exact = explanation.shapley_of_game(game, 6)
            v0, v1 = game(np.zeros((1, 6), bool))[0], game(np.ones((1, 6), bool))[0]
            values, error, _ = sample(game, v0, v1, seed)
            inside += int((np.abs(values - exact) <= 1.96 * error).sum())
            total += 6
        assert 0.90 <= inside / total <= 0.99, inside / total


def test_regression_of_all_coalitions_is_exact() -> None:
    game = random_game(5, 8)
    ends = game(np.array([[False] * 8, [True] * 8]))
    values, error, used = by_regression(game, 8, ends[0], ends[1], 300, 0)
    assert error is None
    assert used == 254
    np.testing.assert_allclose(values, explanation.shapley_of_game(game, 8), atol=1e-12)


def test_regression_asks_for_each_coalition_once() -> None:
    """Coalitions that are drawn twice count twice in the fit, and cost one evaluation."""
    asked = []

    def game(there: Array) -> Array:
        asked.append(there)
        return np.asarray(there.sum(1), np.float64)

    values, error, used = by_regression(game, 13, 0.0, 13.0, 2074, 0)
    assert error is not None
    assert len(asked[0]) == used == len(np.unique(asked[0], axis=0)) < 2074
    np.testing.assert_allclose(values, np.ones(13), atol=1e-12)


def test_sampling_stops_when_it_knows_enough() -> None:
    rng = np.random.default_rng(3)
    x, background = rng.normal(size=(1, 18)), rng.normal(size=(5, 18))

    def model(rows: Array) -> Array:
        return np.asarray(np.tanh(rows[:, :9].sum(1)) + rows[:, 9:].sum(1))

    options = {"method": "permutation", "max_evaluations": 20_000}
    quick = explanation.shap(model, x, background, until=0.05, **options)
    slow = explanation.shap(model, x, background, **options)
    assert quick.details["evaluations"] < 0.5 * slow.details["evaluations"]
    assert quick.error.max() <= 0.05 * np.abs(quick.values).max()


def test_groups_segments_and_features_that_do_not_vary() -> None:
    x, background = np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[0.0, 2.0, 1.0, 0.0]])
    found = explanation.shap(
        lambda r: r[:, 0] * r[:, 2] + r[:, 3], x, background, groups={"a": [0, 2], "b": [1, 3]}
    )
    np.testing.assert_allclose(found.values, [[3.0, 4.0]])
    assert found.feature_names == ["a", "b"]
    single = explanation.shap(lambda r: r.sum(1), x, background)
    assert single.values[0, 1] == 0
    images = np.arange(32.0).reshape(1, 4, 4, 2)
    maps = explanation.shap(lambda r: r[:, :2, :2].sum((1, 2, 3)), images, 0.0, segments=2)
    np.testing.assert_allclose(maps.values[0, :2, :2].sum(), images[0, :2, :2].sum())
    assert not maps.values[0, 2:].any()


def test_several_inputs_come_back_as_they_are_nested() -> None:
    a, b = handmill.Input((2,), name="a"), handmill.Input((3,), name="b")
    y = handmill.layers.Dense(1)(handmill.layers.Concatenate()([a, b]))
    model = handmill.Model({"a": a, "b": b}, y)
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(2, 2)), "b": rng.normal(size=(2, 3))}
    found = explanation.shap(model, x, {"a": np.zeros((1, 2)), "b": np.zeros((1, 3))})
    kernel = model.layers[-1].kernel.numpy()[:, 0]
    np.testing.assert_allclose(found.values["a"], x["a"] * kernel[:2], atol=1e-6)
    np.testing.assert_allclose(found.values["b"], x["b"] * kernel[2:], atol=1e-6)


def test_one_sigmoid_unit_is_two_classes() -> None:
    model = handmill.Sequential(
        [handmill.Input((3,)), handmill.layers.Dense(1, activation="sigmoid")]
    )
    x = np.ones((1, 3), "float32")
    zero = explanation.shap(model, x, 0.0, target=0)
    one = explanation.shap(model, x, 0.0, target=1)
    np.testing.assert_allclose(zero.values, -one.values, atol=1e-7)
    assert zero.scores + one.scores == pytest.approx(1)


def test_same_bytes_for_any_threads_and_nothing_is_changed() -> None:
    rng = np.random.default_rng(4)
    model = net(16)
    model.compile("adam", "sparse_categorical_crossentropy")
    x, background = rng.normal(size=(2, 16)), rng.normal(size=(20, 16))
    model.fit(background, np.zeros(20), verbose=0)
    before = [v.numpy().tobytes() for v in model.variables + model.optimizer.variables]
    threads = handmill.config.num_threads()
    found = []
    try:
        for count in (1, 2, 3, 7):
            handmill.config.set_num_threads(count)
            for method in ("exact", "permutation", "kernel"):
                one = explanation.shap(model, x, background[:4], method=method, groups=GROUPS)
                found.append((method, one.values.tobytes()))
    finally:
        handmill.config.set_num_threads(threads)
    assert len(set(found)) == 3
    assert before == [v.numpy().tobytes() for v in model.variables + model.optimizer.variables]


GROUPS = [[2 * i, 2 * i + 1] for i in range(8)]


def test_defined_results_at_the_edges() -> None:
    def model(rows: Array) -> Array:
        return np.asarray(rows.sum(1))

    assert len(explanation.shap(model, np.zeros((0, 3)), 0.0)) == 0
    assert not explanation.shap(model, np.ones((2, 3)), 1.0).values.any()  # M = 0
    assert explanation.shap(model, np.ones((1, 1)), 0.0).values == 1.0  # M = 1
    assert explanation.shap(model, np.ones((1, 1)), 0.0, method="permutation").values == 1.0
    constant = explanation.shap(lambda r: np.full(len(r), 7.0), np.ones((1, 4)), 0.0)
    assert not constant.values.any()
    holes = explanation.shap(model, np.array([[1.0, np.nan], [1.0, 2.0]]), 0.0)
    assert np.isnan(holes.values[0]).all()
    assert holes.values[1].tolist() == [1.0, 2.0]
    many = explanation.shap(model, np.ones((1, 2)), np.zeros((1000, 2)))
    assert many.notes == ("background: 100 of 1000 rows, drawn with seed 0",)
    whole = explanation.shap(lambda r: r[:, 0] * 2, np.array([[3, 4]]), np.array([[1, 1]]))
    assert whole.values.tolist() == [[4.0, 0.0]]
    as_list = explanation.shap(lambda r: r.sum(1).tolist(), np.ones((1, 2)), 0.0)
    assert as_list.values.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    (
        ({"background": None}, "`background` is missing"),
        ({"background": np.zeros((0, 3))}, "`background` has no rows"),
        ({"background": np.zeros((2, 4))}, r"shape \(4,\), those explained \(3,\)"),
        ({"x": np.zeros(3)}, r"pass x\[None\]"),
        ({"model": lambda r: np.zeros(5)}, r"shape \(5, 1\) for 2 rows"),
        ({"model": lambda r: np.full(len(r), np.nan)}, "returned nan for row 0"),
        ({"model": lambda r: np.array(["a"] * len(r))}, "needs numbers"),
        ({"method": "tree"}, "`method` must be one of"),
        ({"x": np.ones((1, 21)), "method": "exact"}, "row 0 has 21 players that vary"),
        ({"method": "permutation", "max_evaluations": 6}, "need 7"),
        ({"method": "kernel", "max_evaluations": 6}, "need 7"),
        ({"groups": [[0, 1], [1, 2]]}, "overlap: column 1"),
        ({"groups": [[0, 1]]}, "leave out 1 of 3 columns, first 2"),
        ({"groups": [[0, 1], [2], []]}, "group 2 of `groups` is empty"),
        ({"groups": [[0, 1], ["age"]]}, "no column is called 'age'"),
        ({"segments": 2}, "`segments` are for images"),
        ({"x": np.ones((1, 4, 4)), "segments": np.zeros((3, 4), int)}, r"shape \(4, 4\)"),
        ({"x": np.ones((1, 2, 2)), "segments": np.array([[0, 0], [2, 2]])}, "1 is missing"),
        ({"x": np.ones((1, 2, 2)), "segments": np.array([[0, 0], [-1, 0]])}, "-1 is negative"),
        ({"target": 3, "model": lambda r: r}, "`target` 3 is no class"),
        ({"target": -1, "model": lambda r: r}, "`target` -1 is no class"),
        ({"target": 1}, "must be None or 0"),
        ({"until": 5}, "`until` must be"),
        ({"feature_names": ["a"]}, "1 names for 3 features"),
    ),
)
def test_refusals(arguments: dict[str, object], message: str) -> None:
    given = {"model": lambda r: r.sum(1), "x": np.ones((1, 3)), "background": 0.0} | arguments
    model = given.pop("model")
    if np.ndim(given["x"]) == 3 and "model" not in arguments:
        model = lambda r: r.sum((1, 2))  # noqa: E731
    with pytest.raises(ValueError, match=message):
        explanation.shap(model, **given)


def test_what_is_alike_shares_alike() -> None:
    x, background = np.array([[2.0, 2.0, 1.0]]), np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 4.0]])
    found = explanation.shap(lambda r: np.tanh(r[:, 0] + r[:, 1]) * r[:, 2], x, background)
    assert found.values[0, 0] == pytest.approx(found.values[0, 1], abs=1e-15)


def test_tables_sparse_rows_whole_numbers_and_unbuilt_models() -> None:
    class Table:
        columns = ("size", "age")

        def to_numpy(self) -> Array:
            return np.array([[1.0, 2.0]])

    class Sparse:
        def toarray(self) -> Array:
            return np.array([[1.0, 2.0]])

    named = explanation.shap(lambda r: r.sum(1), Table(), 0.0)
    assert named.feature_names == ["size", "age"]
    assert explanation.shap(lambda r: r.sum(1), Sparse(), 0.0).values.tolist() == [[1, 2]]
    seen = []

    def whole(rows: Array) -> Array:
        seen.append(rows.dtype)
        return np.asarray(rows.sum(1))

    explanation.shap(whole, np.array([[3, 4]]), np.array([[1, 2]]))
    assert set(seen) == {np.dtype("int64")}
    words = handmill.Sequential(
        [
            handmill.Input((3,), dtype="int32"),
            handmill.layers.Embedding(9, 2),
            handmill.layers.Flatten(),
            handmill.layers.Dense(2),
        ]
    )
    found = explanation.shap(words, np.array([[1, 2, 3]]), np.zeros((1, 3), int), target=1)
    np.testing.assert_allclose(found.gap, 0, atol=1e-6)
    assert found.values.any()
    unbuilt = handmill.Sequential([handmill.layers.Dense(2)])
    np.testing.assert_allclose(explanation.shap(unbuilt, np.ones((1, 4)), 0.0).gap, 0, atol=1e-6)


def test_several_outputs_need_a_function() -> None:
    x = handmill.Input((3,))
    model = handmill.Model(x, [handmill.layers.Dense(2)(x), handmill.layers.Dense(1)(x)])
    with pytest.raises(ValueError, match="the model has 2 outputs: say which number"):
        explanation.shap(model, np.ones((1, 3)), 0.0)
    found = explanation.shap(model, np.ones((1, 3)), 0.0, target=lambda outputs: outputs[1][:, 0])
    kernel = model.layers[-1].kernel.numpy()[:, 0]
    np.testing.assert_allclose(found.values[0], kernel, atol=1e-6)


def test_a_model_that_another_thread_trains_is_refused() -> None:
    model = net(3)
    model._fitting = 1  # of no thread that runs
    for method in (explanation.shap, explanation.permutation_importance):
        with pytest.raises(RuntimeError, match="is being trained in another thread"):
            method(model, np.ones((4, 3)), np.zeros(4) if "perm" in method.__name__ else 0.0)
    model._fitting = 0


def test_explain_takes_what_fits() -> None:
    rng = np.random.default_rng(0)
    table, model = rng.normal(size=(2, 5)), net(5)
    assert handmill.explain(model, table, background=table).method == "exact Shapley values"
    assert handmill.explain(model, table, baseline=0).method == "integrated gradients"
    assert handmill.explain(lambda x: x[:, 0], table, background=0.0).complete
    images = handmill.explain(lambda x: x.sum((1, 2)), rng.normal(size=(1, 6, 6)))
    assert images.method == "occlusion"
    texts = handmill.explain(lambda ts: [len(t) for t in ts], ["a word"], num_samples=50)
    assert texts.method == "LIME"
    again = handmill.explain(model, table, [0, 1], "lime", background=table, num_samples=200)
    assert again.classes.tolist() == [0, 1]


def test_a_bridge_to_shap() -> None:
    pytest.importorskip("shap")
    found = explanation.shap(lambda x: x.sum(1), np.ones((2, 3)), 0.0, feature_names=list("abc"))
    bridged = found.to_shap()
    assert bridged.values.tolist() == [[1, 1, 1]] * 2
    assert bridged.feature_names == ["a", "b", "c"]


def test_as_shap_computes_it() -> None:
    """KernelExplainer without its selection of ten features, ExactExplainer, LinearExplainer."""
    shap = pytest.importorskip("shap")
    rng = np.random.default_rng(6)
    model, x, background = net(8), rng.normal(size=(3, 8)), rng.normal(size=(10, 8))

    def predict(rows: Array) -> Array:
        return np.asarray(model.predict(rows.astype("float32"), batch_size=8192, verbose=0))

    kernel = shap.KernelExplainer(predict, background)
    theirs = kernel.shap_values(x, l1_reg=False, silent=True)
    masker = shap.maskers.Independent(background, max_samples=10)
    exact = shap.explainers.ExactExplainer(predict, masker)(x, silent=True).values
    for target in range(3):
        for method in ("exact", "kernel"):
            ours = explanation.shap(model, x, background, target, method)
            np.testing.assert_allclose(ours.values, theirs[..., target], atol=1e-5)
            np.testing.assert_allclose(ours.values, exact[..., target], atol=1e-5)
            np.testing.assert_allclose(ours.base_values, kernel.expected_value[target], atol=1e-5)
    weights = rng.normal(size=8)
    linear = shap.LinearExplainer((weights, 1.0), background).shap_values(x)
    ours = explanation.shap(lambda rows: rows @ weights + 1, x, background)
    np.testing.assert_allclose(ours.values, linear, atol=1e-5)


def test_values_that_shap_gave_once() -> None:
    """KernelExplainer of shap 0.51 on x0 x1 + 2 x2 - x3^2, written down; needs no package."""
    background = np.array([[0.0, 0, 0, 0], [1, 1, 1, 1], [0, 2, 1, 3]])
    x = np.array([[2.0, 1.0, 3.0, 2.0]])
    for method in ("exact", "kernel"):
        found = explanation.shap(
            lambda r: r[:, 0] * r[:, 1] + 2 * r[:, 2] - r[:, 3] ** 2, x, background, method=method
        )
        np.testing.assert_allclose(found.values, WRITTEN, atol=1e-10)


WRITTEN = [[5 / 3, 0.0, 14 / 3, -2 / 3]]
