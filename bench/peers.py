"""Times training steps or predictions side by side with the peers, in alternated processes.

    python bench/peers.py [--kind train|inference] [--workloads tiny,mlp] [--libraries torch,jax]
                          [--isa avx2] [--rounds 9] [--json F]

Prints the median time of each library, and the ratio of each peer's median to ours with its 90 %
interval (bootstrap over rounds). Never run two of these at once, or anything else beside one: a
round is repeated, a few times, where other processes took more than a twentieth of the CPUs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import HERE, environment, parser, warn_if_busy, write_json
from workers import INFERENCE, TRAIN
from workloads import WORKLOADS

BATCHES = (1, 7, 32, 256)
DISTURBED = 0.05
ATTEMPTS = 30


def cpu_ticks(pid: int) -> tuple[int, int]:
    """Ticks that all processes have run, and those of one; zeros where there is no /proc."""
    try:
        everybody = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        process = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0, 0
    user, nice, system, _, _, irq, softirq, steal = map(int, everybody[1:9])
    return user + nice + system + irq + softirq + steal, int(process[11]) + int(process[12])


class Worker:
    """A process that times steps when asked.

    Attributes:
        ready: whether the library is there and works.
        about: what the worker says of itself, and how many rounds others disturbed to the end.
    """

    def __init__(self, library: str, workload: str, kind: str, isa: str, seconds: float) -> None:
        self.library = library
        environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3")
        if isa:
            environment["HANDMILL_ISA"] = isa
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "workers.py"), library, workload, kind, str(seconds / 3)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if os.environ.get("HANDMILL_DEBUG") else subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        word, _, about = self._answer().partition(" ")
        self.ready = word == "ready"
        self.steps = 1
        if self.ready:
            self.about = {**json.loads(about), "disturbed": 0}
            once = self.time()
            while once * self.steps < seconds / 4:  # the first steps find cold caches and threads
                self.steps *= 4
                once = self.time()
            self.steps = max(1, int(seconds / once))

    def _answer(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:  # libraries print, too
            if line.startswith("@ "):
                return line[2:].strip()
        return ""

    def time(self) -> float:
        """Seconds of a step."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{self.steps}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def time_undisturbed(self, attempts: int) -> float:
        """Seconds of a step in a round that the others leave alone, if they ever do."""
        for _ in range(attempts):
            time.sleep(0.1)  # the threads of the one before go to sleep; some spin for 50 ms
            start, before, own_before = time.perf_counter(), *cpu_ticks(self.process.pid)
            seconds = self.time()
            after, own_after = cpu_ticks(self.process.pid)
            others = (after - before) - (own_after - own_before)
            available = (time.perf_counter() - start) * (os.cpu_count() or 1)
            if others / os.sysconf("SC_CLK_TCK") <= DISTURBED * available + 0.02:
                return seconds
        self.about["disturbed"] += 1
        return seconds

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def ratio_interval(peer: np.ndarray, ours: np.ndarray) -> tuple[float, float, float]:
    """The ratio of medians, and its 90 % interval by bootstrap over rounds."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(ours), (2000, len(ours)))
    ratios = np.median(peer[picks], axis=1) / np.median(ours[picks], axis=1)
    low, high = np.quantile(ratios, [0.05, 0.95])
    return float(np.median(peer) / np.median(ours)), float(low), float(high)


def measure(
    workload: str,
    kind: str,
    libraries: list[str],
    isa: str,
    rounds: int,
    seconds: float,
    attempts: int,
) -> dict[str, dict[str, Any]]:
    """Of each library: seconds of a step in each round, and what its worker says."""
    workers = []
    try:
        for library in libraries:
            worker = Worker(library, workload, kind, isa, seconds)
            workers.append(worker)
            if not worker.ready:
                print(f"  {library}: not available")
        ready = [w for w in workers if w.ready]
        times: dict[str, list[float]] = {w.library: [] for w in ready}
        for i in range(rounds):
            for worker in ready[i % len(ready) :] + ready[: i % len(ready)]:
                times[worker.library].append(worker.time_undisturbed(attempts))
        return {w.library: {"seconds": times[w.library], **w.about} for w in ready}
    finally:
        for worker in workers:
            worker.close()


def compare(rows: dict[str, dict[str, Any]]) -> None:
    """Adds medians and ratios to the rows, and prints them."""
    ours = np.array(rows["handmill"]["seconds"])
    for library, row in rows.items():
        peer = np.array(row["seconds"])
        row["us"] = float(np.median(peer)) * 1e6
        row["ratio"], row["low"], row["high"] = ratio_interval(peer, ours)
        disturbed = f", {row['disturbed']} rounds disturbed" if row["disturbed"] else ""
        print(
            f"  {library:16s} {row['us']:10.1f} us  {row['ratio']:7.2f}x  "
            f"[{row['low']:.2f}, {row['high']:.2f}]  check {row['check']:.4f}  "
            f"{row['way']}{disturbed}",
            flush=True,
        )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--kind", choices=("train", "inference"), default="train")
    arguments.add_argument("--workloads", default=",".join(WORKLOADS))
    arguments.add_argument("--libraries", default="", help="default: all")
    arguments.add_argument("--isa", default="", help="level of handmill; default: the best")
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--seconds", type=float, default=0.4, help="of a round")
    options = arguments.parse_args()
    if options.smoke:
        options.rounds, options.seconds = 2, 0.01
    attempts = 1 if options.smoke else ATTEMPTS
    training = options.kind == "train"
    known = list(TRAIN if training else INFERENCE)
    wanted = [n for n in options.libraries.split(",") if n] or known
    if unknown := set(wanted) - set(known):
        arguments.error(f"unknown libraries {sorted(unknown)}; known: {', '.join(known)}")
    libraries = ["handmill", *(n for n in wanted if n != "handmill")]

    warn_if_busy()
    report = environment(options.machine)
    report["kind"], report["isa"] = options.kind, options.isa or report["isa"]
    report["rows"] = {}
    for workload in options.workloads.split(","):
        for kind in ["train"] if training else [str(b) for b in BATCHES]:
            name = workload if training else f"{workload}, batch {kind}"
            print(f"{name}:")
            rows = measure(
                workload, kind, libraries, options.isa, options.rounds, options.seconds, attempts
            )
            compare(rows)
            report["rows"][name] = rows
    report["load_after"] = round(os.getloadavg()[0], 2)
    write_json(options.json, report)


if __name__ == "__main__":
    main()
