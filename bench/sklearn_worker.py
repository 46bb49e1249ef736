"""One estimator in one process: fits a data set whenever it is asked.

Run by sklearn_estimators.py as ``python sklearn_worker.py LIBRARY DATA again|first SECONDS``;
speaks as handmill.inspection.benchmarks.worker does, a step being a call of ``fit``. Each way of a
library is tried, the fastest is timed: scikit-learn with float64 and float32 features, on one
thread and on all.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import datasets, neural_network
from sklearn.preprocessing import scale
from threadpoolctl import threadpool_limits

from handmill.inspection.benchmarks.job import Job, Run
from handmill.inspection.benchmarks.worker import serve

Data = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A fit with the default settings but for these.

    Attributes:
        load: gives features and targets.
        epochs: how many; no fit stops before.
        parameters: of the estimator.
        regression: whether targets are numbers.
    """

    load: Callable[[], Data]
    epochs: int
    parameters: dict[str, Any]
    regression: bool = False


def bundled(name: str) -> Callable[[], Data]:
    def load() -> Data:
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        return scale(x), y

    return load


def housing() -> Data:
    """As many rows and columns as the California housing data, which are not bundled."""
    x, y = datasets.make_friedman1(20640, 8, noise=1.0, random_state=0)
    return scale(x), y


CASES = {
    "iris": Case(bundled("iris"), 200, {}),
    "wine": Case(bundled("wine"), 200, {}),
    "breast_cancer": Case(bundled("breast_cancer"), 100, {}),
    "digits": Case(bundled("digits"), 50, {}),
    "digits, batch 32": Case(bundled("digits"), 20, {"batch_size": 32}),
    "digits, (32,), batch 32": Case(
        bundled("digits"), 20, {"hidden_layer_sizes": (32,), "batch_size": 32}
    ),
    "diabetes": Case(bundled("diabetes"), 200, {}, regression=True),
    "friedman": Case(
        lambda: datasets.make_friedman1(2000, random_state=0), 50, {}, regression=True
    ),
    "housing": Case(housing, 10, {}, regression=True),
    "housing, (64, 64)": Case(housing, 5, {"hidden_layer_sizes": (64, 64)}, regression=True),
}


def estimator(kinds: Any, prefix: str, case: Case) -> Any:
    kind = "Regressor" if case.regression else "Classifier"
    return getattr(kinds, prefix + kind)(
        max_iter=case.epochs, tol=0.0, n_iter_no_change=10**9, random_state=0, **case.parameters
    )


def handmill_job(case: Case, first: bool) -> Job:
    import handmill.sklearn
    from handmill.runtime.plans import TRACES

    x, y = case.load()
    model = estimator(handmill.sklearn, "Handmill", case)

    def run(fits: int) -> None:
        for _ in range(fits):
            if first:
                TRACES.clear()
            model.fit(x, y)

    return Job({"fit": run}, lambda: model.fit(x, y).score(x, y))


def sklearn_job(case: Case) -> Job:
    x, y = case.load()
    model = estimator(neural_network, "MLP", case)

    def way(dtype: str, threads: int) -> Run:
        features = x.astype(dtype)

        def run(fits: int) -> None:
            with threadpool_limits(threads):
                for _ in range(fits):
                    model.fit(features, y)

        return run

    counts = sorted({1, os.cpu_count() or 1})
    ways = {f"{d}, {n} threads": way(d, n) for d in ("float64", "float32") for n in counts}
    return Job(ways, lambda: model.fit(x, y).score(x, y))


def main() -> None:
    warnings.simplefilter("ignore")
    library, name, kind, seconds = sys.argv[1:5]
    case = CASES[name]
    with contextlib.redirect_stdout(sys.stderr):
        job = handmill_job(case, kind == "first") if library == "handmill" else sklearn_job(case)
    serve(job, float(seconds))


if __name__ == "__main__":
    main()
