"""The models that the benchmarks train and run, and the data they use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handmill.ir.op import Array

WEIGHT_DECAY = 0.004
MOMENTUM = 0.9
OUTPUT_ACTIVATIONS = {
    "sparse_categorical_crossentropy": "softmax",
    "binary_crossentropy": "sigmoid",
    "mse": "linear",
}


@dataclass(frozen=True)
class Workload:
    """A dense network and how it is trained.

    Attributes:
        name: for tables.
        units: features, then the units of each layer.
        batch: rows of a training step.
        rows: rows of the data set from which shuffled batches are gathered.
        optimizer: ``"adam"``, ``"adamw"``, ``"momentum"``, ``"rmsprop"`` or ``"adagrad"``, with
            Keras's defaults (and a momentum of 0.9).
        learning_rate: of the optimizer.
        activation: of all layers but the last: ``"relu"``, ``"tanh"``, ``"gelu"`` or ``"elu"``.
        loss: ``"sparse_categorical_crossentropy"`` (softmax at the end), ``"binary_crossentropy"``
            (sigmoid) or ``"mse"`` (nothing).
    """

    name: str
    units: tuple[int, ...]
    batch: int
    rows: int
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    activation: str = "relu"
    loss: str = "sparse_categorical_crossentropy"

    @property
    def layers(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each layer."""
        return list(zip(self.units, self.units[1:], strict=False))

    @property
    def output_activation(self) -> str:
        """The activation of the last layer."""
        return OUTPUT_ACTIVATIONS[self.loss]

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of the data set."""
        return self.rows // self.batch

    @property
    def train_flops(self) -> int:
        """Forward, dW and, behind the first layer, dX: 2*M*N*K each."""
        flops = 0
        for i, (k, n) in enumerate(self.layers):
            flops += 2 * self.batch * k * n * (2 if i == 0 else 3)
        return flops

    def data(self) -> tuple[Array, Array]:
        """Random features in [-0.5, 0.5) and the targets of a linear teacher, for everybody."""
        rng = np.random.default_rng(0)
        x = rng.random((self.rows, self.units[0]), dtype=np.float32) - np.float32(0.5)
        teacher = rng.standard_normal((self.units[0], self.units[-1]), np.float32)
        y = x @ teacher
        if self.loss == "mse":
            return x, np.tanh(y)
        if self.loss == "binary_crossentropy":
            return x, (y > 0).astype(np.float32)
        return x, np.argmax(y, axis=1)

    def inputs(self, batch: int) -> Array:
        """A batch for a prediction."""
        return np.ascontiguousarray(np.resize(self.data()[0], (batch, self.units[0])))

    def weights(self) -> list[tuple[Array, Array]]:
        """Kernel (inputs, outputs) and bias of each layer to start from."""
        rng = np.random.default_rng(1)
        return [
            (rng.standard_normal((k, n), np.float32) * np.float32((2 / k) ** 0.5),
             np.zeros(n, np.float32))
            for k, n in self.layers
        ]  # fmt: skip


DENSE = (
    Workload("tutorial", (12288, 128, 10), batch=32, rows=1024),
    Workload("mlp", (784, 512, 256, 10), batch=128, rows=8192),
    Workload("tiny", (64, 32, 10), batch=32, rows=1440),
    Workload("deep", (128, 256, 256, 256, 256, 256, 256, 10), batch=256, rows=8192),
    Workload("wide", (2048, 4096, 1000), batch=64, rows=2048, optimizer="adamw"),
)
"""The dense models of the speed table."""

SMALL = (
    Workload("tanh-momentum", (13, 32, 16, 1), 16, 1024, "momentum", 3e-3, "tanh", "mse"),
    Workload(
        "gelu-rmsprop", (30, 48, 24, 1), 32, 1536, "rmsprop", 1e-3, "gelu", "binary_crossentropy"
    ),
    Workload("elu-adagrad", (20, 40, 40, 5), 64, 2048, "adagrad", 1e-2, "elu"),
    Workload("tanh-adam", (16, 24, 16), 8, 512, "adam", 1e-3, "tanh", "mse"),
)
"""Small nets that nobody tunes for."""

WORKLOADS = {w.name: w for w in (*DENSE, *SMALL)}
