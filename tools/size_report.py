#!/usr/bin/env python3
"""Report sizes: lines per folder, files that are too long, wheel size, import time over NumPy.

    python tools/size_report.py [--wheel FILE.whl] [--import-time]

Exits 1 when a source file has more than 800 lines or a measured budget is exceeded.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".py", ".pyi", ".cpp", ".h", ".def"}
MOST_LINES = 800
MOST_WHEEL_BYTES = 4_300_000  # 3,850,000 before int8 kernels, ONNX, serving; then 4,140,000
MOST_IMPORT_MS = 30.0
IMPORT_RUNS = 15

MEASURE = """
import sys, time
import numpy
start = time.perf_counter()
import handmill
sys.stdout.write(repr((time.perf_counter() - start) * 1e3))
"""


def source_files() -> list[Path]:
    listed = subprocess.run(
        ("git", "ls-files", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return [Path(name) for name in listed if Path(name).suffix in SUFFIXES]


def folder_of(path: Path) -> str:
    depth = 3 if path.parts[0] == "python" else 2
    return "/".join(path.parts[:-1][:depth]) or "."


def import_milliseconds(runs: int = IMPORT_RUNS) -> float:
    """Median time of `import handmill` in fresh interpreters that have imported NumPy.

    Outside the source tree (-P would need Python 3.11, so another folder does it), and after one
    unmeasured run that writes the bytecode.
    """
    times = [
        float(
            subprocess.run(
                (sys.executable, "-c", MEASURE),
                cwd=Path(sys.prefix),
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for _ in range(runs + 1)
    ]
    return statistics.median(times[1:])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--wheel", type=Path, help="a built wheel, held against its budget")
    parser.add_argument("--import-time", action="store_true", help="measure the installed package")
    args = parser.parse_args(argv)

    lines = {
        path: len((ROOT / path).read_text(encoding="utf-8").splitlines())
        for path in source_files()
        if (ROOT / path).exists()
    }
    folders: Counter[str] = Counter()
    for path, count in lines.items():
        folders[folder_of(path)] += count
    for folder, count in sorted(folders.items()):
        print(f"{count:7d}  {folder}")
    print(f"{sum(lines.values()):7d}  in all, {len(lines)} files")

    failures = [
        f"{path}: {count} lines, at most {MOST_LINES}"
        for path, count in sorted(lines.items())
        if count > MOST_LINES
    ]
    if args.wheel:
        size = args.wheel.stat().st_size
        print(f"wheel: {size / 1e6:.2f} MB (budget {MOST_WHEEL_BYTES / 1e6:.1f} MB)")
        if size > MOST_WHEEL_BYTES:
            failures.append(f"wheel: {size} bytes, at most {MOST_WHEEL_BYTES}")
    if args.import_time:
        milliseconds = import_milliseconds()
        print(f"import over NumPy: {milliseconds:.1f} ms (budget {MOST_IMPORT_MS:.0f} ms)")
        if milliseconds > MOST_IMPORT_MS:
            failures.append(f"import: {milliseconds:.1f} ms, at most {MOST_IMPORT_MS:.0f}")
    for failure in failures:
        print(f"over budget: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
