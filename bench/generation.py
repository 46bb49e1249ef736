"""Decoding beside the bandwidth of memory, and byte-pair encoding.

``PYTHONPATH=python python bench/generation.py [--context 64] [--layers 12]``: a GPT-2 with random
weights of the 124M shapes generates; bytes of weights a token, against a read of as much memory
measured in turns. Then 10 MB of the standard library's texts are encoded.
"""

from __future__ import annotations

import argparse
import math
import pydoc_data.topics
import statistics
import time

import numpy as np

import handmill
from handmill import _core, hub
from handmill.hub.generation.session import Session


def decode(context: int, layers: int, rounds: int) -> None:
    """Prints the time of a token, and its share of the bandwidth."""
    handmill.utils.set_random_seed(1)
    backbone = hub.models.GPT2Backbone(50257, layers, 12, 768, 3072)
    model = hub.models.GPT2CausalLM(backbone)
    weights = 4 * sum(math.prod(w.shape) for w in model.weights)
    places = 256 if context < 200 else 1024
    session = Session(model, 1, places)
    prompt = np.arange(context, dtype=np.int32)
    session.begin([prompt], places, np.zeros((1, 2), np.int64), (1, 5, 1), ())
    session.go_on(2)
    shares, times = [], []
    options = {"isa": _core.isa(), "threads": _core.num_threads(), "seconds": 0.1}
    for _ in range(rounds):
        start = time.perf_counter()
        steps = session.go_on(4, 5.0)
        times.append((time.perf_counter() - start) / steps)
        shares.append(weights / times[-1] / _core.measure_stream("read", weights, **options))
    low, middle, high = np.quantile(shares, (0.05, 0.5, 0.95))
    took = statistics.median(times)
    print(
        f"decode: {took * 1e3:.2f} ms a token (least {min(times) * 1e3:.2f}), {weights / 1e6:.0f} "
        f"MB of weights, {weights / took / 1e9:.1f} GB/s: {middle:.2f} [{low:.2f}, {high:.2f}] read"
    )


def encode() -> None:
    """Prints how fast texts become tokens."""
    topics = "\n".join(pydoc_data.topics.topics.values())
    trained = hub.tokenizers.train_byte_pair([topics], 8000)
    config = trained.get_config()
    text = (topics * (10_000_000 // len(topics) + 1))[:10_000_000]
    tokenizer = hub.tokenizers.BytePairTokenizer(**config)  # knows no word yet
    start = time.perf_counter()
    ids = tokenizer.encode(text)
    took = time.perf_counter() - start
    print(f"byte pairs: {len(text) / took / 1e6:.2f} MB/s, {len(ids)} tokens")


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    decode(options.context, options.layers, options.rounds)
    encode()


if __name__ == "__main__":
    main()
