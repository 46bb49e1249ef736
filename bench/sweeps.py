"""Sweeps: many cases of one kind, timed by processes of several libraries that take turns.

One process for each library and each of our levels, all with the same number of threads. In each
round every process times the same case, one after the other; each calls what its users call and
gets a new array back. The ratio is the median of the fastest peer over our median; the share of the
peak is of the kernels alone (Plan.profile), against multiply-adds from registers measured in the
same run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from common import environment, parser, warn_if_busy, write_json

SLICE = 6e-3  # seconds of one timing
LEAST_CALLS = 3
REST = 40e-3  # before timings of several threads: OpenMP pools of other processes spin so long
NAME_WIDTH = 34


class Case(Protocol):
    """What is timed: a named tuple, which travels to the processes as a list."""

    @property
    def name(self) -> str: ...

    @property
    def group(self) -> str: ...

    @property
    def shape(self) -> Sequence[Any]: ...

    @property
    def flops(self) -> float: ...

    def __iter__(self) -> Any: ...


class Job(NamedTuple):
    """A call, its arguments, and what measures the seconds of its kernels alone."""

    call: Callable[..., Any]
    arguments: list[Any]
    kernel_seconds: Callable[[], float] | None = None


def planned(traced: Any, call: Callable[..., Any], arguments: list[Any]) -> Job:
    """The job of a traced function of ours, which users have by ``call``."""
    plan = traced.plan(*arguments)

    def kernel_seconds() -> float:
        first = sum(plan.profile(*arguments, repeats=1))
        return float(sum(plan.profile(*arguments, repeats=max(3, min(2000, int(0.05 / first))))))

    return Job(call, arguments, kernel_seconds)


def seconds_of(call: Callable[..., Any], arguments: list[Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call(*arguments)
    return (time.perf_counter() - start) / count


def serve(library: str, prepare: Callable[[list[Any]], Job]) -> None:
    """Answers: case -> ready, time -> seconds of a call, kernel -> seconds of the kernels."""
    threads = int(os.environ["OMP_NUM_THREADS"])
    if library == "handmill":
        from handmill import config

        config.set_num_threads(threads)
    if library == "torch":
        import torch

        torch.set_num_threads(threads)
        torch.autograd.grad_mode.set_grad_enabled(False)
    call, arguments, kernel, count = None, [], None, 1
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        answer: Any = "ready"
        if word == "case":
            call, arguments, kernel = prepare(json.loads(rest))
            seconds_of(call, arguments, 1)
            count = max(LEAST_CALLS, int(SLICE / seconds_of(call, arguments, 2)))
        elif word == "time":
            seconds_of(call, arguments, count // 3)  # caches and threads are its own again
            answer = seconds_of(call, arguments, count)
        elif word == "kernel" and kernel is not None:
            answer = kernel()
        elif word == "peak":
            from handmill import _core

            answer = _core.measure_peak(seconds=0.2)
        print("@", answer, flush=True)


class Worker:
    """A process that times one library."""

    def __init__(self, script: str, library: str, isa: str, threads: int) -> None:
        self.name = isa or library
        count = {
            f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL", "HANDMILL")
        }
        level = {"HANDMILL_ISA": isa} if isa else {}
        self.process = subprocess.Popen(
            [sys.executable, script, "--serve", library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **count, **level, "OPENBLAS_THREAD_TIMEOUT": "21"},
        )

    def ask(self, question: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("@ "):
                return line[2:].strip()
        raise SystemExit(f"the worker {self.name} ended at {question!r}")

    def seconds(self, question: str) -> float:
        return float(self.ask(question))

    def close(self) -> None:
        self.process.communicate()


def sweep_row(
    p: Case, workers: list[Worker], peaks: dict[str, float], rounds: int, threads: int
) -> dict[str, Any]:
    """One case, by all workers in turn."""
    for worker in workers:
        worker.ask(f"case {json.dumps(list(p))}")
    times: dict[str, list[float]] = {w.name: [] for w in workers}
    for _ in range(rounds):
        for worker in workers:
            if threads > 1:
                time.sleep(REST)
            times[worker.name].append(worker.seconds("time"))
    median = {name: statistics.median(t) for name, t in times.items()}
    peer = min((n for n in median if n not in peaks), key=median.__getitem__, default="")
    row: dict[str, Any] = {
        "name": p.name, "group": p.group, "shape": list(p.shape), "threads": threads,
        "rounds": rounds, "faster_peer": peer,
        "median_us": {n: s * 1e6 for n, s in median.items()},
        "least_us": {n: min(t) * 1e6 for n, t in times.items()},
        "ratio": {isa: median[peer] / median[isa] for isa in peaks} if peer else {},
        "kernel_us": {}, "percent_of_peak": {}, "peak_gflops": {},
    }  # fmt: skip
    for worker in workers:
        if worker.name in peaks:
            seconds, peak = worker.seconds("kernel"), peaks[worker.name]
            row["kernel_us"][worker.name] = seconds * 1e6
            row["percent_of_peak"][worker.name] = 100 * p.flops / seconds / peak
            row["peak_gflops"][worker.name] = peak / 1e9
    return row


def print_row(row: dict[str, Any]) -> None:
    times = "".join(f"{row['median_us'][name]:11.2f}" for name in row["median_us"])
    ours = "".join(
        f"  {isa} {row['percent_of_peak'][isa] / 100 * row['peak_gflops'][isa]:4.0f} GFLOP/s "
        f"{row['percent_of_peak'][isa]:3.0f} % x{row['ratio'].get(isa, math.nan):5.2f}"
        for isa in row["percent_of_peak"]
    )
    print(f"{row['name']:{NAME_WIDTH}s}{times}{ours}", flush=True)


def print_summary(rows: list[dict[str, Any]], levels: list[str]) -> None:
    """The geometric means of each level, over all rows and over those of each group."""
    groups = list(dict.fromkeys(r["group"] for r in rows))
    for isa in levels:
        for group in groups if len(groups) == 1 else [*groups, ""]:
            ratios = {
                r["name"]: r["ratio"][isa]
                for r in rows
                if r["ratio"] and (not group or r["group"] == group)
            }
            if not ratios:
                continue
            mean = math.exp(statistics.fmean(math.log(r) for r in ratios.values()))
            below = ", ".join(f"{n} {r:.2f}" for n, r in ratios.items() if r < 0.95)
            print(
                f"{isa}, {group or 'all'}: geometric mean {mean:.2f} over {len(ratios)}; "
                f"below 0.95: {below or '-'}"
            )


def merged(
    old: list[dict[str, Any]], new: list[dict[str, Any]], cases: Sequence[Case]
) -> list[dict[str, Any]]:
    """The rows, with those timed now in the place of older ones, in the order of the cases."""
    order = {p.name: i for i, p in enumerate(cases)}
    known = {(r["threads"], r["name"]): r for r in (*old, *new) if r["name"] in order}
    return sorted(known.values(), key=lambda r: (r["threads"], order[r["name"]]))


def sweep_parser(doc: str | None, peers: Sequence[str], isa: str) -> argparse.ArgumentParser:
    """The options that all sweeps have."""
    arguments = parser(doc)
    arguments.add_argument("--only", default="", help="groups, or first words of names")
    arguments.add_argument("--isa", default=isa, help="our levels")
    arguments.add_argument("--libraries", default=",".join(peers), help="the peers")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=7)
    return arguments


def sweep(
    script: str, options: argparse.Namespace, cases: Sequence[Case], chosen: Sequence[Case]
) -> None:
    """Times the cases that were ``chosen`` and --only asks for, prints and writes the rows."""
    from handmill import config

    warn_if_busy()
    only = {name for name in options.only.split(",") if name}
    timed = [
        p for p in chosen if not only or p.group in only or p.name.split()[0] in only
    ][: 2 if options.smoke else None]  # fmt: skip
    levels = [isa for isa in options.isa.split(",") if isa in config.available_isas()]
    workers = [Worker(script, "handmill", isa, options.threads) for isa in levels]
    workers += [
        Worker(script, name, "", options.threads)
        for name in options.libraries.split(",")
        if name and importlib.util.find_spec(name) is not None
    ]
    peaks = {w.name: w.seconds("peak") for w in workers if w.name in levels}
    print(
        f"{options.threads} thread(s);",
        ", ".join(f"{i} {p / 1e9:.0f} GFLOP/s" for i, p in peaks.items()),
    )
    print(f"{'us':{NAME_WIDTH}s}" + "".join(f"{w.name:>11s}" for w in workers))
    rows = []
    for case in timed:
        rounds = 2 if options.smoke else options.rounds
        rows.append(sweep_row(case, workers, peaks, rounds, options.threads))
        print_row(rows[-1])
    for worker in workers:
        worker.close()
    print_summary(rows, levels)
    if options.json is not None:
        path: Path = options.json
        old = json.loads(path.read_text())["rows"] if path.exists() else []
        write_json(path, {**environment(options.machine), "rows": merged(old, rows, cases)})
