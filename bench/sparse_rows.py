"""A training step of Embedding(sparse_rows=True), by the rows of its table.

    python bench/sparse_rows.py [--sizes 1000,1000000] [--optimizers SGD,Adam] [--threads 1,2]
                                [--rounds 9] [--json F]

Batches of 32 x 64 numbers drawn evenly, vectors of 32, then Flatten and Dense(1): 2048 look-ups a
step. Medians of a step of ``fit`` in us, all sizes in turns, and ratios to the smallest table with
the 90 % interval; with --profile, the kernels of a step.
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
    plan_of,
    print_rows,
    rows_of,
    warn_if_busy,
    write_json,
)

import handmill
from handmill import config, layers

BATCH, LENGTH, WIDTH, STEPS = 32, 64, 32, 100


def make(rows: int, optimizer: str, sparse: bool = True) -> Any:
    model = handmill.Sequential(
        [
            handmill.Input((LENGTH,), dtype="int32"),
            layers.Embedding(rows, WIDTH, sparse_rows=sparse),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    kind, _, momentum = optimizer.partition("+")
    options = {"momentum": 0.9} if momentum else {}
    model.compile(getattr(handmill.optimizers, kind)(1e-6, **options), "mse")
    return model


def data_of(rows: int, steps: int = STEPS) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, rows, (steps * BATCH, LENGTH), dtype=np.int32)
    return x, rng.standard_normal((len(x), 1), np.float32)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--sizes", default="1000,10000,30000,100000,300000,1000000")
    arguments.add_argument("--optimizers", default="SGD,SGD+momentum,Adam,RMSprop,Adagrad")
    arguments.add_argument("--threads", default="1,2")
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--profile", action="store_true")
    options = arguments.parse_args()
    warn_if_busy()
    warnings.simplefilter("ignore")
    rounds = 2 if options.smoke else options.rounds
    sizes = [1000, 2000] if options.smoke else [int(n) for n in options.sizes.split(",")]
    report: dict[str, Any] = {**environment(options.machine), "rows": {}}
    for threads in map(int, options.threads.split(",")):
        config.set_num_threads(threads)
        for optimizer in options.optimizers.split(","):
            calls: dict[str, Callable[[], Any]] = {}
            for size in sizes:
                model, (x, y) = make(size, optimizer), data_of(size)

                def fit(model: Any = model, x: Any = x, y: Any = y) -> None:
                    model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)

                calls[f"{size} rows"] = fit
                if options.profile:
                    plan, arrays = plan_of(model, x[:BATCH].copy(), y[:BATCH].copy())
                    times = plan.profile(*arrays, repeats=50)
                    for step, seconds in zip(plan.summary(), times, strict=True):
                        print(f"    {size:8d} {step['kernel']:28s} {seconds * 1e6:8.2f} us")
            rows = rows_of(in_turns(calls, rounds), f"{sizes[0]} rows", STEPS * 1e-6)
            print_rows(f"{optimizer}, {threads} thread(s): a step", rows, "us")
            report["rows"][f"{optimizer}, {threads}"] = rows
    write_json(options.json, report)


if __name__ == "__main__":
    main()
