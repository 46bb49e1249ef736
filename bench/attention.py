"""Attention, and a training step of a small GPT, beside eager torch, in turns in one process.

    PYTHONPATH=python python bench/attention.py [op | step] [--rounds 9] [--only NAME] [--profile]

``op``: value and gradients of causal attention beside ``scaled_dot_product_attention``, which gets
its operands as heads of (B, N, T, H), with nothing to move. ``step``: 4 blocks of 128 with 4 heads,
128 characters of 65, 16 rows, AdamW; torch has one product for queries, keys and values, and the
fused optimizer. ``--profile`` prints where our step spends its time.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

import handmill as hm
from handmill import layers, ops, optimizers

SIZES = {  # B, T, N, H
    "char": (16, 128, 4, 32),
    "gpt2_64": (4, 64, 12, 64),
    "gpt2_256": (2, 256, 12, 64),
    "gpt2_1024": (1, 1024, 12, 64),
}
LENGTH, WIDTH, HEADS, BLOCKS, SYMBOLS, BATCH = 128, 128, 4, 4, 65, 16


class Gradients(hm.Model):
    """The gradients of attention as a program: assigned, so that nothing of it is dropped."""

    def __init__(self, arrays):
        super().__init__()
        shape = arrays[0].shape
        self.operands = [self.add_weight(shape, "zeros") for _ in range(3)]
        self.found = [self.add_weight(shape, "zeros", trainable=False) for _ in range(3)]
        self.slope = self.add_weight(shape, "zeros", trainable=False)
        for weight, array in zip([*self.operands, self.slope], arrays, strict=True):
            weight.assign(array)

    def train_step(self, data):
        with hm.GradientTape() as tape:
            y = ops.dot_product_attention(*self.operands, is_causal=True)
            loss = ops.sum(ops.multiply(y, self.slope))
        for place, gradient in zip(self.found, tape.gradient(loss, self.operands), strict=True):
            place.assign(gradient)
        return {"loss": loss}


def operator(sizes):
    """Calls of ours and of torch's, and FLOP of one (of half the scores)."""
    b, t, n, h = sizes
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(b, t, n, h)).astype("float32") for _ in range(4)]
    model = Gradients(arrays)
    model.compile("sgd")
    nothing = np.zeros((1, 1), "float32")
    q, k, v, slope = (torch.from_numpy(a.transpose(0, 2, 1, 3).copy()) for a in arrays)
    for x in (q, k, v):
        x.requires_grad_()

    def theirs():
        for x in (q, k, v):
            x.grad = None
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        (y * slope).sum().backward()

    def ours():
        model.train_on_batch(nothing)

    ours(), theirs()
    for mine, other in zip(model.found, (q, k, v), strict=True):
        want = other.grad.numpy().transpose(0, 2, 1, 3)
        assert np.abs(mine.numpy() - want).max() < 1e-4 * np.abs(want).max()
    return ours, theirs, 7 * b * n * t * t * h


class Places(layers.Layer):
    """Adds a vector for each place."""

    def build(self, input_shape):
        self.table = self.add_weight((LENGTH, WIDTH), "random_uniform")

    def call(self, inputs):
        return inputs + self.table


def gpt():
    """The model of handmill."""
    tokens = hm.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(SYMBOLS, WIDTH)(tokens)
    x = Places()(x)
    for _ in range(BLOCKS):
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        x = x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(y, y, use_causal_mask=True)
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.Dense(4 * WIDTH, activation="gelu")(y)
        x = x + layers.Dense(WIDTH)(y)
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    model = hm.Model(tokens, layers.Dense(SYMBOLS)(x))
    model.compile(
        optimizers.AdamW(1e-3, weight_decay=0.01),
        hm.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.behind = (torch.nn.LayerNorm(WIDTH) for _ in range(2))
        self.qkv, self.out = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.up, self.down = (
            torch.nn.Linear(WIDTH, 4 * WIDTH),
            torch.nn.Linear(4 * WIDTH, WIDTH),
        )

    def forward(self, x):
        b, t, c = x.shape
        parts = self.qkv(self.before(x)).split(c, dim=2)
        q, k, v = (p.view(b, t, HEADS, c // HEADS).transpose(1, 2) for p in parts)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        hidden = torch.nn.functional.gelu(self.up(self.behind(x)), approximate="tanh")
        return x + self.down(hidden)


class Twin(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = torch.nn.Embedding(SYMBOLS, WIDTH)
        self.places = torch.nn.Embedding(LENGTH, WIDTH)
        self.blocks = torch.nn.Sequential(*[Block() for _ in range(BLOCKS)])
        self.last, self.head = torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, SYMBOLS)

    def forward(self, ids):
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        return self.head(self.last(self.blocks(x)))


def step(profile):
    """Calls of ours and of torch's step, and FLOP of one."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, SYMBOLS, (BATCH, LENGTH)).astype("int32")
    y = np.roll(x, -1, axis=1)
    model, twin = gpt(), Twin()
    if profile:
        print(model.profile(x, y, batch_size=BATCH))
    optimizer = torch.optim.AdamW(twin.parameters(), 1e-3, weight_decay=0.01, fused=True)
    ids, labels = torch.from_numpy(x).long(), torch.from_numpy(y).long()

    def theirs():
        optimizer.zero_grad(set_to_none=True)
        logits = twin(ids)
        loss = torch.nn.functional.cross_entropy(logits.view(-1, SYMBOLS), labels.view(-1))
        loss.backward()
        optimizer.step()

    def ours():
        model.train_on_batch(x, y)

    weights = BLOCKS * 12 * WIDTH * WIDTH + WIDTH * SYMBOLS
    scores = BLOCKS * 14 * BATCH * HEADS * LENGTH * LENGTH * (WIDTH // HEADS) // 2
    return ours, theirs, 6 * BATCH * LENGTH * weights + scores


def in_turns(name, ours, theirs, flops, rounds):
    """Prints medians of rounds in turns, and their ratio with its 90 % interval."""
    for call in (ours, theirs):
        call()
    start = time.perf_counter()
    ours()
    count = max(1, int(0.15 / (time.perf_counter() - start)))
    times = {ours: [], theirs: []}
    for i in range(rounds):
        for call in (ours, theirs) if i % 2 else (theirs, ours):
            start = time.perf_counter()
            for _ in range(count):
                call()
            times[call].append((time.perf_counter() - start) / count)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, rounds, (2000, rounds))
    a, b = (np.array(times[call]) for call in (ours, theirs))
    low, high = np.quantile(np.median(b[drawn], 1) / np.median(a[drawn], 1), (0.05, 0.95))
    own, other = statistics.median(a), statistics.median(b)
    print(
        f"{name}: ours {own * 1e3:.2f} ms ({flops / own / 1e9:.0f} GFLOP/s), torch "
        f"{other * 1e3:.2f} ms, {other / own:.2f}x [{low:.2f}, {high:.2f}]",
        flush=True,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("kind", nargs="?", choices=("op", "step"), default="step")
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--only", default="", help="a size of op")
    options.add_argument("--profile", action="store_true")
    given = options.parse_args()
    torch.set_num_threads(hm.config.num_threads())
    if given.kind == "step":
        in_turns("step", *step(given.profile), given.rounds)
        return
    for name, sizes in SIZES.items():
        if given.only in ("", name):
            in_turns(name, *operator(sizes), given.rounds)


if __name__ == "__main__":
    main()
