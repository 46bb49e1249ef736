"""Wall time from the start of a process to its end, with a network trained to a given accuracy.

    python bench/time_to_accuracy.py [--tasks mnist,digits,table] [--seeds 10] [--json F]

``mnist`` and ``digits`` are learned by handmill and by torch: same network, batch and schedule, the
accuracy on test data told (mean over the seeds, which must reach the goal). ``table`` trains the 25
networks of ``handmill demo`` in a loop; scikit-learn has 12 of them, and is held against handmill's
time for as many. Libraries take turns, each run in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
from accuracy.tasks import TASKS
from common import HERE, compile_as_installed, environment, parser, warn_if_busy, write_json

from handmill.inspection.benchmarks.peers import ratio_interval

LIBRARIES = {
    "mnist": ("handmill", "torch"),
    "digits": ("handmill", "torch"),
    "table": ("handmill", "torch", "sklearn"),
}


def run(library: str, task: str, seed: int) -> dict[str, Any]:
    """One process; what it prints, and its ``wall_seconds``."""
    script = HERE / "accuracy" / f"run_{library}.py"
    start = time.perf_counter()
    done = subprocess.run(
        (sys.executable, str(script), task, str(seed)), capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return {**json.loads(done.stdout), "wall_seconds": seconds}


def measure(task: str, seeds: int) -> dict[str, Any]:
    """Of each library its runs, and how much longer it takes than handmill."""
    runs: dict[str, list[dict[str, Any]]] = {library: [] for library in LIBRARIES[task]}
    run("handmill", task, 0)  # files into the page cache
    for seed in range(1, seeds + 1):
        order = LIBRARIES[task] if seed % 2 else LIBRARIES[task][::-1]
        for library in order:
            runs[library].append(run(library, task, seed))
    # The loop alone is what the demo tells of the table; a process, of the others.
    key = "training_seconds" if task == "table" else "wall_seconds"
    rows: dict[str, Any] = {}
    ours = np.array([r[key] / r.get("models", 1) for r in runs["handmill"]])
    for library, found in runs.items():
        times = np.array([r[key] / r.get("models", 1) for r in found])
        ratio, low, high = ratio_interval(times, ours)
        rows[library] = {
            "runs": found,
            "mean_wall_seconds": float(np.mean([r["wall_seconds"] for r in found])),
            "mean_training_seconds": float(np.mean([r["training_seconds"] for r in found])),
            "ratio_of_means": float(times.mean() / ours.mean()),
            "ratio": ratio,
            "low": low,
            "high": high,
        }
        if task != "table":
            accuracies = [r["accuracy"] for r in found]
            rows[library]["mean_accuracy"] = float(np.mean(accuracies))
            rows[library]["least_accuracy"] = min(accuracies)
    return rows


def print_rows(task: str, rows: dict[str, Any]) -> None:
    """One line a library."""
    for library, row in rows.items():
        if task == "table":
            first = row["runs"][0]
            result = f"{first['models']} networks, mean test accuracy {_mean(first['table']):.4f}"
        else:
            goal = TASKS[task].goal
            verdict = "reached" if row["mean_accuracy"] >= goal else "MISSED"
            result = (
                f"accuracy {row['mean_accuracy']:.4f} (least {row['least_accuracy']:.4f}), "
                f"goal {goal:.3f} {verdict}"
            )
        print(
            f"  {library:9s} {row['mean_wall_seconds']:7.3f} s, of which training "
            f"{row['mean_training_seconds']:7.3f} s  {row['ratio_of_means']:6.2f}x, of medians "
            f"{row['ratio']:.2f}x [{row['low']:.2f}, {row['high']:.2f}]  {result}",
            flush=True,
        )


def _mean(table: dict[str, float]) -> float:
    return sum(table.values()) / len(table)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--tasks", default=",".join(LIBRARIES))
    arguments.add_argument("--seeds", type=int, default=10)
    options = arguments.parse_args()
    seeds = 1 if options.smoke else options.seeds
    warn_if_busy()
    compile_as_installed()
    report = {**environment(options.machine), "kind": "accuracy", "rows": {}}
    if options.json is not None and options.json.exists():
        report["rows"] = json.loads(options.json.read_text())["rows"]
    for task in options.tasks.split(","):
        print(f"{task}:")
        rows = measure(task, seeds)
        print_rows(task, rows)
        report["rows"][task] = rows
        report["load_after"] = round(os.getloadavg()[0], 2)
        write_json(options.json, report)


if __name__ == "__main__":
    main()
