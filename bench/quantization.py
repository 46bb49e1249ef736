"""Models with integer weights beside the same models in float32, in turns in one process.

    python bench/quantization.py [--only mlp,gpt2,conv,depthwise,lstm] [--isa avx2] [--rounds 9]
        [--processor] [--json F]

``mlp``: 784-512-256-10, 8 bits, scales of each row at run time. ``gpt2``: the products of one token
of GPT-2's shapes, four of the twelve blocks and the head. ``conv``: five 3x3 convolutions at 32x32
with calibrated scales. ``depthwise``: blocks of MobileNet's kind at 32x32, the same way. ``lstm``:
two layers of 128 units over 50 steps, rows and states measured. ``--processor``: processor time of
one thread, the least of the rounds, for machines on which others work. Weights are drawn; what is
timed does not depend on them.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
from common import environment, in_turns, parser, print_rows, rows_of, warn_if_busy, write_json

import handmill
from handmill import config, layers, quantizers


def mlp() -> handmill.Model:
    return handmill.Sequential(
        [
            handmill.Input((784,)),
            layers.Dense(512, "relu"),
            layers.Dense(256, "relu"),
            layers.Dense(10),
        ]
    )


def gpt2() -> handmill.Model:
    x = given = handmill.Input((768,))
    for _ in range(4):
        for width in (2304, 768, 3072, 768):
            x = layers.Dense(width)(x)
    return handmill.Model(given, layers.Dense(50257, use_bias=False)(x))


def conv() -> handmill.Model:
    inner = [
        layers.Conv2D(filters, 3, strides, padding="same", activation="relu")
        for filters, strides in ((32, 1), (32, 1), (64, 2), (64, 1), (128, 2))
    ]
    end = [layers.GlobalAveragePooling2D(), layers.Dense(10)]
    return handmill.Sequential([handmill.Input((32, 32, 3)), *inner, *end])


def depthwise() -> handmill.Model:
    inner: list[layers.Layer] = [
        layers.Conv2D(32, 3, padding="same", activation="relu", use_bias=True)
    ]
    for filters, strides in ((64, 1), (128, 2), (128, 1), (256, 2)):
        inner.append(layers.DepthwiseConv2D(3, strides=strides, padding="same", activation="relu"))
        inner.append(layers.Conv2D(filters, 1, activation="relu"))
    end = [layers.GlobalAveragePooling2D(), layers.Dense(10)]
    return handmill.Sequential([handmill.Input((32, 32, 3)), *inner, *end])


def lstm() -> handmill.Model:
    inner = [layers.LSTM(128, return_sequences=True), layers.LSTM(128), layers.Dense(10)]
    return handmill.Sequential([handmill.Input((50, 64)), *inner])


def least_processor_times(calls: dict[str, Any], rounds: int) -> dict[str, float]:
    """The least processor time of each call, in seconds; rounds take turns."""
    found = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            for _ in range(3):
                call()
            found[name] = min(found[name], (time.process_time() - start) / 3)
    return found


NETWORKS = {
    "mlp": (mlp, (1, 32, 256)),
    "gpt2": (gpt2, (1,)),
    "conv": (conv, (1, 32)),
    "depthwise": (depthwise, (1, 32)),
    "lstm": (lstm, (1, 32)),
}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", default=",".join(NETWORKS))
    arguments.add_argument("--isa", default="", help="level; default: the best")
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--processor", action="store_true", help="processor time, one thread")
    options = arguments.parse_args()
    warn_if_busy()
    if options.processor:
        config.set_num_threads(1)
    if options.isa:
        config.set_isa(options.isa)
    report = environment(options.machine)
    report["rows"] = {}
    for name in options.only.split(","):
        make, batches = NETWORKS[name]
        model, small = make(), make()
        small.set_weights(model.get_weights())
        x = np.random.default_rng(0).random((256, *model.input_shape[1:]), "float32")
        if name in ("conv", "depthwise"):
            small.quantize(config=quantizers.Int8StaticQuantizationConfig(x[:64]))
        else:
            small.quantize("int8")
        for batch in batches:
            part = x[:batch]
            calls = {"float32": partial(model, part), "int8": partial(small, part)}
            if options.processor:
                least = least_processor_times(calls, options.rounds)
                report["rows"][f"{name} {batch}"] = least
                us = {key: round(1e6 * value, 1) for key, value in least.items()}
                print(f"{name}, batch {batch}: {us} us, ratio "
                      f"{least['float32'] / least['int8']:.2f}")  # fmt: skip
                continue
            times = in_turns(calls, rounds=2 if options.smoke else options.rounds)
            rows = report["rows"][f"{name} {batch}"] = rows_of(times, "int8", 1e-6)
            print_rows(f"{name}, batch {batch}", rows, "us")
    write_json(options.json, report)


if __name__ == "__main__":
    main()
