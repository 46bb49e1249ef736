"""JAX: jitted steps dispatched without waiting, or a whole epoch as one program."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.inspection.benchmarks.job import Job, Run, batches
from handmill.inspection.benchmarks.workloads import MOMENTUM, WEIGHT_DECAY, Workload
from handmill.ir.op import Array

EPSILON = 1e-7


def make_loss(w: Workload) -> Any:
    """The loss of weights and a batch."""
    import jax
    import jax.numpy as jnp

    activation = {
        "relu": jax.nn.relu,
        "tanh": jnp.tanh,
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "elu": jax.nn.elu,
    }[w.activation]

    def loss_of(weights: list[Any], x: Any, y: Any) -> Any:
        for i, (kernel, bias) in enumerate(weights):
            x = x @ kernel + bias
            if i + 1 < len(weights):
                x = activation(x)
        if w.loss == "mse":
            return jnp.square(x - y).mean()
        if w.loss == "binary_crossentropy":
            return (jax.nn.softplus(x) - x * y).mean()
        return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], axis=1).mean()

    return loss_of


def make_optimizer(w: Workload, weights: Any) -> tuple[Any, Any]:
    """The slots at the start, and a function (weights, slots, gradient) -> (weights, slots)."""
    import jax
    import jax.numpy as jnp

    rate, each = w.learning_rate, jax.tree.map

    def filled(value: float) -> Any:
        return each(lambda p: jnp.full_like(p, value), weights)

    def adam(p: Any, slots: Any, g: Any) -> Any:
        m, v, t = slots
        t = t + 1
        m = each(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = each(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        alpha = rate * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        keep = 1 - rate * WEIGHT_DECAY if w.optimizer == "adamw" else 1.0
        p = each(lambda p, m, v: p * keep - alpha * m / (jnp.sqrt(v) + EPSILON), p, m, v)
        return p, (m, v, t)

    def momentum(p: Any, m: Any, g: Any) -> Any:
        m = each(lambda m, g: MOMENTUM * m - rate * g, m, g)
        return each(jnp.add, p, m), m

    def rmsprop(p: Any, v: Any, g: Any) -> Any:
        v = each(lambda v, g: 0.9 * v + 0.1 * g * g, v, g)
        return each(lambda p, v, g: p - rate * g * jax.lax.rsqrt(v + EPSILON), p, v, g), v

    def adagrad(p: Any, s: Any, g: Any) -> Any:
        s = each(lambda s, g: s + g * g, s, g)
        return each(lambda p, s, g: p - rate * g * jax.lax.rsqrt(s + EPSILON), p, s, g), s

    step = jnp.zeros((), jnp.int32)
    made: Any = {
        "adam": lambda: ((filled(0.0), filled(0.0), step), adam),
        "adamw": lambda: ((filled(0.0), filled(0.0), step), adam),
        "momentum": lambda: (filled(0.0), momentum),
        "rmsprop": lambda: (filled(0.0), rmsprop),
        "adagrad": lambda: (filled(0.1), adagrad),
    }[w.optimizer]
    return made()  # type: ignore[no-any-return]


def train(w: Workload, scanned: bool = False) -> Job:
    """Steps dispatched one by one without waiting, or ``scanned``: an epoch as one program."""
    import jax
    import jax.numpy as jnp

    x, y = w.data()
    if y.dtype == np.int64:
        y = y.astype(np.int32)
    x_device, y_device = jnp.asarray(x), jnp.asarray(y)
    rng = np.random.default_rng(0)
    weights = jax.tree.map(jnp.asarray, w.weights())
    loss_of = make_loss(w)
    slots, update = make_optimizer(w, weights)
    state = (weights, slots)

    def step(state: Any, x: Any, y: Any) -> Any:
        weights, slots = state
        return update(weights, slots, jax.grad(loss_of)(weights, x, y))

    def gathering_step(state: Any, x: Any, y: Any, rows: Any) -> Any:
        return step(state, x[rows], y[rows])

    def epoch(state: Any, x: Any, y: Any, order: Array) -> Any:
        return jax.lax.scan(
            lambda state, rows: (gathering_step(state, x, y, rows), None), state, order
        )[0]

    plain = jax.jit(step, donate_argnums=0)
    gathering = jax.jit(gathering_step, donate_argnums=0)
    scanning = jax.jit(epoch, donate_argnums=0)

    def run_plain(steps: int) -> None:
        nonlocal state
        for rows in batches(w.rows, w.batch, rng, steps):
            state = plain(state, x[rows], y[rows])
        jax.block_until_ready(state)

    def run_gathering(steps: int) -> None:
        nonlocal state
        for rows in batches(w.rows, w.batch, rng, steps):
            state = gathering(state, x_device, y_device, rows)
        jax.block_until_ready(state)

    def run_scanning(steps: int) -> None:
        nonlocal state
        for _ in range(max(1, steps // w.steps_per_epoch)):
            order = rng.permutation(w.rows)[: w.steps_per_epoch * w.batch]
            order = order.reshape(w.steps_per_epoch, w.batch)
            state = scanning(state, x_device, y_device, order)
        jax.block_until_ready(state)

    ways: dict[str, Run] = {"jit": run_plain, "jit with gather": run_gathering}
    if scanned:
        ways = {"scan over an epoch": run_scanning}
    loss = jax.jit(loss_of)
    return Job(ways, lambda: float(loss(state[0], x_device, y_device)), w.steps_per_epoch)


def train_scanned(w: Workload) -> Job:
    """An epoch as one program."""
    return train(w, scanned=True)
