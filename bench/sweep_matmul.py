"""Times float32 matrix products of many shapes beside NumPy and torch, in alternated processes.

    python bench/sweep_matmul.py [--threads 1] [--only squares,batch] [--isa avx2] [--json F]

One process for each library and level, all with the same number of threads, take turns on every
shape; each calls what its users call and gets a new array back. The ratio is the median of the
faster peer over our median; the share of the peak is of the kernels alone (Plan.profile), against
multiply-adds from registers measured in the same run. With --json the rows of shapes that were
timed replace those in the file. bench/chart.py draws it.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import environment, parser, warn_if_busy, write_json

PEERS = ("numpy", "torch")
SLICE = 6e-3  # seconds of one timing
LEAST_CALLS = 3
REST = 40e-3  # before timings of several threads: OpenMP pools of other processes spin so long


class Product(NamedTuple):
    """C (M, N) = A (M, K) B (K, N); a transposed operand lies in memory the other way round."""

    group: str
    M: int
    N: int
    K: int
    transposed: str = ""

    @property
    def name(self) -> str:
        marks = "".join(f" {letter.upper()}ᵀ" for letter in self.transposed)
        return f"{self.M}x{self.N}x{self.K}{marks}"

    @property
    def flops(self) -> float:
        return 2.0 * self.M * self.N * self.K


SQUARES = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048,
           3072, 4096)  # fmt: skip
ODD = (7, 17, 31, 33, 63, 65, 97, 127, 129, 191, 193, 255, 257, 511, 513, 1000, 1023, 1025)
TALL = ((4096, 33, 100), (4096, 64, 64), (25088, 64, 288), (6272, 64, 576), (8192, 16, 16),
        (12288, 10, 128), (2048, 256, 64), (4096, 1, 512))  # fmt: skip
WIDE = ((64, 4096, 64), (16, 4096, 256), (10, 12288, 128), (64, 64, 4096), (128, 128, 8192))
BATCH = (
    (1, 10, 256), (1, 512, 784), (1, 1024, 1024), (1, 128, 12288), (1, 4096, 4096),
    (8, 10, 256), (8, 512, 784), (8, 1024, 1024), (8, 4096, 2048), (16, 1024, 1024),
    (32, 10, 256), (32, 256, 512), (32, 512, 784), (32, 1024, 1024), (32, 128, 12288),
    (128, 10, 256), (128, 256, 512), (128, 512, 784), (128, 1024, 1024), (128, 512, 2048),
    (128, 4096, 2048),
)  # fmt: skip
TRANSPOSED = (
    (33, 33, 33, "a"), (64, 64, 64, "a"), (256, 256, 256, "a"), (1024, 1024, 1024, "a"),
    (784, 512, 128, "a"), (512, 256, 128, "a"), (12288, 128, 32, "a"), (1024, 1024, 64, "a"),
    (33, 33, 33, "b"), (64, 64, 64, "b"), (256, 256, 256, "b"), (1024, 1024, 1024, "b"),
    (128, 784, 512, "b"), (128, 512, 256, "b"), (1, 1024, 1024, "b"), (8, 1024, 1024, "b"),
    (32, 12288, 128, "b"), (33, 33, 33, "ab"), (64, 64, 64, "ab"), (256, 256, 256, "ab"),
    (1024, 1024, 1024, "ab"),
)  # fmt: skip
PRODUCTS = (
    *(Product("squares", n, n, n) for n in SQUARES),
    *(Product("odd", n, n, n) for n in ODD),
    *(Product("tall", *shape) for shape in TALL),
    *(Product("wide", *shape) for shape in WIDE),
    *(Product("batch", *shape) for shape in BATCH),
    *(Product("transposed", m, n, k, which) for m, n, k, which in TRANSPOSED),
)


def operands(p: Product) -> tuple[Any, Any]:
    """A and B as they lie in memory."""
    numbers = np.random.default_rng(0).standard_normal(65521).astype(np.float32)
    a = np.resize(numbers, (p.K, p.M) if "a" in p.transposed else (p.M, p.K))
    b = np.resize(numbers, (p.N, p.K) if "b" in p.transposed else (p.K, p.N))
    return a, b


def handmill_call(p: Product) -> tuple[Callable[..., Any], list[Any], Callable[[], float]]:
    """The call, its arguments, and the seconds of its kernels."""
    from handmill import ops
    from handmill.primitives.matmul import _product
    from handmill.runtime.function import TracedFunction

    a, b = operands(p)
    traced = TracedFunction(
        lambda x, y: _product(x, y, "a" in p.transposed, "b" in p.transposed),
        "product", batched=False,
    )  # fmt: skip
    plan = traced.plan(a, b)

    def kernel_seconds() -> float:
        first = sum(plan.profile(a, b, repeats=1))
        return float(sum(plan.profile(a, b, repeats=max(3, min(2000, int(0.05 / first))))))

    return traced.native if p.transposed else ops.matmul, [a, b], kernel_seconds


def numpy_call(p: Product) -> tuple[Callable[..., Any], list[Any], None]:
    a, b = operands(p)
    return np.matmul, [a.T if "a" in p.transposed else a, b.T if "b" in p.transposed else b], None


def torch_call(p: Product) -> tuple[Callable[..., Any], list[Any], None]:
    import torch

    a, b = (torch.from_numpy(x) for x in operands(p))
    return (
        torch.mm,
        [a.t() if "a" in p.transposed else a, b.t() if "b" in p.transposed else b],
        None,
    )


CALLS: dict[str, Any] = {"handmill": handmill_call, "numpy": numpy_call, "torch": torch_call}


def seconds_of(call: Callable[..., Any], arguments: list[Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call(*arguments)
    return (time.perf_counter() - start) / count


def serve(library: str) -> None:
    """Answers: shape -> ready, time -> seconds of a call, kernel -> seconds of the kernels."""
    threads = int(os.environ["OMP_NUM_THREADS"])
    if library == "handmill":
        from handmill import config

        config.set_num_threads(threads)
    if library == "torch":
        import torch

        torch.set_num_threads(threads)
        torch.autograd.grad_mode.set_grad_enabled(False)
    call, arguments, kernel, count = None, [], None, 1
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        answer: Any = "ready"
        if word == "shape":
            call, arguments, kernel = CALLS[library](Product(*json.loads(rest)))
            seconds_of(call, arguments, 1)
            count = max(LEAST_CALLS, int(SLICE / seconds_of(call, arguments, 2)))
        elif word == "time":
            seconds_of(call, arguments, count // 3)  # caches and threads are its own again
            answer = seconds_of(call, arguments, count)
        elif word == "kernel" and kernel is not None:
            answer = kernel()
        elif word == "peak":
            from handmill import _core

            answer = _core.measure_peak(seconds=0.2)
        print("@", answer, flush=True)


class Worker:
    """A process that times one library."""

    def __init__(self, library: str, isa: str, threads: int) -> None:
        self.name = isa or library
        count = {
            f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL", "HANDMILL")
        }
        level = {"HANDMILL_ISA": isa} if isa else {}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **count, **level, "OPENBLAS_THREAD_TIMEOUT": "21"},
        )

    def ask(self, question: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("@ "):
                return line[2:].strip()
        raise SystemExit(f"the worker {self.name} ended at {question!r}")

    def seconds(self, question: str) -> float:
        return float(self.ask(question))

    def close(self) -> None:
        self.process.communicate()


def sweep_row(
    p: Product, workers: list[Worker], peaks: dict[str, float], rounds: int, threads: int
) -> dict[str, Any]:
    """One shape, by all workers in turn."""
    for worker in workers:
        worker.ask(f"shape {json.dumps(list(p))}")
    times: dict[str, list[float]] = {w.name: [] for w in workers}
    for _ in range(rounds):
        for worker in workers:
            if threads > 1:
                time.sleep(REST)
            times[worker.name].append(worker.seconds("time"))
    median = {name: statistics.median(t) for name, t in times.items()}
    peer = min((n for n in median if n not in peaks), key=median.__getitem__, default="")
    row: dict[str, Any] = {
        "name": p.name, "group": p.group, "shape": list(p[1:]), "threads": threads,
        "rounds": rounds, "faster_peer": peer,
        "median_us": {n: s * 1e6 for n, s in median.items()},
        "least_us": {n: min(t) * 1e6 for n, t in times.items()},
        "ratio": {isa: median[peer] / median[isa] for isa in peaks} if peer else {},
        "kernel_us": {}, "percent_of_peak": {}, "peak_gflops": {},
    }  # fmt: skip
    for worker in workers:
        if worker.name in peaks:
            seconds, peak = worker.seconds("kernel"), peaks[worker.name]
            row["kernel_us"][worker.name] = seconds * 1e6
            row["percent_of_peak"][worker.name] = 100 * p.flops / seconds / peak
            row["peak_gflops"][worker.name] = peak / 1e9
    return row


def print_row(row: dict[str, Any]) -> None:
    times = "".join(f"{row['median_us'][name]:11.2f}" for name in row["median_us"])
    ours = "".join(
        f"  {isa} {row['percent_of_peak'][isa]:3.0f} % x{row['ratio'].get(isa, math.nan):5.2f}"
        for isa in row["percent_of_peak"]
    )
    print(f"{row['name']:22s}{times}{ours}", flush=True)


def print_summary(rows: list[dict[str, Any]], levels: list[str]) -> None:
    for isa in levels:
        ratios = {r["name"]: r["ratio"][isa] for r in rows if r["ratio"]}
        if ratios:
            mean = math.exp(statistics.fmean(math.log(r) for r in ratios.values()))
            below = ", ".join(f"{n} {r:.2f}" for n, r in ratios.items() if r < 0.95)
            print(
                f"{isa}: geometric mean {mean:.2f} over {len(ratios)}; below 0.95: {below or '-'}"
            )


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, with those timed now in the place of older ones, in the order of the table."""
    order = {p.name: i for i, p in enumerate(PRODUCTS)}
    known = {(r["threads"], r["name"]): r for r in (*old, *new) if r["name"] in order}
    return sorted(known.values(), key=lambda r: (r["threads"], order[r["name"]]))


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
        return
    arguments = parser(__doc__)
    arguments.add_argument("--only", default="", help="groups, or shapes such as 64x64x64")
    arguments.add_argument("--isa", default="avx512,avx2", help="our levels")
    arguments.add_argument("--libraries", default=",".join(PEERS), help="the peers")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--largest", type=int, default=4096, help="no extent beyond it, but K")
    options = arguments.parse_args()
    from handmill import config

    warn_if_busy()
    only = {name for name in options.only.split(",") if name}
    products = [
        p for p in PRODUCTS
        if (not only or p.group in only or p.name.split()[0] in only)
        and (p.flops <= 2.0 * options.largest**3)
    ][: 2 if options.smoke else None]  # fmt: skip
    levels = [isa for isa in options.isa.split(",") if isa in config.available_isas()]
    workers = [Worker("handmill", isa, options.threads) for isa in levels]
    workers += [
        Worker(name, "", options.threads)
        for name in options.libraries.split(",")
        if name and importlib.util.find_spec(name) is not None
    ]
    peaks = {w.name: w.seconds("peak") for w in workers if w.name in levels}
    print(
        f"{options.threads} thread(s);",
        ", ".join(f"{i} {p / 1e9:.0f} GFLOP/s" for i, p in peaks.items()),
    )
    print(f"{'M x N x K, us':22s}" + "".join(f"{w.name:>11s}" for w in workers))
    rows = []
    for product in products:
        rounds = 2 if options.smoke else options.rounds
        rows.append(sweep_row(product, workers, peaks, rounds, options.threads))
        print_row(rows[-1])
    for worker in workers:
        worker.close()
    print_summary(rows, levels)
    if options.json is not None:
        path: Path = options.json
        old = json.loads(path.read_text())["rows"] if path.exists() else []
        write_json(path, {**environment(options.machine), "rows": merged(old, rows)})


if __name__ == "__main__":
    main()
