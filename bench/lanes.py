"""Many seeds of one small network: train_many beside a loop of fit, JAX and torch.func, in turns.

    python bench/lanes.py [--seeds 64] [--epochs 10] [--rounds 7] [--jax] [--torch] [--rss]
                          [--clock cpu]

The network is 64-32-10 on the digits that ship with handmill, batches of 32, Adam. All make as many
steps (rows of whole batches alone, as a scan wants it) from their own initial weights and orders;
JAX's compilation is timed apart. Medians, and ratios of medians with the 90 % interval of 2,000
resamplings of the rounds. ``--clock cpu`` measures processor time (of all threads), which holds
better beside other work; with HANDMILL_NUM_THREADS=1 the ratio is that of one core.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

import handmill
from handmill import layers

BATCH = 32


def digits():
    (x, y), _ = handmill.datasets.digits.load_data()
    rows = len(x) // BATCH * BATCH
    return (x[:rows].reshape(-1, 64) / 16).astype("float32"), y[:rows].astype("int64")


def build(rate=0.001):
    model = handmill.Sequential(
        [handmill.Input((64,)), layers.Dense(32, "relu"), layers.Dense(10, "softmax")]
    )
    model.compile(handmill.optimizers.Adam(rate), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def ours(x, y, seeds, epochs):
    runs = handmill.train_many(build, [{}], x, y, seeds=seeds, epochs=epochs, batch_size=BATCH)
    return runs.scores("accuracy").mean()


def loop(x, y, seeds, epochs):
    found = []
    for seed in range(seeds):
        handmill.utils.set_random_seed(seed)
        model = build()
        history = model.fit(x, y, BATCH, epochs, verbose=0).history
        model.get_weights()
        found.append(history["accuracy"][-1])
    return np.mean(found)


def orders_of(rows, seeds, epochs):
    steps = rows // BATCH
    found = np.empty((seeds, epochs * steps, BATCH), np.int32)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        for epoch in range(epochs):
            order = rng.permutation(rows)[: steps * BATCH].reshape(steps, BATCH)
            found[seed, epoch * steps : (epoch + 1) * steps] = order
    return found


def initial(seeds):
    rng = np.random.default_rng(0)

    def uniform(i, o):
        limit = np.sqrt(6 / (i + o))
        return rng.uniform(-limit, limit, (seeds, i, o)).astype("float32")

    return [
        uniform(64, 32), np.zeros((seeds, 32), "float32"),
        uniform(32, 10), np.zeros((seeds, 10), "float32"),
    ]  # fmt: skip


def make_jax(x, y, seeds, epochs):
    """jit(vmap(scan over steps)), Adam written out; returns the call and its first time."""
    import jax
    import jax.numpy as jnp

    xs, ys = jnp.asarray(x), jnp.asarray(y)
    orders = jnp.asarray(orders_of(len(x), seeds, epochs))

    def loss_of(p, rows):
        h = jax.nn.relu(xs[rows] @ p[0] + p[1])
        logits = jax.nn.log_softmax(h @ p[2] + p[3])
        picked = jnp.take_along_axis(logits, ys[rows][:, None], 1)
        return -picked.mean(), (logits.argmax(1) == ys[rows]).mean()

    def step(state, rows):
        p, m, v, t = state
        (_, hits), g = jax.value_and_grad(loss_of, has_aux=True)(p, rows)
        t = t + 1
        m = [0.9 * a + 0.1 * b for a, b in zip(m, g, strict=True)]
        v = [0.999 * a + 0.001 * b * b for a, b in zip(v, g, strict=True)]
        rate = 0.001 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        p = [a - rate * b / (jnp.sqrt(c) + 1e-7) for a, b, c in zip(p, m, v, strict=True)]
        return (p, m, v, t), hits

    def one(p, order):
        zeros = [jnp.zeros_like(a) for a in p]
        state, hits = jax.lax.scan(step, (p, zeros, zeros, 0.0), order)
        return state[0], hits[-len(xs) // BATCH :].mean()

    run = jax.jit(jax.vmap(one))
    start = [jnp.asarray(a) for a in initial(seeds)]

    def call():
        weights, hits = run(start, orders)
        weights[0].block_until_ready()
        return float(hits.mean())

    begin = time.perf_counter()
    call()
    return call, time.perf_counter() - begin


def make_torch(x, y, seeds, epochs):
    """vmap(grad(functional_call)) over stacked parameters, Adam on the stack."""
    import torch
    from torch.func import functional_call, grad, vmap

    torch.set_num_threads(1)  # with two, threads of so small products wait for one another
    xs, ys = torch.from_numpy(x), torch.from_numpy(y)
    orders = torch.from_numpy(orders_of(len(x), seeds, epochs).astype("int64"))
    net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]

    def loss_of(p, a, b):
        return torch.nn.functional.cross_entropy(functional_call(net, p, (a,)), b)

    gradient = vmap(grad(loss_of))

    def call():
        arrays = [torch.from_numpy(a.copy()) for a in initial(seeds)]
        arrays = [a.transpose(1, 2).contiguous() if a.ndim == 3 else a for a in arrays]
        p = dict(zip(names, arrays, strict=True))
        optimizer = torch.optim.Adam(p.values(), lr=0.001)
        for s in range(orders.shape[1]):
            rows = orders[:, s]
            found = gradient(p, xs[rows], ys[rows])
            for name, value in p.items():
                value.grad = found[name]
            optimizer.step()
        return float(p["2.weight"].sum())

    return call


def ratio(a, b):
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(a), (2000, len(a)))
    ratios = np.median(np.asarray(b)[draws], 1) / np.median(np.asarray(a)[draws], 1)
    low, high = np.percentile(ratios, [5, 95])
    return f"{np.median(b) / np.median(a):.2f} [{low:.2f}, {high:.2f}]"


def resident():
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize() / 2**20


def watch_memory(x, y):
    """10,000 trials: what the process holds after each thousand."""
    for thousand in range(10):
        handmill.train_many(
            build, [{"rate": 0.001 + 1e-6 * (125 * thousand + i)} for i in range(125)],
            x[:64], y[:64], seeds=8, epochs=1, batch_size=BATCH, keep_weights=False,
        )  # fmt: skip
        print(f"{1000 * (thousand + 1)} trials: {resident():.1f} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jax", action="store_true")
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--rss", action="store_true")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    given = parser.parse_args()
    x, y = digits()
    if given.rss:
        watch_memory(x, y)
        return
    arguments = x, y, given.seeds, given.epochs
    calls = {"train_many": lambda: ours(*arguments), "loop of fit": lambda: loop(*arguments)}
    if given.jax:
        calls["jax"], first = make_jax(*arguments)
        print(f"jax, first call with its compilation: {first:.3f} s")
    if given.torch:
        calls["torch.func"] = make_torch(*arguments)
    clock = time.process_time if given.clock == "cpu" else time.perf_counter
    times = {name: [] for name in calls}
    for number in range(given.rounds + 1):
        for name, call in calls.items():
            begin = clock()
            call()
            if number:
                times[name].append(clock() - begin)
    for name, found in times.items():
        print(
            f"{name}: median {np.median(found) * 1e3:.1f} ms, least {min(found) * 1e3:.1f}; "
            f"times ours {ratio(times['train_many'], found)}"
        )


if __name__ == "__main__":
    main()
