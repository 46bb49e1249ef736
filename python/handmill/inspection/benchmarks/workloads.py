"""The models that the benchmarks train and run, and the data they use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from handmill.inspection.benchmarks.networks import (
    Dense,
    Network,
    Shape,
    convnet,
    mobile,
    resnet8,
    vgg,
    walk,
)
from handmill.ir.op import Array

WEIGHT_DECAY = 0.004
MOMENTUM = 0.9
OUTPUT_ACTIVATIONS = {
    "sparse_categorical_crossentropy": "softmax",
    "binary_crossentropy": "sigmoid",
    "mse": "linear",
}


class Workload(ABC):
    """A network and how it is trained.

    Attributes:
        name: for tables.
        batch: rows of a training step.
        rows: rows of the data set from which shuffled batches are gathered.
        optimizer: ``"adam"``, ``"adamw"``, ``"momentum"``, ``"rmsprop"`` or ``"adagrad"``, with
            Keras's defaults (and a momentum of 0.9).
        learning_rate: of the optimizer.
        loss: ``"sparse_categorical_crossentropy"``, ``"binary_crossentropy"`` or ``"mse"``.
        predicted: rows of the batches whose predictions are timed.
    """

    name: str
    batch: int
    rows: int
    optimizer: str
    learning_rate: float
    loss: str
    predicted: ClassVar[tuple[int, ...]]

    @property
    @abstractmethod
    def input_shape(self) -> Shape:
        """Of a row."""

    @property
    @abstractmethod
    def body(self) -> Network:
        """The network before its last layer, which is dense."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Units of the last layer."""

    @property
    @abstractmethod
    def output_activation(self) -> str:
        """The activation of the last layer; ``"linear"``: the network ends with logits."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The network in some words."""

    @property
    def network(self) -> Network:
        """The network with its last activation."""
        return (*self.body, Dense(self.outputs, self.output_activation))

    @property
    def logits(self) -> Network:
        """The network without its last activation."""
        return (*self.body, Dense(self.outputs))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of the data set."""
        return self.rows // self.batch

    @property
    def train_flops(self) -> int:
        """Of the products forward, by the weights and, behind the first layer, by the input."""
        layers = [layer.flops(shape) for layer, shape in walk(self.logits, self.input_shape)]
        first, *others = [flops for flops in layers if flops]
        return self.batch * (2 * first + 3 * sum(others))

    def data(self) -> tuple[Array, Array]:
        """Random features in [-0.5, 0.5) and the targets of a linear teacher, for everybody."""
        rng = np.random.default_rng(0)
        x = rng.random((self.rows, *self.input_shape), dtype=np.float32) - np.float32(0.5)
        features = x.reshape(self.rows, -1)
        y = features @ rng.standard_normal((features.shape[1], self.outputs), np.float32)
        if self.loss == "mse":
            return x, np.tanh(y)
        if self.loss == "binary_crossentropy":
            return x, (y > 0).astype(np.float32)
        return x, np.argmax(y, axis=1)

    def inputs(self, batch: int) -> Array:
        """A batch for a prediction."""
        return np.ascontiguousarray(np.resize(self.data()[0], (batch, *self.input_shape)))

    def weights(self) -> list[tuple[Array, ...]]:
        """What each layer that has weights starts from, in the order of :func:`walk`."""
        rng = np.random.default_rng(1)
        every = [layer.weights(shape, rng) for layer, shape in walk(self.logits, self.input_shape)]
        return [arrays for arrays in every if arrays]


@dataclass(frozen=True)
class DenseWorkload(Workload):
    """A dense network.

    Attributes:
        units: features, then the units of each layer.
        activation: of all layers but the last: ``"relu"``, ``"tanh"``, ``"gelu"`` or ``"elu"``.
            The last one's follows from the loss: softmax, sigmoid, or none for ``"mse"``.
    """

    name: str
    units: tuple[int, ...]
    batch: int
    rows: int
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    activation: str = "relu"
    loss: str = "sparse_categorical_crossentropy"
    predicted: ClassVar[tuple[int, ...]] = (1, 7, 32, 256)

    @property
    def layers(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each layer."""
        return list(zip(self.units, self.units[1:], strict=False))

    @property
    def input_shape(self) -> Shape:
        return self.units[:1]

    @property
    def body(self) -> Network:
        return tuple(Dense(units, self.activation) for units in self.units[1:-1])

    @property
    def outputs(self) -> int:
        return self.units[-1]

    @property
    def output_activation(self) -> str:
        return OUTPUT_ACTIVATIONS[self.loss]

    @property
    def text(self) -> str:
        units = [str(u) for u in self.units]
        if len(set(self.units[1:-1])) == 1 and len(units) > 5:
            units = [units[0], f"{units[1]}x{len(units) - 2}", units[-1]]
        return f"{'-'.join(units)}, {self.activation}"


@dataclass(frozen=True)
class ImageWorkload(Workload):
    """A network of images, which ends with logits.

    Attributes:
        size: height and width of the images.
        channels: of the images.
        layers: the network before the dense layer of logits.
        classes: units of that layer.
    """

    name: str
    size: int
    channels: int
    layers: Network
    batch: int
    rows: int
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    loss: str = "sparse_categorical_crossentropy"
    classes: int = 10
    predicted: ClassVar[tuple[int, ...]] = (1, 32)

    @property
    def input_shape(self) -> Shape:
        return (self.size, self.size, self.channels)

    @property
    def body(self) -> Network:
        return self.layers

    @property
    def outputs(self) -> int:
        return self.classes

    @property
    def output_activation(self) -> str:
        return "linear"

    @property
    def text(self) -> str:
        return f"images of {'x'.join(map(str, self.input_shape))}"


DENSE = (
    DenseWorkload("tutorial", (12288, 128, 10), batch=32, rows=1024),
    DenseWorkload("mlp", (784, 512, 256, 10), batch=128, rows=8192),
    DenseWorkload("tiny", (64, 32, 10), batch=32, rows=1440),
    DenseWorkload("deep", (128, 256, 256, 256, 256, 256, 256, 10), batch=256, rows=8192),
    DenseWorkload("wide", (2048, 4096, 1000), batch=64, rows=2048, optimizer="adamw"),
)
"""The dense models of the speed table."""

SMALL = (
    DenseWorkload("tanh-momentum", (13, 32, 16, 1), 16, 1024, "momentum", 3e-3, "tanh", "mse"),
    DenseWorkload(
        "gelu-rmsprop", (30, 48, 24, 1), 32, 1536, "rmsprop", 1e-3, "gelu", "binary_crossentropy"
    ),
    DenseWorkload("elu-adagrad", (20, 40, 40, 5), 64, 2048, "adagrad", 1e-2, "elu"),
    DenseWorkload("tanh-adam", (16, 24, 16), 8, 512, "adam", 1e-3, "tanh", "mse"),
)
"""Small nets that nobody tunes for."""

IMAGES = (
    ImageWorkload("convnet", 28, 1, convnet(), batch=128, rows=1280),
    ImageWorkload("resnet8", 32, 3, resnet8(), batch=128, rows=640),
    ImageWorkload("mobile", 64, 3, mobile(), batch=64, rows=320),
    ImageWorkload("vgg", 48, 3, vgg(), batch=64, rows=256),
)
"""Networks of images, timed where they are asked for by name."""

WORKLOADS = {w.name: w for w in (*DENSE, *SMALL)}
"""What is timed unless something else is asked for."""

KNOWN: dict[str, Workload] = {w.name: w for w in (*DENSE, *SMALL, *IMAGES)}
"""Everything that can be asked for by name."""
