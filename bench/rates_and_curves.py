"""Whether suggested learning rates and drawn-out learning curves come true.

    python bench/rates_and_curves.py [--rates 20] [--curves 50] [--drawn 300] [--seeds 8]
        [--first 0]

Rates: for each case (data, network, optimizer) the suggestion of ``lr_range_test`` beside the best
of a sweep of 20 rates from 1e-5 to 10, each trained as the test confirms (cosine decay, equally
many epochs) under other seeds and judged on rows that the test never saw. Beside it what one seed's
steepest point and a tenth of its minimum would have said.

Curves: ``learning_curve`` on a quarter of the rows; whether its 90 % interval holds the error that
all rows give after as many steps, under other seeds, on the same validation rows.

Drawn: curves of a known law, whose rows err by chance, some more easily than others; whether the
90 % interval holds what the law says for four times as many rows.

Cases are numbered from ``--first``: rules are judged by cases that they were not made on.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np

import handmill
from handmill import layers, optimizers
from handmill.datasets import digits
from handmill.strategy import CannotTellError, learning_curve, lr_range_test
from handmill.strategy.learning_curves import _fitted

RATES = np.geomspace(1e-5, 10, 20)
EPOCHS = 5


def teacher(seed: int, rows: int, noise: float, columns: int = 16, classes: int = 4) -> Any:
    """Labels of a random network, some of them by chance."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, columns)).astype("float32")
    hidden = np.tanh(x @ generator.normal(size=(columns, 12)) / 2)
    y = (hidden @ generator.normal(size=(12, classes))).argmax(1)
    chance = generator.random(rows) < noise
    return x, np.where(chance, generator.integers(0, classes, rows), y).astype("int32")


def images() -> Any:
    (x, y), (x_test, y_test) = digits.load_data()
    scale = np.float32(16)
    return (x.reshape(-1, 64) / scale, y), (x_test.reshape(-1, 64) / scale, y_test)


def network(inputs: int, widths: tuple[int, ...], activation: str, classes: int) -> Any:
    model = handmill.Sequential([handmill.Input((inputs,))])
    for units in widths:
        model.add(layers.Dense(units, activation))
    model.add(layers.Dense(classes, "softmax"))
    return model


OPTIMIZERS = {
    "adam": optimizers.Adam,
    "sgd": optimizers.SGD,
    "momentum": lambda rate: optimizers.SGD(rate, momentum=0.9, nesterov=True),
    "rmsprop": optimizers.RMSprop,
}
NETWORKS: tuple[tuple[tuple[int, ...], str], ...] = (((32,), "relu"), ((64, 64), "tanh"), ((), ""))


def rate_cases(numbers: range) -> Any:
    cases = []
    for number in numbers:
        name = list(OPTIMIZERS)[number % 4]
        widths, activation = NETWORKS[number // 4 % 3]
        if number // 4 % 2:
            x, y = teacher(number, 2400, 0.1)
            data = (x[:1600], y[:1600]), (x[1600:], y[1600:])
        else:
            data = images()
        cases.append((name, widths, activation, data))
    return cases


def within(rate: float, best: float) -> bool:
    return bool(best / 3 <= rate * 1.0001 and rate <= best * 3 * 1.0001)


def rates(cases: range, seeds: int) -> None:
    hits = {"suggestion": 0, "steepest of one seed": 0, "minimum/10 of one seed": 0}
    for number, (name, widths, activation, data) in zip(cases, rate_cases(cases), strict=True):
        (x, y), (x_val, y_val) = data
        classes = int(y.max()) + 1

        def build(rate: Any, name: str = name, shape: Any = (widths, activation, classes)) -> Any:
            model = network(x.shape[1], *shape)  # noqa: B023  (called before the next case)
            model.compile(OPTIMIZERS[name](rate), "sparse_categorical_crossentropy")
            return model

        found = lr_range_test(lambda b=build: b(0.01), x, y, seeds=seeds, epochs=EPOCHS)
        kept = len(x) - len(x) // 5  # the test trains on four of five rows
        losses = []
        for rate in RATES:
            scores = []
            for seed in range(100, 100 + seeds):
                handmill.utils.set_random_seed(seed)
                steps = EPOCHS * -(-kept // 32)
                model = build(optimizers.schedules.CosineDecay(rate, steps))
                model.fit(x[:kept], y[:kept], epochs=EPOCHS, verbose=0)
                scores.append(model.evaluate(x_val, y_val, batch_size=1024, verbose=0))
            losses.append(np.nan_to_num(np.mean(scores), nan=np.inf))
        best = RATES[int(np.argmin(losses))]
        told = {
            "suggestion": found.suggestion,
            "steepest of one seed": found.steepest[0],
            "minimum/10 of one seed": found.minimum_over_ten[0],
        }
        for kind, rate in told.items():
            hits[kind] += within(rate, best)
        numbers = ", ".join(f"{kind} {rate:.2g}" for kind, rate in told.items())
        print(f"{number:3d} {name:9s} {widths!s:9s} best {best:.2g}: {numbers}", flush=True)
    for kind, hit in hits.items():
        print(f"{kind}: within 3x of the best of {len(RATES)} rates in {hit} of {len(cases)}")


def curves(cases: range, seeds: int) -> None:
    held = told = 0
    for number in cases:
        x, y = teacher(1000 + number, 8000, (0.0, 0.1, 0.2)[number % 3])
        x, y, x_val, y_val = x[:6000], y[:6000], x[6000:], y[6000:]
        few = len(x) // 4
        widths, activation = NETWORKS[number % 2]

        def build(shape: Any = (widths, activation, 4)) -> Any:
            model = network(16, *shape)
            model.compile(optimizers.Adam(0.005), "sparse_categorical_crossentropy")
            return model

        data = x[:few], y[:few], (x_val, y_val)
        curve = learning_curve(build, *data, seeds=seeds, epochs=20)
        errors = []
        for seed in range(100, 100 + seeds):
            handmill.utils.set_random_seed(seed)
            model = build()
            model.fit(x, y, epochs=5, verbose=0)  # as many steps
            predicted = model.predict(x_val, batch_size=1024, verbose=0).argmax(-1)
            errors.append(np.mean(predicted != y_val))
        try:
            value, low, high = curve.predict(len(x))
        except CannotTellError as error:
            print(f"{number:3d} {error}", flush=True)
            continue
        told += 1
        held += low <= np.mean(errors) <= high
        print(
            f"{number:3d} {value:.3f} [{low:.3f}, {high:.3f}] true {np.mean(errors):.3f}",
            flush=True,
        )
    print(f"held in {held} of {told} curves that tell, of {len(cases)}")


def drawn(cases: range, seeds: int) -> None:
    """Curves of six sizes up to 1,500 rows, judged on 300 to 2,000 rows."""
    held = told = below = 0
    sizes = np.unique(np.round(np.geomspace(80, 1500, 6)).astype(int))
    for number in cases:
        generator = np.random.default_rng([7, number])
        a, c = generator.uniform(0.0, 0.15), generator.uniform(0.25, 1.0)
        b = generator.uniform(0.15, 0.45) * sizes[0] ** c
        rows = int(generator.integers(300, 2000))
        means = np.append(a + b * sizes**-c, a + b * (4.0 * sizes[-1]) ** -c)
        # What makes a row hard is its own; a logistic scale is moved to the mean of the law.
        hard = generator.normal(0.0, 2.0, 100_000)
        moved = np.array([_moved(hard, mean) for mean in means])
        of_rows = generator.normal(0.0, 2.0, rows)
        seen = 1 / (1 + np.exp(-(of_rows + moved[:-1, None])))
        errors = (generator.random((len(sizes), seeds, rows)) < seen[:, None]).astype(float)
        curve = _fitted(sizes, errors.mean(2), errors)
        try:
            _, low, high = curve.predict(4.0 * sizes[-1])
        except CannotTellError:
            continue
        told += 1
        held += low <= means[-1] <= high
        below += means[-1] < low
    print(
        f"drawn: held in {held} of {told} curves that tell, of {len(cases)} "
        f"({held / max(told, 1):.1%}; {below} below the interval, {told - held - below} above)"
    )


def _moved(hard: Any, mean: float) -> float:
    low, high = -30.0, 30.0
    for _ in range(50):
        middle = (low + high) / 2
        above = (1 / (1 + np.exp(-(hard + middle)))).mean() > mean
        low, high = (low, middle) if above else (middle, high)
    return middle


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rates", type=int, default=20)
    arguments.add_argument("--curves", type=int, default=50)
    arguments.add_argument("--drawn", type=int, default=300)
    arguments.add_argument("--first", type=int, default=0)
    arguments.add_argument("--seeds", type=int, default=8)
    options = arguments.parse_args()
    warnings.simplefilter("ignore", handmill.TrainingWarning)
    for count, judge in (
        (options.drawn, drawn),
        (options.rates, rates),
        (options.curves, curves),
    ):
        if count:
            judge(range(options.first, options.first + count), options.seeds)


if __name__ == "__main__":
    main()
