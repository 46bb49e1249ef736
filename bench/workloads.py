"""The models that the benchmarks train and run, and the data they use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Workload:
    """A dense classifier trained with Adam on cross-entropy.

    Attributes:
        name: for tables.
        units: features, then the units of each layer; ReLU between, softmax at the end.
        batch: rows of a training step.
        rows: rows of the data set from which shuffled batches are gathered.
        optimizer: ``"adam"``, ``"adamw"`` or ``"sgd"``.
    """

    name: str
    units: tuple[int, ...]
    batch: int
    rows: int
    optimizer: str = "adam"

    @property
    def parameters(self) -> int:
        return sum((k + 1) * n for k, n in zip(self.units, self.units[1:], strict=False))

    @property
    def train_flops(self) -> int:
        """Forward, dW and, behind the first layer, dX: 2*M*N*K each."""
        flops = 0
        for i, (k, n) in enumerate(zip(self.units, self.units[1:], strict=False)):
            flops += 2 * self.batch * k * n * (2 if i == 0 else 3)
        return flops

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Random features in [0, 1) and labels, the same for every library."""
        rng = np.random.default_rng(0)
        x = rng.random((self.rows, self.units[0]), dtype=np.float32)
        y = rng.integers(0, self.units[-1], self.rows).astype(np.int64)
        return x, y


WORKLOADS = {
    w.name: w
    for w in (
        Workload("tutorial", (12288, 128, 10), batch=32, rows=1024),
        Workload("mlp", (784, 512, 256, 10), batch=128, rows=8192),
        Workload("tiny", (64, 32, 10), batch=32, rows=1440),
        Workload("deep", (128, 256, 256, 256, 256, 256, 256, 10), batch=256, rows=8192),
    )
}
"""The four dense models of the speed table."""
