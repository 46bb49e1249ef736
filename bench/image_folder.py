"""Training from a folder of JPEG files, beside training and reading each alone.

    python bench/image_folder.py --folder DIR [--networks resnet8,mobile] [--files 5120] [--json F]

DIR holds one folder a class, such as the unpacked CIFAR-10; the files taken from it are copied to a
folder of their own. Milliseconds a batch, in turns in one process, all with the same threads: the
network on the images in memory, the source gone through without a network, and ``fit`` from the
source. "kept": the speed of the last, in parts of 1 / (training + reading), with the 90 % interval.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import environment, in_turns, parser, warn_if_busy, write_json

from handmill import config
from handmill.data.folders.images import image_dataset_from_directory
from handmill.inspection.benchmarks.handmill_jobs import make_model
from handmill.inspection.benchmarks.peers import ratio_interval
from handmill.inspection.benchmarks.workloads import KNOWN, Workload
from handmill.preprocessing.image import ImageDataGenerator

AUGMENTATION = {"width_shift_range": 0.1, "height_shift_range": 0.1, "horizontal_flip": True}


def copied(folder: Path, files: int, to: Path) -> Path:
    """As many files of each class, ``files`` in all."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    for source in classes:
        (to / source.name).mkdir(parents=True)
        for file in sorted(source.iterdir())[: files // len(classes)]:
            shutil.copy(file, to / source.name)
    return to


def sources_of(folder: Path, w: Workload) -> dict[str, Callable[[], Any]]:
    """What makes a source whose pass holds all files; each is made anew, so none has a cache."""
    size = w.input_shape[:2]

    def data_set() -> Any:
        return image_dataset_from_directory(
            folder, batch_size=w.batch, image_size=size, seed=0, verbose=False
        )

    def generated(**settings: Any) -> Callable[[], Any]:
        def make() -> Any:
            with contextlib.redirect_stdout(io.StringIO()):
                return ImageDataGenerator(**settings).flow_from_directory(
                    folder, size, class_mode="sparse", batch_size=w.batch, seed=0
                )

        return make

    return {
        "image_dataset_from_directory": data_set,
        "flow_from_directory": generated(),
        "flow_from_directory, augmented": generated(**AUGMENTATION),
    }


def through(source: Any) -> int:
    """Goes through a pass; returns how many batches it had."""
    batches = len(source)
    iterator = iter(source)
    for _ in range(batches):
        next(iterator)
    if hasattr(source, "close"):
        source.close()
    return batches


def measure(w: Workload, folder: Path, rounds: int) -> list[dict[str, Any]]:
    model = make_model(w)
    sources = sources_of(folder, w)
    batches = [batch for batch in sources["image_dataset_from_directory"]()]
    x, y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    calls: dict[str, Callable[[], Any]] = {
        "training": lambda: model.fit(x, y, batch_size=w.batch, verbose=0)
    }
    for name, make in sources.items():
        calls[f"{name}: reading"] = lambda make=make: through(make())
        calls[f"{name}: both"] = lambda make=make: model.fit(make(), verbose=0)
    times = {name: np.array(found) for name, found in in_turns(calls, rounds).items()}
    rows = []
    for name in sources:
        reading, both = times[f"{name}: reading"], times[f"{name}: both"]
        kept, low, high = ratio_interval(times["training"] + reading, both)
        row: dict[str, Any] = {"name": name, "kept": kept, "low": low, "high": high}
        for part, seconds in (
            ("training", times["training"]),
            ("reading", reading),
            ("both", both),
        ):
            row[part] = float(np.median(seconds)) / len(batches) * 1e3
        rows.append(row)
    return rows


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--folder", type=Path, required=True)
    arguments.add_argument("--networks", default="resnet8")
    arguments.add_argument("--files", type=int, default=5120)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--threads", type=int, default=0, help="default: as many as there are")
    options = arguments.parse_args()
    warn_if_busy()
    if options.threads:
        config.set_num_threads(options.threads)
    report = {**environment(options.machine), "rows": {}}
    with tempfile.TemporaryDirectory() as place:
        folder = copied(options.folder, options.files, Path(place) / "images")
        for name in options.networks.split(","):
            rows = measure(KNOWN[name], folder, 2 if options.smoke else options.rounds)
            print(f"{name}: ms a batch of {KNOWN[name].batch}")
            for row in rows:
                parts = " ".join(f"{row[p]:8.2f} {p}" for p in ("training", "reading", "both"))
                interval = f"{row['kept']:5.2f} [{row['low']:.2f}, {row['high']:.2f}]"
                print(f"  {row['name']:32s} {parts}  kept {interval}", flush=True)
            report["rows"][name] = rows
    write_json(options.json, report)


if __name__ == "__main__":
    main()
