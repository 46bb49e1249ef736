"""Times of models and what compress makes of them, in turns; torch's prune beside it.

    python bench/compress.py [dense|resnet8|masks|blocks|torch|least:dense|least:resnet8]

Each line: batch, microseconds of a call, times as fast, and the 2nd smallest and largest of nine
ratios. Weights are random: what is timed does not depend on them.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import handmill
from handmill import compress, layers
from handmill.compress.measuring import times_beside
from handmill.compress.sizes import raw_bytes


def dense() -> handmill.Model:
    return handmill.Sequential(
        [
            handmill.Input((784,)),
            layers.Dense(512, "relu"),
            layers.Dense(256, "relu"),
            layers.Dense(10, "softmax"),
        ]
    )


def resnet8() -> handmill.Model:
    """MLPerf Tiny's network for CIFAR-10 (Banbury et al., 2021)."""
    x = inputs = handmill.Input((32, 32, 3))

    def conv(x, filters, size, strides, active):
        x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        return layers.ReLU()(x) if active else x

    x = conv(x, 16, 3, 1, True)
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        y = conv(conv(x, filters, 3, strides, True), filters, 3, 1, False)
        if strides != 1:
            x = layers.Conv2D(filters, 1, strides, padding="same")(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return handmill.Model(inputs, layers.Dense(10, activation="softmax")(x))


def shrunk(make) -> None:
    model = make()
    half = compress.shrink(model, 0.5)
    x = np.random.default_rng(0).normal(size=(256, *model.inputs[0].shape[1:])).astype("float32")
    times = times_beside(model, half, x)
    print(f"bytes {raw_bytes(half) / raw_bytes(model):.3f} of {raw_bytes(model)}")
    for batch, seconds in times.seconds.items():
        low, high = times.low[batch], times.high[batch]
        print(
            f"{batch:4} {seconds * 1e6:9.1f} us  {times.speedup[batch]:.2f}x  {low:.2f} {high:.2f}"
        )


def least(make) -> None:
    """Ratios of the shortest of many calls, in turns: what is left where others use the machine."""
    model = make()
    half = compress.shrink(model, 0.5)
    for batch in (1, 32, 256):
        shape = (batch, *model.inputs[0].shape[1:])
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        best = [np.inf, np.inf]
        end = time.perf_counter() + 4
        i = 0
        while i < 20 or time.perf_counter() < end:
            i += 1
            for place, one in enumerate((model, half)):
                start = time.perf_counter()
                one(x, training=False)
                best[place] = min(best[place], time.perf_counter() - start)
        print(f"{batch:4} {best[0] * 1e6:9.1f} us  {best[0] / best[1]:.2f}x  (shortest of {i})")


def masks() -> None:
    """What masks cost a training step, and what unstructured zeros gain: torch's and ours."""
    x = np.random.default_rng(0).normal(size=(8192, 784)).astype("float32")
    y = np.zeros(8192, "int32")
    plain, pruned = dense(), dense()
    for model in (plain, pruned):
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(x, y, 128, verbose=0)
    compress.prune(pruned, 0.8)
    pruned.fit(x, y, 128, verbose=0)
    ratios = []
    for _ in range(9):
        pair = []
        for model in (plain, pruned):
            start = time.perf_counter()
            model.fit(x, y, 128, verbose=0)
            pair.append(time.perf_counter() - start)
        ratios.append(pair[1] / pair[0])
    ratios.sort()
    print(f"a training step with masks takes {ratios[4]:.2f} ({ratios[1]:.2f} to {ratios[-2]:.2f})")
    print("inference of 80 % zeros:", times_beside(plain, pruned, x[:256]).speedup)


def blocks() -> None:
    """What blocks of zeros gain in inference: processor time, in turns, medians and least."""
    models = {"float": dense()}
    for percent in (50, 75, 90):
        models[f"{percent} %"] = made = dense()
        compress.prune(made, percent / 100, "block")
    for threads in (1, 2):
        handmill.config.set_num_threads(threads)
        for batch in (1, 32, 256):
            x = np.random.default_rng(0).normal(size=(batch, 784)).astype("float32")
            calls = max(1, 256 // batch // threads)
            times: dict[str, list[float]] = {name: [] for name in models}
            for _ in range(21):
                for name, model in models.items():
                    start = time.process_time()
                    for _ in range(calls):
                        model(x, training=False)
                    times[name].append((time.process_time() - start) / calls * 1e6)
            own = times["float"]
            line = f"{threads} threads, batch {batch:3}: {np.median(own):7.1f} us"
            for name, taken in times.items():
                ratio = np.median(np.divide(own, taken))
                line += f"  {name}: {ratio:.2f}x (least {min(own) / min(taken):.2f}x)"
            print(line, flush=True)


def torch_prune() -> None:
    import torch
    from torch.nn.utils import prune

    def net():
        return torch.nn.Sequential(
            torch.nn.Linear(784, 512),
            torch.nn.ReLU(),
            torch.nn.Linear(512, 256),
            torch.nn.ReLU(),
            torch.nn.Linear(256, 10),
        ).eval()

    plain, half = net(), net()
    for layer in half:
        if isinstance(layer, torch.nn.Linear):
            prune.ln_structured(layer, "weight", 0.5, n=2, dim=0)
            prune.remove(layer, "weight")
    x = torch.randn(256, 784)
    ratios = []
    with torch.no_grad():
        for _ in range(11):
            pair = []
            for model in (plain, half):
                start = time.perf_counter()
                for _ in range(20):
                    model(x)
                pair.append(time.perf_counter() - start)
            ratios.append(pair[0] / pair[1])
    print(f"torch ln_structured 50 %: {sorted(ratios)[5]:.2f}x at batch 256")


if __name__ == "__main__":
    asked = sys.argv[1:] or ["dense", "resnet8", "masks"]
    for name in asked:
        print(name)
        if name == "masks":
            masks()
        elif name == "blocks":
            blocks()
        elif name == "torch":
            torch_prune()
        elif name.startswith("least:"):
            least({"dense": dense, "resnet8": resnet8}[name.partition(":")[2]])
        else:
            shrunk({"dense": dense, "resnet8": resnet8}[name])
