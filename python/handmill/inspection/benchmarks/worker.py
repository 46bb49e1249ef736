"""One library in one process: prepares a workload, then times it whenever it is asked.

Run by :mod:`handmill.inspection.benchmarks.peers` as ``python -m
handmill.inspection.benchmarks.worker LIBRARY WORKLOAD train|fit|BATCH SECONDS``, where SECONDS is
how long a way is tried. ``@ ready`` comes first, with the way that was chosen and a figure which
shows that the library does the same work as the others: the loss after some epochs, or the largest
output. Then a number of steps on standard input is answered by ``@ seconds`` a step. ``@ absent``
comes instead where the library cannot do it.

Every library starts from the same weights and gathers shuffled batches from the same arrays in
memory. Where a library has several ways of doing it, each is tried and the fastest is timed.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from typing import Any

from handmill.inspection.benchmarks.job import AbsentError, Job, seconds_of
from handmill.inspection.benchmarks.workloads import KNOWN

CHECK_EPOCHS = 3
FIT_EPOCHS = 5

TRAIN = {
    "handmill": "handmill_jobs:train",
    "torch": "torch_jobs:train",
    "torch.compile": "torch_jobs:train_compiled",
    "jax": "jax_jobs:train",
    "jax scan": "jax_jobs:train_scanned",
    "keras": "keras_jobs:train",
    "scikit-learn": "sklearn_jobs:train",
}
FIT = {
    "handmill": "handmill_jobs:fit",
    "keras": "keras_jobs:fit",
    "scikit-learn": "sklearn_jobs:fit",
}
INFERENCE = {
    "handmill": "handmill_jobs:call",
    "handmill predict": "handmill_jobs:predict",
    "torch": "torch_jobs:call",
    "onnxruntime": "onnx_jobs:call",
    "keras": "keras_jobs:predict",
}


def libraries_for(kind: str) -> dict[str, str]:
    """Libraries and where their jobs are made; ``kind`` is train, fit, or the rows of a batch."""
    return {"train": TRAIN, "fit": FIT}.get(kind, INFERENCE)


def make_job(library: str, workload: str, kind: str) -> Job:
    """The job, trained for some epochs where it trains."""
    module, _, name = libraries_for(kind)[library].partition(":")
    make: Any = getattr(importlib.import_module(f"handmill.inspection.benchmarks.{module}"), name)
    w = KNOWN[workload]
    job: Job
    if kind == "train":
        job = make(w)
        next(iter(job.ways.values()))(CHECK_EPOCHS * w.steps_per_epoch)
    elif kind == "fit":
        job = make(w, FIT_EPOCHS)
        next(iter(job.ways.values()))(job.unit)
    else:
        job = make(w, int(kind))
    return job


def answer(*parts: Any) -> None:
    """Tells the parent; libraries print, too."""
    print("@", *parts, flush=True)


def main() -> None:
    """Serves the parent until it closes the pipe."""
    warnings.simplefilter("ignore")
    library, workload, kind, seconds = sys.argv[1:5]
    try:
        job = make_job(library, workload, kind)
    except (AbsentError, ImportError) as error:
        answer("absent", error)
        return
    serve(job, float(seconds))


def serve(job: Job, seconds: float) -> None:
    """Chooses a way, says so, and times steps for each number on standard input.

    Args:
        job: what is timed.
        seconds: how long a way is tried.
    """
    checked = job.check()
    way = job.fastest(seconds)
    about: dict[str, Any] = {"check": checked, "way": way}
    if job.roofline is not None:
        about["roofline_us"] = job.roofline()
    run = job.ways[way]
    run(2 * job.unit)
    answer("ready", json.dumps(about))
    for line in sys.stdin:
        answer(seconds_of(run, max(1, round(int(line) / job.unit)) * job.unit))


if __name__ == "__main__":
    main()
