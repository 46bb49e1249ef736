"""``handmill demo``: real digits, every figure computed at the time it is printed."""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np

import handmill
from handmill import cli, config
from handmill.ir.op import Array
from handmill.strategy.comparison import Comparison
from handmill.strategy.grid import try_all
from handmill.strategy.holdout import hold_out
from handmill.strategy.runs import Runs

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "sigmoid", "linear")
OPTIMIZERS = ("sgd", "momentum", "adagrad", "rmsprop", "adam")

MODEL, DIGITS = "digits.hmill", "digits.npz"

SEEDS, SEEDS_WITHOUT_KERNELS = 10, 2
"""Trainings of each network of the table; with fewer than six nothing could be told apart."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds where the files go."""
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("handmill-demo"),
        help="folder for the picture, the model and the digits",
    )


def run(options: argparse.Namespace) -> int:
    """Prints the demonstration."""
    (x, y), (x_test, y_test) = digits()
    native = config.backend() == "native"
    how = f"kernels {config.isa()}" if native else "NumPy, no kernels"
    x, y, _, held = hold_out(x, y)
    print(
        f"handmill {handmill.__version__}, {how}, threads {config.num_threads()}: real digits of "
        f"8x8 pixels,\n{len(x)} to learn from, {len(held[1])} to choose by, {len(x_test)} to test "
        "on in the end"
    )
    model, history = first_network(x, y, held)
    accuracy = model.evaluate(*held, verbose=0)[1]
    print(
        f"1. A network of 64-32-10 units: accuracy {accuracy:.3f} on digits put aside, "
        f"{since_start():.2f} s after the start"
    )
    start = time.perf_counter()
    runs = all_combinations(x, y, held, SEEDS if native else SEEDS_WITHOUT_KERNELS)
    show_table(runs, time.perf_counter() - start, x_test, y_test)
    explain_gap(model, x, y, accuracy)
    if native:
        compare_with_numpy(model, x, y)
        hash_by_threads(x, y)
    else:
        print("4.-5. Kernels against NumPy, and threads: NumPy runs everything here")
    options.folder.mkdir(parents=True, exist_ok=True)
    keep(options.folder, model, x, y, held)
    cost_of_use(options.folder / MODEL, model, x_test[:1])
    draw(options.folder / "digits.svg", history, runs.comparison())
    print(
        f"All of this took {since_start():.2f} s. Next, in {options.folder}:\n"
        f"handmill diagnose {MODEL} {DIGITS}; "
        f"handmill explain {MODEL} {DIGITS} --background {DIGITS}\n"
        "With a script that imports keras: handmill check SCRIPT.py, then handmill run SCRIPT.py"
    )
    return 0


def digits() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The digits as rows of 64 numbers between 0 and 1."""
    from handmill.datasets.digits import load_data

    (x, y), (x_test, y_test) = load_data()
    scaled = [(part.reshape(-1, 64) / 16).astype(np.float32) for part in (x, x_test)]
    return (scaled[0], y.astype(np.int64)), (scaled[1], y_test.astype(np.int64))


def build(activation: str, optimizer: str) -> Any:
    """A compiled network of 64-32-10 units."""
    layers = handmill.layers
    model = handmill.Sequential(
        [
            handmill.Input((64,)),
            layers.Dense(32, activation=activation),
            layers.Dense(10, activation="softmax"),
        ]
    )
    made = optimizer_named(optimizer)
    model.compile(made, "sparse_categorical_crossentropy", metrics=["accuracy"])
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


def first_network(x: Array, y: Array, held: Any) -> tuple[Any, Any]:
    """Trains the network of part 1; the digits put aside are looked at, never learned from."""
    handmill.utils.set_random_seed(1)
    model = build("relu", "adam")
    return model, model.fit(x, y, batch_size=32, epochs=15, verbose=0, validation_data=held)


def since_start() -> float:
    """Seconds since the command line was loaded."""
    return time.perf_counter() - cli.START


def all_combinations(x: Array, y: Array, held: Any, seeds: int) -> Runs:
    """Trains 5 x 5 networks under the same seeds, each as if alone."""
    settings = {"activation": ACTIVATIONS, "optimizer": OPTIMIZERS}
    return try_all(
        build,
        settings,
        x,
        y,
        seeds=seeds,
        epochs=10,
        batch_size=32,
        validation_data=held,
        keep_weights=True,
    )


def show_table(runs: Runs, seconds: float, x_test: Array, y_test: Array) -> None:
    """Prints part 2: the table, how sure it is, and what the test digits say of the best."""
    found = runs.comparison("val_accuracy")
    count, seeds = found.scores.shape
    print(
        f"2. Which activation, which optimizer? {count} networks x {seeds} seeds, 10 epochs each, "
        f"in {seconds:.2f} s;\n   mean accuracy on the {found.rows} digits put aside:"
    )
    for line in found.pivot("activation", "optimizer").splitlines():
        print(f"   {line}")
    best = " with ".join(map(str, found.configurations[found.best].values()))
    equals = int(found.undecided.sum())
    low, high = found.row_intervals[found.best] if found.row_intervals else (0.0, 0.0)
    print(
        f"   =: not distinguishable from the best, {best}: {equals} of {count}, so its lead is "
        "partly luck\n"
        f"   ({found.curse:.4f} expected). Seeds leave +-{found.seed_errors[found.best]:.3f} open, "
        f"so few digits +-{(high - low) / 2:.3f}."
    )
    test = runs.test(x_test, y_test)["accuracy"]
    print(
        f"   The test digits, opened once, for it: test accuracy {test.mean():.3f}, "
        f"mean of {seeds} seeds."
    )


def explain_gap(model: Any, x: Array, y: Array, held: float) -> None:
    """Prints part 3: the accuracy on seen and on unseen digits."""
    train = model.evaluate(x, y, verbose=0)[1]
    print(
        f"3. Accuracy {train:.3f} on digits it has seen, {held:.3f} on others. A gap that grows "
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
        handmill.utils.set_random_seed(2)
        model = build("relu", "adam")
        model.fit(x, y, batch_size=256, epochs=2, verbose=0)
        content = b"".join(w.tobytes() for w in model.get_weights())
        marks.append(hashlib.sha256(content).hexdigest()[:12])
    config.set_num_threads(before)
    same = "the same bits" if len(set(marks)) == 1 else "DIFFERENT BITS"
    print(f"5. Weights after training with 1, 2, 3 threads: {' '.join(marks)}: {same}")


def keep(folder: Path, model: Any, x: Array, y: Array, held: Any) -> None:
    """Writes the network of part 1 and its digits, for the commands named at the end."""
    model.save(folder / MODEL)
    np.savez(folder / DIGITS, x=x, y=y, x_val=held[0], y_val=held[1])


def cost_of_use(path: Path, model: Any, x: Array) -> None:
    """Prints part 6: the time of a prediction and the size of the file."""
    model(x)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(50):
            model(x)
        times.append((time.perf_counter() - start) / 50)
    print(
        f"6. One prediction takes {np.median(times) * 1e6:.1f} us; the saved model with its "
        f"optimizer has {path.stat().st_size / 1000:.0f} kB"
    )


def draw(path: Path, history: Any, table: Comparison) -> None:
    """Writes the learning curve and the table as a picture."""
    from handmill.cli.demo_picture import picture

    curves = {
        "digits it learns from": history.history["accuracy"],
        "digits put aside": history.history["val_accuracy"],
    }
    rows, columns, means, marked = table.cells("activation", "optimizer")
    title = f"mean accuracy on digits put aside, {table.scores.shape[1]} seeds"
    path.write_text(picture(curves, title, rows, columns, means, marked), "utf-8")
    print(f"   picture, for a browser: {path}")
