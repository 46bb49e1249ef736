"""What ``callbacks.HealthMonitor`` costs, and how long ``diagnose`` takes.

    python bench/health_monitor.py [--rounds 9] [--json F]

A pass of ``fit`` with and without the monitor in turns, on the networks of ``handmill bench``:
medians in us a step, ratios with the 90 % interval. Then seconds of ``diagnose`` on the digits
network (64-32-10, 30 epochs, 8 seeds), without and with experiments.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from common import environment, in_turns, parser, print_rows, rows_of, warn_if_busy, write_json

import handmill
from handmill import layers
from handmill.callbacks import HealthMonitor
from handmill.datasets import digits

NETWORKS = {
    "tiny": ((64,), [lambda: layers.Dense(32, "relu")], 32, 4000),
    "mlp": (
        (784,),
        [lambda: layers.Dense(512, "relu"), lambda: layers.Dense(256, "relu")],
        128,
        500,
    ),
    "convnet": (
        (28, 28, 1),
        [
            lambda: layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D,
            lambda: layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D,
            layers.Flatten,
        ],
        32,
        250,
    ),
}
"""Shape of a row, layers before the last, rows of a batch, steps of a pass."""


def passes(name: str) -> dict[str, Callable[[], Any]]:
    shape, hidden, batch, steps = NETWORKS[name]
    model = handmill.Sequential([handmill.Input(shape), *(make() for make in hidden)])
    model.add(layers.Dense(10, "softmax"))
    model.compile("adam", "sparse_categorical_crossentropy")
    generator = np.random.default_rng(0)
    x = generator.random((batch * steps, *shape), np.float32)
    y = generator.integers(0, 10, batch * steps)
    monitor = HealthMonitor()

    def fit(*callbacks: Any) -> None:
        model.fit(x, y, batch_size=batch, shuffle=False, verbose=0, callbacks=list(callbacks))

    return {f"{name}": fit, f"{name}, monitored": lambda: fit(monitor)}


def seconds_of_diagnosis(rounds: int) -> dict[str, list[float]]:
    (x, y), (x_val, y_val) = digits.load_data()
    x, x_val = x.reshape(-1, 64) / np.float32(16), x_val.reshape(-1, 64) / np.float32(16)
    handmill.utils.set_random_seed(0)
    model = handmill.Sequential(
        [handmill.Input((64,)), layers.Dense(32, "relu"), layers.Dense(10, "softmax")]
    )
    model.compile(handmill.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=30, verbose=0)
    found: dict[str, list[float]] = {"diagnose": [], "diagnose, experiments": []}
    for number in range(2 * rounds):
        start = time.perf_counter()
        handmill.diagnose(model, x, y, (x_val, y_val), experiments=bool(number % 2))
        found[list(found)[number % 2]].append(time.perf_counter() - start)
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=9)
    options = arguments.parse_args()
    warn_if_busy()
    warnings.simplefilter("ignore", handmill.TrainingWarning)
    rounds = 2 if options.smoke else options.rounds
    report: dict[str, Any] = {"environment": environment(options.machine), "networks": {}}
    for name in ["tiny"] if options.smoke else NETWORKS:
        rows = rows_of(in_turns(passes(name), rounds), name, NETWORKS[name][3] * 1e-6)
        report["networks"][name] = rows
        print_rows(f"a step of {name}", rows, "us")
    for name, seconds in seconds_of_diagnosis(1 if options.smoke else 5).items():
        report[name] = seconds
        print(f"{name}: {np.median(seconds):.2f} s (first {seconds[0]:.2f}, {max(seconds):.2f})")
    write_json(options.json, report)


if __name__ == "__main__":
    main()
