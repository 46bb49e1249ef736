"""Memory that training steps take at their most, beside torch's.

    python bench/peak_memory.py [--networks convnet,resnet8,mobile,vgg] [--json F]

MB of resident memory of a process of each library (Linux counts them; nothing needs to be quiet):
what four steps of training add at its most to what the process held with library and data before
the model was made, so weights, slots, activations, gradients and workspaces; and all of the process
at that moment. torch: eager and compiled, channels last, all threads.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import environment, parser, write_json

from handmill.inspection.benchmarks import handmill_jobs, torch_jobs
from handmill.inspection.benchmarks.workloads import KNOWN

TRAIN = {
    "handmill": handmill_jobs.train,
    "torch": torch_jobs.train,
    "torch.compile": torch_jobs.train_compiled,
}
STATUS = Path("/proc/self/status")


def kept(field: str) -> float:
    """A line of the process's status, in MB."""
    text = STATUS.read_text()
    return int(text.split(f"{field}:")[1].split()[0]) / 1024


def measured(library: str, name: str) -> dict[str, float]:
    """In a process that does nothing else."""
    w = replace(KNOWN[name], rows=2 * KNOWN[name].batch)
    if library != "handmill":
        import torch

        torch.ones(1).sum().item()
    w.data()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is what there is now
    before = kept("VmRSS")
    job = TRAIN[library](w)
    run = next(iter(job.ways.values()))
    run(4)
    most = kept("VmHWM")
    return {"step": most - before, "process": most}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--networks", default="convnet,resnet8,mobile,vgg")
    arguments.add_argument("--libraries", default=",".join(TRAIN))
    arguments.add_argument("--only", nargs=2, help="a library and a network, in this process")
    options = arguments.parse_args()
    if options.only:
        print(json.dumps(measured(*options.only)))
        return
    report: dict[str, Any] = {**environment(options.machine), "rows": {}}
    for name in options.networks.split(","):
        row: dict[str, Any] = {}
        for library in options.libraries.split(","):
            found = subprocess.run(
                (sys.executable, __file__, "--only", library, name),
                capture_output=True,
                text=True,
                check=True,
            )
            row[library] = json.loads(found.stdout.splitlines()[-1])
        shown = "  ".join(
            f"{library} {found['step']:.0f} ({found['process']:.0f})"
            for library, found in row.items()
        )
        print(f"{name:8s} {shown}", flush=True)
        report["rows"][name] = row
    write_json(options.json, report)


if __name__ == "__main__":
    main()
