"""Networks of scikit-learn as models."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.layers.core.dense import Dense
from handmill.layers.core.input_layer import Input
from handmill.models import Sequential

_ACTIVATIONS = {"identity": None, "logistic": "sigmoid", "relu": "relu", "softmax": "softmax",
                "tanh": "tanh"}  # fmt: skip


def model_from_sklearn(estimator: Any) -> Any:
    """Turns a fitted ``MLPClassifier`` or ``MLPRegressor`` of scikit-learn into a model.

    Args:
        estimator: fitted.

    Returns:
        A :class:`handmill.Sequential` of Dense layers with its weights, whose outputs are what
        ``predict_proba`` gives (of two classes, the probability of the second), or ``predict``
        of a regressor.

    Raises:
        TypeError: for anything else.
        ValueError: if it has not been fitted.

    Example:
        >>> from handmill.exchange import model_from_sklearn
        >>> from sklearn.neural_network import MLPRegressor
        >>> network = MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs")
        >>> network = network.fit([[0.0], [1.0]], [0.0, 1.0])
        >>> model_from_sklearn(network).predict([[0.5]], verbose=0).shape
        (1, 1)

    Source: the attributes of https://scikit-learn.org/stable/modules/neural_networks_supervised.html
    """
    if not all(hasattr(estimator, name) for name in ("hidden_layer_sizes", "activation")):
        raise TypeError(
            f"an MLPClassifier or MLPRegressor was expected, got {type(estimator).__name__}"
        )
    if not hasattr(estimator, "coefs_"):
        raise ValueError("the estimator has not been fitted")
    names = [estimator.activation] * (len(estimator.coefs_) - 1) + [estimator.out_activation_]
    if unknown := sorted(set(names) - set(_ACTIVATIONS)):
        raise ValueError(f"the activations {unknown} are not known")
    model = Sequential([Input((int(estimator.coefs_[0].shape[0]),))])
    for name, kernel, bias in zip(names, estimator.coefs_, estimator.intercepts_, strict=True):
        model.add(Dense(kernel.shape[1], activation=_ACTIVATIONS[name]))
        model.layers[-1].set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return model
