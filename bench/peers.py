"""Times training or predictions side by side with the peers, in alternated processes.

    python bench/peers.py [--kind train|fit|inference] [--workloads tiny,mlp] [--isa avx2]
                          [--libraries torch,jax] [--rounds 9] [--json F]

``train`` sets training loop against training loop: the shortest way that each library has to train
on shuffled batches from memory. ``fit`` sets calls of ``fit`` of five epochs against each other.
Prints the median time of a step of each library, and the ratio of each peer's median to ours with
its 90 % interval (bootstrap over rounds). Networks of images (convnet, resnet8, mobile, vgg) are
asked for by name. Never run two of these at once, or anything else beside one. With --json,
workloads that the file has already and that are not asked for are kept.
"""

from __future__ import annotations

import json
import os

from common import environment, parser, warn_if_busy, write_json

from handmill.inspection.benchmarks.peers import fastest_peer, line_of, measure, verdict_of
from handmill.inspection.benchmarks.worker import libraries_for
from handmill.inspection.benchmarks.workloads import DENSE, KNOWN, WORKLOADS

ATTEMPTS = 30


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--kind", choices=("train", "fit", "inference"), default="train")
    arguments.add_argument(
        "--workloads", default="", help="default: all but images; inference: the dense"
    )
    arguments.add_argument("--libraries", default="", help="default: all")
    arguments.add_argument("--isa", default="", help="level of handmill; default: the best")
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--seconds", type=float, default=0.4, help="of a round")
    options = arguments.parse_args()
    if options.smoke:
        options.rounds, options.seconds = 2, 0.01
    attempts = 1 if options.smoke else ATTEMPTS
    inference = options.kind == "inference"
    known = list(libraries_for(options.kind))
    wanted = [n for n in options.libraries.split(",") if n] or known
    if unknown := set(wanted) - set(known):
        arguments.error(f"unknown libraries {sorted(unknown)}; known: {', '.join(known)}")
    libraries = ["handmill", *(n for n in wanted if n != "handmill")]
    every = [w.name for w in DENSE] if inference else list(WORKLOADS)

    workloads = [n for n in options.workloads.split(",") if n] or every
    if unknown := set(workloads) - set(KNOWN):
        arguments.error(f"unknown workloads {sorted(unknown)}; known: {', '.join(KNOWN)}")

    warn_if_busy()
    report = environment(options.machine)
    report["kind"], report["isa"] = options.kind, options.isa or report["isa"]
    report["rows"] = {}
    if options.json is not None and options.json.exists():
        report["rows"] = json.loads(options.json.read_text())["rows"]
    for workload in workloads:
        for kind in map(str, KNOWN[workload].predicted) if inference else [options.kind]:
            name = f"{workload}, batch {kind}" if inference else workload
            print(f"{name}:")
            rows = measure(
                workload, kind, libraries, options.isa, options.rounds, options.seconds, attempts
            )
            for library, row in rows.items():
                print(line_of(library, row))
            print(verdict_of(rows), flush=True)
            for row in rows.values():
                row["commit"], row["date"] = report["commit"], report["date"]
                row["fastest_peer"] = fastest_peer(rows)
            report["rows"][name] = rows
            report["load_after"] = round(os.getloadavg()[0], 2)
            write_json(options.json, report)


if __name__ == "__main__":
    main()
