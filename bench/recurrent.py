"""Times training steps of recurrent networks beside torch's, in turns, from the same weights.

    python bench/recurrent.py [--only lstm,bilstm] [--rounds 9] [--steps 4] [--keras]

``lstm``: 128 units, 32 inputs, 100 steps, batches of 64, the last output into one unit, mean
squared error, Adam. ``lstm_dropout`` (recurrent dropout), ``lstm_masked`` (random lengths and
holes) and ``lstm_both`` (a second direction) are compared with ``lstm`` itself. ``bilstm``: IMDB's
two layers of 2 x 64 on vectors of 128 for 20,000 words, 200 steps, batches of 32. Prints
medians, and ratios of medians with their 90 % intervals (bootstrap over rounds).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import parser

import handmill

B, T, UNITS, FEATURES = 64, 100, 128, 32
WORDS, LONG, WIDE = 20_000, 200, 128

Step = Callable[[], Any]


def sequences() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(B, T, FEATURES)).astype("float32"), rng.normal(size=(B, 1)).astype("f")


def texts() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(1, WORDS, (32, LONG)), rng.integers(0, 2, (32, 1)).astype("float32")


def keras_model(library: Any, name: str) -> Any:
    """The network, of handmill or Keras."""
    layers = library.layers
    if name == "bilstm":
        inputs = library.Input((LONG,), dtype="int32")
        x = layers.Embedding(WORDS, WIDE)(inputs)
        x = layers.Bidirectional(layers.LSTM(64, return_sequences=True))(x)
        x = layers.Bidirectional(layers.LSTM(64))(x)
        loss = "binary_crossentropy"
        outputs = layers.Dense(1, activation="sigmoid")(x)
    else:
        inputs = library.Input((T, FEATURES))
        x = layers.Masking()(inputs) if name == "lstm_masked" else inputs
        layer = layers.LSTM(UNITS, recurrent_dropout=0.2 if name == "lstm_dropout" else 0.0)
        x = layers.Bidirectional(layer)(x) if name == "lstm_both" else layer(x)
        loss = "mse"
        outputs = layers.Dense(1)(x)
    model = library.Model(inputs, outputs)
    model.compile(library.optimizers.Adam(1e-3), loss)
    return model


def keras_step(library: Any, name: str) -> Step:
    """A training step on one batch."""
    model = keras_model(library, name)
    x, y = texts() if name == "bilstm" else sequences()
    if name == "lstm_masked":
        rng = np.random.default_rng(1)
        lengths = rng.integers(T // 2, T + 1, B)
        x[np.arange(T) >= lengths[:, None]] = 0.0
        x[rng.random((B, T)) < 0.1] = 0.0
    return lambda: model.train_on_batch(x, y)


def torch_step(name: str) -> Step:
    """The same of torch, eager."""
    import torch

    torch.set_num_threads(handmill.config.num_threads())

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(WORDS, WIDE) if name == "bilstm" else None
            both = name in ("bilstm", "lstm_both")
            self.rnn = (
                torch.nn.LSTM(WIDE, 64, 2, batch_first=True, bidirectional=True)
                if name == "bilstm"
                else torch.nn.LSTM(FEATURES, UNITS, batch_first=True, bidirectional=both)
            )
            self.last = torch.nn.Linear(UNITS * (2 if name == "lstm_both" else 1), 1)

        def forward(self, x: Any) -> Any:
            if self.words is not None:
                x = self.words(x)
            _, (h, _) = self.rnn(x)
            h = torch.cat([h[-2], h[-1]], 1) if self.rnn.bidirectional else h[-1]
            return self.last(h)

    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, foreach=True)
    x, y = (torch.from_numpy(a) for a in (texts() if name == "bilstm" else sequences()))
    loss_of = torch.nn.functional.mse_loss
    if name == "bilstm":
        loss_of = torch.nn.functional.binary_cross_entropy_with_logits

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(net(x), y).backward()
        optimizer.step()

    return step


def times_of(steps: dict[str, Step], rounds: int, count: int) -> dict[str, np.ndarray]:
    """Seconds a step, one number a round; in each round all, one after the other."""
    for step in steps.values():
        step()
        step()
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            for _ in range(count):
                step()
            found[name].append((time.perf_counter() - begin) / count)
    return {name: np.array(values) for name, values in found.items()}


def ratio(a: np.ndarray, b: np.ndarray) -> str:
    """How much longer ``a`` takes than ``b``."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(a), (2000, len(a)))
    ratios = np.median(a[picks], 1) / np.median(b[picks], 1)
    low, high = np.percentile(ratios, [5, 95])
    return f"{np.median(a) / np.median(b):.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Measures what was asked for."""
    arguments = parser(__doc__)
    arguments.add_argument("--only", default="lstm,lstm_dropout,lstm_masked,lstm_both,bilstm")
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--steps", type=int, default=4)
    arguments.add_argument("--keras", action="store_true", help="beside Keras on torch, too")
    options = arguments.parse_args()
    wanted = options.only.split(",")
    steps = {f"handmill {name}": keras_step(handmill, name) for name in wanted}
    for name in wanted:
        if name in ("lstm", "lstm_both", "bilstm"):
            steps[f"torch {name}"] = torch_step(name)
    if options.keras and "bilstm" in wanted:
        os.environ["KERAS_BACKEND"] = "torch"
        import keras

        steps["keras bilstm"] = keras_step(keras, "bilstm")
    if options.smoke:
        options.rounds, options.steps = 2, 1
    found = times_of(steps, options.rounds, options.steps)
    for name, values in found.items():
        own = found[f"handmill {name.split()[1]}"]
        line = f"{name:24}{1e3 * np.median(values):9.2f} ms"
        if not name.startswith("handmill"):
            line += f"   {ratio(values, own)} times ours"
        elif name != "handmill lstm" and name != "handmill bilstm" and "handmill lstm" in found:
            line += f"   {ratio(own, found['handmill lstm'])} times the plain one"
        print(line, flush=True)


if __name__ == "__main__":
    main()
