"""Draws the sweep of matrix products that bench/sweep_matmul.py wrote.

python bench/chart_matmul.py bench/results/matmul.json docs/matmul.svg [--threads 1]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

COLOURS = {"avx512": "#1f6f8b", "avx2": "#e08e45", "portable": "#888888"}


def draw(rows: list[dict[str, Any]], threads: int) -> Any:
    """A figure: the faster peer's time over ours for every shape, and the share of the peak."""
    import matplotlib.pyplot as plt

    rows = [r for r in rows if r["threads"] == threads]
    levels = [isa for isa in COLOURS if any(isa in r["ratio"] for r in rows)]
    figure, (above, below) = plt.subplots(
        2, 1, sharex=True, figsize=(0.16 * len(rows) + 1.5, 6.5), layout="constrained"
    )
    for isa in levels:
        places = [i for i, r in enumerate(rows) if isa in r["ratio"]]
        style = {"s": 14, "color": COLOURS[isa], "label": isa}
        above.scatter(places, [rows[i]["ratio"][isa] for i in places], **style)
        below.scatter(places, [rows[i]["percent_of_peak"][isa] for i in places], **style)
    above.axhline(1.0, color="black", linewidth=0.8)
    above.set_yscale("log", base=2)
    above.set_yticks((0.5, 0.75, 1, 1.5, 2), ("0.5", "0.75", "1", "1.5", "2"))
    above.set_ylabel("faster of NumPy and torch / handmill")
    below.set_ylabel("% of the multiply-add peak")
    below.set_ylim(0, 100)
    names = [r["name"].replace("ᵀ", "'") for r in rows]
    below.set_xticks(range(len(rows)), names, rotation=90, fontsize=6)
    for axes in (above, below):
        axes.grid(axis="y", linewidth=0.3)
        for i in range(1, len(rows)):
            if rows[i]["group"] != rows[i - 1]["group"]:
                axes.axvline(i - 0.5, color="black", linewidth=0.3)
    above.legend(loc="upper left", ncols=len(levels), fontsize=8)
    above.set_title(f"float32 matrix products M x N x K, {threads} thread(s)", fontsize=10)
    above.set_xlim(-1, len(rows))
    return figure


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("json", type=Path)
    arguments.add_argument("picture", type=Path)
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    figure = draw(json.loads(options.json.read_text())["rows"], options.threads)
    figure.savefig(options.picture, dpi=80)


if __name__ == "__main__":
    main()
