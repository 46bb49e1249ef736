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
    def layers(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each layer."""
        return list(zip(self.units, self.units[1:], strict=False))

    @property
    def steps_per_epoch(self) -> int:
        return self.rows // self.batch

    @property
    def train_flops(self) -> int:
        """Forward, dW and, behind the first layer, dX: 2*M*N*K each."""
        flops = 0
        for i, (k, n) in enumerate(self.layers):
            flops += 2 * self.batch * k * n * (2 if i == 0 else 3)
        return flops

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Random features in [-0.5, 0.5), labelled by a linear teacher; the same for everybody."""
        rng = np.random.default_rng(0)
        x = rng.random((self.rows, self.units[0]), dtype=np.float32) - np.float32(0.5)
        teacher = rng.standard_normal((self.units[0], self.units[-1]), np.float32)
        return x, np.argmax(x @ teacher, axis=1)

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Kernel (inputs, outputs) and bias of each layer to start from."""
        rng = np.random.default_rng(1)
        return [
            (rng.standard_normal((k, n), np.float32) * np.float32((2 / k) ** 0.5),
             np.zeros(n, np.float32))
            for k, n in self.layers
        ]  # fmt: skip


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
