"""What training with rounded weights brings at 4 bits, and what it costs a step.

    python bench/quantize_aware.py [digits|mnist|lenet|steps]

``digits``, ``mnist`` and ``lenet`` (LeNet-5 on MNIST): a net is trained; then it goes on for a
third of the epochs as it is, and, from the same weights and with the same seeds, with simulated 4
bits. Accuracy on held out rows, in
points, over paired seeds: float, float quantized afterwards, trained for it. ``steps``: processor
time of a training step in one thread, in turns, the least of nine.
"""

from __future__ import annotations

import math
import sys
import time
import warnings

import numpy as np

import handmill
from handmill import compress, layers
from handmill.quantizers import (
    Int4QuantizationConfig,
    Int8QuantizationConfig,
    Int8StaticQuantizationConfig,
)

SEEDS = 5
BLOCKS = (-1, 32, 128)


def net(inputs: int, widths: tuple[int, ...]) -> handmill.Model:
    hidden = [layers.Dense(width, "relu") for width in widths]
    return handmill.Sequential([handmill.Input((inputs,)), *hidden, layers.Dense(10, "softmax")])


def compiled(model: handmill.Model, rate: float) -> handmill.Model:
    optimizer = handmill.optimizers.Adam(rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def points(model: handmill.Model, x: np.ndarray, y: np.ndarray) -> float:
    return 100.0 * float((model.predict(x, verbose=0).argmax(1) == y).mean())


def went_on(first: handmill.Model, seed: int, config, data, epochs: int) -> handmill.Model:
    """A copy of a net, trained on with a tenth of the rate."""
    model = handmill.models.clone_model(first)
    model.set_weights(first.get_weights())
    compiled(model, 3e-4)
    if config is not None:
        compress.quantize_aware(model, config=config)
    handmill.utils.set_random_seed(1000 + seed)
    model.fit(*data[:2], batch_size=32, epochs=epochs, verbose=0)
    return model


def line(name: str, found: list[float]) -> str:
    a = np.array(found)
    t = {2: 12.71, 3: 4.303, 5: 2.776}[len(a)]
    half = t * a.std(ddof=1) / math.sqrt(len(a))
    return f"{name:34} {a.mean():6.2f}  [{a.mean() - half:6.2f}, {a.mean() + half:6.2f}]"


def lenet5() -> handmill.Model:
    """LeCun et al., 1998, with rectifiers and the largest of four."""
    return handmill.Sequential([
        handmill.Input((28, 28, 1)),
        layers.Conv2D(6, 5, padding="same", activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(16, 5, activation="relu"), layers.MaxPooling2D(), layers.Flatten(),
        layers.Dense(120, "relu"), layers.Dense(84, "relu"), layers.Dense(10, "softmax"),
    ])  # fmt: skip


def accuracy(name: str, widths: tuple[int, ...], epochs: int) -> None:
    load = handmill.datasets.digits if name == "digits" else handmill.datasets.mnist
    (x, y), (x_test, y_test) = load.load_data()
    shape = (-1,) if widths else (28, 28, 1)
    x, x_test = (v.reshape(len(v), *shape).astype("float32") / x.max() for v in (x, x_test))
    x, y = x[:10000], y[:10000]
    data = (x, y)
    rows: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        handmill.utils.set_random_seed(seed)
        made = net(x.shape[1], widths) if widths else lenet5()
        first = compiled(made, 3e-3 if widths else 1e-3)
        first.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
        plain = went_on(first, seed, None, data, epochs // 3)
        exact = points(plain, x_test, y_test)
        rows.setdefault("float", []).append(exact)
        for block in BLOCKS:
            config = Int4QuantizationConfig(block_size=block)
            after = handmill.models.clone_model(plain)
            after.set_weights(plain.get_weights())
            after.quantize(config=config)
            aware = went_on(first, seed, config, data, epochs // 3)
            aware.quantize("int4")
            found = points(after, x_test, y_test) - exact, points(aware, x_test, y_test) - exact
            rows.setdefault(f"block {block}: afterwards - float", []).append(found[0])
            rows.setdefault(f"block {block}: trained - float", []).append(found[1])
            difference = found[1] - found[0]
            rows.setdefault(f"block {block}: trained - afterwards", []).append(difference)
    words = f"{x.shape[1]}-{'-'.join(map(str, widths))}-10" if widths else "LeNet-5"
    print(f"{name} {words}, {len(x_test)} rows, {SEEDS} seeds")
    for words, found in rows.items():
        print("  " + line(words, found))


def convolutional() -> handmill.Model:
    return handmill.Sequential([
        handmill.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Flatten(), layers.Dense(128, "relu"), layers.Dense(10, "softmax"),
    ])  # fmt: skip


def steps() -> None:
    handmill.config.set_num_threads(1)
    configs = {
        "float": None,
        "int8": Int8QuantizationConfig(),
        "int4": Int4QuantizationConfig(),
        "static": Int8StaticQuantizationConfig(),
    }
    rng = np.random.default_rng(0)
    for name, make, shape, batch, count in (
        ("784-512-256-10", lambda: net(784, (512, 256)), (784,), 32, 32),
        ("784-512-256-10", lambda: net(784, (512, 256)), (784,), 256, 8),
        ("conv net 28x28", convolutional, (28, 28, 1), 32, 8),
    ):
        x = rng.random((batch * count, *shape), "float32")
        y = rng.integers(0, 10, len(x))
        models = {}
        for key, config in configs.items():
            models[key] = compiled(make(), 1e-3)
            if config is not None:
                compress.quantize_aware(models[key], config=config)
            models[key].fit(x, y, batch_size=batch, verbose=0)
        least = dict.fromkeys(models, math.inf)
        for _ in range(9):
            for key, model in models.items():
                start = time.process_time()
                model.fit(x, y, batch_size=batch, verbose=0)
                least[key] = min(least[key], (time.process_time() - start) / count)
        words = [f"{k} {v * 1e3:.2f} ms ({v / least['float']:.2f})" for k, v in least.items()]
        print(f"{name}, batch {batch}: " + ", ".join(words))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for job in sys.argv[1:] or ["digits", "mnist", "steps"]:
        if job == "steps":
            steps()
        elif job == "digits":
            accuracy("digits", (32,), 30)
            accuracy("digits", (256, 128), 15)
        elif job == "lenet":
            accuracy("mnist", (), 6)
        else:
            accuracy("mnist", (32,), 12)
