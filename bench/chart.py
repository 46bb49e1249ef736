"""Draws a report of bench/ as a picture, SVG or PNG.

    python bench/chart.py bench/results/train.json docs/training.svg

Reports of peers.py: how much longer each library takes than handmill. Of time_to_accuracy.py: wall
time to the accuracy. Of sweep_matmul.py: ratio to the faster peer, and per cent of the peak.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from handmill.inspection.benchmarks.peers import OURS, fastest_peer
from handmill.inspection.benchmarks.workloads import KNOWN

COLOURS = {
    "handmill": "#333333",
    "handmill predict": "#777777",
    "torch": "#d95f02",
    "torch.compile": "#fdae6b",
    "jax": "#1b9e77",
    "jax scan": "#99d8c9",
    "keras": "#e7298a",
    "scikit-learn": "#7570b3",
    "sklearn": "#7570b3",
    "onnxruntime": "#1f78b4",
}
GROUPS = {
    "squares": "#333333", "odd": "#7570b3", "tall": "#1b9e77", "wide": "#1f78b4",
    "batch": "#d95f02", "transposed": "#e7298a",
}  # fmt: skip
WHAT = {
    "train": "a training step, training loop against training loop",
    "fit": "a step of fit, fit against fit (five epochs a call)",
    "inference": "a prediction of a batch",
}


def label_of(name: str, rows: dict[str, Any]) -> str:
    """The workload in words, with our time."""
    workload, _, batch = name.partition(", ")
    w = KNOWN[workload]
    how = batch or f"{w.optimizer}, batch {w.batch}"
    us = rows["handmill"]["us"]
    time = f"{us:,.0f}" if us >= 100 else f"{us:.3g}"
    return f"{workload}: {w.text}\n{how}: {time} us"


def draw_ratios(report: dict[str, Any], figure: Any) -> None:
    """A line for each workload, a mark for each library."""
    order = list(KNOWN)
    rows = dict(
        sorted(report["rows"].items(), key=lambda item: order.index(item[0].partition(", ")[0]))
    )
    libraries = [n for n in COLOURS if n != "handmill" and any(n in r for r in rows.values())]
    figure.set_size_inches(8.5, 1.4 + 0.52 * len(rows))
    axes = figure.subplots()
    limit = 1.0
    for y, by_library in enumerate(rows.values()):
        for i, library in enumerate(libraries):
            row = by_library.get(library)
            if row is None:
                continue
            at = y + 0.1 * (i - (len(libraries) - 1) / 2)
            axes.plot([row["low"], row["high"]], [at, at], color=COLOURS[library], linewidth=1)
            axes.plot(
                row["ratio"], at, "o" if library not in OURS else "s", markersize=5,
                color=COLOURS[library],
                label=library if library not in axes.get_legend_handles_labels()[1] else None,
            )  # fmt: skip
            limit = max(limit, row["high"])
        name = fastest_peer(by_library)
        if name is not None:
            peer = by_library[name]
            axes.annotate(
                f"{peer['ratio']:.2f}x [{peer['low']:.2f}, {peer['high']:.2f}]  {name}",
                (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8,
            )  # fmt: skip
    axes.axvline(1, color=COLOURS["handmill"], linewidth=1.5)
    set_log_x(axes)
    axes.set_xlim(None, 1.2 * limit)
    axes.set_yticks(range(len(rows)))
    axes.set_yticklabels([label_of(n, r) for n, r in rows.items()], fontsize=8)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"time of {WHAT[report['kind']]}, handmill = 1 (log scale; right: slower)")
    axes.set_title(f"{about(report)}; right: the fastest peer, 90 % interval", fontsize=9)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.55 / (1.4 + 0.4 * len(rows)) - 0.03),
        ncol=7, fontsize=8, frameon=False,
    )  # fmt: skip


def draw_accuracy(report: dict[str, Any], figure: Any) -> None:
    """A bar for each library and task."""
    titles = {
        "mnist": "MNIST to 98.0 %",
        "digits": "UCI digits to 97.5 %",
        "table": "25 networks of the demo (the loop)",
    }
    tasks = {name: rows for name, rows in report["rows"].items() if name in titles}
    figure.set_size_inches(8.5, 2.0)
    for axes, (task, rows) in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks.items(),
                                  strict=True):  # fmt: skip
        key = "mean_training_seconds" if task == "table" else "mean_wall_seconds"
        count = rows["handmill"]["runs"][0].get("models")
        for y, (library, row) in enumerate(rows.items()):
            models = row["runs"][0].get("models")
            scale = count / models if models else 1
            seconds = row[key] * scale
            axes.barh(y, seconds, color=COLOURS[library])
            text = f" {seconds:.2f} s" + (
                "" if library == "handmill" else f", {row['ratio_of_means']:.1f}x"
            )
            text += "" if scale == 1 else f" (from {models})"
            axes.annotate(text, (seconds, y), va="center", fontsize=8)
        axes.set_yticks(range(len(rows)))
        axes.set_yticklabels(list(rows), fontsize=8)
        axes.set_xlim(0, 1.75 * max(r[key] for r in rows.values()))
        axes.invert_yaxis()
        axes.set_title(titles[task], fontsize=9)
        axes.set_xlabel("seconds", fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.suptitle(f"{about(report)}; mean of all runs", fontsize=8)
    figure.tight_layout()


def draw_sweep(report: dict[str, Any], figure: Any) -> None:
    """Two panels: the ratio to the faster peer, and the share of the peak."""
    rows = [r for r in report["rows"] if r["threads"] == min(q["threads"] for q in report["rows"])]
    isa = next(iter(rows[0]["percent_of_peak"]))
    figure.set_size_inches(8.5, 3.4)
    ratio_axes, peak_axes = figure.subplots(1, 2)
    for group, colour in GROUPS.items():
        chosen = [r for r in rows if r["group"] == group]
        flops = [2.0 * r["shape"][0] * r["shape"][1] * r["shape"][2] for r in chosen]
        with_peer = [(f, r["ratio"][isa]) for f, r in zip(flops, chosen, strict=True) if r["ratio"]]
        if with_peer:
            ratio_axes.plot(*zip(*with_peer, strict=True), "o", markersize=4, color=colour)
        shares = [r["percent_of_peak"][isa] for r in chosen]
        peak_axes.plot(flops, shares, "o", markersize=4, color=colour, label=group)
    ratio_axes.axhline(1, color="#333333", linewidth=1)
    ratio_axes.set_yscale("log")
    ratio_axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ratio_axes.set_ylabel("faster of NumPy and torch / handmill")
    peak_axes.set_ylabel("% of the measured FMA peak (kernels)")
    peak_axes.set_ylim(0, 105)
    peak_axes.legend(fontsize=7, frameon=False)
    for axes in (ratio_axes, peak_axes):
        axes.set_xscale("log")
        axes.set_xlabel("FLOP of a product")
        axes.grid(color="#dddddd", linewidth=0.6)
    figure.suptitle(f"{about({**report, 'isa': isa, 'threads': rows[0]['threads']})}", fontsize=9)
    figure.tight_layout()


def set_log_x(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def about(report: dict[str, Any]) -> str:
    """The machine, and when."""
    return (
        f"{report['machine']}, {report['threads']} thread(s), handmill at {report['isa']}, "
        f"{report['date']}"
    )


def draw(report: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    # Text stays text, and the same report gives the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "handmill"})
    import matplotlib.pyplot as plt

    figure = plt.figure()
    if isinstance(report["rows"], list):
        draw_sweep(report, figure)
    elif report["kind"] == "accuracy":
        draw_accuracy(report, figure)
    else:
        draw_ratios(report, figure)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white", metadata=metadata)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    draw(json.loads(options.report.read_text()), options.picture)


if __name__ == "__main__":
    main()
