"""What a small network loses by 8 and 4 bits, and by pruning: accuracy on MNIST, paired seeds.

    python bench/compressed_accuracy.py

784-64-10 (Adam, batch 64) learns the first 10,000 rows for six epochs, the 10,000 test rows judge.
``quantize`` takes that network as it is; pruning to 80 %, little by little over the first two
thirds of more epochs, is compared with the network that goes on for the same epochs, unpruned.
"""

from __future__ import annotations

import math

import numpy as np

import handmill
from handmill import compress, layers
from handmill.quantizers import Int8StaticQuantizationConfig

SEEDS = 5
T_95 = 2.776
"""Of Student's distribution, four degrees of freedom."""


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


def of_one_seed(seed: int, data) -> dict[str, tuple[float, float]]:
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
    for epochs, rate in ((3, 3e-4), (9, 1e-3)):
        words = f"{epochs} epochs more at {rate:g}"
        longer = points(went_on(first, seed, x, y, epochs, rate), *test)
        found[f"float, {words}"] = longer, longer
        for layers_of in ("both layers", "the first layer"):
            end = epochs * math.ceil(len(x) / 64) * 2 // 3
            schedule = compress.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=end, frequency=20)
            chosen = None if layers_of == "both layers" else [first.layers[0].name]
            prune = handmill.callbacks.Prune(schedule, layers=chosen)
            pruned = went_on(first, seed, x, y, epochs, rate, [prune])
            assert abs(float(np.mean(pruned.get_weights()[0] == 0)) - 0.8) < 1e-3
            found[f"80 % of {layers_of} pruned, {words}"] = points(pruned, *test), longer
    pruned.quantize("int8")
    found["the last, then int8"] = points(pruned, *test), longer
    return found


def main() -> None:
    (x, y), (x_test, y_test) = handmill.datasets.mnist.load_data()
    as_rows = [(a.reshape(len(a), -1) / 255).astype("float32") for a in (x[:10_000], x_test)]
    data = (as_rows[0], y[:10_000]), (as_rows[1], y_test)
    seeds = [of_one_seed(seed, data) for seed in range(SEEDS)]
    print("| | accuracy | change in points, 95 % |\n|---|---|---|")
    for name in seeds[0]:
        got, beside = np.array([one[name] for one in seeds]).T
        change = got - beside
        spread = T_95 * change.std(ddof=1) / math.sqrt(SEEDS)
        low, high = change.mean() - spread, change.mean() + spread
        print(f"| {name} | {got.mean():.2f} | {change.mean():+.2f} [{low:+.2f}, {high:+.2f}] |")


if __name__ == "__main__":
    main()
