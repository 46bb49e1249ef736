"""What handmill adds to the arithmetic, against the budgets that it keeps.

python bench/overheads.py [--json F]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from allocations import allocations_per_step
from common import environment, least_seconds, parser, plan_of, warn_if_busy, write_json

from handmill.inspection.benchmarks.handmill_jobs import make_model
from handmill.inspection.benchmarks.workloads import WORKLOADS, DenseWorkload

TINY = WORKLOADS["tiny"]
TEN = DenseWorkload("ten layers", (32, *[24] * 9, 10), batch=16, rows=64)


def empty_step(seconds: float) -> float:
    """A step of a fed run that takes one number and counts."""
    from handmill import ops
    from handmill.runtime.feed import Feed
    from handmill.runtime.function import TracedFunction
    from handmill.runtime.variable import Variable

    counted = Variable(np.zeros((), np.float32), name="counted")

    def count(_: Any) -> tuple[()]:
        counted.assign(ops.add(counted.value, 1.0))
        return ()

    function = TracedFunction(count, "empty")
    rows = 20_000
    feed = Feed([np.zeros(rows, np.float32)])

    def run() -> None:
        feed.position = 0
        function.run_fed(feed, 1, rows, deadline=10.0)

    return least_seconds(run, seconds) / rows


def fit_call(seconds: float) -> float:
    """A fit of one step, without the step."""
    model = make_model(TINY)
    x, y = TINY.data()

    def fit(steps: int) -> Callable[[], Any]:
        n = steps * TINY.batch
        part_x, part_y = x[:n], y[:n]
        return lambda: model.fit(part_x, part_y, batch_size=TINY.batch, epochs=1, verbose=0)

    one, many = least_seconds(fit(1), seconds), least_seconds(fit(41), seconds)
    return one - (many - one) / 40


def eager_matmul(seconds: float) -> float:
    """ops.matmul of two 8x8 arrays, without the kernel."""
    from handmill import ops
    from handmill.runtime.function import TracedFunction

    a = np.ones((8, 8), np.float32)
    plan = TracedFunction(ops.matmul, "matmul", batched=False).plan(a, a)
    kernel = sum(plan.profile(a, a, repeats=10_000))
    return least_seconds(lambda: ops.matmul(a, a), seconds) - kernel


def model_call(seconds: float) -> float:
    """model(x) of one sample, without the plan."""
    model = make_model(TINY)
    x = TINY.data()[0][:1].copy()
    plan, _ = plan_of(model, x)
    return least_seconds(lambda: model(x), seconds) - least_seconds(lambda: plan(x), seconds)


def predict_one(seconds: float) -> float:
    model = make_model(TINY)
    x = TINY.data()[0][:1].copy()
    return least_seconds(lambda: model.predict(x, verbose=0), seconds)


def first_step(seconds: float) -> float:
    """The first training step of a second model of equal structure, four layers, with the step."""
    x, y = TINY.data()
    x, y = x[:32], y[:32]
    four = DenseWorkload("four layers", (TINY.units[0], 16, 16, 16, TINY.units[-1]), 32, 32)
    make_model(four).train_on_batch(x, y)
    times = []
    for _ in range(200 if seconds > 0.1 else 20):
        model = make_model(four)
        start = time.perf_counter()
        model.train_on_batch(x, y)
        times.append(time.perf_counter() - start)
    return min(times)


def call_after_change(seconds: float) -> float:
    """model(x) of one sample after another model was made, without the plan."""
    from handmill.runtime.watch import SETTINGS, notice

    model = make_model(TINY)
    x = TINY.data()[0][:1].copy()
    plan, _ = plan_of(model, x)
    model(x)

    def run() -> None:
        notice(SETTINGS.__class__())  # as any change of anything does
        model(x)

    return least_seconds(run, seconds) - least_seconds(lambda: plan(x), seconds)


def specialise(seconds: float) -> float:
    """The plan of a training step of ten layers for one more batch size."""
    model = make_model(TEN)
    x, y = TEN.data()
    function, _ = model.step_to_compare(x, y)
    signature = function.signature(function.specs_of([x, y]))
    program, _, _ = signature.program(feeds=False)
    times = []
    for batch in range(2, 60 if seconds > 0.1 else 8):
        start = time.perf_counter()
        program.specialize([batch])
        times.append(time.perf_counter() - start)
    return min(times)


def import_time(seconds: float) -> float:
    """import handmill, after import numpy; the median of some processes."""
    code = (
        "import numpy, time; start = time.perf_counter(); import handmill;"
        "print(time.perf_counter() - start)"
    )
    times = []
    for _ in range(11 if seconds > 0.1 else 3):
        done = subprocess.run(
            (sys.executable, "-c", code), capture_output=True, text=True, check=True
        )
        times.append(float(done.stdout))
    return statistics.median(times[1:])


def resident_bytes() -> int:
    """Memory of this process, without what was swapped out; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def growth_per_10000_steps() -> float:
    """Bytes by which 10,000 steps of fit make the process grow."""
    model = make_model(TINY)
    x, y = (a[:320] for a in TINY.data())

    def fit(epochs: int) -> None:
        model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)

    fit(50)
    before = resident_bytes()
    fit(1000)
    return resident_bytes() - before


BUDGETS: tuple[tuple[str, Callable[[float], float], float, float, str], ...] = (
    ("empty step", empty_step, 1.0, 1e6, "us"),
    ("fit(epochs=1, verbose=0), beside the steps", fit_call, 45.0, 1e6, "us"),
    ("ops.matmul, beside the kernel", eager_matmul, 1.0, 1e6, "us"),
    ("model(x), beside the plan", model_call, 3.0, 1e6, "us"),
    ("model(x) after an unrelated change", call_after_change, 10.0, 1e6, "us"),
    ("predict of one sample", predict_one, 5.0, 1e6, "us"),
    ("first step of a second equal model", first_step, 500.0, 1e6, "us"),
    ("specialise a training step of 10 layers", specialise, 200.0, 1e6, "us"),
    ("import handmill, beside numpy", import_time, 30.0, 1e3, "ms"),
)


def main() -> None:
    options = parser(__doc__).parse_args()
    warn_if_busy()
    warnings.simplefilter("ignore")
    seconds = 0.02 if options.smoke else 1.0
    report: dict[str, Any] = {**environment(options.machine), "rows": []}

    def row(name: str, value: float, budget: float, unit: str) -> None:
        report["rows"].append({"name": name, "value": value, "budget": budget, "unit": unit})
        mark = "" if value <= budget else "  over"
        print(f"{name:46s} {value:9.2f} {unit:6s} (budget {budget:g}){mark}", flush=True)

    for name, measure, budget, scale, unit in BUDGETS:
        row(name, measure(seconds) * scale, budget, unit)
    if sys.platform.startswith("linux"):
        row("growth over 10,000 steps", growth_per_10000_steps() / 1024, 256, "KB")
    allocations = allocations_per_step()
    if allocations is not None:
        row("allocations a step", allocations, 0, "")
    write_json(options.json, report)


if __name__ == "__main__":
    main()
