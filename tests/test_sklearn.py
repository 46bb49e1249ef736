"""The estimators for scikit-learn, beside the networks of scikit-learn itself."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6", reason="no scikit-learn")

from scipy import sparse
from sklearn import datasets
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.multioutput import ClassifierChain
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

import handmill
from handmill.errors import FileFormatError
from handmill.models.estimators import network
from handmill.sklearn import HandmillClassifier, HandmillRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def classes(name: str = "iris"):
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return scale(x), y


def labels():
    return datasets.make_multilabel_classification(300, 12, n_classes=4, random_state=0)


def numbers(targets: int = 1):
    x, y = datasets.make_regression(300, 8, n_targets=targets, random_state=0)
    return x, y / 50


# --- the same run as scikit-learn ----------------------------------------------------------------

WEIGHTS = np.random.default_rng(0).random(1797)

RUNS = {
    "binary": ("Classifier", classes("breast_cancer"), {}),
    "multiclass": ("Classifier", classes("wine"), {}),
    "labels": ("Classifier", labels(), {}),
    "weights": ("Classifier", classes("wine"), {"weighted": True, "batch_size": 50}),
    "two layers": ("Classifier", classes(), {"hidden_layer_sizes": (20, 10)}),
    "no hidden layer": ("Classifier", classes(), {"hidden_layer_sizes": ()}),
    "tanh": ("Classifier", classes(), {"activation": "tanh"}),
    "logistic": ("Classifier", classes(), {"activation": "logistic"}),
    "identity": ("Classifier", classes(), {"activation": "identity"}),
    "alpha": ("Classifier", classes(), {"alpha": 5.0}),
    "no alpha": ("Classifier", classes(), {"alpha": 0}),
    "in order": ("Classifier", classes(), {"shuffle": False, "batch_size": 32}),
    "betas": ("Classifier", classes(), {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-4}),
    "early": ("Classifier", classes("breast_cancer"), {"early_stopping": True}),
    "early, classes": ("Classifier", classes("wine"), {"early_stopping": True}),
    "sgd": ("Classifier", classes(), {"solver": "sgd", "learning_rate_init": 0.1}),
    "plain sgd": ("Classifier", classes(), {"solver": "sgd", "momentum": 0}),
    "momentum": ("Classifier", classes(), {"solver": "sgd", "nesterovs_momentum": False}),
    "invscaling": (
        "Classifier", classes(),
        {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.2, "batch_size": 10},
    ),
    "adaptive": (
        "Classifier", classes(),
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.01, "n_iter_no_change": 2},
    ),
    "numbers": ("Regressor", numbers(), {}),
    "several numbers": ("Regressor", numbers(3), {"batch_size": 40}),
    "weighted numbers": ("Regressor", numbers(2), {"weighted": True}),
    "early numbers": ("Regressor", numbers(), {"early_stopping": True}),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_the_run_is_that_of_scikit_learn(name: str) -> None:
    kind, (x, y), parameters = RUNS[name]
    parameters = {"max_iter": 40, "random_state": 3, **parameters}
    fit = {"sample_weight": WEIGHTS[: len(y)]} if parameters.pop("weighted", False) else {}
    theirs = {"Classifier": MLPClassifier, "Regressor": MLPRegressor}[kind](**parameters)
    ours = {"Classifier": HandmillClassifier, "Regressor": HandmillRegressor}[kind](**parameters)
    try:
        theirs.fit(x, y, **fit)
    except TypeError:
        pytest.skip("this scikit-learn has no sample_weight")
    ours.fit(x, y, **fit)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=2e-4, atol=1e-6)
    for attribute in ("n_layers_", "n_outputs_", "out_activation_", "t_", "n_features_in_"):
        assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    for mine, other in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(mine, other, atol=5e-3)
    if theirs.validation_scores_ is not None:
        np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, atol=2e-3)
    assert ours.score(x, y) == pytest.approx(theirs.score(x, y), abs=0.01)


LBFGS = {
    "classes": ("Classifier", classes(), {"activation": "tanh"}),
    "two classes": ("Classifier", classes("breast_cancer"), {"activation": "logistic"}),
    "numbers": ("Regressor", numbers(), {"activation": "tanh", "alpha": 0.1}),
    "several numbers": ("Regressor", numbers(3), {"activation": "tanh"}),
    "weighted numbers": ("Regressor", numbers(2), {"activation": "tanh", "weighted": True}),
}


@pytest.mark.parametrize("name", LBFGS)
@pytest.mark.parametrize("steps", (3, 60))
def test_lbfgs_goes_where_scikit_learn_goes(name: str, steps: int) -> None:
    kind, (x, y), parameters = LBFGS[name]
    parameters = {"random_state": 3, "solver": "lbfgs", "max_iter": steps, **parameters}
    fit = {"sample_weight": WEIGHTS[: len(y)]} if parameters.pop("weighted", False) else {}
    theirs = {"Classifier": MLPClassifier, "Regressor": MLPRegressor}[kind](**parameters)
    ours = {"Classifier": HandmillClassifier, "Regressor": HandmillRegressor}[kind](**parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            theirs.fit(x, y, **fit)
        except TypeError:
            pytest.skip("this scikit-learn has no sample_weight")
        ours.fit(x, y, **fit)
    assert not hasattr(ours, "loss_curve_")
    assert not hasattr(ours, "partial_fit")
    if steps == 3:  # later the paths part by rounding, and end at the same place
        assert ours.n_iter_ == theirs.n_iter_
        assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-4)
        for mine, other in zip(ours.coefs_, theirs.coefs_, strict=True):
            np.testing.assert_allclose(mine, other, atol=2e-3)
    assert ours.score(x, y) == pytest.approx(theirs.score(x, y), abs=0.02)
    again = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(again.predict(x), ours.predict(x))
    np.testing.assert_array_equal(ours.to_model().get_weights()[0], ours.coefs_[0])


def test_lbfgs_says_why_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = numbers()
    model = HandmillRegressor(solver="lbfgs", max_iter=2, verbose=True)
    with pytest.warns(ConvergenceWarning, match="TOTAL NO|ITERATIONS REACHED LIMIT"):
        model.fit(x, y)
    assert capsys.readouterr().out.startswith("Iteration 1, loss = ")
    first = model.loss_
    model.set_params(warm_start=True, max_fun=3, max_iter=200)
    with pytest.warns(ConvergenceWarning, match="EVALUATIONS|FUNC"):
        model.fit(x, y)
    assert model.loss_ < first
    with pytest.raises(AttributeError, match="partial_fit") as caught:
        model.partial_fit(x, y)
    assert "lbfgs is not stochastic" in str(caught.value.__cause__)
    model.set_params(solver="adam", warm_start=False, max_iter=1, verbose=False)
    with pytest.warns(ConvergenceWarning, match="hasn't converged"):
        model.fit(x, y)
    assert len(model.loss_curve_) == 1
    model.partial_fit(x, y)


@pytest.mark.skipif(not hasattr(MLPRegressor(), "loss"), reason="scikit-learn has no poisson yet")
@pytest.mark.parametrize(
    "change",
    (
        {},
        {"n_iter_no_change": 1, "tol": 1e-3},
        {"n_iter_no_change": 40, "tol": 1e-2, "shuffle": False},
        {"max_iter": 17},
        {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.3, "tol": 1e-2},
    ),
)
def test_epochs_in_one_call_are_those_one_by_one(change: dict) -> None:
    """verbose asks for one call an epoch; without it, several epochs of one step share a call."""
    x, y = datasets.load_iris(return_X_y=True)
    fits = []
    for verbose in (True, False):
        settings = {"max_iter": 150, "random_state": 3, "verbose": verbose, **change}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fits.append(HandmillClassifier((9,), **settings).fit(x, y))
    one_by_one, together = fits
    assert together.n_iter_ == one_by_one.n_iter_
    assert together.loss_curve_ == one_by_one.loss_curve_
    for found, wanted in zip(together.coefs_, one_by_one.coefs_, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_the_poisson_loss_is_that_of_scikit_learn() -> None:
    x, y = datasets.load_diabetes(return_X_y=True)
    theirs = MLPRegressor("poisson", random_state=0, max_iter=40)
    theirs = theirs.set_params(activation="tanh").fit(x, y // 50)
    ours = HandmillRegressor("poisson", random_state=0, max_iter=40)
    ours = ours.set_params(activation="tanh").fit(x, y // 50)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-4)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=1e-3)
    assert (y // 50 == 0).any()


def test_partial_fit_is_that_of_scikit_learn() -> None:
    x, y = classes("digits")
    theirs, ours = MLPClassifier(random_state=1), HandmillClassifier(random_state=1)
    for _ in range(3):
        for start in range(0, len(x), 500):
            part = slice(start, start + 500)
            theirs.partial_fit(x[part], y[part], classes=np.arange(10))
            ours.partial_fit(x[part], y[part], classes=np.arange(10))
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-4)
    assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_)


def test_warm_start_is_that_of_scikit_learn() -> None:
    x, y = classes()
    theirs = MLPClassifier(random_state=1, warm_start=True, max_iter=5)
    ours = HandmillClassifier(random_state=1, warm_start=True, max_iter=5)
    for _ in range(4):
        theirs.fit(x, y)
        ours.fit(x, y)
    assert len(ours.loss_curve_) == 20
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-4)


DATA = {
    "iris": classes("iris"),
    "wine": classes("wine"),
    "breast_cancer": classes("breast_cancer"),
    "digits": classes("digits"),
    "diabetes": datasets.load_diabetes(return_X_y=True),
    "friedman": datasets.make_friedman1(1000, random_state=0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
def test_held_out_scores_are_those_of_scikit_learn(name: str) -> None:
    x, y = DATA[name]
    regression = name in ("diabetes", "friedman")
    kinds = (MLPRegressor, HandmillRegressor) if regression else (MLPClassifier, HandmillClassifier)
    scores = []
    for seed in range(5):
        x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=seed)
        pair = (kind(random_state=seed).fit(x_train, y_train) for kind in kinds)
        scores.append([model.score(x_test, y_test) for model in pair])
    theirs, ours = np.mean(scores, axis=0)
    assert ours >= theirs - 0.002


# --- data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", (sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array))
def test_sparse_features_give_the_same_network(container, monkeypatch: pytest.MonkeyPatch) -> None:
    from handmill.models.estimators import training

    monkeypatch.setattr(training, "SPARSE_BYTES", 1 << 14)  # several pieces an epoch
    x, y = datasets.load_digits(return_X_y=True)
    parameters = {"max_iter": 3, "random_state": 0, "batch_size": 50}
    dense = HandmillClassifier(**parameters).fit(x, y)
    thin = HandmillClassifier(**parameters).fit(container(x), y)
    for mine, other in zip(thin.coefs_, dense.coefs_, strict=True):
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(thin.predict(container(x)), dense.predict(x))


def test_labels_of_any_kind() -> None:
    x, y = classes()
    names = np.array(["setosa", "versicolor", "virginica"], dtype=object)
    model = HandmillClassifier(random_state=0).fit(x, names[y])
    assert list(model.classes_) == list(names)
    plain = HandmillClassifier(random_state=0).fit(x, y)
    np.testing.assert_array_equal(model.predict(x), names[plain.predict(x)])
    probabilities = model.predict_proba(x)
    assert probabilities.shape == (150, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(model.predict_log_proba(x), np.log(probabilities))


def test_one_class() -> None:
    model = HandmillClassifier(max_iter=3).fit(np.eye(4), ["only"] * 4)
    assert list(model.predict(np.eye(4))) == ["only"] * 4
    np.testing.assert_array_equal(model.predict_proba(np.eye(4)), np.ones((4, 1)))


def test_sparse_indicators() -> None:
    x, y = labels()
    plain = HandmillClassifier(max_iter=5, random_state=0).fit(x, y)
    thin = HandmillClassifier(max_iter=5, random_state=0).fit(x, sparse.csr_matrix(y))
    np.testing.assert_array_equal(plain.predict(x), thin.predict(x))
    assert plain.predict(x).shape == y.shape


def test_weights_repeat_rows() -> None:
    x, y = classes()
    counts = np.random.default_rng(0).integers(0, 4, len(y))
    parameters = {"random_state": 0, "max_iter": 30, "batch_size": 1000}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        weighted = HandmillClassifier(**parameters).fit(x, y, sample_weight=counts)
        repeated = HandmillClassifier(**parameters).fit(x.repeat(counts, 0), y.repeat(counts))
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-5)
    np.testing.assert_allclose(
        weighted.predict_proba(x), repeated.predict_proba(x), rtol=1e-4, atol=1e-6
    )


def test_a_batch_without_weight_leaves_the_network_alone() -> None:
    x, y = classes()
    order = np.random.default_rng(0).permutation(150)
    x, y = x[order], y[order]
    model = HandmillClassifier(solver="sgd", momentum=0, alpha=0, batch_size=50, shuffle=False)
    model.set_params(max_iter=4, random_state=0)
    alone = clone(model).fit(x[:50], y[:50])
    model.fit(x, y, sample_weight=np.arange(150) < 50)
    for mine, other in zip(model.coefs_, alone.coefs_, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    (
        ({"hidden_layer_sizes": (5, 0)}, "hidden_layer_sizes must be > 0"),
        ({"activation": "gelu"}, "'activation' parameter.*must be a str among"),
        ({"early_stopping": True, "validation_fraction": 0.01}, "validation set is too small"),
    ),
)
def test_parameters_that_do_not_fit(change: dict, message: str) -> None:
    x, y = numbers()
    with pytest.raises(ValueError, match=message):
        HandmillRegressor(**change).fit(x[:100], y[:100])


def test_a_failed_fit_leaves_the_estimator_as_it_was() -> None:
    x, y = classes()
    model = HandmillClassifier(max_iter=3, random_state=0).fit(x, y)
    before = model.predict_proba(x)
    for wrong in (
        lambda: model.fit(x[:, :2], y[:-1]),
        lambda: model.fit(x * 1e30, y),
        lambda: model.partial_fit(x, y + 1),
        lambda: model.partial_fit(x[:, :2], y),
        lambda: model.fit(x, y, sample_weight=np.zeros(150)),
    ):
        with pytest.raises(ValueError, match=r"."):
            wrong()
        np.testing.assert_array_equal(model.predict_proba(x), before)
        assert len(model.loss_curve_) == 3


def test_a_loss_that_is_not_finite_names_the_epoch() -> None:
    x, y = numbers()
    with pytest.raises(ValueError, match=r"non-finite.*the loss of epoch \d+ is (nan|inf)"):
        HandmillRegressor(solver="sgd", learning_rate_init=1e20).fit(x, y)


def test_targets_that_do_not_fit() -> None:
    x, y = numbers()
    with pytest.raises(ValueError, match="too large for dtype"):
        HandmillRegressor().fit(x, y * 1e300)
    with pytest.raises(ValueError, match="needs targets of at least 0"):
        HandmillRegressor(loss="poisson").fit(x, y)
    with pytest.raises(ValueError, match="Unknown label type"):
        HandmillClassifier().fit(x, y)
    with pytest.raises(ValueError, match="several columns of classes"):
        HandmillClassifier().fit(x, np.round(np.column_stack([y, y])))
    with pytest.raises(NotFittedError):
        HandmillClassifier().predict(x)


def test_warm_start_wants_the_same_layers_and_classes() -> None:
    x, y = classes()
    model = HandmillClassifier(max_iter=2, warm_start=True).fit(x, y)
    with pytest.raises(ValueError, match="same classes as in the previous call"):
        model.fit(x[:100], y[:100])
    with pytest.raises(ValueError, match=r"\(4, 100, 3\) units.*\(4, 7, 3\)"):
        model.set_params(hidden_layer_sizes=(7,)).fit(x, y)


def test_partial_fit_refuses_early_stopping() -> None:
    x, y = classes()
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping"):
        HandmillClassifier(early_stopping=True).partial_fit(x, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        HandmillClassifier().partial_fit(x, y)


def test_warnings_name_the_line_that_fits() -> None:
    x, y = classes()
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\)") as caught:
        HandmillClassifier(max_iter=2).fit(x, y)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="batch_size=500 is larger than the 150") as caught:
        HandmillClassifier(max_iter=2, batch_size=500).fit(x, y)
    assert caught[0].filename == __file__


# --- life in scikit-learn ------------------------------------------------------------------------


def test_pipeline_and_grid_search() -> None:
    x, y = datasets.load_wine(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), HandmillClassifier(max_iter=80, random_state=0))
    grid = {"handmillclassifier__hidden_layer_sizes": [(32,), (64,)]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(x, y)
    assert search.best_score_ > 0.9
    assert search.score(x, y) > 0.95


@pytest.mark.slow
def test_grid_search_in_processes() -> None:
    x, y = classes("digits")
    grid = {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(16,), (32,)]}
    model = HandmillClassifier(max_iter=10, random_state=0)
    alone = GridSearchCV(model, grid, cv=3, n_jobs=1).fit(x, y)
    shared = GridSearchCV(model, grid, cv=3, n_jobs=2).fit(x, y)
    key = "mean_test_score"
    np.testing.assert_array_equal(shared.cv_results_[key], alone.cv_results_[key])


def test_threads_share_nothing() -> None:
    import joblib

    x, y = classes("breast_cancer")
    model = HandmillClassifier(max_iter=15, random_state=0)
    alone = cross_val_score(model, x, y, cv=6)
    with joblib.parallel_backend("threading", n_jobs=4):
        shared = cross_val_score(model, x, y, cv=6, n_jobs=4)
    np.testing.assert_array_equal(shared, alone)


def test_chains_of_classifiers() -> None:
    x, y = labels()
    chain = ClassifierChain(HandmillClassifier((8,), max_iter=20, random_state=0)).fit(x, y)
    assert chain.predict(x).shape == y.shape


def test_fits_of_one_architecture_are_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []
    plain = network.TracedFunction._trace

    def counted(function, specs):
        traced.append(function.name)
        return plain(function, specs)

    monkeypatch.setattr(network.TracedFunction, "_trace", counted)
    x, y = classes()
    for alpha in (1e-4, 1e-3):
        for rate in (1e-3, 1e-2):
            model = HandmillClassifier((7,), alpha=alpha, learning_rate_init=rate, max_iter=3)
            model.fit(x, y)
            model.predict(x)
    assert sorted(traced) == ["predict_step", "train_step"]


def test_thread_counts_give_the_same_bits() -> None:
    x, y = classes("digits")
    before = handmill.config.num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            handmill.config.set_num_threads(threads)
            model = HandmillClassifier(max_iter=3, random_state=0).fit(x, y)
            found.append(b"".join(a.tobytes() for a in (*model.coefs_, *model.intercepts_)))
    finally:
        handmill.config.set_num_threads(before)
    assert len(set(found)) == 1


def test_the_numpy_executor_trains_the_same_network() -> None:
    x, y = classes()
    model = HandmillClassifier(max_iter=5, random_state=0, batch_size=40)
    native = clone(model).fit(x, y)
    with handmill.use_backend("numpy"):
        interpreted = clone(model).fit(x, y)
        outputs = interpreted.predict_proba(x)
    np.testing.assert_allclose(interpreted.loss_curve_, native.loss_curve_, rtol=1e-5)
    np.testing.assert_allclose(outputs, native.predict_proba(x), rtol=1e-3, atol=1e-6)


# --- pickles and models --------------------------------------------------------------------------

KINDS = {
    "classes": lambda: HandmillClassifier(max_iter=4, random_state=0).fit(*classes()),
    "two classes": lambda: HandmillClassifier(max_iter=4).fit(*classes("breast_cancer")),
    "labels": lambda: HandmillClassifier((), solver="sgd", max_iter=4).fit(*labels()),
    "numbers": lambda: HandmillRegressor(solver="sgd", momentum=0, max_iter=4).fit(*numbers(2)),
    "counts": lambda: HandmillRegressor(loss="poisson", max_iter=4).fit(
        numbers()[0], np.abs(numbers()[1])
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_hold_a_model_file(kind: str, tmp_path) -> None:
    model = KINDS[kind]()
    x = np.random.default_rng(0).normal(size=(20, model.n_features_in_))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert vars(again).keys() == vars(model).keys()
    path = tmp_path / "network.hmill"
    path.write_bytes(model.__getstate__()["_hmill"])
    loaded = handmill.models.load_model(path)
    outputs = loaded.predict(x.astype(np.float32), verbose=0)
    np.testing.assert_array_equal(outputs, model._predicted(x))
    np.testing.assert_array_equal(
        model.to_model().predict(x.astype(np.float32), verbose=0), outputs
    )
    assert int(loaded.optimizer.iterations) == int(model._optimizer_state[0]) > 0


def test_training_goes_on_after_a_pickle() -> None:
    x, y = classes()
    model = HandmillClassifier(random_state=0)
    for _ in range(3):
        model.partial_fit(x, y, classes=[0, 1, 2])
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        expected = copy.deepcopy(model)
        for _ in range(2):
            expected.partial_fit(x, y)
            other.partial_fit(x, y)
        assert other.loss_curve_ == expected.loss_curve_
        np.testing.assert_array_equal(other.coefs_[0], expected.coefs_[0])


def test_models_can_be_trained_and_are_independent() -> None:
    x, y = classes()
    model = HandmillClassifier(max_iter=4, random_state=0).fit(x, y)
    before = model.predict_proba(x)
    made = model.to_model()
    first = made.evaluate(x.astype(np.float32), y, verbose=0)
    made.fit(x.astype(np.float32), y, epochs=5, verbose=0)
    assert made.evaluate(x.astype(np.float32), y, verbose=0) < first
    np.testing.assert_array_equal(model.predict_proba(x), before)


def test_damaged_pickles_are_refused() -> None:
    state = KINDS["classes"]().__getstate__()
    content = state["_hmill"]
    for damaged, message in (
        (content[:-30], "damaged"),
        (content.replace(b'"version": 1', b'"version": 9'), "damaged|version"),
        (b"no archive", "not a .hmill file"),
    ):
        with pytest.raises(FileFormatError, match=message):
            HandmillClassifier().__setstate__({**state, "_hmill": damaged})


def test_later_versions_are_refused() -> None:
    import io

    from handmill.models.estimators.export import from_bytes
    from handmill.saving import archive, tensors

    content = KINDS["classes"]().__getstate__()["_hmill"]
    members = archive.from_archive(io.BytesIO(content), len(content), "file")
    later = {**members, "state.json": bytes(members["state.json"]).replace(b'ion": 1', b'ion": 9')}
    with pytest.raises(FileFormatError, match="has format version 9"):
        from_bytes(b"".join(archive.to_archive(later)))
    arrays = tensors.from_tensors(members["model.safetensors"], "file")
    swapped = dict(zip(arrays, reversed(arrays.values()), strict=True))
    mixed = {**members, "model.safetensors": b"".join(tensors.to_tensors(swapped))}
    with pytest.raises(FileFormatError, match="weights that do not follow each other"):
        from_bytes(b"".join(archive.to_archive(mixed)))


# --- the package ---------------------------------------------------------------------------------


def test_without_scikit_learn_the_error_names_the_package() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import handmill\n"
        "try:\n    handmill.sklearn.HandmillClassifier\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert "handmill.sklearn needs scikit-learn 1.6 or newer: pip install" in done.stdout


@pytest.mark.parametrize("name", ("Classifier", "Regressor"))
def test_parameters_of_one_make_the_other(name: str) -> None:
    from sklearn import neural_network

    ours = getattr(handmill.sklearn, f"Handmill{name}")
    theirs = getattr(neural_network, f"MLP{name}")
    given = theirs(max_iter=5).get_params()
    assert ours(**given).get_params() == given
    theirs(**ours(max_iter=5).get_params())
