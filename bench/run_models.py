"""Training steps and predictions of the benchmark models, against the roofline of this machine.

    python bench/run_models.py [--workloads tiny,mlp] [--isa avx2] [--profile] [--json F]

The roofline is that of ``model.profile``: the sum over the plan's launches of max(FLOP / peak,
bytes / bandwidth at the footprint of that launch), with ceilings measured in the same process; the
gather of the batch from the data set counts as one too.
"""

from __future__ import annotations

import warnings
from typing import Any

from common import environment, least_seconds, parser, plan_of, warn_if_busy, write_json

from handmill.inspection.benchmarks.handmill_jobs import make_model
from handmill.inspection.benchmarks.workloads import KNOWN, WORKLOADS, Workload

BATCHES = (1, 7, 32, 256)


def training(w: Workload, smoke: bool) -> tuple[dict[str, Any], Any]:
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

    found = model.profile(x, y, w.batch)
    plan, _ = plan_of(model, x[: w.batch], y[: w.batch])
    row = {
        "workload": w.name,
        "step_us": seconds * 1e6,
        "steps_per_second": 1 / seconds,
        "gflops": w.train_flops / seconds / 1e9,
        "roofline_us": found.roofline_seconds * 1e6,
        "percent_of_roofline": 100 * found.roofline_seconds / seconds,
        "arena_bytes": plan.arena_bytes,
        "lower_bound_bytes": plan.lower_bound_bytes,
        "profile": found.to_dict(),
    }
    return row, found


def inference(w: Workload, batch: int, smoke: bool) -> tuple[dict[str, Any], Any]:
    """Seconds of ``model(x)``, of its plan and of ``predict``."""
    model = make_model(w)
    x = w.inputs(batch)
    plan, _ = plan_of(model, x)
    time = 0.01 if smoke else 0.5
    seconds = least_seconds(lambda: model(x), time)
    found = model.profile(x, batch_size=batch)
    row = {
        "workload": w.name,
        "batch": batch,
        "model_us": seconds * 1e6,
        "plan_us": least_seconds(lambda: plan(x), time) * 1e6,
        "predict_us": least_seconds(
            lambda: model.predict(x, batch_size=batch, verbose=0), time
        ) * 1e6,
        "gflops": found.flops / seconds / 1e9,
        "roofline_us": found.roofline_seconds * 1e6,
        "percent_of_roofline": 100 * found.roofline_seconds / seconds,
        "profile": found.to_dict(),
    }  # fmt: skip
    return row, found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--workloads", default=",".join(WORKLOADS))
    arguments.add_argument("--isa", help="level; default: the best")
    arguments.add_argument("--threads", type=int, help="default: all cores")
    arguments.add_argument(
        "--profile", action="store_true", help="prints the launches of the plans"
    )
    options = arguments.parse_args()
    from handmill import config

    warn_if_busy()
    warnings.simplefilter("ignore")  # of models that have learnt little
    if options.isa:
        config.set_isa(options.isa)
    if options.threads:
        config.set_num_threads(options.threads)
    report = environment(options.machine)
    report["training"], report["inference"] = [], []
    names = options.workloads.split(",")
    for name in names:
        row, found = training(KNOWN[name], options.smoke)
        report["training"].append(row)
        print(
            f"{name}: {row['step_us']:.1f} us a step ({row['steps_per_second']:.0f}/s), "
            f"{row['gflops']:.1f} GFLOP/s, roofline {row['roofline_us']:.1f} us "
            f"({row['percent_of_roofline']:.0f} %), {len(found.launches)} launches, "
            f"{found.barriers} barriers, {found.host_nodes} host nodes, "
            f"sum of the profile {found.sum_of_seconds * 1e6:.1f} us",
            flush=True,
        )
        if options.profile:
            print(found)
    print("inference      batch  model(x)      plan   predict  roofline (us)")
    for name in names:
        for batch in BATCHES:
            row, found = inference(KNOWN[name], batch, options.smoke)
            report["inference"].append(row)
            print(
                f"{name:14s} {batch:5d} {row['model_us']:9.1f} {row['plan_us']:9.1f} "
                f"{row['predict_us']:9.1f} {row['roofline_us']:9.1f}  "
                f"({row['percent_of_roofline']:.0f} %)",
                flush=True,
            )
            if options.profile:
                print(found)
    write_json(options.json, report)


if __name__ == "__main__":
    main()
