"""What the scripts with measured results share: arguments, data, clocks, the report.

A script defines three functions and calls :func:`run`: ``load(options)`` gives the data,
``learn(data, seed, options)`` a trained model, ``test(model, data, options)`` its accuracies.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

START = time.perf_counter()  # scripts import this first
ROOT = Path(__file__).resolve().parents[2]
Split = tuple[np.ndarray, np.ndarray]


def arguments(text: str, seeds: int = 1) -> argparse.ArgumentParser:
    """The arguments that all scripts have; scripts add their own.

    Args:
        text: the script's ``__doc__``.
        seeds: how many by default.
    """
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=seeds, help="how many runs")
    parser.add_argument("--first-seed", type=int, default=0, help="the seed of the first")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("HANDMILL_DATA", ROOT.parent / "shared" / "data")),
        help="folder of mnist.npz and cifar10_jpeg.tar.gz (or its folders train and test); "
        "default: HANDMILL_DATA",
    )
    parser.add_argument("--quick", action="store_true", help="a small part, to see that it runs")
    parser.add_argument("--peer", choices=["torch"], help="the same recipe, learned by torch")
    return parser


def run(
    name: str,
    options: argparse.Namespace,
    load: Callable[[Any], Any],
    learn: Callable[[Any, int, Any], Any],
    test: Callable[[Any, Any, Any], dict[str, float]],
    unit: str = "%",
) -> None:
    """Learns once for each seed, prints accuracies and times, then their means.

    Args:
        name: of the recipe; the peer's functions have it too.
        options: what :func:`arguments` parsed.
        load: ``options -> data``.
        learn: ``data, seed, options -> model``.
        test: ``model, data, options -> {what: accuracy}``.
        unit: of what was tested; of accuracies from 0 to 1 it is percent.
    """
    scale = 100 if unit == "%" else 1
    if options.peer:
        sys.path.insert(0, str(ROOT / "bench" / "accuracy"))
        peer = importlib.import_module(f"{options.peer}_recipes")
        if not hasattr(peer, f"learn_{name}"):
            raise SystemExit(f"{name}: this recipe was not written in {options.peer}")
        learn, test = getattr(peer, f"learn_{name}"), getattr(peer, f"test_{name}")
    who = options.peer or "handmill"
    print(f"{name}: {who} on {cpu()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    begin = time.perf_counter()
    data = load(options)
    print(f"data read in {time.perf_counter() - begin:.2f} s", flush=True)
    found: dict[str, list[float]] = {}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        wall, processor = time.perf_counter(), time.process_time()
        model = learn(data, seed, options)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        begin = time.perf_counter()
        scores = test(model, data, options)
        testing = time.perf_counter() - begin
        for what, score in {**scores, "training seconds": wall, "CPU": processor}.items():
            found.setdefault(what, []).append(score)
        shown = ", ".join(f"{what} {scale * score:.2f} {unit}" for what, score in scores.items())
        print(
            f"seed {seed}: {shown}; training {wall:.2f} s wall, {processor:.2f} s CPU, testing "
            f"{testing:.2f} s; process so far {time.perf_counter() - START:.2f} s wall, "
            f"{time.process_time():.2f} s CPU",
            flush=True,
        )
    means = {what: statistics.fmean(values) for what, values in found.items()}
    for what, values in found.items():
        if "seconds" not in what and what != "CPU":
            spread = f" +- {scale * statistics.stdev(values):.2f}" if len(values) > 1 else ""
            print(f"{what}: {scale * means[what]:.2f}{spread} {unit} over {len(values)} seed(s)")
    print(f"training: {means['training seconds']:.2f} s wall, {means['CPU']:.2f} s CPU (means)")


def cpu() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def mnist(options: argparse.Namespace) -> tuple[Split, Split]:
    """60,000 and 10,000 images (28, 28), uint8; fewer with ``--quick``."""
    with np.load(options.data / "mnist.npz", allow_pickle=False) as file:
        train, test = (tuple(file[f"{kind}_{part}"] for kind in "xy") for part in ("train", "test"))
    if options.quick:
        train, test = (tuple(array[:2000] for array in part) for part in (train, test))
    return train, test


def cifar10(options: argparse.Namespace) -> tuple[Split, Split]:
    """50,000 and 10,000 images (32, 32, 3), uint8, read from JPEG files; fewer with ``--quick``."""
    if (options.data / "train").is_dir():
        return tuple(_images(options.data / part, options.quick) for part in ("train", "test"))
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(options.data / "cifar10_jpeg.tar.gz") as tar:
            tar.extractall(folder, **({"filter": "data"} if sys.version_info >= (3, 12) else {}))
        (train,) = Path(folder).rglob("train")
        return tuple(_images(train.parent / part, options.quick) for part in ("train", "test"))


def _images(folder: Path, quick: bool) -> Split:
    from handmill.utils import image_dataset_from_directory

    data = image_dataset_from_directory(
        folder, image_size=(32, 32), batch_size=500, shuffle=quick, seed=0, verbose=False
    )
    parts = [(x.astype("uint8"), y) for x, y in (data.take(2) if quick else data)]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
