"""What a small network loses by 8 and 4 bits, and by pruning: accuracy on MNIST, paired seeds.

    python bench/compressed_accuracy.py [SEEDS] [int4]

784-64-10 (Adam, batch 64) learns the first 10,000 rows for six epochs, the 10,000 test rows judge.
``quantize`` takes that network as it is; pruning to 80 %, little by little over the first two
thirds of more epochs, is compared with the network that goes on for the same epochs, unpruned.
How kernels share what goes was chosen with other seeds on training rows 50,000 to 59,999.
``int4`` leaves the pruning out and trains for 4 bits, two epochs at 3e-4 beside two of the float.
"""

from __future__ import annotations

import math
import sys

import numpy as np

import handmill
from handmill import compress, layers
from handmill.quantizers import Int8StaticQuantizationConfig
from handmill.strategy.statistics import mean_interval


def compiled(model: handmill.Model, rate: float) -> handmill.Model:
    optimizer = handmill.optimizers.Adam(rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def copied(model: handmill.Model) -> handmill.Model:
    made = handmill.models.clone_model(model)
    made.set_weights(model.get_weights())
    return made


def points(model: handmill.Model, x: np.ndarray, y: np.ndarray) -> float:
    return 100.0 * float((model.predict(x, verbose=0).argmax(1) == y).mean())


def went_on(first: handmill.Model, seed: int, x, y, epochs: int, rate: float, callbacks=()):
    model = compiled(copied(first), rate)
    handmill.utils.set_random_seed(1000 + seed)
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0, callbacks=list(callbacks))
    return model


def of_one_seed(seed: int, data, only_4_bits: bool) -> dict[str, tuple[float, float]]:
    """Name of what was done -> points, and those of the network it is compared with."""
    (x, y), test = data
    handmill.utils.set_random_seed(seed)
    first = handmill.Sequential(
        [handmill.Input((784,)), layers.Dense(64, "relu"), layers.Dense(10, "softmax")]
    )
    compiled(first, 1e-3).fit(x, y, batch_size=64, epochs=6, verbose=0)
    float_points = points(first, *test)
    found = {"float": (float_points, float_points)}
    for name, how in (
        ("int8, rows measured", {"mode": "int8"}),
        ("int8, static", {"config": Int8StaticQuantizationConfig(x[:512])}),
        ("int4, groups of 128", {"mode": "int4"}),
    ):
        model = copied(first)
        model.quantize(**how)
        found[name] = points(model, *test), float_points
    if only_4_bits:
        return {**found, **of_4_bits(first, seed, data)}
    for epochs, rate in ((3, 3e-4), (9, 1e-3)):
        words = f"{epochs} epochs more at {rate:g}"
        longer = points(went_on(first, seed, x, y, epochs, rate), *test)
        found[f"float, {words}"] = longer, longer
        for scope in ("layer", "global", "erk"):
            end = epochs * math.ceil(len(x) / 64) * 2 // 3
            schedule = compress.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=end, frequency=20)
            prune = handmill.callbacks.Prune(schedule, scope=scope)
            pruned = went_on(first, seed, x, y, epochs, rate, [prune])
            kernels = pruned.get_weights()[::2]
            part = sum(np.count_nonzero(w == 0) for w in kernels) / sum(w.size for w in kernels)
            assert abs(part - 0.8) < 1e-3, part
            found[f'80 % pruned, scope "{scope}", {words}'] = points(pruned, *test), longer
    pruned.quantize("int8", verbose=False)
    found["the last, then int8"] = points(pruned, *test), longer
    return found


def of_4_bits(first: handmill.Model, seed: int, data) -> dict[str, tuple[float, float]]:
    """Trained for 4 bits, beside the float network of as many epochs."""
    (x, y), test = data
    longer = points(went_on(first, seed, x, y, 2, 3e-4), *test)
    aware = compiled(copied(first), 3e-4)
    compress.quantize_aware(aware, "int4")
    handmill.utils.set_random_seed(1000 + seed)
    aware.fit(x, y, batch_size=64, epochs=2, verbose=0)
    aware.quantize("int4", verbose=False)
    words = "2 epochs more at 0.0003"
    return {
        f"float, {words}": (longer, longer),
        f"int4, trained for it, {words}": (points(aware, *test), longer),
    }


def main() -> None:
    (x, y), (x_test, y_test) = handmill.datasets.mnist.load_data()
    as_rows = [(a.reshape(len(a), -1) / 255).astype("float32") for a in (x[:10_000], x_test)]
    data = (as_rows[0], y[:10_000]), (as_rows[1], y_test)
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    count = numbers[0] if numbers else 5
    seeds = [of_one_seed(seed, data, "int4" in sys.argv) for seed in range(count)]
    print(f"{count} paired seeds\n\n| | accuracy | change in points, 95 % |\n|---|---|---|")
    for name in seeds[0]:
        got, beside = np.array([one[name] for one in seeds]).T
        low, high = mean_interval(got - beside)
        change = (got - beside).mean()
        print(f"| {name} | {got.mean():.2f} | {change:+.2f} [{low:+.2f}, {high:+.2f}] |")


if __name__ == "__main__":
    main()
