"""What training costs through a data set, a generator or a loader, beside the same arrays.

    python bench/data_sources.py [--models mlp,small] [--rounds 9] [--threads N] [--json F]

Medians of a step of ``fit`` in us, in turns in one process, and their ratios to the arrays, with
the 90 % interval. "alone": the source, iterated over without a model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
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

from handmill import config, ops
from handmill.data import Dataset, PyDataset
from handmill.inspection.benchmarks.handmill_jobs import make_model
from handmill.inspection.benchmarks.workloads import DenseWorkload


# One batch for long would lead to denormal gradients, which cost more.
def _net(name: str, units: tuple[int, ...], batch: int, steps: int) -> DenseWorkload:
    return DenseWorkload(name, units, batch, steps * batch, learning_rate=1e-6)


# Steps of 1.2 ms, 1.2 ms, 120 us, 32 us, 5 us; docs/tutorial.md trains the last.
MODELS = {
    "tutorial": (_net("tutorial", (12288, 128, 10), 32, 40), 1),
    "mlp": (_net("mlp", (784, 512, 256, 10), 128, 40), 1),
    "dense": (_net("dense", (784, 128, 10), 32, 100), 5),
    "small": (_net("small", (64, 128, 10), 96, 100), 10),
    "digits": (_net("digits", (64, 32, 10), 32, 200), 20),
}


class Batches(PyDataset):
    def __init__(self, x: Any, y: Any, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.x, self.y, self.size = x, y, size

    def __len__(self) -> int:
        return len(self.x) // self.size

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        part = slice(i * self.size, (i + 1) * self.size)
        return self.x[part], self.y[part]


class Again:
    """A generator for each pass."""

    def __init__(self, make: Callable[[], Iterator[Any]]) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        return self.make()


def by_ops(x: Any, y: Any) -> tuple[Any, Any]:
    return ops.multiply(x, np.float32(2.0)), y


def by_numpy(x: Any, y: Any) -> tuple[Any, Any]:
    return x * np.float32(2.0), y


def sources_of(w: DenseWorkload, x: Any, y: Any) -> dict[str, Any]:
    """What can be given to ``fit`` by itself; each pass of them holds all rows.

    Generators of copies are what a map by NumPy costs at least: a function may write into its rows.
    """
    size = w.batch

    def generated() -> Iterator[Any]:
        for start in range(0, len(x), size):
            yield x[start : start + size], y[start : start + size]

    def copied() -> Iterator[Any]:
        return ((a.copy(), b.copy()) for a, b in generated())

    def multiplied() -> Iterator[Any]:
        return (by_numpy(a, b) for a, b in copied())

    rows = Dataset.from_tensor_slices((x, y))
    found = {
        "Dataset: batch": rows.batch(size),
        "Dataset: shuffle, batch, prefetch": rows.shuffle(len(x), seed=1).batch(size).prefetch(2),
        "Dataset: shuffle, batch, map (ops)": rows.shuffle(len(x), seed=1).batch(size).map(by_ops),
        "Dataset: batch, map (ops)": rows.batch(size).map(by_ops),
        "Dataset: batch, map (numpy)": rows.batch(size).map(by_numpy),
        "Dataset: batch, map (numpy), prefetch": rows.batch(size).map(by_numpy).prefetch(2),
        "Dataset: from_generator": Dataset.from_generator(generated),
        "generator": Again(generated),
        "generator of copies": Again(copied),
        "generator of copies, product (numpy)": Again(multiplied),
        "PyDataset": Batches(x, y, size),
        "PyDataset, 2 workers": Batches(x, y, size, workers=2),
    }
    try:
        import torch
    except ImportError:
        return found
    tensors = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    batches = torch.utils.data.BatchSampler(
        torch.utils.data.SequentialSampler(tensors), size, False
    )
    found["DataLoader of batches"] = torch.utils.data.DataLoader(
        tensors, sampler=batches, batch_size=None
    )
    found["DataLoader"] = torch.utils.data.DataLoader(tensors, size)
    return found


def measure(w: DenseWorkload, epochs: int, rounds: int) -> tuple[list[Any], list[Any]]:
    x, y = w.data()
    model = make_model(w)
    steps = epochs * w.steps_per_epoch

    def fit(source: Any) -> Callable[[], Any]:
        return lambda: model.fit(source, epochs=epochs, verbose=0, shuffle=False)

    def through(source: Any) -> Callable[[], Any]:
        return lambda: [None for _ in range(epochs) for _ in source]

    sources = sources_of(w, x, y)
    calls: dict[str, Callable[[], Any]] = {
        "arrays": lambda: model.fit(
            x, y, batch_size=w.batch, epochs=epochs, verbose=0, shuffle=False
        ),
        "arrays, shuffled": lambda: model.fit(x, y, batch_size=w.batch, epochs=epochs, verbose=0),
        **{name: fit(source) for name, source in sources.items()},
    }
    slow = {name: calls.pop(name) for name in ("DataLoader",) if name in calls}
    times = in_turns(calls, rounds)
    times |= in_turns(slow, min(rounds, 3)) if slow else {}
    for name in slow:  # as many as the others, for the interval
        times[name] = (times[name] * rounds)[:rounds]
    alone = in_turns({name: through(source) for name, source in sources.items()}, min(rounds, 3))
    return (
        rows_of(times, "arrays", steps * 1e-6),
        rows_of(alone, next(iter(alone)), steps * 1e-6),
    )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--models", default=",".join(MODELS))
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--threads", type=int, default=0, help="default: as many as there are")
    options = arguments.parse_args()
    warn_if_busy()
    warnings.simplefilter("ignore")
    if options.threads:
        config.set_num_threads(options.threads)
    rounds = 2 if options.smoke else options.rounds
    report = {**environment(options.machine), "rows": {}}
    for name in options.models.split(","):
        w, epochs = MODELS[name]
        epochs = 1 if options.smoke else epochs
        rows, alone = measure(w, epochs, rounds)
        print_rows(f"{name}: a step of fit", rows, "us")
        for row in alone:
            print(f"  alone: {row['name']:37s} {row['median']:10.2f} us")
        report["rows"][name] = {"fit": rows, "alone": alone}
    write_json(options.json, report)


if __name__ == "__main__":
    main()
