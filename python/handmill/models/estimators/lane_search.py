"""Candidates of a search that are models of the same data, trained side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import validate_data

from handmill.ir.op import Array
from handmill.models.estimators.wrappers import SKLearnClassifier, SKLearnRegressor
from handmill.models.model import Model

_OF_FIT = {"epochs", "batch_size", "shuffle", "class_weight", "verbose"}
"""Arguments of ``Model.fit`` that trainings side by side know."""


def has_lanes(
    estimator: Any, candidates: Sequence[Mapping[str, Any]], fit_params: Mapping[str, Any]
) -> bool:
    """Whether all that the candidates differ by are the arguments of one function.

    Args:
        estimator: of the search.
        candidates: their parameters.
        fit_params: arguments of ``fit``.
    """
    given = {**(getattr(estimator, "fit_kwargs", None) or {}), **fit_params}
    return (
        type(estimator) in (SKLearnClassifier, SKLearnRegressor)
        and not isinstance(estimator.model, Model)
        and callable(estimator.model)
        and not given.get("verbose", 1)  # what is to be printed, a loop prints
        and set(given) <= _OF_FIT
        and all(set(candidate) == {"model_kwargs"} for candidate in candidates)
    )


def scores_of_fold(
    estimator: Any,
    candidates: Sequence[Mapping[str, Any]],
    X: Any,
    y: Any,
    rows: Sequence[Array],
    seeds: Sequence[int],
    fit_params: Mapping[str, Any],
    scorer: Any,
    scores_training: bool,
) -> tuple[Array, Array, float, float]:
    """Trains all candidates under all seeds on one fold, to the bits of single fits.

    Args:
        estimator: a wrapper whose model is a function.
        candidates: their ``model_kwargs``.
        X: all rows.
        y: all targets.
        rows: those to train on, those to judge on.
        seeds: the seeds.
        fit_params: arguments of ``fit``.
        scorer: of scikit-learn.
        scores_training: whether the rows trained on are scored too.

    Returns:
        Scores on both parts, each of shape (candidates, seeds), and the seconds of training and
        scoring of one of them.
    """
    from handmill.strategy.many import train_many  # a floor above

    parts = [(_safe_indexing(X, part), _safe_indexing(y, part)) for part in rows]
    made = clone(estimator)
    x, labels = validate_data(made, *parts[0], multi_output=True, ensure_min_samples=1)
    targets = made._encoded(labels, False)
    given = {**(estimator.fit_kwargs or {}), **fit_params}
    given.pop("verbose")

    def build(candidate: int) -> Any:
        return clone(estimator).set_params(**candidates[candidate])._new_model(x, targets)

    start = time.perf_counter()
    configurations = [{"candidate": k} for k in range(len(candidates))]
    runs = train_many(build, configurations, x, targets, seeds=seeds, **given)
    trained = time.perf_counter()
    test = np.full((len(candidates), len(seeds)), np.nan)
    train = test.copy()
    for k in range(len(candidates)):
        for s, seed in enumerate(seeds):
            if runs.lane(k, seed).failure is None:
                made.model_ = runs.model(k, seed)
                test[k, s] = scorer(made, *parts[1])
                if scores_training:
                    train[k, s] = scorer(made, *parts[0])
    ended = time.perf_counter()
    return test, train, (trained - start) / test.size, (ended - trained) / test.size
