"""How often ``diagnose`` names what is wrong, and warns where nothing is.

    python bench/diagnosis.py [--seeds 20] [--first 0] [--faults all|none|NAME,...]
        [--clean all|none|NAME,...] [--budget 10]

Seeds are ``--first`` and those that follow; rules are judged by seeds that they were not made on.

Twelve faults are planted into the digits, one at a time and anew for each seed; a fault counts as
named where a warning or error of one of its kinds is in the report. On digits, iris, wine,
breast_cancer (scikit-learn) and MNIST, standardized and trained as one should, each warning is
false. Seconds are those of ``diagnose``, median and maximum. A machine that is busy with other
work wants a larger budget, or trainings are left out.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import handmill
from handmill import layers
from handmill.datasets import digits, mnist

EPOCHS = 30
RATE = 0.01
Data = tuple[Any, Any, Any, Any]


def network(inputs: int, units: int, classes: int, rate: float, seed: int) -> Any:
    handmill.utils.set_random_seed(seed)
    model = handmill.Sequential(
        [
            handmill.Input((inputs,)),
            layers.Dense(units, "relu"),
            layers.Dense(classes, "softmax"),
        ]
    )
    loss = "sparse_categorical_crossentropy"
    model.compile(handmill.optimizers.Adam(rate), loss, ["accuracy"])
    return model


def digits_of(seed: int) -> Data:
    """A fifth held out, another one for each seed, every class in its share."""
    (x, y), (x_test, y_test) = digits.load_data()
    x, y = np.concatenate([x, x_test]).reshape(-1, 64), np.concatenate([y, y_test])
    return split(x / np.float32(16), y, seed, 5)


def split(x: Any, y: Any, seed: int, part: int) -> Data:
    order = np.random.default_rng(seed).permutation(len(x))
    order = order[np.argsort(y[order], kind="stable")]
    held = np.arange(len(order)) % part == seed % part
    mixed = np.random.default_rng(seed).permutation(int((~held).sum()))
    train = order[~held][mixed]
    return x[train], y[train], x[order[held]], y[order[held]]


def fitted(data: Data, seed: int, units: int = 32, rate: float = RATE, epochs: int = EPOCHS) -> Any:
    x, y, x_val, y_val = data
    model = network(x.shape[1], units, int(max(y.max(), y_val.max())) + 1, rate, seed)
    model.fit(x, y, epochs=epochs, validation_data=(x_val, y_val), verbose=0)
    return model


def unscaled(seed: int) -> tuple[Any, Data]:
    x, y, x_val, y_val = digits_of(seed)
    data = x * 255, y, x_val * 255, y_val
    return fitted(data, seed), data


def dead_layer(seed: int) -> tuple[Any, Data]:
    data = digits_of(seed)
    model = network(64, 32, 10, RATE, seed)
    weights = model.get_weights()
    weights[1][:] = -100
    model.set_weights(weights)
    model.fit(data[0], data[1], epochs=EPOCHS, verbose=0)
    return model, data


def rate_times_ten(seed: int) -> tuple[Any, Data]:
    data = digits_of(seed)
    return fitted(data, seed, rate=10 * RATE), data


def in_both_splits(seed: int) -> tuple[Any, Data]:
    x, y, x_val, y_val = digits_of(seed)
    copied = np.random.default_rng(seed).permutation(len(x))[: len(x_val) // 20 + 1]
    data = x, y, np.concatenate([x_val, x[copied]]), np.concatenate([y_val, y[copied]])
    return fitted(data, seed), data


def flipped_labels(seed: int) -> tuple[Any, Data]:
    x, y, x_val, y_val = digits_of(seed)
    generator = np.random.default_rng(seed)
    chosen = generator.random(len(y)) < 0.1
    y = np.where(chosen, (y + generator.integers(1, 10, len(y))) % 10, y).astype(y.dtype)
    data = x, y, x_val, y_val
    return fitted(data, seed), data


def sorted_split(seed: int) -> tuple[Any, Data]:
    x, y, x_val, y_val = digits_of(seed)
    x, y = np.concatenate([x, x_val]), np.concatenate([y, y_val])
    order = np.argsort(y, kind="stable")
    cut = len(x) * 4 // 5
    data = x[order[:cut]], y[order[:cut]], x[order[cut:]], y[order[cut:]]
    return fitted(data, seed), data


def shuffled_labels(seed: int) -> tuple[Any, Data]:
    x, y, x_val, y_val = digits_of(seed)
    data = x, y[np.random.default_rng(seed).permutation(len(y))], x_val, y_val
    return fitted(data, seed), data


def constant_column(seed: int) -> tuple[Any, Data]:
    x, y, x_val, y_val = digits_of(seed)
    x, x_val = x.copy(), x_val.copy()
    x[:, 20] = x_val[:, 20] = 0.5
    data = x, y, x_val, y_val
    return fitted(data, seed), data


def missing_class(seed: int) -> tuple[Any, Data]:
    x, y, x_val, y_val = digits_of(seed)
    kept = y != seed % 10
    data = x[kept], y[kept], x_val, y_val
    return fitted(data, seed), data


def tiny_validation(seed: int) -> tuple[Any, Data]:
    x, y, x_val, y_val = digits_of(seed)
    some = np.random.default_rng(seed).permutation(len(x_val))[:20]
    data = x, y, x_val[some], y_val[some]
    return fitted(data, seed), data


def too_few_epochs(seed: int) -> tuple[Any, Data]:
    data = digits_of(seed)
    return fitted(data, seed, epochs=1), data


def bottleneck(seed: int) -> tuple[Any, Data]:
    data = digits_of(seed)
    return fitted(data, seed, units=4), data


FAULTS: dict[str, tuple[Callable[[int], tuple[Any, Data]], tuple[str, ...]]] = {
    "unscaled x": (unscaled, ("init.loss", "values.unscaled")),
    "dead layer": (dead_layer, ("units.dead",)),
    "rate x10": (rate_times_ten, ("rate.high", "update.large", "loss.spikes")),
    "5 % rows in both splits": (in_both_splits, ("duplicates.across",)),
    "10 % flipped labels": (flipped_labels, ("labels.noise",)),
    "sorted validation_split": (sorted_split, ("labels.absent", "labels.sorted", "shift.labels")),
    "shuffled y": (shuffled_labels, ("shuffle.",)),
    "constant column": (constant_column, ("columns.constant",)),
    "missing class": (missing_class, ("labels.absent", "shift.labels")),
    "tiny validation": (tiny_validation, ("validation.few",)),
    "too few epochs": (too_few_epochs, ("steps.more",)),
    "4-unit bottleneck": (bottleneck, ("capacity.up",)),
}
"""What is wrong -> what makes it, and the kinds (or their beginnings) that name it."""


def table_of(load: str, seed: int) -> Data:
    from sklearn import datasets

    x, y = getattr(datasets, load)(return_X_y=True)
    x, y, x_val, y_val = split(x, y, seed, 3)
    mean, deviation = x.mean(0), x.std(0)
    return (
        ((x - mean) / deviation).astype("float32"),
        y,
        ((x_val - mean) / deviation).astype("float32"),
        y_val,
    )


def mnist_of(seed: int) -> Data:
    (x, y), (x_test, y_test) = mnist.load_data()
    chosen = np.random.default_rng(seed).permutation(len(x))[:20_000]
    x, y = x[chosen].reshape(-1, 784) / np.float32(255), y[chosen]
    return x, y, x_test.reshape(-1, 784) / np.float32(255), y_test


CLEAN: dict[str, tuple[Callable[[int], Data], dict[str, Any]]] = {
    "digits": (digits_of, {"epochs": EPOCHS}),
    "iris": (lambda seed: table_of("load_iris", seed), {"units": 16, "epochs": 40}),
    "wine": (lambda seed: table_of("load_wine", seed), {"units": 16, "epochs": 20}),
    "breast_cancer": (
        lambda seed: table_of("load_breast_cancer", seed),
        {"units": 16, "epochs": 8},
    ),
    "MNIST": (mnist_of, {"units": 128, "rate": 0.001, "epochs": 5}),
}


def chosen(given: str, known: Any) -> list[str]:
    return list(known) if given == "all" else [n for n in given.split(",") if n in known]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seeds", type=int, default=20)
    arguments.add_argument("--first", type=int, default=0)
    arguments.add_argument("--faults", default="all")
    arguments.add_argument("--clean", default="all")
    arguments.add_argument("--budget", type=float, default=10.0)
    options = arguments.parse_args()
    warnings.simplefilter("ignore", handmill.TrainingWarning)

    def diagnosed(model: Any, data: Data) -> tuple[list[str], float]:
        x, y, x_val, y_val = data
        start = time.perf_counter()
        report = handmill.diagnose(model, x, y, (x_val, y_val), budget=options.budget)
        seconds = time.perf_counter() - start
        named = [f.id for f in report if f.level != "note" or "x[:, 20]" in f.text()]
        return [i for i in named if report[i].level != "ok"], seconds

    seeds = range(options.first, options.first + options.seeds)
    for name in chosen(options.faults, FAULTS):
        make, kinds = FAULTS[name]
        found = [diagnosed(*make(seed)) for seed in seeds]
        named = sum(any(i.startswith(kinds) for i in ids) for ids, _ in found)
        others = sorted({i for ids, _ in found for i in ids if not i.startswith(kinds)})
        report_line(name, f"named {named} of {options.seeds}", found, others)
    for name in chosen(options.clean, CLEAN):
        load, how = CLEAN[name]
        found = []
        for seed in seeds:
            data = load(seed)
            found.append(diagnosed(fitted(data, seed, **how), data))
        false = sum(len(ids) for ids, _ in found)
        others = sorted({i for ids, _ in found for i in ids})
        report_line(name, f"false warnings {false} in {options.seeds}", found, others)


def report_line(name: str, verdict: str, found: list[tuple[list[str], float]], ids: Any) -> None:
    seconds = np.array([s for _, s in found])
    times = f"{np.median(seconds):.2f} s (at most {seconds.max():.2f})"
    print(f"{name:26s} {verdict:28s} {times}  {', '.join(ids)}", flush=True)


if __name__ == "__main__":
    main()
