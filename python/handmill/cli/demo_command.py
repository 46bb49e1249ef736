"""``handmill demo``: real digits, every figure computed at the time it is printed."""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import handmill
from handmill import cli, config
from handmill.ir.op import Array

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "sigmoid", "linear")
OPTIMIZERS = ("sgd", "momentum", "adagrad", "rmsprop", "adam")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds where the pictures go."""
    parser.add_argument(
        "--pictures", type=Path, default=Path("handmill-demo"), help="folder for the picture"
    )


def run(options: argparse.Namespace) -> int:
    """Prints the demonstration."""
    (x, y), (x_test, y_test) = digits()
    native = config.backend() == "native"
    how = f"kernels {config.isa()}" if native else "NumPy, no kernels"
    print(
        f"handmill {handmill.__version__}, {how}, threads {config.num_threads()}: "
        f"{len(x)} real digits of 8x8 pixels to learn from, {len(x_test)} to test on"
    )
    model, history = first_network(x, y, x_test, y_test)
    accuracy = model.evaluate(x_test, y_test, verbose=0)[1]
    print(
        f"1. A network of 64-32-10 units: test accuracy {accuracy:.3f}, "
        f"{since_start():.2f} s after the start"
    )
    seconds, table = all_combinations(x, y, x_test, y_test)
    print(f"2. Which activation, which optimizer? 25 networks of 10 epochs in {seconds:.2f} s:")
    print("   test accuracy" + "".join(f"{name:>10}" for name in OPTIMIZERS))
    for activation, row in zip(ACTIVATIONS, table, strict=True):
        print(f"   {activation:13}" + "".join(f"{value:10.3f}" for value in row))
    explain_gap(model, x, y, accuracy)
    if native:
        compare_with_numpy(model, x, y)
        hash_by_threads(x, y)
    else:
        print("4.-5. Kernels against NumPy, and threads: NumPy runs everything here")
    cost_of_use(model, x_test[:1])
    draw(options.pictures, history, table)
    print(
        f"All of this took {since_start():.2f} s. Next, with a script that imports keras:\n"
        "handmill check SCRIPT.py, then handmill run SCRIPT.py; or copy one of examples/"
    )
    return 0


def digits() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The digits as rows of 64 numbers between 0 and 1."""
    from handmill.datasets.digits import load_data

    (x, y), (x_test, y_test) = load_data()
    scaled = [(part.reshape(-1, 64) / 16).astype(np.float32) for part in (x, x_test)]
    return (scaled[0], y.astype(np.int64)), (scaled[1], y_test.astype(np.int64))


def build(activation: str, optimizer: Any, seed: int) -> Any:
    """A compiled network of 64-32-10 units."""
    layers = handmill.layers
    handmill.utils.set_random_seed(seed)
    model = handmill.Sequential(
        [
            handmill.Input((64,)),
            layers.Dense(32, activation=activation),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def optimizer_named(name: str) -> Any:
    """Keras's defaults, but for rates at which 10 epochs suffice."""
    optimizers = handmill.optimizers
    return {
        "sgd": lambda: optimizers.SGD(0.1),
        "momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
        "adagrad": lambda: optimizers.Adagrad(0.1),
        "rmsprop": lambda: optimizers.RMSprop(0.005),
        "adam": lambda: optimizers.Adam(0.01),
    }[name]()


def first_network(x: Array, y: Array, x_test: Array, y_test: Array) -> tuple[Any, Any]:
    """Trains the network of part 1; the test digits are looked at, never learned from."""
    model = build("relu", optimizer_named("adam"), seed=1)
    test = (x_test, y_test)
    return model, model.fit(x, y, batch_size=32, epochs=15, verbose=0, validation_data=test)


def since_start() -> float:
    """Seconds since the command line was loaded."""
    return time.perf_counter() - cli.START


def all_combinations(x: Array, y: Array, x_test: Array, y_test: Array) -> tuple[float, Array]:
    """Trains 5 x 5 networks; returns the seconds and the table of test accuracies."""
    start = time.perf_counter()
    table = np.empty((len(ACTIVATIONS), len(OPTIMIZERS)))
    for (i, activation), (j, optimizer) in product(enumerate(ACTIVATIONS), enumerate(OPTIMIZERS)):
        model = build(activation, optimizer_named(optimizer), seed=1)
        with warnings.catch_warnings():  # some pairs learn slowly; the table shows which
            warnings.simplefilter("ignore", handmill.TrainingWarning)
            model.fit(x, y, batch_size=32, epochs=10, verbose=0)
        table[i, j] = model.evaluate(x_test, y_test, verbose=0)[1]
    return time.perf_counter() - start, table


def explain_gap(model: Any, x: Array, y: Array, test: float) -> None:
    """Prints part 3: the accuracy on seen and on unseen digits."""
    train = model.evaluate(x, y, verbose=0)[1]
    print(
        f"3. Accuracy {train:.3f} on digits it has seen, {test:.3f} on others. A gap that grows "
        "means\n   overfitting (more data, Dropout, L2, EarlyStopping); two low numbers mean "
        "underfitting\n   (more units, more epochs, another rate)."
    )


def compare_with_numpy(model: Any, x: Array, y: Array) -> None:
    """Prints part 4: the kernels of one training step against their references."""
    found = handmill.compare(model, x[:32], y[:32])
    fused = found.worst.op.count("+") + 1
    name = found.worst.op if fused == 1 else f"{fused} fused operators"
    verdict = "every kernel keeps its bound" if found.ok else "A KERNEL IS WRONG"
    print(
        f"4. One training step against NumPy: {len(found.rows)} results compared, {verdict}; "
        f"the worst\n   error is {found.worst.error:.2f} of what is allowed ({name})"
    )


def hash_by_threads(x: Array, y: Array) -> None:
    """Prints part 5: the weights after training with 1, 2 and 3 threads."""
    before, marks = config.num_threads(), []
    for threads in (1, 2, 3):
        config.set_num_threads(threads)
        model = build("relu", "adam", seed=2)
        model.fit(x, y, batch_size=256, epochs=2, verbose=0)
        content = b"".join(w.tobytes() for w in model.get_weights())
        marks.append(hashlib.sha256(content).hexdigest()[:12])
    config.set_num_threads(before)
    same = "the same bits" if len(set(marks)) == 1 else "DIFFERENT BITS"
    print(f"5. Weights after training with 1, 2, 3 threads: {' '.join(marks)}: {same}")


def cost_of_use(model: Any, x: Array) -> None:
    """Prints part 6: the time of a prediction and the size of the file."""
    model(x)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(50):
            model(x)
        times.append((time.perf_counter() - start) / 50)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.hmill"
        model.save(path)
        size = path.stat().st_size
    print(
        f"6. One prediction takes {np.median(times) * 1e6:.1f} us; the saved model with its "
        f"optimizer has {size / 1000:.0f} kB"
    )


def draw(folder: Path, history: Any, table: Array) -> None:
    """Writes the learning curve and the table as a picture."""
    from handmill.cli.demo_picture import picture

    curves = {
        "digits it learns from": history.history["accuracy"],
        "test digits": history.history["val_accuracy"],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "digits.svg"
    path.write_text(picture(curves, ACTIVATIONS, OPTIMIZERS, table), "utf-8")
    print(f"   picture, for a browser: {path}")
