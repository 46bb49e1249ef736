"""Keras's wrappers of models for scikit-learn."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6", reason="no scikit-learn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import handmill
from handmill import layers
from handmill.wrappers import SKLearnClassifier, SKLearnRegressor, SKLearnTransformer

X = np.random.default_rng(0).normal(size=(120, 3))
LABELS = np.where(X[:, 0] > 0.4, "high", np.where(X[:, 0] < -0.4, "low", "middle"))
NUMBERS = X @ np.array([1.0, -2.0, 0.5])


def network(X, y, loss, units=(16,), activation="linear"):
    outputs = inputs = handmill.Input(X.shape[1:])
    for n in units:
        outputs = layers.Dense(n, "relu")(outputs)
    count = y.shape[1] if y.ndim > 1 else 1
    model = handmill.Model(inputs, layers.Dense(count, activation)(outputs))
    model.compile(handmill.optimizers.Adam(0.01), loss)
    return model


def classifier(model=network, **parameters):
    made = {"loss": "categorical_crossentropy", "activation": "softmax"}
    return SKLearnClassifier(model, model_kwargs=made, **parameters)


class Maker:
    """Makes networks; what it is called does not depend on the process, nor do the tests' names."""

    def __call__(self, **arguments):
        return network(**arguments)

    def __repr__(self):
        return "network"


# What scikit-learn expects of an estimator, and a network whose weights are drawn anew by each fit
# does not give: equal fits, and a gradient that rows of weight 0 leave alone.
UNMET = {
    "check_fit_idempotent": "each fit draws other weights",
    "check_classifier_data_not_an_array": "compares two fits",
    "check_regressor_data_not_an_array": "compares two fits",
    "check_regressors_int": "compares two fits",
    "check_supervised_y_2d": "compares two fits",
    "check_classifiers_train": "outputs of two classes are two columns",
    "check_classifiers_classes": "few rows, few epochs: not all classes come back",
    "check_classifiers_one_label_sample_weights": "rows of weight 0 still name a class",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::handmill.TrainingWarning")
@parametrize_with_checks(
    [
        classifier(Maker(), fit_kwargs={"epochs": 3, "verbose": 0}),
        SKLearnRegressor(Maker(), model_kwargs={"loss": "mse"}, fit_kwargs={"verbose": 0}),
        SKLearnTransformer(Maker(), model_kwargs={"loss": "mse"}, fit_kwargs={"verbose": 0}),
    ],
)
def test_checks_of_scikit_learn(estimator, check) -> None:
    if check.func.__name__ not in UNMET:
        check(estimator)
        return
    with suppress(AssertionError, ValueError, IndexError):  # it may hold, by chance
        check(estimator)


def test_a_classifier_gives_labels() -> None:
    wrapped = classifier(fit_kwargs={"epochs": 1, "verbose": 0})
    with pytest.raises(NotFittedError):
        wrapped.predict(X)
    assert wrapped.fit(X, LABELS, epochs=60) is wrapped  # before fit_kwargs
    assert len(wrapped.history_.history["loss"]) == 60
    assert wrapped.fit_kwargs == {"epochs": 1, "verbose": 0}
    assert wrapped.classes_.tolist() == ["high", "low", "middle"]
    assert wrapped.score(X, LABELS) > 0.85
    outputs = wrapped.decision_function(X)
    np.testing.assert_array_equal(wrapped.classes_[outputs.argmax(axis=1)], wrapped.predict(X))


def test_warm_start_goes_on_and_a_new_fit_begins_anew() -> None:
    model = network(X, NUMBERS, "mse")
    before = model.get_weights()
    cold = SKLearnRegressor(model, fit_kwargs={"epochs": 3, "verbose": 0}).fit(X, NUMBERS)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)  # copies are trained
    first = cold.model_
    assert cold.fit(X, NUMBERS).model_ is not first
    warm = SKLearnRegressor(model, warm_start=True, fit_kwargs={"epochs": 30, "verbose": 0})
    scores = [warm.fit(X, NUMBERS).score(X, NUMBERS) for _ in range(3)]
    assert scores[-1] > max(scores[0], 0.9)
    labels = classifier(warm_start=True).fit(X, LABELS, verbose=0)
    with pytest.raises(ValueError, match=r"classes \['odd'\] that are not among"):
        labels.fit(X, np.where(X[:, 1] > 0, "odd", LABELS))
    assert labels.classes_.tolist() == ["high", "low", "middle"]


def test_several_targets_pipelines_and_clones() -> None:
    both = np.stack([NUMBERS, -NUMBERS], axis=1)
    regressor = SKLearnRegressor(network, model_kwargs={"loss": "mse"}, fit_kwargs={"verbose": 0})
    assert regressor.fit(X, both).predict(X).shape == (120, 2)
    assert clone(regressor).get_params() == regressor.get_params()
    pipeline = make_pipeline(StandardScaler(), classifier(fit_kwargs={"epochs": 40, "verbose": 0}))
    assert cross_val_score(pipeline, X, LABELS, cv=2).mean() > 0.7
    transformer = SKLearnTransformer(network(X, both, "mse", units=()))
    assert transformer.fit_transform(X, both, verbose=0).shape == (120, 2)


@pytest.mark.parametrize(
    ("make", "targets", "error", "message"),
    (
        (classifier, np.full(120, "one"), ValueError, "only one class is present"),
        (classifier, np.eye(3)[[0, 1, 2] * 40], ValueError, "multilabel-indicator"),
        (classifier, NUMBERS, ValueError, "continuous"),
        (lambda: SKLearnRegressor(lambda X, y: None), NUMBERS, TypeError, "model must be a Model"),
        (
            lambda: SKLearnRegressor(handmill.Sequential([layers.Dense(1)])),
            NUMBERS,
            RuntimeError,
            "needs to be compiled",
        ),
        (
            lambda: SKLearnRegressor(network(X, NUMBERS, "mse"), model_kwargs={"loss": "mae"}),
            NUMBERS,
            ValueError,
            "but model is a Model already",
        ),
        (lambda: SKLearnRegressor(None), NUMBERS, TypeError, "a function that makes one, got None"),
        (
            lambda: SKLearnRegressor(network, model_kwargs=3),
            NUMBERS,
            TypeError,
            "model_kwargs must be a dict",
        ),
    ),
)
def test_what_does_not_fit(make, targets, error, message) -> None:
    wrapped = make()
    with pytest.raises(error, match=message):
        wrapped.fit(X, targets)
    assert not hasattr(wrapped, "model_")
