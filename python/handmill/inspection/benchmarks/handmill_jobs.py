"""handmill as one of the libraries."""

from __future__ import annotations

from typing import Any

from handmill.inspection.benchmarks.job import Job, calls, largest
from handmill.inspection.benchmarks.workloads import MOMENTUM, WEIGHT_DECAY, Workload


def make_model(w: Workload) -> Any:
    """The workload's model, compiled, with the weights that all libraries start from."""
    import handmill

    return compiled_model(handmill, w)


def compiled_model(library: Any, w: Workload) -> Any:
    """The model in handmill or Keras, which have the same names."""
    layers = library.layers
    model = library.Sequential([library.Input((w.units[0],))])
    for units in w.units[1:-1]:
        model.add(layers.Dense(units, activation=w.activation))
    model.add(layers.Dense(w.units[-1], activation=w.output_activation))
    model.set_weights([a for layer in w.weights() for a in layer])
    optimizers, rate = library.optimizers, w.learning_rate
    optimizer = {
        "adam": lambda: optimizers.Adam(rate),
        "adamw": lambda: optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY),
        "momentum": lambda: optimizers.SGD(rate, momentum=MOMENTUM),
        "rmsprop": lambda: optimizers.RMSprop(rate),
        "adagrad": lambda: optimizers.Adagrad(rate),
    }[w.optimizer]()
    model.compile(optimizer, w.loss)
    return model


def train(w: Workload) -> Job:
    """As many epochs as asked for, in one call of ``fit``."""
    x, y = w.data()
    model = make_model(w)

    def run(steps: int) -> None:
        model.fit(x, y, batch_size=w.batch, epochs=steps // w.steps_per_epoch, verbose=0)

    def roofline() -> float:
        return float(model.profile(x, y, w.batch).roofline_seconds * 1e6)

    return Job(
        {"fit": run}, lambda: model.evaluate(x, y, verbose=0), w.steps_per_epoch, roofline
    )  # fmt: skip


def fit(w: Workload, epochs: int) -> Job:
    """Calls of ``fit``, of a few epochs each."""
    return fit_calls(make_model(w), w, epochs)


def fit_calls(model: Any, w: Workload, epochs: int) -> Job:
    """The same for any model with Keras's ``fit``."""
    x, y = w.data()
    unit = epochs * w.steps_per_epoch

    def run(steps: int) -> None:
        for _ in range(steps // unit):
            model.fit(x, y, batch_size=w.batch, epochs=epochs, verbose=0)

    return Job({"fit": run}, lambda: model.evaluate(x, y, verbose=0), unit)


def call(w: Workload, batch: int) -> Job:
    """``model(x)``."""
    model, x = make_model(w), w.inputs(batch)

    def roofline() -> float:
        return float(model.profile(x, batch_size=batch).roofline_seconds * 1e6)

    return Job(
        {"model(x)": calls(lambda: model(x))}, largest(lambda: model(x)), roofline=roofline
    )  # fmt: skip


def predict(w: Workload, batch: int) -> Job:
    """``model.predict``."""
    model, x = make_model(w), w.inputs(batch)

    def run() -> Any:
        return model.predict(x, batch_size=batch, verbose=0)

    return Job({"predict": calls(run)}, largest(run))
