"""Draws how much longer each peer takes than handmill, from a report of peers.py.

python bench/chart.py bench/results/train-avx512.json chart.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

COLOURS = {
    "handmill": "#333333",
    "handmill predict": "#777777",
    "torch": "#d95f02",
    "torch.compile": "#fdae6b",
    "jax": "#1b9e77",
    "jax scan": "#99d8c9",
    "keras (jax)": "#e7298a",
    "scikit-learn": "#7570b3",
    "onnxruntime": "#1f78b4",
}


def draw(report: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    rows = report["rows"]
    libraries = [n for n in COLOURS if n != "handmill" and any(n in r for r in rows.values())]
    height = 0.8 / max(1, len(libraries))
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.24 * len(rows) * (len(libraries) + 1)))
    for y, by_library in enumerate(rows.values()):
        for i, library in enumerate(libraries):
            row = by_library.get(library)
            if row is None:
                continue
            at = y + (i - (len(libraries) - 1) / 2) * height
            axes.barh(
                at, row["ratio"] - 1, height * 0.9, left=1, color=COLOURS[library],
                xerr=[[row["ratio"] - row["low"]], [row["high"] - row["ratio"]]],
                error_kw={"elinewidth": 0.8},
                label=library if library not in axes.get_legend_handles_labels()[1] else None,
            )  # fmt: skip
            axes.text(
                max(1, row["high"]) * 1.05, at, f"{row['ratio']:.2f}", va="center", fontsize=7
            )
    axes.axvline(1, color=COLOURS["handmill"], linewidth=1)
    axes.set_xscale("log")
    ratios = [
        r for row in rows.values() for entry in row.values() for r in (entry["low"], entry["high"])
    ]
    axes.set_xlim(0.9 * min(1, *ratios), 1.5 * max(ratios))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(rows)))
    names = [f"{name}\n{r['handmill']['us']:,.4g} us" for name, r in rows.items()]
    axes.set_yticklabels(names, fontsize=8)
    axes.invert_yaxis()
    what = "a training step" if report["kind"] == "train" else "a prediction"
    axes.set_xlabel(f"time of {what}, handmill = 1 (longer bars: slower; log scale)")
    axes.set_title(
        f"{report['machine']}, {report['threads']} threads, handmill at {report['isa']}, "
        f"{report['date']}",
        fontsize=9,
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=4, fontsize=8, frameon=False)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    draw(json.loads(options.report.read_text()), options.picture)


if __name__ == "__main__":
    main()
