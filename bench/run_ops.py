"""Times every registered operator on its own benchmark samples, at every level.

    python bench/run_ops.py [--only exp,matmul] [--isa avx512,avx2] [--threads 2] [--json F]

The kernels alone are timed, with warm caches and the memory of a plan: microseconds, GFLOP/s or
GB/s from the plan's own account, and the share of the ceiling that was measured in the same run
(multiply-adds or memory, whichever takes longer). Operators on transcendental functions do many
more instructions an element than the account says, so their share of the ceiling is low by nature.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import environment, parser, warn_if_busy, write_json

from handmill.inspection.ceilings import FOOTPRINTS, Ceilings


def bench_samples() -> list[tuple[Any, Any]]:
    """(operator, sample) for every sample that its record tags for benchmarks."""
    import handmill.ops  # noqa: F401  (fills the registry)
    from handmill.ir.op import REGISTRY

    return [(op, s) for op in REGISTRY.values() for s in op.samples() if s.bench]


def plan_op(op: Any, sample: Any) -> tuple[Any, list[Any]]:
    """The plan of one operator, and arrays for it."""
    from handmill.ir import trace
    from handmill.runtime.function import TracedFunction

    arrays = [np.require(a, requirements="CA") for a in sample.make(np.random.default_rng(0))]
    function = TracedFunction(
        lambda *values: trace.apply(op, *values, **sample.attrs), op.name, batched=False
    )
    return function.plan(*arrays), arrays


def measure(op: Any, sample: Any, ceilings: Ceilings, repeats: int) -> dict[str, Any]:
    """One row of the table."""
    plan, arrays = plan_op(op, sample)
    steps = plan.summary()
    footprint = float(sum(a.nbytes for a in arrays) + plan.arena_bytes)
    times = plan.profile(*arrays, repeats=min(2, repeats))
    if repeats > 1:
        repeats = max(5, min(repeats, int(0.2 / max(sum(times), 1e-7))))
        times = plan.profile(*arrays, repeats=repeats)
    flops, moved = (sum(s[key] for s in steps) for key in ("flops", "bytes"))
    ceiling = 0.0
    for s in steps:
        traffic = s["bytes_read"], s["bytes_written"], s["bytes_in_place"]
        ceiling += max(
            s["flops"] / ceilings.peak, ceilings.memory_time(*traffic, max(footprint, moved))
        )
    seconds = sum(times)
    return {
        "op": op.name,
        "sample": sample.name,
        "isa": "host" if any(s["host"] for s in steps) else ceilings.isa,
        "us": seconds * 1e6,
        "gflops": flops / seconds / 1e9,
        "gb_per_second": moved / seconds / 1e9,
        "percent_of_ceiling": 100 * ceiling / seconds,
        "steps": [s["kernel"] for s in steps],
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", default="", help="operators, by name")
    arguments.add_argument("--isa", default="", help="levels; default: all")
    arguments.add_argument("--threads", type=int, help="default: all cores")
    options = arguments.parse_args()
    from handmill import config

    warn_if_busy()
    if options.threads:
        config.set_num_threads(options.threads)
    only = {name for name in options.only.split(",") if name}
    samples = [(op, s) for op, s in bench_samples() if not only or op.name in only]
    levels = [n for n in options.isa.split(",") if n] or config.available_isas()[::-1]
    report = environment(options.machine)
    report["ceilings"], report["rows"] = [], []
    for isa in levels:
        config.set_isa(isa)
        ceilings = Ceilings(
            isa, None, FOOTPRINTS[:3] if options.smoke else FOOTPRINTS,
            0.001 if options.smoke else 0.1,
        )  # fmt: skip
        report["ceilings"].append(ceilings.to_dict())
        print(f"{isa}, {ceilings.threads} thread(s): {ceilings.peak / 1e9:.0f} GFLOP/s")
        print(f"  {'operator':51s} {'us':>10s} {'GFLOP/s':>9s} {'GB/s':>8s} {'%':>5s}")
        for op, sample in samples:
            row = measure(op, sample, ceilings, 1 if options.smoke else 1000)
            report["rows"].append(row)
            where = "  host" if row["isa"] == "host" else ""
            print(
                f"  {row['op']:32s} {row['sample'][:18]:18s} {row['us']:10.2f} "
                f"{row['gflops']:9.2f} {row['gb_per_second']:8.2f} "
                f"{row['percent_of_ceiling']:5.0f}{where}",
                flush=True,
            )
    write_json(options.json, report)


if __name__ == "__main__":
    main()
