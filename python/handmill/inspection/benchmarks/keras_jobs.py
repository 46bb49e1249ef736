"""Keras on JAX, or on torch where there is no JAX."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from handmill.inspection.benchmarks.handmill_jobs import compiled_model, fit_calls
from handmill.inspection.benchmarks.job import Job, calls, largest
from handmill.inspection.benchmarks.workloads import Workload


def make_model(w: Workload) -> Any:
    """The workload's model, compiled."""
    backend = "jax" if importlib.util.find_spec("jax") else "torch"
    os.environ.setdefault("KERAS_BACKEND", backend)
    import keras

    return compiled_model(keras, w)


def named(way: str) -> str:
    """The way with the backend it runs on."""
    return f"{way} ({os.environ['KERAS_BACKEND']})"


def train(w: Workload) -> Job:
    """As many epochs as asked for, in one call of ``fit``."""
    x, y = w.data()
    model = make_model(w)

    def run(steps: int) -> None:
        model.fit(x, y, batch_size=w.batch, epochs=steps // w.steps_per_epoch, verbose=0)

    return Job({named("fit"): run}, lambda: model.evaluate(x, y, verbose=0), w.steps_per_epoch)


def fit(w: Workload, epochs: int) -> Job:
    """Calls of ``fit``, of a few epochs each."""
    job = fit_calls(make_model(w), w, epochs)
    job.ways = {named("fit"): job.ways["fit"]}
    return job


def predict(w: Workload, batch: int) -> Job:
    """``model.predict`` and ``model.predict_on_batch``."""
    model, x = make_model(w), w.inputs(batch)

    def run() -> Any:
        return model.predict(x, batch_size=batch, verbose=0)

    ways = {named("predict"): calls(run)}
    ways[named("predict_on_batch")] = calls(lambda: model.predict_on_batch(x))
    return Job(ways, largest(run))
