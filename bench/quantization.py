"""Models with integer weights beside the same models in float32, in turns in one process.

    python bench/quantization.py [--only mlp,gpt2,conv] [--isa avx2] [--rounds 9] [--json F]

``mlp``: 784-512-256-10, 8 bits, scales of each row at run time. ``gpt2``: the products of one token
of GPT-2's shapes, four of the twelve blocks and the head. ``conv``: five 3x3 convolutions at 32x32
with calibrated scales. Weights are drawn; what is timed does not depend on them.
"""

from __future__ import annotations

from functools import partial

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


NETWORKS = {"mlp": (mlp, (1, 32, 256)), "gpt2": (gpt2, (1,)), "conv": (conv, (1, 32))}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", default=",".join(NETWORKS))
    arguments.add_argument("--isa", default="", help="level; default: the best")
    arguments.add_argument("--rounds", type=int, default=9)
    options = arguments.parse_args()
    warn_if_busy()
    if options.isa:
        config.set_isa(options.isa)
    report = environment(options.machine)
    report["rows"] = {}
    for name in options.only.split(","):
        make, batches = NETWORKS[name]
        model, small = make(), make()
        small.set_weights(model.get_weights())
        x = np.random.default_rng(0).random((256, *model.input_shape[1:]), "float32")
        if name == "conv":
            small.quantize(config=quantizers.Int8StaticQuantizationConfig(x[:64]))
        else:
            small.quantize("int8")
        for batch in batches:
            part = x[:batch]
            calls = {"float32": partial(model, part), "int8": partial(small, part)}
            times = in_turns(calls, rounds=2 if options.smoke else options.rounds)
            rows = report["rows"][f"{name} {batch}"] = rows_of(times, "int8", 1e-6)
            print_rows(f"{name}, batch {batch}", rows, "us")
    write_json(options.json, report)


if __name__ == "__main__":
    main()
