"""What a product of 512^3 costs after one in another library, by the time since then.

    python bench/beside_numpy.py [--after numpy|torch] [--library handmill|torch|numpy]

A product leaves the threads of its library spinning, which take a core for a time slice now and
then. Medians and means in ms, two threads.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import parser, warn_if_busy

EXTENT = 512
EDGES = (0, 5, 10, 20, 40, 80, 120, 160)  # ms
WATCHED = 0.2  # seconds


def product(library: str, a: Any, b: Any) -> Callable[[], Any]:
    if library == "handmill":
        from handmill import ops

        return lambda: ops.matmul(a, b)
    if library == "torch":
        import torch

        x, y = torch.from_numpy(a), torch.from_numpy(b)
        return lambda: torch.mm(x, y)
    return lambda: a @ b


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--library", default="handmill", choices=("handmill", "torch", "numpy"))
    arguments.add_argument("--after", default="numpy", choices=("numpy", "torch"))
    arguments.add_argument("--rounds", type=int, default=12)
    options = arguments.parse_args()
    warn_if_busy()
    a = np.random.default_rng(0).standard_normal((EXTENT, EXTENT), np.float32)
    b = np.ascontiguousarray(a.T)
    call, other = product(options.library, a, b), product(options.after, a, b)
    for _ in range(50):
        call()
    time.sleep(0.3)
    quiet = statistics.median(timed(call) for _ in range(100))
    found: list[list[float]] = [[] for _ in EDGES]
    for _ in range(2 if options.smoke else options.rounds):
        time.sleep(0.3)
        for _ in range(20):
            call()
        other()
        other()
        start = time.perf_counter()
        while (since := time.perf_counter() - start) < WATCHED:
            found[sum(since * 1e3 >= edge for edge in EDGES) - 1].append(timed(call))
    print(f"{options.library} after {options.after}, quiet {quiet:.2f}")
    for edge, times in zip(EDGES, found, strict=True):
        if times:
            median, mean = statistics.median(times), statistics.fmean(times)
            print(f"  from {edge:3d} ms: median {median:.2f}, mean {mean:.2f}")


if __name__ == "__main__":
    main()
