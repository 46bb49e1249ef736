"""Models of 100 MB written and read, beside copying and reading as many bytes.

    python bench/model_files.py [--folder F] [--rounds 9] [--json F]

What reading is set against: the file's bytes, which the system has in memory, read into new memory
by one ``readinto``; a copy of them into new memory. Writing: the same bytes written into a new file
by one ``write``, with an fsync where the format makes one. Seconds in turns in one process; shares
are of the rate, with the 90 % interval.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    environment,
    in_turns,
    parser,
    warn_if_busy,
    write_json,
)

import handmill
from handmill import layers
from handmill.inspection.benchmarks.peers import ratio_interval


def make(units: int) -> Any:
    """Eight layers and the slots of Adam: 100 MB with 1024 units."""
    model = handmill.Sequential(
        [handmill.Input((units,)), *(layers.Dense(units) for _ in range(8))]
    )
    model.compile("adam", "mse")
    x = np.zeros((1, units), np.float32)
    model.train_on_batch(x, x)
    return model


def read(path: Path) -> Any:
    content = np.empty(path.stat().st_size, np.uint8)
    with path.open("rb", buffering=0) as file:
        file.readinto(content.data)
    return content


def write(path: Path, content: Any, synced: bool) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb", buffering=0) as file:
        file.write(content.data)
        if synced:
            os.fsync(file.fileno())


def measure(folder: Path, suffix: str, units: int, rounds: int) -> list[dict[str, Any]]:
    model, other = make(units), make(units)
    path, plain = folder / f"model{suffix}", folder / "plain"
    is_weights = suffix.startswith(".weights")

    def save() -> None:
        if is_weights:
            model.save_weights(path, overwrite=True)
        else:
            model.save(path, overwrite=True)

    def load() -> Any:
        return other.load_weights(path) if is_weights else handmill.models.load_model(path)

    save()
    content = read(path)
    calls: dict[str, Callable[[], Any]] = {
        "load": load,
        "read": lambda: read(path),
        "copy": content.copy,
        "save": save,
        "write": lambda: write(plain, content, synced=False),
        "write, fsync": lambda: write(plain, content, synced=True),
    }
    times = in_turns(calls, rounds)
    rows = []
    for ours, references in (
        ("load", ("read", "copy")),
        ("save", ("write", "write, fsync", "copy")),
    ):
        for reference in references:
            share, low, high = ratio_interval(np.array(times[reference]), np.array(times[ours]))
            rows.append({
                "format": suffix, "what": ours, "beside": reference,
                "ms": float(np.median(times[ours])) * 1e3,
                "beside_ms": float(np.median(times[reference])) * 1e3,
                "mb": len(content) / 1e6, "share": share, "low": low, "high": high,
            })  # fmt: skip
    return rows


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--folder", type=Path, help="where the files are; default: a new one")
    arguments.add_argument("--formats", default=".hmill,.keras,.h5,.weights.hmill,.weights.h5")
    arguments.add_argument("--rounds", type=int, default=9)
    options = arguments.parse_args()
    warn_if_busy()
    report: dict[str, Any] = {**environment(options.machine), "rows": []}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for suffix in options.formats.split(","):
            if options.smoke:
                rows = measure(Path(folder), suffix, 32, 2)
            else:
                rows = measure(Path(folder), suffix, 1024, options.rounds)
            for row in rows:
                print(
                    f"{suffix:14s} {row['mb']:6.1f} MB  {row['what']} {row['ms']:7.1f} ms, "
                    f"{row['beside']:12s} {row['beside_ms']:7.1f} ms: {100 * row['share']:4.0f} % "
                    f"[{100 * row['low']:.0f}, {100 * row['high']:.0f}]",
                    flush=True,
                )
            report["rows"] += rows
    write_json(options.json, report)


if __name__ == "__main__":
    main()
