"""Images per second of the augmenting generator, ours and Keras's, from memory and from files.

    python bench/run_images.py [--size 64] [--seconds 3] [--rounds 3] [--folder DIR] [--json F]

The settings are the tutorial's (rotation 20, shifts, shear and zoom 0.2, horizontal flip). "From
files" needs a folder of classes (DIR), such as the unpacked CIFAR-10; its first pass decodes, later
ones find the images in memory. Ours and Keras's rounds alternate; the best round counts, since
whatever else runs on the machine only ever takes away.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import time
from pathlib import Path

import numpy as np

SETTINGS = {
    "rotation_range": 20,
    "width_shift_range": 0.2,
    "height_shift_range": 0.2,
    "shear_range": 0.2,
    "zoom_range": 0.2,
    "horizontal_flip": True,
    "fill_mode": "nearest",
}


def keras_generator():
    """Keras's class, None where Keras or scipy is not installed."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    try:
        import scipy.ndimage  # noqa: F401
        from keras.src.legacy.preprocessing.image import ImageDataGenerator
    except ImportError:
        return None
    return ImageDataGenerator


def images_per_second(batches, seconds, most=None):
    """Of an endless iterator, over at least ``seconds`` or ``most`` images."""
    count = 0
    start = time.perf_counter()
    while True:
        count += len(next(batches)[0])
        passed = time.perf_counter() - start
        if passed >= seconds or (most is not None and count >= most):
            return count / passed


def from_memory(generators, size, seconds, rounds):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2000, size, size, 3), dtype=np.uint8)
    y = np.arange(len(x))
    flows = {
        "handmill uint8": generators["handmill"](**SETTINGS).flow(x, y, seed=0),
        "handmill float32": generators["handmill"](**SETTINGS).flow(x.astype("float32"), y, seed=0),
    }
    if generators["keras"] is not None:
        flows["keras float32"] = generators["keras"](**SETTINGS).flow(x.astype("float32"), y)
    best = dict.fromkeys(flows, 0.0)
    for _ in range(rounds):
        for name, batches in flows.items():
            next(batches)
            best[name] = max(best[name], images_per_second(batches, seconds))
            if hasattr(batches, "close"):
                batches.close()
    return best


def from_files(generators, folder, size, seconds, rounds):
    def flow(generator, **arguments):
        with contextlib.redirect_stdout(io.StringIO()):
            return generator(**SETTINGS).flow_from_directory(
                folder, target_size=(size, size), seed=0, **arguments
            )

    best = {}

    def measure(name, batches, most):
        speed = images_per_second(batches, seconds, most)
        best[name] = max(best.get(name, 0.0), speed)

    for _ in range(rounds):
        batches = flow(generators["handmill"])
        first_pass = batches.n - batches.n % batches.batch_size
        measure("handmill, decoding", batches, first_pass)
        batches.close()
        # A subset that fits into the cache, the second time round.
        first_class = min(path.name for path in folder.iterdir())
        batches = flow(generators["handmill"], classes=[first_class])
        for _ in range(len(batches)):
            next(batches)
        measure("handmill, later passes", batches, None)
        batches.close()
        if generators["keras"] is not None:
            measure("keras", flow(generators["keras"]), None)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    from handmill import config
    from handmill.preprocessing.image import ImageDataGenerator

    generators = {"handmill": ImageDataGenerator, "keras": keras_generator()}
    arguments = (options.size, options.seconds, options.rounds)
    results = {
        "machine": platform.processor() or platform.machine(),
        "date": time.strftime("%Y-%m-%d"),
        "isa": config.isa(),
        "threads": config.num_threads(),
        "load": os.getloadavg()[0],
        "size": options.size,
        "memory": from_memory(generators, *arguments),
    }
    if options.folder:
        results["files"] = from_files(generators, options.folder, *arguments)
    print(f"{config.isa()}, {config.num_threads()} threads, load {results['load']:.1f}")
    for place in ("memory", "files"):
        for name, speed in results.get(place, {}).items():
            print(f"  {place}: {name:24s} {speed:10,.0f} images/s")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
