"""A search of parameters over folds and seeds, with the interface of ``GridSearchCV``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv
from sklearn.utils import _safe_indexing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, indexable

from handmill import random
from handmill.arguments import whole_number
from handmill.errors import TrainingWarning, warn_caller
from handmill.ir.op import Array
from handmill.models.estimators.base import unchanged_by_errors
from handmill.models.estimators.lane_search import has_lanes, scores_of_fold


def _has(name: str) -> Any:
    """Whether the estimator that was found, or given, has a method."""

    def check(search: Any) -> bool:
        getattr(getattr(search, "best_estimator_", search.estimator), name)
        return True

    return available_if(check)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draws of handmill's in the block start from a seed; afterwards they go on as before."""
    before = random.state()
    random.seed_all(seed)
    try:
        yield
    finally:
        random.restore_state(before)


class HandmillSearchCV(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Searches parameters by cross-validation under several seeds, and says how sure it is.

    What ``GridSearchCV`` calls the best is often the luckiest: it has no axis for seeds. Here each
    candidate is trained on each split under each seed, all candidates under the same ones, and
    ``comparison_``, printed, tells which of them are not distinguishable from the best
    (:class:`~handmill.strategy.Comparison`, by the corrected test of Nadeau and Bengio).

    Where the candidates are the arguments of the function that makes the model of a wrapper
    (``model_kwargs``), they are trained side by side, to the same bits.

    Args:
        estimator: of handmill or scikit-learn; the seed is set as its ``random_state``, and, for
            the estimators of :mod:`handmill.wrappers`, by ``utils.set_random_seed``.
        param_grid: name -> values, or a list of such dicts; parameters of ``estimator``, such as
            ``alpha``, ``model_kwargs`` or, in a pipeline, ``step__alpha``.
        n_iter: draws so many candidates instead of trying all; values may then be distributions
            of ``scipy.stats``.
        scoring: a name or function of scikit-learn; default: the estimator's ``score``.
        cv: how many folds, a splitter, or the splits.
        seeds: trainings of each candidate on each split.
        refit: whether the best candidate is trained on all rows in the end.
        error_score: the score where training fails; ``"raise"``: the error.
        return_train_score: whether rows that were trained on are scored too.
        random_state: the first seed, and that of the draw of candidates.

    Attributes:
        best_params_: of the candidate with the best mean score.
        best_score_: that mean. Of many candidates it is too good: see ``comparison_``.
        best_index_: its place in ``cv_results_``.
        best_estimator_: trained on all rows, with ``refit``.
        refit_time_: what that took, in seconds.
        cv_results_: as in scikit-learn, a ``split`` being a fold and a seed.
        comparison_: the candidates held against the best of them.
        n_splits_: folds.
        scorer_: what scores.
        classes_: the classes, for a classifier that was refitted.

    Raises:
        ValueError: for parameters that the estimator does not have, or if every training failed.

    Example:
        >>> from handmill.sklearn import HandmillClassifier, HandmillSearchCV
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> search = HandmillSearchCV(
        ...     HandmillClassifier(learning_rate_init=0.05, tol=0.01), {"alpha": [1e-4, 100.0]},
        ...     cv=3, seeds=2)
        >>> search.fit(X, y).best_params_
        {'alpha': 0.0001}
        >>> search.predict(X[:2]).tolist()
        [0, 0]
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        n_iter: int | None = None,
        scoring: Any = None,
        cv: Any = None,
        seeds: int = 2,
        refit: bool = True,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        random_state: int = 0,
    ) -> None:
        self.estimator = estimator
        self.param_grid = param_grid
        self.n_iter = n_iter
        self.scoring = scoring
        self.cv = cv
        self.seeds = seeds
        self.refit = refit
        self.error_score = error_score
        self.return_train_score = return_train_score
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, *, groups: Any = None, **fit_params: Any) -> Any:
        """Trains all candidates, and the best one again on all rows; returns the search.

        Args:
            X: rows that the estimator takes.
            y: targets.
            groups: for splitters that keep groups together.
            **fit_params: further arguments of the estimator's ``fit``; those with an entry a row
                are cut as the rows are.
        """
        with unchanged_by_errors(self):
            self._search(X, y, groups, fit_params)
        return self

    def _search(self, X: Any, y: Any, groups: Any, fit_params: Mapping[str, Any]) -> None:
        from handmill.strategy.comparison import Comparison  # a floor above

        seeds = whole_number("seeds", self.seeds, 1)
        X, y, groups = indexable(X, y, groups)
        self.scorer_ = check_scoring(self.estimator, scoring=self.scoring)
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        folds = list(splitter.split(X, y, groups))
        candidates = self._candidates()
        shape = len(candidates), len(folds), seeds
        test, train, seconds = np.empty(shape), np.full(shape, np.nan), np.empty(shape)
        scoring_seconds = np.empty(shape)
        at_once = y is not None and has_lanes(self.estimator, candidates, fit_params)
        for f, rows in enumerate(folds):
            named = [self.random_state + f * seeds + s for s in range(seeds)]
            if at_once:
                try:
                    found = scores_of_fold(
                        self.estimator, candidates, X, y, rows, named, fit_params, self.scorer_,
                        self.return_train_score,
                    )  # fmt: skip
                    test[:, f], train[:, f], seconds[:, f], scoring_seconds[:, f] = found
                    continue
                except Exception:  # single fits tell which candidate it is, or pass it over
                    at_once = False
            for k, parameters in enumerate(candidates):
                for s, seed in enumerate(named):
                    single = self._score(X, y, rows, parameters, seed, fit_params)
                    at = k, f, s
                    test[at], train[at], seconds[at], scoring_seconds[at] = single
        if not np.isfinite(test).all(axis=(1, 2)).any():
            raise ValueError(
                "no candidate has a score for every fold and seed. To see the first error, pass "
                "error_score='raise'"
            )
        sizes = len(folds[0][0]), len(folds[0][1])
        self.n_splits_ = len(folds)
        self.multimetric_ = False
        self.comparison_ = Comparison(
            test.reshape(len(candidates), -1),
            candidates,
            metric=self.scoring if isinstance(self.scoring, str) else "score",
            split_rows=sizes,
        )
        self.cv_results_ = self._results(candidates, test, train, seconds, scoring_seconds)
        self.best_index_ = self.comparison_.best
        self.best_params_ = candidates[self.best_index_]
        self.best_score_ = float(self.comparison_.means[self.best_index_])
        if self.refit:
            start = time.perf_counter()
            self.best_estimator_ = self._with(self.best_params_, self.random_state)
            with _seeded(self.random_state):
                self.best_estimator_.fit(X, *(() if y is None else (y,)), **fit_params)
            self.refit_time_ = time.perf_counter() - start
            if hasattr(self.best_estimator_, "n_features_in_"):
                self.n_features_in_ = self.best_estimator_.n_features_in_
            if hasattr(self.best_estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.best_estimator_.feature_names_in_

    def _candidates(self) -> list[dict[str, Any]]:
        if self.n_iter is None:
            found = list(ParameterGrid(self.param_grid))
        else:
            draws = ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state)
            found = list(draws)
        known = self.estimator.get_params()
        for name in {name for candidate in found for name in candidate}:
            if name not in known:
                from handmill.naming import known_names

                kind = f"parameter of {type(self.estimator).__name__}"
                raise ValueError(known_names(kind, name, known))
        return found

    def _with(self, parameters: Mapping[str, Any], seed: int) -> Any:
        made = clone(self.estimator)
        made.set_params(**{k: clone(v, safe=False) for k, v in parameters.items()})
        seeded = [n for n in made.get_params() if n.rpartition("__")[2] == "random_state"]
        return made.set_params(**dict.fromkeys([n for n in seeded if n not in parameters], seed))

    def _score(
        self,
        X: Any,
        y: Any,
        rows: Sequence[Array],
        parameters: Mapping[str, Any],
        seed: int,
        fit_params: Mapping[str, Any],
    ) -> tuple[float, float, float, float]:
        """Score on rows held out and on those trained on, and the seconds of both parts."""
        count = X.shape[0] if hasattr(X, "shape") else len(X)
        parts = [
            (_safe_indexing(X, part), *(() if y is None else (_safe_indexing(y, part),)))
            for part in rows
        ]
        given = {
            name: _safe_indexing(value, rows[0])
            if hasattr(value, "__len__") and not isinstance(value, str) and len(value) == count
            else value
            for name, value in fit_params.items()
        }
        begun = time.perf_counter()
        try:
            made = self._with(parameters, seed)
            with _seeded(seed):
                made.fit(*parts[0], **given)
            trained = time.perf_counter()
            test = float(self.scorer_(made, *parts[1]))
            train = float(self.scorer_(made, *parts[0])) if self.return_train_score else np.nan
        except Exception as error:
            if self.error_score == "raise":
                raise
            warn_caller(f"training with {dict(parameters)} failed: {error}", TrainingWarning)
            seconds = time.perf_counter() - begun
            return float(self.error_score), float(self.error_score), seconds, 0.0
        return test, train, trained - begun, time.perf_counter() - trained

    def _results(
        self, candidates: list[dict[str, Any]], test: Array, train: Array, *seconds: Array
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, table in zip(("fit_time", "score_time"), seconds, strict=True):
            found[f"mean_{name}"] = table.mean(axis=(1, 2))
            found[f"std_{name}"] = table.std(axis=(1, 2))
        for name in sorted({name for candidate in candidates for name in candidate}):
            column = np.ma.MaskedArray(np.empty(len(candidates), object), mask=True)
            for k, candidate in enumerate(candidates):
                if name in candidate:
                    column[k] = candidate[name]
            found[f"param_{name}"] = column
        found["params"] = candidates
        tables = {"test": test, **({"train": train} if self.return_train_score else {})}
        for kind, table in tables.items():
            flat = table.reshape(len(candidates), -1)
            for split in range(flat.shape[1]):
                found[f"split{split}_{kind}_score"] = flat[:, split]
            found[f"mean_{kind}_score"] = flat.mean(axis=1)
            found[f"std_{kind}_score"] = flat.std(axis=1)
        means = np.nan_to_num(found["mean_test_score"], nan=-np.inf)
        found["rank_test_score"] = np.array([1 + int(np.sum(means > m)) for m in means], np.int32)
        found["is_not_distinguishable_from_best"] = self.comparison_.undecided
        return found

    # What the best estimator does.

    def _best(self) -> Any:
        if not self.refit:
            raise AttributeError("refit=False: no estimator was trained on all rows")
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_

    @property
    def classes_(self) -> Array:
        """The classes of the best estimator."""
        found: Array = self._best().classes_
        return found

    def score(self, X: Any, y: Any = None) -> float:
        """Returns the score of the best estimator on these rows.

        Args:
            X: rows.
            y: targets.
        """
        return float(self.scorer_(self._best(), X, *(() if y is None else (y,))))

    @_has("predict")  # type: ignore[untyped-decorator]
    def predict(self, X: Any) -> Any:
        """Returns what the best estimator predicts for the rows of ``X``."""
        return self._best().predict(X)

    @_has("predict_proba")  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Any:
        """Returns the best estimator's probabilities (rows, classes)."""
        return self._best().predict_proba(X)

    @_has("predict_log_proba")  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> Any:
        """Returns the logarithms of the best estimator's probabilities."""
        return self._best().predict_log_proba(X)

    @_has("decision_function")  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> Any:
        """Returns what the best estimator decides by."""
        return self._best().decision_function(X)

    @_has("transform")  # type: ignore[untyped-decorator]
    def transform(self, X: Any) -> Any:
        """Returns the rows as the best estimator turns them."""
        return self._best().transform(X)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import get_tags

        tags = super().__sklearn_tags__()
        of_estimator = get_tags(self.estimator)
        tags.estimator_type = of_estimator.estimator_type
        tags.classifier_tags = of_estimator.classifier_tags
        tags.regressor_tags = of_estimator.regressor_tags
        tags.input_tags.sparse = of_estimator.input_tags.sparse
        tags.input_tags.pairwise = of_estimator.input_tags.pairwise
        tags.array_api_support = False
        return tags
