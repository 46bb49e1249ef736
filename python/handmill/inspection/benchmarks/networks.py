"""Networks as records of layers, which each library of the benchmarks builds in its own way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from handmill.ir.op import Array

Shape = tuple[int, ...]
"""Of a row: (features,), or (height, width, channels)."""
Network = tuple["Layer", ...]

NORMALIZATION_EPSILON = 1e-3
NORMALIZATION_MOMENTUM = 0.9
"""What moving statistics keep at a step."""


@dataclass(frozen=True)
class Layer:
    """What the layers have in common; alone, it changes nothing."""

    def output(self, shape: Shape) -> Shape:
        """The shape behind the layer."""
        return shape

    def weights(self, shape: Shape, rng: np.random.Generator) -> tuple[Array, ...]:
        """What it starts from, in the order and the shapes of Keras."""
        return ()

    def flops(self, shape: Shape) -> int:
        """Of the products of one row, forward."""
        return 0


@dataclass(frozen=True)
class Dense(Layer):
    """x @ kernel + bias, and an activation."""

    units: int
    activation: str = "linear"

    def output(self, shape: Shape) -> Shape:
        return (self.units,)

    def weights(self, shape: Shape, rng: np.random.Generator) -> tuple[Array, ...]:
        return _kernel(rng, (*shape, self.units), shape[0]), np.zeros(self.units, np.float32)

    def flops(self, shape: Shape) -> int:
        return 2 * shape[0] * self.units


@dataclass(frozen=True)
class Activation(Layer):
    """An activation by itself."""

    name: str


@dataclass(frozen=True)
class Flatten(Layer):
    """A vector of (height, width, channels), the channels next to each other."""

    def output(self, shape: Shape) -> Shape:
        return (int(np.prod(shape)),)


@dataclass(frozen=True)
class GlobalAverage(Layer):
    """The mean of each channel."""

    def output(self, shape: Shape) -> Shape:
        return shape[-1:]


@dataclass(frozen=True)
class Normalization(Layer):
    """Batch normalization of the channels: gamma, beta, and the moving mean and variance."""

    def weights(self, shape: Shape, rng: np.random.Generator) -> tuple[Array, ...]:
        channels = shape[-1]
        gamma, variance = rng.uniform(0.8, 1.2, (2, channels)).astype(np.float32)
        beta, mean = rng.uniform(-0.2, 0.2, (2, channels)).astype(np.float32)
        return gamma, beta, mean, variance


@dataclass(frozen=True)
class Windows(Layer):
    """Layers that look at windows of an image.

    Attributes:
        size: of a window, both ways.
        strides: from one window to the next, both ways.
        padding: ``"valid"`` or ``"same"``, as Keras pads: the odd pixel behind.
    """

    size: int = 3
    strides: int = 1
    padding: str = "same"

    def output(self, shape: Shape) -> Shape:
        return (*(self._positions(extent) for extent in shape[:2]), shape[2])

    def _positions(self, extent: int) -> int:
        covered = extent if self.padding == "same" else extent - self.size + 1
        return -(-covered // self.strides)

    def pads(self, shape: Shape) -> list[tuple[int, int]]:
        """Pixels before and behind, for height and width."""
        if self.padding == "valid":
            return [(0, 0), (0, 0)]
        found = []
        for extent in shape[:2]:
            reach = (self._positions(extent) - 1) * self.strides + self.size
            total = max(0, reach - extent)
            found.append((total // 2, total - total // 2))
        return found


@dataclass(frozen=True)
class MaxPooling(Windows):
    """The largest of each window."""

    size: int = 2
    strides: int = 2
    padding: str = "valid"


@dataclass(frozen=True)
class Convolution(Windows):
    """Windows of all channels times a kernel, and an activation."""

    filters: int = 0
    activation: str = "linear"
    bias: bool = True

    def output(self, shape: Shape) -> Shape:
        return (*super().output(shape)[:2], self.filters)

    def weights(self, shape: Shape, rng: np.random.Generator) -> tuple[Array, ...]:
        taps = self.size**2 * shape[2]
        kernel = _kernel(rng, (self.size, self.size, shape[2], self.filters), taps)
        return (kernel, np.zeros(self.filters, np.float32)) if self.bias else (kernel,)

    def flops(self, shape: Shape) -> int:
        return 2 * self.size**2 * shape[2] * int(np.prod(self.output(shape)))


@dataclass(frozen=True)
class Depthwise(Windows):
    """Windows of each channel times a kernel of its own, without a bias."""

    def weights(self, shape: Shape, rng: np.random.Generator) -> tuple[Array, ...]:
        return (_kernel(rng, (self.size, self.size, shape[2], 1), self.size**2),)

    def flops(self, shape: Shape) -> int:
        return 2 * self.size**2 * int(np.prod(self.output(shape)))


@dataclass(frozen=True)
class Residual(Layer):
    """The sum of two branches from the same input; an empty one is the input."""

    branch: Network
    shortcut: Network = ()

    def output(self, shape: Shape) -> Shape:
        for layer in self.branch:
            shape = layer.output(shape)
        return shape


def _kernel(rng: np.random.Generator, shape: Shape, inputs: int) -> Array:
    kernel: Array = rng.standard_normal(shape, np.float32) * np.float32((2 / inputs) ** 0.5)
    return kernel


def walk(network: Network, shape: Shape) -> Iterator[tuple[Layer, Shape]]:
    """Every layer with the shape before it; in a residual, the branch, then the shortcut."""
    for layer in network:
        if isinstance(layer, Residual):
            yield from walk(layer.branch, shape)
            yield from walk(layer.shortcut, shape)
        else:
            yield layer, shape
        shape = layer.output(shape)


def normalized(layer: Layer) -> Network:
    """A layer, batch normalization and relu."""
    return (layer, Normalization(), Activation("relu"))


def convnet() -> Network:
    """Two convolutions, each before a pooling."""
    return (
        Convolution(filters=32, padding="valid", activation="relu"),
        MaxPooling(),
        Convolution(filters=64, padding="valid", activation="relu"),
        MaxPooling(),
        Flatten(),
    )


def resnet8() -> Network:
    """The residual network of MLPerf Tiny."""

    def block(filters: int, strides: int) -> Network:
        branch = (
            *normalized(Convolution(filters=filters, strides=strides, bias=False)),
            Convolution(filters=filters, bias=False),
            Normalization(),
        )
        shortcut = (Convolution(1, strides, filters=filters),) if strides > 1 else ()
        return (Residual(branch, shortcut), Activation("relu"))

    return (
        *normalized(Convolution(filters=16, bias=False)),
        *block(16, 1),
        *block(32, 2),
        *block(64, 2),
        GlobalAverage(),
    )


def mobile() -> Network:
    """Four depthwise separable convolutions behind a strided one, as MobileNet has them."""
    layers = normalized(Convolution(strides=2, filters=32, bias=False))
    for filters, strides in ((64, 1), (128, 2), (128, 1), (256, 2)):
        layers += normalized(Depthwise(strides=strides))
        layers += normalized(Convolution(1, filters=filters, bias=False))
    return (*layers, GlobalAverage())


def vgg() -> Network:
    """Three pairs of 3x3 convolutions, each before a pooling."""
    layers: Network = ()
    for filters in (64, 128, 256):
        layers += (Convolution(filters=filters, activation="relu"),) * 2
        layers += (MaxPooling(),)
    return (*layers, GlobalAverage())
