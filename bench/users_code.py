"""What a part of a model made of ops costs beside the built-in one, and what metrics cost.

    python bench/users_code.py [--models mlp,tutorial,gelu-rmsprop] [--rounds 15] [--json F]

Medians of a step of ``fit`` in us, in turns in one process, and ratios with the 90 % interval: own
parts to the built-in ones of the same model, metrics to the model without them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from common import (
    environment,
    in_turns,
    parser,
    print_rows,
    rows_of,
    warn_if_busy,
    write_json,
)

import handmill
from handmill import layers, metrics, ops
from handmill.inspection.benchmarks.workloads import WORKLOADS, DenseWorkload

SECONDS = 0.15  # of a round of one model
RATE = 1e-6  # so that the numbers stay as they are


class OwnDense(layers.Layer):
    def __init__(self, units: int, activation: Callable[[Any], Any]) -> None:
        super().__init__()
        self.units, self.activation = units, activation

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight((input_shape[-1], self.units))
        self.bias = self.add_weight((self.units,), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return self.activation(ops.matmul(inputs, self.kernel) + self.bias)


class OwnStep(handmill.Sequential):
    def train_step(self, data: Any) -> Any:
        x, y = data
        with handmill.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


class OwnMetric(metrics.Metric):
    """The share of the rows whose largest output is their class."""

    def __init__(self) -> None:
        super().__init__(name="own")
        self.right = self.add_weight((), initializer="zeros")
        self.rows = self.add_weight((), initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        hit = ops.equal(ops.argmax(y_pred, axis=-1), ops.cast(ops.reshape(y_true, (-1,)), "int32"))
        self.right.assign_add(ops.sum(ops.cast(hit, "float32")))
        self.rows.assign_add(ops.cast(ops.shape(y_pred)[0], "float32"))

    def result(self) -> Any:
        return self.right / self.rows


def swish(x: Any) -> Any:
    return x * ops.sigmoid(x)


def crossentropy(y_true: Any, y_pred: Any) -> Any:
    return ops.sparse_categorical_crossentropy(y_true, y_pred)


def crossentropy_by_hand(y_true: Any, y_pred: Any) -> Any:
    classes = ops.cast(ops.reshape(y_true, (-1, 1)), "int32")
    return -ops.log(ops.take_along_axis(y_pred, classes, axis=-1))[:, 0]


def squares(y_true: Any, y_pred: Any) -> Any:
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


def penalty(x: Any) -> Any:
    return 0.01 * ops.sum(ops.square(x))


def build(
    w: DenseWorkload,
    loss: Any = "sparse_categorical_crossentropy",
    dense: Any = layers.Dense,
    activation: Any = None,
    penalty: Any = None,
    base: Any = handmill.Sequential,
    found_metrics: Any = (),
    output: str = "softmax",
) -> Any:
    model = base([handmill.Input((w.units[0],))])
    for units in w.units[1:-1]:
        extra = {} if penalty is None else {"kernel_regularizer": penalty}
        model.add(dense(units, activation=activation or ops.relu, **extra))
    model.add(layers.Dense(w.units[-1], activation=output))
    model.set_weights([a for layer in w.weights() for a in layer])
    model.compile(handmill.optimizers.Adam(RATE), loss, metrics=list(found_metrics))
    return model


OWN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "loss, squares": (
        {"loss": "mse", "output": "linear"},
        {"loss": squares, "output": "linear"},
    ),
    "loss, crossentropy of ops": ({}, {"loss": crossentropy}),
    "loss, logarithm by hand": ({}, {"loss": crossentropy_by_hand}),
    "layer": ({}, {"dense": OwnDense}),
    "activation": ({"activation": "swish"}, {"activation": swish}),
    "regularizer": ({"penalty": "l2"}, {"penalty": penalty}),
    "metric": ({"found_metrics": ["accuracy"]}, {"found_metrics": [OwnMetric()]}),
    "train_step": ({}, {"base": OwnStep}),
}

METRICS: dict[str, Callable[[], list[Any]]] = {
    "accuracy": lambda: ["accuracy"],
    "top 3": lambda: [metrics.SparseTopKCategoricalAccuracy(3)],
    "AUC": lambda: [metrics.AUC()],
    "AUC of ten labels": lambda: [metrics.AUC(multi_label=True, num_labels=10)],
    "Precision, Recall": lambda: [metrics.Precision(), metrics.Recall()],
    "F1Score": lambda: [metrics.F1Score()],
    "MeanIoU": lambda: [metrics.OneHotMeanIoU(10)],
}


def stepper(
    w: DenseWorkload, model: Any, x: Any, y: Any, seconds: float
) -> tuple[Callable[[], Any], int]:
    """A call that trains for about so many seconds, and its steps."""
    model.fit(x, y, batch_size=w.batch, verbose=0)
    once = in_turns({"": lambda: model.fit(x, y, batch_size=w.batch, verbose=0)}, 2)[""]
    epochs = max(1, int(seconds / min(once)))
    return (
        lambda: model.fit(x, y, batch_size=w.batch, epochs=epochs, verbose=0),
        epochs * w.steps_per_epoch,
    )


def compared(w: DenseWorkload, models: dict[str, Any], y: Any, base: str, rounds: int) -> list[Any]:
    x, _ = w.data()
    steps: dict[str, tuple[Callable[[], Any], int]] = {}
    for name, model in models.items():
        steps[name] = stepper(w, model, x, y, SECONDS if rounds > 2 else 0.0)
    times = in_turns({name: call for name, (call, _) in steps.items()}, rounds)
    each = {name: [s / steps[name][1] for s in seconds] for name, seconds in times.items()}
    return rows_of(each, base, 1e-6)


def measure(w: DenseWorkload, rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rows = []
    _, classes = w.data()
    classes = classes if classes.dtype.kind == "i" else (classes > 0).astype(np.int64)[:, 0]
    one_hot = np.eye(w.units[-1], dtype=np.float32)[classes]
    for name, (built_in, own) in OWN.items():
        y = one_hot if "squares" in name else classes
        pair = {"built-in": build(w, **built_in), name: build(w, **own)}
        rows += compared(w, pair, y, "built-in", rounds)[1:]
    found["own"] = rows
    print_rows(f"{w.name}: own parts beside the built-in", rows, "us")
    models = {"without": build(w, "categorical_crossentropy")}
    for name, make in METRICS.items():
        if name in {"accuracy", "top 3"}:
            continue
        models[name] = build(w, "categorical_crossentropy", found_metrics=make())
    found["metrics"] = compared(w, models, one_hot, "without", rounds)
    print_rows(f"{w.name}: metrics beside the model without", found["metrics"], "us")
    models = {"without": build(w)}
    for name in ("accuracy", "top 3"):
        models[name] = build(w, found_metrics=METRICS[name]())
    found["metrics of classes"] = compared(w, models, classes, "without", rounds)
    print_rows(f"{w.name}: metrics of classes", found["metrics of classes"], "us")
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--models", default="mlp,tutorial,tiny")
    arguments.add_argument("--rounds", type=int, default=15)
    options = arguments.parse_args()
    warn_if_busy()
    warnings.simplefilter("ignore")
    report: dict[str, Any] = {**environment(options.machine), "rows": {}}
    for name in options.models.split(","):
        rounds = 2 if options.smoke else options.rounds
        report["rows"][name] = measure(WORKLOADS[name], rounds)
    write_json(options.json, report)


if __name__ == "__main__":
    main()
