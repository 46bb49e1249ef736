"""Times float32 matrix products of many shapes beside NumPy and torch, in alternated processes.

    python bench/sweep_matmul.py [--threads 1] [--only squares,batch] [--isa avx2] [--json F]

How: sweeps.py. With --json the rows of shapes that were timed replace those in the file.
bench/chart.py draws it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sweeps import Job, planned, serve, sweep, sweep_parser

PEERS = ("numpy", "torch")


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
    def shape(self) -> tuple[int, int, int, str]:
        return self.M, self.N, self.K, self.transposed

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


def handmill_job(p: Product) -> Job:
    from handmill import ops
    from handmill.primitives.matmul import _product
    from handmill.runtime.function import TracedFunction

    traced = TracedFunction(
        lambda x, y: _product(x, y, "a" in p.transposed, "b" in p.transposed),
        "product", batched=False,
    )  # fmt: skip
    return planned(traced, traced.native if p.transposed else ops.matmul, list(operands(p)))


def numpy_job(p: Product) -> Job:
    a, b = operands(p)
    a, b = a.T if "a" in p.transposed else a, b.T if "b" in p.transposed else b
    return Job(np.matmul, [a, b])


def torch_job(p: Product) -> Job:
    import torch

    a, b = (torch.from_numpy(x) for x in operands(p))
    return Job(torch.mm, [a.t() if "a" in p.transposed else a, b.t() if "b" in p.transposed else b])


JOBS: dict[str, Callable[[Product], Job]] = {
    "handmill": handmill_job,
    "numpy": numpy_job,
    "torch": torch_job,
}


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        library = sys.argv[2]
        serve(library, lambda case: JOBS[library](Product(*case)))
        return
    arguments = sweep_parser(__doc__, PEERS, "avx512,avx2")
    arguments.add_argument("--largest", type=int, default=4096, help="no extent beyond it, but K")
    options = arguments.parse_args()
    most = 2.0 * options.largest**3
    sweep(__file__, options, PRODUCTS, [p for p in PRODUCTS if p.flops <= most])


if __name__ == "__main__":
    main()
