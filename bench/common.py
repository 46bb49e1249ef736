"""What the benchmarks share: the machine in words, timing, and JSON."""

from __future__ import annotations

import argparse
import compileall
import gc
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--json", type=Path, help="file for the figures")
    made.add_argument("--machine", default="", help="its name in the report")
    made.add_argument(
        "--smoke", action="store_true", help="seconds instead of minutes; figures mean nothing"
    )
    return made


def environment(machine: str = "") -> dict[str, Any]:
    """What a reader must know to compare figures."""
    from handmill import config

    commit = subprocess.run(
        ("git", "rev-parse", "--short", "HEAD"),
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "machine": machine or f"{os.cpu_count()} cores, {platform.machine()}",
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "isa": config.isa(),
        "isas": list(config.available_isas()),
        "threads": config.num_threads(),
        "load": round(os.getloadavg()[0], 2),
    }


def compile_as_installed() -> None:
    """Writes bytecode of the sources, as pip does: a process without it starts 0.1 s later."""
    for folder in (HERE, HERE.parent / "python", HERE.parent / "examples"):
        compileall.compile_dir(folder, quiet=1)


def warn_if_busy() -> None:
    """Figures from a busy machine mislead."""
    if os.getloadavg()[0] > 1:
        print(f"warning: the load average is {os.getloadavg()[0]:.1f}; figures mean little")


def write_json(path: Path | None, report: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")


def least_seconds(call: Callable[[], Any], seconds: float = 0.2, rounds: int = 7) -> float:
    """Seconds of one call: the least of some rounds that together take about ``seconds``."""
    call()
    count, passed = 1, 0.0
    while passed < seconds / rounds / 2:
        start = time.perf_counter()
        for _ in range(count):
            call()
        passed = time.perf_counter() - start
        count *= 2
    count = max(1, count // 2)
    best = passed / count
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(count):
            call()
        best = min(best, (time.perf_counter() - start) / count)
    return best


def in_turns(
    calls: dict[str, Callable[[], Any]], rounds: int, least: float = 0.15
) -> dict[str, list[float]]:
    """Seconds of each call, one round of all of them after the other.

    Each round begins with another one, so that none always follows the same. A call that takes less
    than ``least`` seconds is made several times. What other processes disturb is done again, ten
    times at most. Neither, where a smoke test has two rounds.
    """
    attempts = 10
    if rounds <= 2:
        attempts, least = 1, 0.0
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    repeats = {}
    for name in names:
        calls[name]()
        once, _ = _seconds_of(calls[name], 1)
        repeats[name] = max(1, math.ceil(least / max(once, 1e-6)))
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            for _ in range(attempts):
                seconds, is_disturbed = _seconds_of(calls[name], repeats[name])
                if not is_disturbed:
                    break
            times[name].append(seconds)
    return times


def _seconds_of(call: Callable[[], Any], repeats: int) -> tuple[float, bool]:
    """Seconds of a call, and whether others used a tenth of a core or more meanwhile."""
    from handmill.inspection.benchmarks.peers import cpu_ticks

    gc.collect()  # else a forgotten model keeps its memory, and the next one gets cold pages
    (before, own_before), start = cpu_ticks(os.getpid()), time.perf_counter()
    for _ in range(repeats):
        call()
    seconds = time.perf_counter() - start
    after, own_after = cpu_ticks(os.getpid())
    others = (after - before - (own_after - own_before)) / os.sysconf("SC_CLK_TCK")
    return seconds / repeats, others > 0.1 * seconds + 0.02


def rows_of(times: dict[str, list[float]], base: str, unit: float = 1.0) -> list[dict[str, Any]]:
    """Medians of ``in_turns`` in a unit, and their ratios to ``base`` with the 90 % interval."""
    from handmill.inspection.benchmarks.peers import ratio_interval

    rows = []
    for name, seconds in times.items():
        ratio, low, high = ratio_interval(np.array(seconds), np.array(times[base]))
        median = float(np.median(seconds)) / unit
        rows.append({"name": name, "median": median, "ratio": ratio, "low": low, "high": high})
    return rows


def print_rows(title: str, rows: list[dict[str, Any]], unit: str) -> None:
    """Prints what ``rows_of`` returned."""
    print(title)
    for row in rows:
        interval = f"{row['ratio']:5.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        print(f"  {row['name']:44s} {row['median']:10.2f} {unit:8s} {interval}", flush=True)


def plan_of(model: Any, x: Any, y: Any = None) -> tuple[Any, list[Any]]:
    """The plan of a training step (of a prediction without ``y``), and its arrays."""
    function, _ = model.step_to_compare(x, y)
    arrays = [x] if y is None else [x, y]
    return function.plan(*arrays), arrays
