"""``handmill bench``: training and predictions beside the libraries installed here, in a minute."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from handmill import __version__, config

WORKLOADS = ("tiny", "mlp")
PREDICTED = (("mlp", 32),)
# torch's compiler, which its predictions try too, starts in half a minute; it can be asked for.
TRAINED_BY = ("handmill", "torch", "jax", "jax scan", "keras", "scikit-learn")
PREDICTED_BY = ("handmill", "onnxruntime")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what is measured, and how long."""
    parser.add_argument(
        "--workloads", default=",".join(WORKLOADS), help=f"default: {','.join(WORKLOADS)}"
    )
    parser.add_argument(
        "--libraries", default="", help="default: all that are installed, without torch.compile"
    )
    parser.add_argument("--rounds", type=int, default=7, help="of each library (default: 7)")
    parser.add_argument(
        "--seconds", type=float, default=0.1, help="of a round of a library (default: 0.1)"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument(
        "--profile", action="store_true", help="print the launches of our plans, too"
    )


def run(options: argparse.Namespace) -> int:
    """Prints times, ratios with their 90 % interval, and per cent of the roofline."""
    from handmill.inspection.benchmarks.workloads import KNOWN

    if not config.has_kernels():
        print("handmill bench: this build has no kernels to measure", file=sys.stderr)
        return 2
    workloads = [name for name in options.workloads.split(",") if name]
    if unknown := sorted(set(workloads) - set(KNOWN)):
        print(
            f"handmill bench: no workloads {unknown}; there are {', '.join(KNOWN)}", file=sys.stderr
        )
        return 2
    if options.rounds < 1 or not options.seconds > 0:
        print("handmill bench: --rounds and --seconds must be positive", file=sys.stderr)
        return 2
    asked = [name for name in options.libraries.split(",") if name]
    start = time.perf_counter()
    report: dict[str, Any] = {
        "handmill": __version__,
        "isa": config.isa(),
        "threads": config.num_threads(),
        "train": {},
        "inference": {},
    }
    print(
        f"handmill {__version__}, {config.isa()}, {config.num_threads()} thread(s). Each library "
        "in a process of its own, in turns;\nmedian time, its ratio to handmill's with the 90 % "
        "interval. Close other programs first."
    )
    for name in workloads:
        w = KNOWN[name]
        print(f"training {w.text}, {w.optimizer}, batch {w.batch}; a step:")
        report["train"][name] = _compare(name, "train", asked or TRAINED_BY, options)
    for name, batch in PREDICTED:
        if name not in workloads:
            continue
        print(f"predicting {batch} rows with {KNOWN[name].text}; a call:")
        rows = _compare(name, str(batch), asked or PREDICTED_BY, options)
        report["inference"][f"{name}, batch {batch}"] = rows
    if options.profile:
        _profile(workloads)
    seconds = time.perf_counter() - start
    print(f"{seconds:.0f} s. More, and pictures: bench/ in the source tree")
    report["seconds"] = seconds
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _compare(
    workload: str, kind: str, libraries: Any, options: argparse.Namespace
) -> dict[str, Any]:
    from handmill.inspection.benchmarks.peers import line_of, measure, verdict_of
    from handmill.inspection.benchmarks.worker import libraries_for

    known = libraries_for(kind)
    wanted = ["handmill", *(n for n in libraries if n in known and n != "handmill")]
    rows = measure(
        workload, kind, wanted, rounds=options.rounds, seconds=options.seconds, attempts=3
    )
    for library, row in rows.items():
        print(line_of(library, row))
    print(verdict_of(rows), flush=True)
    return rows


def _profile(workloads: list[str]) -> None:
    from handmill.inspection.benchmarks.handmill_jobs import make_model
    from handmill.inspection.benchmarks.workloads import KNOWN

    for name in workloads:
        w = KNOWN[name]
        x, y = w.data()
        print(f"{name}: {make_model(w).profile(x, y, w.batch)}")
