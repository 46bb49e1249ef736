"""Times one training step side by side with the peers, each in its own process, alternated.

    python bench/peers.py [--workloads tiny,mlp] [--libraries torch,jax] [--rounds 9] [--json F]

Prints the median step of each library and the ratio of each peer's median to ours with its 90 %
interval (bootstrap over rounds). Never run two of these at once.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from workers import LIBRARIES
from workloads import WORKLOADS

HERE = Path(__file__).parent
SECONDS_PER_ROUND = 0.4


class Worker:
    """A process that times steps when asked."""

    def __init__(self, library: str, workload: str) -> None:
        self.library = library
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "workers.py"), library, workload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=HERE,
        )
        self.ready = self._line() == "ready"
        self.steps = 1
        if self.ready:
            self.steps = max(1, int(SECONDS_PER_ROUND / self.time()))

    def _line(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:  # libraries may print; numbers and "ready" are ours
            text = line.strip()
            if text == "ready" or text.replace(".", "").replace("e-", "").isdigit():
                return text
        return ""

    def time(self) -> float:
        """Seconds per step, over about SECONDS_PER_ROUND."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{self.steps}\n")
        self.process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def ratio_interval(peer: np.ndarray, ours: np.ndarray) -> tuple[float, float, float]:
    """The ratio of medians, and its 90 % interval by bootstrap over rounds."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(ours), (2000, len(ours)))
    ratios = np.median(peer[picks], axis=1) / np.median(ours[picks], axis=1)
    low, high = np.quantile(ratios, [0.05, 0.95])
    return float(np.median(peer) / np.median(ours)), float(low), float(high)


def measure(workload: str, libraries: list[str], rounds: int) -> dict[str, list[float]]:
    """Seconds per step of each library, a figure for each round."""
    workers = []
    for library in libraries:
        worker = Worker(library, workload)
        if worker.ready:
            workers.append(worker)
        else:
            print(f"  {library}: not available")
    times: dict[str, list[float]] = {w.library: [] for w in workers}
    for _ in range(rounds):
        for worker in workers:
            time.sleep(0.05)  # the threads of the one before go to sleep
            times[worker.library].append(worker.time())
    for worker in workers:
        worker.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--libraries", default=",".join(LIBRARIES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    libraries = ["handmill", *(n for n in options.libraries.split(",") if n != "handmill")]
    report: dict[str, object] = {"machine": platform.processor() or platform.machine()}
    for workload in options.workloads.split(","):
        times = {k: np.array(v) for k, v in measure(workload, libraries, options.rounds).items()}
        ours = times["handmill"]
        print(f"{workload}: handmill {np.median(ours) * 1e6:.1f} us a step")
        rows = {"handmill": list(map(float, ours))}
        for library, peer in times.items():
            if library == "handmill":
                continue
            ratio, low, high = ratio_interval(peer, ours)
            rows[library] = list(map(float, peer))
            print(
                f"  {library:14s} {np.median(peer) * 1e6:10.1f} us   "
                f"{ratio:6.2f}x  [{low:.2f}, {high:.2f}]",
                flush=True,
            )
        report[workload] = rows
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
