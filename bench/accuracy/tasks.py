"""What is learned in the time-to-accuracy benchmark: the same for every library."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Split = tuple[np.ndarray, np.ndarray]
HERE = Path(__file__).resolve().parent
DIGITS = HERE.parents[1] / "python/handmill/data/datasets/digits.npz"
MNIST = Path(os.environ.get("HANDMILL_DATA", HERE.parents[2] / "shared/data")) / "mnist.npz"

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "sigmoid", "linear")
OPTIMIZERS = ("sgd", "momentum", "adagrad", "rmsprop", "adam")
TABLE_EPOCHS, TABLE_BATCH, TABLE_UNITS = 10, 32, 32


def load_mnist() -> tuple[Split, Split]:
    """Keras's file: 60,000 and 10,000 images, uint8."""
    with np.load(MNIST, allow_pickle=False) as data:
        return (data["x_train"], data["y_train"]), (data["x_test"], data["y_test"])


def load_digits() -> tuple[Split, Split]:
    """The UCI digits as handmill.datasets splits them: every fifth image is for testing."""
    with np.load(DIGITS, allow_pickle=False) as data:
        images, labels = data["images"], data["labels"]
    test = np.arange(len(labels)) % 5 == 4
    return (images[~test], labels[~test]), (images[test], labels[test])


@dataclass(frozen=True)
class Task:
    """A dense ReLU network of one hidden layer, Adam, and a rate that climbs and falls once.

    Attributes:
        load: gives training and test data, uint8.
        goal: test accuracy, mean over the seeds.
        hidden: units of the hidden layer.
        scale: what pixels are divided by.
        epochs: passes over the data.
        batch: rows of a step; the last of an epoch may have fewer.
        rate: the highest learning rate.
        torch_threads: at which torch is fastest here; 0: all.
    """

    load: Callable[[], tuple[Split, Split]]
    goal: float
    hidden: int
    scale: float
    epochs: int
    batch: int
    rate: float
    torch_threads: int

    def steps(self, rows: int) -> int:
        """All training steps."""
        return self.epochs * -(-rows // self.batch)

    def warmup(self, rows: int) -> int:
        """Steps in which the rate climbs, in a straight line from 0."""
        return self.steps(rows) // 4

    def rate_at(self, step: int, rows: int) -> float:
        """The learning rate: Keras's CosineDecay with a warm-up."""
        climbing = self.warmup(rows)
        if step < climbing:
            return self.rate * step / climbing
        falling = self.steps(rows) - climbing
        return self.rate * 0.5 * (1 + math.cos(math.pi * min(step - climbing, falling) / falling))


TASKS = {
    "mnist": Task(load_mnist, 0.98, 512, 255, 3, 128, 0.004, 0),
    "digits": Task(load_digits, 0.975, 256, 16, 20, 16, 0.02, 1),
}
