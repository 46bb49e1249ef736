"""scikit-learn's multi-layer perceptrons, where they have the activation and the optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.inspection.benchmarks.job import SHUFFLE_SEED, AbsentError, Job, Run, batches
from handmill.inspection.benchmarks.workloads import MOMENTUM, DenseWorkload, Workload


def make_model(w: Workload) -> Any:
    """The workload's model with its first weights.

    Raises:
        AbsentError: naming what scikit-learn has not.
    """
    if not isinstance(w, DenseWorkload):
        raise AbsentError("scikit-learn has dense networks only")

    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if w.activation not in ("relu", "tanh"):
        raise AbsentError(f"scikit-learn has no {w.activation}")
    if w.optimizer not in ("adam", "momentum"):
        raise AbsentError(f"scikit-learn has no {w.optimizer}")
    x, y = w.data()
    regression = w.loss == "mse"
    # Its squared loss is half the sum over the outputs, ours the mean.
    rate = w.learning_rate * (2 / w.units[-1] if regression and w.optimizer == "momentum" else 1)
    model = (MLPRegressor if regression else MLPClassifier)(
        hidden_layer_sizes=w.units[1:-1], batch_size=w.batch, alpha=0.0, tol=0.0,
        n_iter_no_change=10**9, max_iter=1, epsilon=1e-7, activation=w.activation,
        learning_rate_init=rate, solver="adam" if w.optimizer == "adam" else "sgd",
        random_state=SHUFFLE_SEED,
        momentum=MOMENTUM, nesterovs_momentum=False,
    )  # fmt: skip
    classes = {} if regression else {"classes": np.unique(y)}
    model.partial_fit(x[: w.batch], _flat(y)[: w.batch], **classes)
    for (kernel, bias), k, b in zip(w.weights(), model.coefs_, model.intercepts_, strict=True):
        k[...], b[...] = kernel, bias
    return model


def _flat(y: Any) -> Any:
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def _loss(model: Any, w: Workload) -> float:
    x, y = w.data()
    if w.loss == "mse":
        return float(np.square(model.predict(x).reshape(y.shape) - y).mean())
    likelihood = model.predict_proba(x)[np.arange(w.rows), _flat(y).astype(int)]
    return float(-np.log(np.maximum(likelihood, 1e-7)).mean())


def _fitting(model: Any, w: Workload, epochs: int | None) -> Run:
    x, y = w.data()
    y = _flat(y)

    def run(steps: int) -> None:
        whole = max(1, steps // w.steps_per_epoch)
        for _ in range(1 if epochs is None else whole // epochs):
            model.set_params(warm_start=True, max_iter=epochs or whole).fit(x, y)

    return run


def train(w: Workload) -> Job:
    """``partial_fit`` batch after batch, and ``fit``."""
    model = make_model(w)
    x, y = w.data()
    y = _flat(y)
    rng = np.random.default_rng(SHUFFLE_SEED)

    def partial_fit(steps: int) -> None:
        model.set_params(warm_start=False)
        for rows in batches(w.rows, w.batch, rng, steps):
            model.partial_fit(x[rows], y[rows])

    ways = {"partial_fit": partial_fit, "fit": _fitting(model, w, None)}
    return Job(ways, lambda: _loss(model, w), w.steps_per_epoch)


def fit(w: Workload, epochs: int) -> Job:
    """Calls of ``fit``, of a few epochs each."""
    model = make_model(w)
    return Job(
        {"fit": _fitting(model, w, epochs)}, lambda: _loss(model, w), epochs * w.steps_per_epoch
    )  # fmt: skip
