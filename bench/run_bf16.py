"""Times training steps in bfloat16 beside torch's autocast, in alternated processes.

    python bench/run_bf16.py [--workloads mlp,wide] [--rounds 9] [--seconds 0.4] [--json F]
                             [--ways "handmill bf16,torch bf16"]

Each process trains one model on shuffled batches gathered from memory and times steps when it is
asked. Prints the median of each, the ratio to ours with its 90 % interval (bootstrap over rounds),
and the float32 loss after three epochs, which shows that all do the same work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import environment, parser, warn_if_busy, write_json

OURS = "handmill bf16"
ATTEMPTS = 12


class Model(NamedTuple):
    units: tuple[int, ...]
    batch: int
    rows: int
    optimizer: str = "adam"


MODELS = {
    "tutorial": Model((12288, 128, 10), 32, 1024),
    "mlp": Model((784, 512, 256, 10), 128, 8192),
    "wide": Model((2048, 4096, 1000), 64, 1024, "adamw"),
}


def data_of(m: Model) -> tuple[np.ndarray, np.ndarray]:
    """Random features, labelled by a linear teacher."""
    rng = np.random.default_rng(0)
    x = rng.random((m.rows, m.units[0]), dtype=np.float32) - np.float32(0.5)
    teacher = rng.standard_normal((m.units[0], m.units[-1]), np.float32)
    return x, np.argmax(x @ teacher, axis=1)


def weights_of(m: Model) -> list[np.ndarray]:
    """Kernel and bias of each layer to start from."""
    rng = np.random.default_rng(1)
    found = []
    for k, n in zip(m.units, m.units[1:], strict=False):
        scale = np.float32((2 / k) ** 0.5)
        found += [rng.standard_normal((k, n), np.float32) * scale, np.zeros(n, np.float32)]
    return found


def handmill_job(m: Model, policy: str) -> tuple[dict[str, Callable[[int], Any]], Any]:
    """Epochs of ``fit``; the softmax is float32, as Keras advises, and as torch computes it."""
    import handmill

    handmill.config.set_dtype_policy(policy)
    layers = handmill.layers
    model = handmill.Sequential([handmill.Input((m.units[0],))])
    for units in m.units[1:-1]:
        model.add(layers.Dense(units, activation="relu"))
    model.add(layers.Dense(m.units[-1]))
    model.add(layers.Activation("softmax", dtype="float32"))
    model.compile(m.optimizer, "sparse_categorical_crossentropy")
    model.set_weights(weights_of(m))
    x, y = data_of(m)

    def fit(epochs: int) -> None:
        model.fit(x, y, batch_size=m.batch, epochs=epochs, verbose=0)

    return {"fit": fit}, lambda: model.evaluate(x, y, verbose=0)


def torch_job(
    m: Model, compiled: bool = False
) -> tuple[dict[str, Callable[[int], Any]], Callable[[], float]]:
    """Forward and loss under autocast, float32 weights, the fused optimizer."""
    import torch

    x, y = (torch.from_numpy(a) for a in data_of(m))
    layers: list[torch.nn.Module] = []
    weights = weights_of(m)
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        layer = torch.nn.Linear(*kernel.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(kernel.T))
            layer.bias.copy_(torch.from_numpy(bias))
        layers += [layer, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[m.optimizer]
    optimizer = kind(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
    cross_entropy = torch.nn.CrossEntropyLoss()

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return cross_entropy(model(x), y)

    step_loss = torch.compile(loss_of) if compiled else loss_of
    cores = torch.get_num_threads()

    def fit(epochs: int, threads: int) -> None:
        torch.set_num_threads(threads)
        for _ in range(epochs):
            for rows in torch.randperm(m.rows).split(m.batch):
                optimizer.zero_grad(set_to_none=True)
                step_loss(x.index_select(0, rows), y.index_select(0, rows)).backward()
                optimizer.step()

    def check() -> float:
        with torch.no_grad():
            return loss_of(x, y).item()

    return {f"{n} threads": lambda e, n=n: fit(e, n) for n in sorted({1, cores})[::-1]}, check


WAYS: dict[str, Callable[[Model], Any]] = {
    OURS: lambda m: handmill_job(m, "mixed_bfloat16"),
    "handmill float32": lambda m: handmill_job(m, "float32"),
    "torch bf16": torch_job,
    "torch.compile bf16": lambda m: torch_job(m, compiled=True),
}


def worker(way: str, name: str, seconds: float) -> None:
    """Prepares a model, then answers each line on standard input with seconds a step."""
    m = MODELS[name]
    runs, check = WAYS[way](m)
    steps = m.rows // m.batch

    def timed(run: Callable[[int], Any], epochs: int) -> float:
        start = time.perf_counter()
        run(epochs)
        return (time.perf_counter() - start) / epochs / steps

    next(iter(runs.values()))(3)
    loss = float(check())
    best = min(runs, key=lambda n: min(timed(runs[n], 1) for _ in range(3)))
    epochs = max(1, int(seconds / steps / timed(runs[best], 1)))
    print("@", json.dumps({"way": best, "loss": loss}), flush=True)
    for _ in sys.stdin:
        print("@", timed(runs[best], epochs), flush=True)


class Worker:
    """A process that times steps when asked."""

    def __init__(self, way: str, name: str, seconds: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "worker", way, name, str(seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        about = self.answer()
        self.about = json.loads(about) if about else None

    def answer(self) -> str:
        assert self.process.stdout is not None
        return next((line[2:] for line in self.process.stdout if line.startswith("@ ")), "")

    def time(self) -> float:
        """Seconds a step, in a round in which others leave the CPUs alone, if there is one."""
        assert self.process.stdin is not None
        for _ in range(ATTEMPTS):
            time.sleep(0.05)  # the threads of the one before go to sleep
            start, before = time.perf_counter(), self.ticks_of_others()
            print(file=self.process.stdin, flush=True)
            seconds = float(self.answer())
            available = (time.perf_counter() - start) * (os.cpu_count() or 1)
            taken = (self.ticks_of_others() - before) / os.sysconf("SC_CLK_TCK")
            if taken <= 0.05 * available + 0.02:
                return seconds
        self.about["disturbed"] = self.about.get("disturbed", 0) + 1
        return seconds

    def ticks_of_others(self) -> int:
        """CPU ticks of all processes but this one."""
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        own = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        busy = sum(int(fields[i]) for i in (1, 2, 3, 6, 7, 8))
        return busy - int(own[11]) - int(own[12])


def interval(peer: np.ndarray, ours: np.ndarray) -> list[float]:
    """The ratio of medians, and its 90 % interval."""
    picks = np.random.default_rng(0).integers(0, len(ours), (2000, len(ours)))
    ratios = np.median(peer[picks], axis=1) / np.median(ours[picks], axis=1)
    return [float(np.median(peer) / np.median(ours)), *np.quantile(ratios, [0.05, 0.95])]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--workloads", default=",".join(MODELS))
    arguments.add_argument("--ways", default=",".join(WAYS))
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--seconds", type=float, default=0.4, help="of a round")
    options = arguments.parse_args()
    if options.smoke:
        options.rounds, options.seconds = 2, 0.01
    warn_if_busy()
    report = environment(options.machine) | {"rows": {}}
    for name in options.workloads.split(","):
        print(f"{name}:")
        started = {way: Worker(way, name, options.seconds) for way in options.ways.split(",")}
        ready = {way: w for way, w in started.items() if w.about is not None}
        times: dict[str, list[float]] = {way: [] for way in ready}
        ways = list(ready)
        try:
            for i in range(options.rounds):
                for way in ways[i % len(ways) :] + ways[: i % len(ways)]:
                    times[way].append(ready[way].time())
        finally:
            for started_worker in started.values():
                started_worker.process.kill()
                started_worker.process.communicate()
        rows = report["rows"][name] = {}
        for way in ways:
            ratio, low, high = interval(np.array(times[way]), np.array(times[OURS]))
            rows[way] = {"seconds": times[way], "ratio": [ratio, low, high], **ready[way].about}
            print(
                f"  {way:20s} {np.median(times[way]) * 1e6:9.1f} us  {ratio:5.2f}x "
                f"[{low:.2f}, {high:.2f}]  loss {ready[way].about['loss']:.4f}  "
                f"{ready[way].about['way']}, {ready[way].about.get('disturbed', 0)} disturbed",
                flush=True,
            )
    write_json(options.json, report)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    else:
        main()
