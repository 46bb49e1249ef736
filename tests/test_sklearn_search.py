"""The search over parameters, folds and seeds, beside scikit-learn's ``GridSearchCV``."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6", reason="no scikit-learn")

from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import handmill
from handmill import layers, random
from handmill.sklearn import HandmillClassifier, HandmillSearchCV
from handmill.wrappers import SKLearnClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DRAWS = np.random.default_rng(0)
X = DRAWS.normal(size=(90, 4))
Y = np.where(X[:, 0] + X[:, 1] > 0, "up", "down")


def test_with_one_seed_it_finds_what_grid_search_finds() -> None:
    grid = {"n_neighbors": [1, 5, 9], "weights": ["uniform", "distance"]}
    ours = HandmillSearchCV(KNeighborsClassifier(), grid, seeds=1, cv=4, return_train_score=True)
    theirs = GridSearchCV(KNeighborsClassifier(), grid, cv=4, return_train_score=True)
    ours.fit(X, Y)
    theirs.fit(X, Y)
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_score_ == pytest.approx(theirs.best_score_)
    assert ours.cv_results_["params"] == theirs.cv_results_["params"]
    assert set(theirs.cv_results_) <= set(ours.cv_results_)
    for name, values in theirs.cv_results_.items():
        if "time" not in name and name != "params":
            mine = ours.cv_results_[name]
            if name.startswith("param_"):
                assert list(mine) == list(values)
            else:
                assert mine == pytest.approx(values), name
    assert (ours.predict(X) == theirs.predict(X)).all()
    assert ours.score(X, Y) == theirs.score(X, Y)
    assert ours.predict_proba(X).tolist() == theirs.predict_proba(X).tolist()
    assert ours.classes_.tolist() == theirs.classes_.tolist()
    assert ours.n_splits_ == 4
    assert ours.n_features_in_ == 4


def test_seeds_are_an_axis() -> None:
    grid = {"learning_rate_init": [1e-5, 0.02], "hidden_layer_sizes": [(4,), (8,)]}
    network = HandmillClassifier(max_iter=30)
    search = HandmillSearchCV(network, grid, cv=3, seeds=2).fit(X, Y)
    assert search.comparison_.scores.shape == (4, 6)
    assert search.best_params_["learning_rate_init"] == 0.02
    assert "corrected t of Nadeau and Bengio" in str(search.comparison_)
    assert search.cv_results_["is_not_distinguishable_from_best"][search.best_index_]
    parameters = search.best_params_
    folds = list(search_folds(3))
    for split in range(6):
        train, test = folds[split // 2]
        alone = clone(network).set_params(**parameters, random_state=split)
        score = alone.fit(X[train], Y[train]).score(X[test], Y[test])
        assert search.cv_results_[f"split{split}_test_score"][search.best_index_] == score
    again = HandmillSearchCV(network, grid, cv=3, seeds=2).fit(X, Y)
    assert str(again.comparison_) == str(search.comparison_)
    assert (again.predict_proba(X) == search.predict_proba(X)).all()


def search_folds(count: int) -> Any:
    from sklearn.model_selection import StratifiedKFold

    return StratifiedKFold(count).split(X, Y)


def network(X: Any, y: Any, units: int = 4) -> Any:
    stack = [handmill.Input(X.shape[1:]), layers.Dense(units, "tanh")]
    model = handmill.Sequential([*stack, layers.Dense(y.shape[1], "softmax")])
    model.compile(handmill.optimizers.Adam(0.03), "categorical_crossentropy")
    return model


def test_models_of_any_kind_are_searched_and_draws_go_on() -> None:
    wrapped = SKLearnClassifier(network, fit_kwargs={"epochs": 8, "verbose": 0})
    grid = {"model_kwargs": [{"units": 1}, {"units": 6}]}
    before = random.state()
    search = HandmillSearchCV(wrapped, grid, cv=3, seeds=2).fit(X, Y)
    assert random.state() == before
    again = HandmillSearchCV(wrapped, grid, cv=3, seeds=2).fit(X, Y)
    assert str(search.comparison_) == str(again.comparison_)
    table = search.comparison_.scores
    assert (table[:, ::2] != table[:, 1::2]).any()  # seeds matter
    assert search.score(X, Y) > 0.8


def test_models_side_by_side_are_those_of_single_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    from handmill.models.estimators import search as module

    wrapped = SKLearnClassifier(network, fit_kwargs={"epochs": 5, "verbose": 0, "batch_size": 16})
    grid = {"model_kwargs": [{"units": 1}, {"units": 6}, {}]}
    asked = {"cv": 3, "seeds": 2, "return_train_score": True}
    asked["scoring"] = lambda made, x, y: -float(np.abs(made.decision_function(x)[:, 0]).sum())
    side_by_side = HandmillSearchCV(wrapped, grid, **asked).fit(X, Y)
    with monkeypatch.context() as patch:
        patch.setattr(module, "has_lanes", lambda *_: False)
        single = HandmillSearchCV(wrapped, grid, **asked).fit(X, Y)
    assert side_by_side.comparison_.scores.tolist() == single.comparison_.scores.tolist()
    for name in ("mean_test_score", "split3_train_score", "rank_test_score"):
        assert side_by_side.cv_results_[name].tolist() == single.cv_results_[name].tolist()
    wrong = HandmillSearchCV(wrapped, {"model_kwargs": [{"unit": 1}, {"units": 2}]}, cv=3)
    with pytest.warns(handmill.TrainingWarning, match="unexpected keyword argument 'unit'"):
        assert wrong.fit(X, Y).best_params_ == {"model_kwargs": {"units": 2}}
    with pytest.raises(TypeError, match="'unit'"):
        wrong.set_params(error_score="raise").fit(X, Y)


def test_it_is_an_estimator() -> None:
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    search = HandmillSearchCV(scaled, {"logisticregression__C": [0.01, 1.0]}, cv=3)
    assert is_classifier(search)
    assert clone(search).get_params()["cv"] == 3
    assert not hasattr(search, "transform")
    with pytest.raises(NotFittedError):
        search.predict(X)
    search.fit(X, Y)
    assert pickle.loads(pickle.dumps(search)).predict(X).tolist() == search.predict(X).tolist()
    assert len(cross_val_score(search, X, Y, cv=2)) == 2
    ridge = HandmillSearchCV(Ridge(), [{"alpha": [1.0, 10.0]}, {"fit_intercept": [False]}], cv=3)
    assert is_regressor(ridge)
    ridge.fit(X, X[:, 0] * 2 + 1, sample_weight=np.ones(90))
    assert ridge.best_params_ == {"alpha": 1.0}
    assert ridge.cv_results_["param_fit_intercept"].mask.tolist() == [True, True, False]
    assert "transform" not in dir(type(ridge)) or not hasattr(ridge, "transform")
    bare = HandmillSearchCV(Ridge(), {"alpha": [1.0]}, cv=KFold(3), refit=False).fit(X, X[:, 0])
    assert bare.best_index_ == 0
    with pytest.raises(AttributeError, match="refit=False"):
        bare.predict(X)


def test_candidates_are_drawn() -> None:
    stats = pytest.importorskip("scipy.stats")
    space = {"alpha": stats.loguniform(1e-3, 10), "fit_intercept": [True, False]}
    search = HandmillSearchCV(Ridge(), space, n_iter=5, cv=3, scoring="neg_mean_squared_error")
    search.fit(X, X[:, 0])
    assert len(search.cv_results_["params"]) == 5
    assert search.comparison_.metric == "neg_mean_squared_error"
    assert clone(search).fit(X, X[:, 0]).best_params_ == search.best_params_


def test_what_fails_is_told() -> None:
    with pytest.raises(ValueError, match=r"Unknown parameter of Ridge: 'alfa'.*mean 'alpha'"):
        HandmillSearchCV(Ridge(), {"alfa": [1.0]}).fit(X, X[:, 0])
    search = HandmillSearchCV(Ridge(), {"alpha": [-1.0, 1.0]}, cv=3)
    with pytest.warns(handmill.TrainingWarning, match="'alpha': -1.0} failed"):
        search.fit(X, X[:, 0])
    assert search.best_params_ == {"alpha": 1.0}
    assert search.cv_results_["rank_test_score"].tolist() == [2, 1]
    with pytest.raises(ValueError, match="alpha"):
        search.set_params(error_score="raise").fit(X, X[:, 0])
    assert search.best_params_ == {"alpha": 1.0}  # as it was
    only = HandmillSearchCV(Ridge(), {"alpha": [-1.0]}, cv=3)
    with pytest.warns(handmill.TrainingWarning), pytest.raises(ValueError, match="no candidate"):
        only.fit(X, X[:, 0])
    with pytest.raises(ValueError, match="seeds"):
        HandmillSearchCV(Ridge(), {"alpha": [1.0]}, seeds=0).fit(X, X[:, 0])
