"""Times optimizer steps beside the memory that they need.

    python bench/run_optimizers.py [--isa avx512,avx2] [--threads 2] [--sizes 100000] [--json F]

One variable of each size is updated by a gradient that the call is given; the update kernels alone
are timed. The ceiling is measured in the same run, in turns with the kernels: as many arrays of the
same size, updated in place by an addition, beside one that is only read. What the step does beside
(norms, scalars) is reported as bytes.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
from common import environment, parser, warn_if_busy, write_json

SIZES = (100_000, 1_000_000, 20_000_000)
# The arrays that a step updates: the variable and its slots.
OPTIMIZERS: dict[str, tuple[int, dict[str, Any]]] = {
    "SGD": (1, {}),
    "SGD momentum": (2, {"momentum": 0.9}),
    "Adagrad": (2, {}),
    "RMSprop": (2, {}),
    "Adam": (3, {}),
    "AdamW": (3, {}),
    "Adam global_clipnorm": (3, {"global_clipnorm": 1.0}),
}


def make_step(name: str, size: int) -> tuple[Any, Any]:
    """The plan of a step, and its gradient."""
    from handmill import Variable, optimizers
    from handmill.runtime.function import TracedFunction

    rng = np.random.default_rng(0)
    kind, (_, options) = name.split(maxsplit=1)[0], OPTIMIZERS[name]
    variable = Variable(rng.standard_normal(size, np.float32), name="w")
    optimizer = getattr(optimizers, kind)(learning_rate=1e-3, **options)
    optimizer.build([variable])
    gradient = rng.standard_normal(size, np.float32)

    def step(g: Any) -> Any:
        optimizer.apply([g], [variable])
        return optimizer.iterations.value

    return TracedFunction(step, "step", batched=False).plan(gradient), gradient


def measure(name: str, size: int, isa: str, threads: int, rounds: int) -> dict[str, Any]:
    """One row."""
    from handmill import _core

    arrays = OPTIMIZERS[name][0]
    plan, gradient = make_step(name, size)
    steps = plan.summary()
    update = [i for i, s in enumerate(steps) if s["kernel"].endswith("_update")]
    large = [i for i, s in enumerate(steps) if s["bytes"] >= 4 * size]
    one = sum(plan.profile(gradient, repeats=2))
    repeats = max(3, min(200, int(0.02 / one)))
    rates, ceilings = [], []
    moved = 4.0 * size * (2 * arrays + 1)
    for _ in range(rounds):
        times = plan.profile(gradient, repeats=repeats)
        rates.append(moved / sum(times[i] for i in update))
        ceilings.append(
            _core.measure_update(
                arrays, 4 * size * (arrays + 1), isa=isa, threads=threads, seconds=0.02
            )
        )
    rate, ceiling = statistics.median(rates), statistics.median(ceilings)
    return {
        "optimizer": name, "size": size, "isa": isa, "threads": threads,
        "us": moved / rate * 1e6, "gb_per_second": rate / 1e9,
        "ceiling_gb_per_second": ceiling / 1e9, "percent_of_ceiling": 100 * rate / ceiling,
        "steps": [steps[i]["kernel"] for i in large],
        "bytes_per_parameter": sum(steps[i]["bytes"] for i in large) / size,
    }  # fmt: skip


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--isa", default="avx512,avx2")
    arguments.add_argument("--threads", default="1,2")
    arguments.add_argument("--only", default="", help="optimizers, by the name in the table")
    arguments.add_argument("--sizes", default=",".join(map(str, SIZES)))
    arguments.add_argument("--rounds", type=int, default=7)
    options = arguments.parse_args()
    from handmill import config

    warn_if_busy()
    only = [name for name in options.only.split(",") if name] or list(OPTIMIZERS)
    sizes = [1000] if options.smoke else [int(size) for size in options.sizes.split(",")]
    levels = [isa for isa in options.isa.split(",") if isa in config.available_isas()]
    rows = []
    titles = ("size", "isa", "threads", "us", "GB/s", "ceiling", "%", "bytes each")
    print(f"{'':20s}" + "".join(f"{t:>10s}" for t in titles))
    for threads in map(int, options.threads.split(",")):
        config.set_num_threads(threads)
        for isa in levels:
            config.set_isa(isa)
            for name in only:
                for size in sizes:
                    rounds = 1 if options.smoke else options.rounds
                    row = measure(name, size, isa, threads, rounds)
                    rows.append(row)
                    print(
                        f"{name:20s}{size:10d}{isa:>10s}{threads:10d}{row['us']:10.1f}"
                        f"{row['gb_per_second']:10.1f}{row['ceiling_gb_per_second']:10.1f}"
                        f"{row['percent_of_ceiling']:10.0f}{row['bytes_per_parameter']:10.1f}"
                        f"  {'+'.join(row['steps'])}",
                        flush=True,
                    )
    write_json(options.json, {**environment(options.machine), "rows": rows})


if __name__ == "__main__":
    main()
