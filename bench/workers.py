"""One library in one process: prepares a workload, then times it whenever it is asked.

Run by the benchmarks as ``python workers.py LIBRARY WORKLOAD KIND``. Each line ``STEPS`` on standard
input is answered by the seconds per step on standard output.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from workloads import WORKLOADS, Workload

Run = Callable[[int], None]  # runs that many steps


def handmill_train(w: Workload) -> Run:
    import handmill

    x, y = w.data()
    layers = handmill.layers
    model = handmill.Sequential([handmill.Input((w.units[0],))])
    for n in w.units[1:-1]:
        model.add(layers.Dense(n, activation="relu"))
    model.add(layers.Dense(w.units[-1], activation="softmax"))
    model.compile(w.optimizer, "sparse_categorical_crossentropy")
    per_epoch = w.rows // w.batch

    def run(steps: int) -> None:
        model.fit(x, y, batch_size=w.batch, epochs=max(1, steps // per_epoch), verbose=0)

    return run


def torch_train(w: Workload, compiled: bool = False) -> Run:
    import torch

    torch.manual_seed(0)
    x, y = (torch.from_numpy(a) for a in w.data())
    layers: list[torch.nn.Module] = []
    for k, n in zip(w.units, w.units[1:], strict=False):
        layers += [torch.nn.Linear(k, n), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    makers = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimizer = makers[w.optimizer](model.parameters(), lr=1e-3, fused=True)
    loss_of = torch.nn.CrossEntropyLoss()
    forward = torch.compile(model) if compiled else model

    def run(steps: int) -> None:
        done = 0
        while done < steps:
            order = torch.randperm(w.rows)
            for start in range(0, w.rows - w.batch + 1, w.batch):
                if done == steps:
                    return
                rows = order[start : start + w.batch]
                optimizer.zero_grad(set_to_none=True)
                loss = loss_of(forward(x[rows]), y[rows])
                loss.backward()
                optimizer.step()
                done += 1

    return run


def torch_compile_train(w: Workload) -> Run:
    return torch_train(w, compiled=True)


def jax_train(w: Workload) -> Run:
    import jax
    import jax.numpy as jnp
    import numpy as np

    x, y = w.data()
    rng = np.random.default_rng(0)
    sizes = list(zip(w.units, w.units[1:], strict=False))
    weights = [
        (jnp.asarray(rng.normal(size=(k, n)) * (2 / k) ** 0.5, jnp.float32), jnp.zeros(n))
        for k, n in sizes
    ]
    zeros = jax.tree.map(jnp.zeros_like, weights)
    state = (weights, zeros, zeros, 0)

    def loss_of(weights: list, x: jax.Array, y: jax.Array) -> jax.Array:
        for i, (kernel, bias) in enumerate(weights):
            x = x @ kernel + bias
            x = jax.nn.relu(x) if i + 1 < len(weights) else jax.nn.log_softmax(x)
        return -jnp.take_along_axis(x, y[:, None], axis=1).mean()

    def step(state: tuple, x: jax.Array, y: jax.Array) -> tuple:
        weights, m, v, t = state
        gradient = jax.grad(loss_of)(weights, x, y)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
        alpha = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        weights = jax.tree.map(
            lambda p, m, v: p - alpha * m / (jnp.sqrt(v) + 1e-7), weights, m, v
        )
        return weights, m, v, t

    compiled = jax.jit(step, donate_argnums=0)

    def run(steps: int) -> None:
        nonlocal state
        done = 0
        while done < steps:
            order = rng.permutation(w.rows)
            for start in range(0, w.rows - w.batch + 1, w.batch):
                if done == steps:
                    break
                rows = order[start : start + w.batch]
                state = compiled(state, x[rows], y[rows])  # dispatched asynchronously
                done += 1
        jax.block_until_ready(state)

    return run


def keras_train(w: Workload) -> Run:
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    x, y = w.data()
    model = keras.Sequential([keras.Input((w.units[0],))])
    for n in w.units[1:-1]:
        model.add(keras.layers.Dense(n, activation="relu"))
    model.add(keras.layers.Dense(w.units[-1], activation="softmax"))
    model.compile(w.optimizer, "sparse_categorical_crossentropy")
    per_epoch = w.rows // w.batch

    def run(steps: int) -> None:
        model.fit(x, y, batch_size=w.batch, epochs=max(1, steps // per_epoch), verbose=0)

    return run


def sklearn_train(w: Workload) -> Run:
    import warnings

    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore")
    x, y = w.data()
    per_epoch = w.rows // w.batch
    model = MLPClassifier(
        w.units[1:-1], batch_size=w.batch, alpha=0.0, tol=0.0, n_iter_no_change=10**9,
        warm_start=True, max_iter=1,
    )

    def run(steps: int) -> None:
        model.set_params(max_iter=max(1, steps // per_epoch))
        model.fit(x, y)

    return run


LIBRARIES: dict[str, Callable[[Workload], Run]] = {
    "handmill": handmill_train,
    "torch": torch_train,
    "torch.compile": torch_compile_train,
    "jax": jax_train,
    "keras (jax)": keras_train,
    "scikit-learn": sklearn_train,
}


def main() -> None:
    library, workload = sys.argv[1:3]
    w = WORKLOADS[workload]
    run = LIBRARIES[library](w)
    per_epoch = w.rows // w.batch
    run(2 * per_epoch)  # warm-up: traces, compilations, caches
    print("ready", flush=True)
    for line in sys.stdin:
        epochs = max(1, int(line) // per_epoch)
        start = time.perf_counter()
        run(epochs * per_epoch)
        print((time.perf_counter() - start) / (epochs * per_epoch), flush=True)


if __name__ == "__main__":
    main()
