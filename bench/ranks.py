"""What training by several processes costs: steps of a network, and the exchange of bytes.

mpiexec -n 2 python bench/ranks.py            (also with -n 1, and with HANDMILL_NUM_THREADS=2)
python bench/ranks.py --plain                 (without shards, for comparison)
mpiexec -n 2 python bench/ranks.py --memory   (what a rank holds; with --whole: not shared out)

784-512-256-10, Adam, batch 512; and 8 MB that each rank adds up with the others.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

import handmill as keras
from handmill import distribution

BATCH = 512
ROUNDS = 9


def training(plain: bool, shards: int = 16, shard_optimizer: bool = True) -> float:
    """Milliseconds of a step, the median of some rounds of 8."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.random((8 * BATCH, 784), dtype=np.float32), rng.integers(0, 10, 8 * BATCH)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(512, "relu"),
            layers.Dense(256, "relu"),
            layers.Dense(10, "softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    if not plain:
        distribution.set_distribution(
            distribution.DataParallel(shards=shards, shard_optimizer=shard_optimizer)
        )
    epochs: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            epochs.append((time.perf_counter() - self.start) / 8)

    model.fit(x, y, batch_size=BATCH, epochs=ROUNDS + 1, verbose=0, callbacks=[Clock()])
    return 1e3 * statistics.median(epochs[1:])


def exchange() -> list[str]:
    """GB a second of 8 MB that are added up over the ranks, and of a copy: median and best."""
    from handmill.distribution.buffers import Sums
    from handmill.distribution.exchange import Exchange
    from handmill.distribution.ranks import ranks

    own = np.ones(1 << 21, np.float32)
    target = np.empty_like(own)
    found = Exchange(ranks(), 16)
    sums = found.place(Sums(own, np.zeros(0)), "train", 1)
    times, copies = [], []
    for _ in range(3 * ROUNDS):
        sums.narrow.fill(1)
        found.ranks.gather(b"x")
        start = time.perf_counter()
        found.total(sums, [False] * found.ranks.size, sums._replace)
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
        np.copyto(target, own)
        copies.append(time.perf_counter() - start)
    rates = [[own.nbytes / f(t) / 1e9 for f in (statistics.median, min)] for t in (times, copies)]
    return [f"{median:.2f} GB/s (at best {best:.2f})" for median, best in rates]


def memory(shard_optimizer: bool) -> list[tuple[float, float]]:
    """MB of each rank in the middle of a fit with Adam: slots that it holds, and all that it has.

    Eight layers of 1024 units: 8.4 million parameters, 34 MB, and slots of 67 MB.
    """
    from handmill.distribution.ranks import ranks

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.random((512, 1024), dtype=np.float32), rng.integers(0, 10, 512)
    layers = keras.layers
    hidden = [layers.Dense(1024, "relu") for _ in range(8)]
    model = keras.Sequential([keras.Input((1024,)), *hidden, layers.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    distribution.set_distribution(distribution.DataParallel(shard_optimizer=shard_optimizer))
    found: list[float] = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            slots = [v.state for v in model.optimizer.variables]
            held = sum(s.nbytes for s in slots if not hasattr(s, "owner"))
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            found[:] = held / 1e6, pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    model.fit(x, y, batch_size=256, epochs=2, verbose=0, callbacks=[Look()])
    distribution.set_distribution(None)
    return [tuple(json.loads(data)) for data in ranks().gather(json.dumps(found).encode())]


def main() -> None:
    """Rank 0 prints what it measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--shards", type=int, nargs="+", default=[16])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--whole", action="store_true", help="do not share out the optimizer")
    options = parser.parse_args()
    distribution.initialize()
    if options.memory:
        found = memory(not options.whole)
        if distribution.rank() == 0:
            for rank, (slots, everything) in enumerate(found):
                print(f"rank {rank}: slots {slots:.1f} MB, resident {everything:.0f} MB")
        return
    steps = {n: training(options.plain, n, not options.whole) for n in options.shards}
    count, threads = distribution.get_device_count(), keras.config.num_threads()
    rates = exchange() if count > 1 else []
    if distribution.rank() == 0:
        for shards, step in steps.items():
            kind = "one process, no shards" if options.plain else f"{count} ranks, {shards} shards"
            print(f"{kind}, {threads} threads each: {step:.2f} ms a step", flush=True)
        if rates:
            print(f"8 MB added up at {rates[0]}, copied at {rates[1]}")


if __name__ == "__main__":
    main()
