"""What the benchmarks share: the machine in words, timing, and JSON."""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def plan_of(model: Any, x: Any, y: Any = None) -> tuple[Any, list[Any]]:
    """The plan of a training step (of a prediction without ``y``), and its arrays."""
    function, _ = model.step_to_compare(x, y)
    arrays = [x] if y is None else [x, y]
    return function.plan(*arrays), arrays
