"""Training steps and predictions of the four dense models, against the roofline of this machine.

    python bench/run_models.py [--workloads tiny,mlp] [--isa avx2] [--profile] [--json F]

The roofline of a step is the sum over the plan's steps of max(FLOP / peak, bytes / bandwidth at the
footprint of that step), with ceilings that were measured in the same run; the gather of the batch
from the data set is a step too. A profile lists each step of the plan alone: its least time when
nothing else runs between, and its own roofline.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from common import environment, least_seconds, make_model, parser, plan_of, warn_if_busy, write_json
from workloads import WORKLOADS, Workload

from handmill.ceilings import FOOTPRINTS, Ceilings

BATCHES = (1, 32, 256)


def profile(plan: Any, arrays: list[Any], ceilings: Ceilings, repeats: int) -> list[dict[str, Any]]:
    """A row for each step of a plan."""
    rows = []
    times = plan.profile(*arrays, repeats=repeats)
    for step, seconds in zip(plan.summary(), times, strict=True):
        least = ceilings.least_time(
            step["flops"], step["bytes_read"], step["bytes_written"], step["bytes_in_place"]
        )
        rows.append({**step, "us": seconds * 1e6, "roofline_us": least * 1e6})
    return rows


def print_profile(rows: list[dict[str, Any]]) -> None:
    print(f"    {'kernel':30s} {'us':>8s} {'roofline':>8s} {'blocks':>6s} {'MFLOP':>8s} {'KB':>9s}")
    for r in rows:
        marks = " ".join(k for k in ("barrier", "cached", "host") if r[k])
        print(
            f"    {r['kernel']:30s} {r['us']:8.2f} {r['roofline_us']:8.2f} {r['blocks']:6d} "
            f"{r['flops'] / 1e6:8.3f} {r['bytes'] / 1e3:9.1f}  {marks:14s} {r['scope']}"
        )


def training(w: Workload, ceilings: Ceilings, smoke: bool) -> dict[str, Any]:
    """Seconds of a step of ``fit``, and the profile of its plan."""
    model = make_model(w)
    x, y = w.data()

    def epochs(count: int) -> Any:
        return model.fit(x, y, batch_size=w.batch, epochs=count, verbose=0)

    epochs(1)
    count = 1
    if not smoke:
        once = least_seconds(lambda: epochs(1), 0.1, 3)
        count = max(1, int(0.2 / once))
    seconds = least_seconds(lambda: epochs(count), 0.1 if smoke else 3.0, 2 if smoke else 9)
    seconds /= count * w.steps_per_epoch

    plan, arrays = plan_of(model, x[: w.batch], y[: w.batch])
    rows = profile(plan, arrays, ceilings, 5 if smoke else 500)
    batch_bytes = sum(a.nbytes for a in arrays)
    gather = ceilings.memory_time(batch_bytes, batch_bytes, 0.0, x.nbytes + y.nbytes)
    roofline = gather + sum(r["roofline_us"] for r in rows if not r["cached"]) / 1e6
    flops = sum(r["flops"] for r in rows)
    return {
        "workload": w.name,
        "step_us": seconds * 1e6,
        "steps_per_second": 1 / seconds,
        "gflops": w.train_flops / seconds / 1e9,
        "roofline_us": roofline * 1e6,
        "gather_roofline_us": gather * 1e6,
        "percent_of_roofline": 100 * roofline / seconds,
        "sum_of_profile_us": sum(r["us"] for r in rows),
        "plan_steps": len(rows),
        "barriers": sum(r["barrier"] for r in rows),
        "host_steps": sum(r["host"] for r in rows),
        "plan_mflops": flops / 1e6,
        "arena_bytes": plan.arena_bytes,
        "lower_bound_bytes": plan.lower_bound_bytes,
        "profile": rows,
    }


def inference(w: Workload, batch: int, ceilings: Ceilings, smoke: bool) -> dict[str, Any]:
    """Seconds of ``model(x)``, of its plan and of ``predict``."""
    model = make_model(w)
    x = np.ascontiguousarray(np.resize(w.data()[0], (batch, w.units[0])))
    plan, arrays = plan_of(model, x)
    time = 0.01 if smoke else 0.5
    seconds = least_seconds(lambda: model(x), time)
    rows = profile(plan, arrays, ceilings, 5 if smoke else 500)
    roofline = sum(r["roofline_us"] for r in rows if not r["cached"])
    return {
        "workload": w.name,
        "batch": batch,
        "model_us": seconds * 1e6,
        "plan_us": least_seconds(lambda: plan(x), time) * 1e6,
        "predict_us": least_seconds(
            lambda: model.predict(x, batch_size=batch, verbose=0), time
        ) * 1e6,
        "gflops": sum(r["flops"] for r in rows) / seconds / 1e9,
        "roofline_us": roofline,
        "percent_of_roofline": 100 * roofline / (seconds * 1e6),
        "profile": rows,
    }  # fmt: skip


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--workloads", default=",".join(WORKLOADS))
    arguments.add_argument("--isa", help="level; default: the best")
    arguments.add_argument("--threads", type=int, help="default: all cores")
    arguments.add_argument("--profile", action="store_true", help="prints the steps of the plans")
    options = arguments.parse_args()
    from handmill import config

    warn_if_busy()
    warnings.simplefilter("ignore")  # of models that have learnt little
    if options.isa:
        config.set_isa(options.isa)
    if options.threads:
        config.set_num_threads(options.threads)
    smoke = options.smoke
    ceilings = Ceilings(
        None, None, FOOTPRINTS[:3] if smoke else FOOTPRINTS, 0.001 if smoke else 0.2
    )
    report = {**environment(options.machine), "ceilings": ceilings.to_dict()}
    report["training"], report["inference"] = [], []
    print(f"{ceilings.isa}, {ceilings.threads} thread(s), {ceilings.peak / 1e9:.0f} GFLOP/s")
    names = options.workloads.split(",")
    for name in names:
        row = training(WORKLOADS[name], ceilings, smoke)
        report["training"].append(row)
        print(
            f"{name}: {row['step_us']:.1f} us a step ({row['steps_per_second']:.0f}/s), "
            f"{row['gflops']:.1f} GFLOP/s, roofline {row['roofline_us']:.1f} us "
            f"({row['percent_of_roofline']:.0f} %), {row['plan_steps']} steps, "
            f"{row['barriers']} barriers, {row['host_steps']} host steps, "
            f"sum of the profile {row['sum_of_profile_us']:.1f} us",
            flush=True,
        )
        if options.profile:
            print_profile(row["profile"])
    print("inference  batch  model(x)      plan   predict  roofline (us)")
    for name in names:
        for batch in BATCHES:
            row = inference(WORKLOADS[name], batch, ceilings, smoke)
            report["inference"].append(row)
            print(
                f"{name:10s} {batch:5d} {row['model_us']:9.1f} {row['plan_us']:9.1f} "
                f"{row['predict_us']:9.1f} {row['roofline_us']:9.1f}  "
                f"({row['percent_of_roofline']:.0f} %)",
                flush=True,
            )
            if options.profile:
                print_profile(row["profile"])
    write_json(options.json, report)


if __name__ == "__main__":
    main()
