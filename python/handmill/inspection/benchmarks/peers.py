"""Times libraries side by side, in alternated processes: medians, and ratios with intervals.

A round is repeated, a few times, where other processes took more than a twentieth of the CPUs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handmill.ir.op import Array

DISTURBED = 0.05
REST = 0.1
"""Seconds until the threads of the process before sleep: ONNX Runtime's spin that long."""
BESIDE = ("jax scan",)
"""Not among the peers that count: whole epochs as one program are reported apart."""
OURS = ("handmill", "handmill predict")


def cpu_ticks(pid: int) -> tuple[int, int]:
    """Ticks that all processes have run, and those of one; zeros where there is no /proc."""
    try:
        everybody = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        process = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except OSError:
        return 0, 0
    user, nice, system, _, _, irq, softirq, steal = map(int, everybody[1:9])
    return user + nice + system + irq + softirq + steal, int(process[11]) + int(process[12])


class Worker:
    """A process that times steps when asked.

    Args:
        library: a name that :mod:`handmill.inspection.benchmarks.worker` knows.
        workload: the name of a workload.
        kind: ``"train"``, ``"fit"``, or the rows of a batch to predict.
        isa: the level of handmill; ``""``: the best.
        seconds: of a round.

    Attributes:
        ready: whether the library is there and works.
        problem: why it is not ready.
        about: what the worker says of itself, and how many rounds others disturbed to the end.
    """

    command: Sequence[str] = (sys.executable, "-m", "handmill.inspection.benchmarks.worker")

    def __init__(self, library: str, workload: str, kind: str, isa: str, seconds: float) -> None:
        self.library = library
        environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3")
        if isa:
            environment["HANDMILL_ISA"] = isa
        self.process = subprocess.Popen(
            [*self.command, library, workload, kind, str(seconds / 3)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("HANDMILL_DEBUG") else subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        word, _, about = self._answer().partition(" ")
        self.ready = word == "ready"
        self.problem = "" if self.ready else about or "its process failed"
        self.steps = 1
        if self.ready:
            self.about: dict[str, Any] = {**json.loads(about), "disturbed": 0}
            once = self.time()
            while once * self.steps < seconds / 4:  # the first steps find cold caches and threads
                self.steps *= 4
                once = self.time()
            self.steps = max(1, int(seconds / once))

    def _answer(self) -> str:
        for line in self.process.stdout or ():  # libraries print, too
            if line.startswith("@ "):
                return line[2:].strip()
        return ""

    def time(self) -> float:
        """Seconds of a step."""
        if self.process.stdin is not None:
            self.process.stdin.write(f"{self.steps}\n")
            self.process.stdin.flush()
        return float(self._answer())

    def time_undisturbed(self, attempts: int) -> float:
        """Seconds of a step in a round that the others leave alone, if they ever do."""
        for _ in range(attempts):
            time.sleep(REST)
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
        """Ends the process."""
        self.process.kill()
        self.process.communicate()


def ratio_interval(peer: Array, ours: Array) -> tuple[float, float, float]:
    """The ratio of medians, and its 90 % interval by bootstrap over rounds."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(ours), (2000, len(ours)))
    ratios = np.median(peer[picks], axis=1) / np.median(ours[picks], axis=1)
    low, high = np.quantile(ratios, [0.05, 0.95])
    return float(np.median(peer) / np.median(ours)), float(low), float(high)


def measure(
    workload: str,
    kind: str,
    libraries: Sequence[str],
    isa: str = "",
    rounds: int = 9,
    seconds: float = 0.4,
    attempts: int = 30,
    make_worker: type[Worker] = Worker,
) -> dict[str, dict[str, Any]]:
    """Times the libraries on a workload, round after round.

    Args:
        workload: the name of a workload.
        kind: ``"train"``, ``"fit"``, or the rows of a batch to predict.
        libraries: names, ``"handmill"`` first.
        isa: the level of handmill; ``""``: the best.
        rounds: of each library.
        seconds: of a round.
        attempts: how often a round is repeated that others disturb.
        make_worker: starts a process.

    Returns:
        A row for each library that is there: ``seconds`` of a step in each round, ``way``,
        ``check``, ``disturbed`` rounds, and the median ``us``, the ``ratio`` to handmill's with
        its 90 % interval ``low``, ``high``; ``percent_of_roofline`` where it is known.

    Raises:
        RuntimeError: if handmill's own process fails.
    """
    workers: list[Worker] = []
    try:
        for library in libraries:
            worker = make_worker(library, workload, kind, isa, seconds)
            workers.append(worker)
            if not worker.ready:
                print(f"  {library}: left out ({worker.problem})")
        ready = [w for w in workers if w.ready]
        times: dict[str, list[float]] = {w.library: [] for w in ready}
        for i in range(rounds):
            for worker in ready[i % len(ready) :] + ready[: i % len(ready)]:
                times[worker.library].append(worker.time_undisturbed(attempts))
        rows = {w.library: {"seconds": times[w.library], **w.about} for w in ready}
    finally:
        for worker in workers:
            worker.close()
    if "handmill" not in rows:
        raise RuntimeError(
            f"handmill itself could not run {workload!r}; HANDMILL_DEBUG=1 lets its process say why"
        )
    ours = np.array(rows["handmill"]["seconds"])
    for row in rows.values():
        peer = np.array(row["seconds"])
        row["us"] = float(np.median(peer)) * 1e6
        row["ratio"], row["low"], row["high"] = ratio_interval(peer, ours)
        if "roofline_us" in row:
            row["percent_of_roofline"] = 100 * row["roofline_us"] / row["us"]
    return rows


def fastest_peer(rows: dict[str, dict[str, Any]]) -> str | None:
    """The peer with the least median; None where handmill is alone."""
    peers = [name for name in rows if name not in OURS and name not in BESIDE]
    return min(peers, key=lambda name: rows[name]["us"]) if peers else None


def line_of(library: str, row: dict[str, Any]) -> str:
    """A row as text."""
    disturbed = f", {row['disturbed']} rounds disturbed" if row["disturbed"] else ""
    roofline = row.get("percent_of_roofline")
    share = "" if roofline is None else f", {roofline:.0f} % of the roofline"
    return (
        f"  {library:16s} {row['us']:10.1f} us  {row['ratio']:7.2f}x  "
        f"[{row['low']:.2f}, {row['high']:.2f}]  check {row['check']:.4f}  "
        f"{row['way']}{share}{disturbed}"
    )


def verdict_of(rows: dict[str, dict[str, Any]]) -> str:
    """How much longer the fastest peer takes, and what stands beside it."""
    name = fastest_peer(rows)
    if name is None:
        return "  no peer is installed"
    text = f"  fastest peer: {name}, {_ratio(rows[name])}"
    for beside in BESIDE:
        if beside in rows:
            text += f"; apart from it, {beside}: {_ratio(rows[beside])}"
    return text


def _ratio(row: dict[str, Any]) -> str:
    return f"{row['ratio']:.2f}x [{row['low']:.2f}, {row['high']:.2f}] of handmill's time"
