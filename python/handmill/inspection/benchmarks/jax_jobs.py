"""JAX: jitted steps dispatched without waiting, or a whole epoch as one program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from handmill.inspection.benchmarks.job import SHUFFLE_SEED, Job, Run, batches
from handmill.inspection.benchmarks.networks import (
    NORMALIZATION_EPSILON,
    NORMALIZATION_MOMENTUM,
    Activation,
    Convolution,
    Dense,
    Depthwise,
    GlobalAverage,
    Layer,
    MaxPooling,
    Network,
    Normalization,
    Residual,
)
from handmill.inspection.benchmarks.workloads import MOMENTUM, WEIGHT_DECAY, Workload
from handmill.ir.op import Array

EPSILON = 1e-7


Weights = list[tuple[Any, ...]]


def make_loss(w: Workload, training: bool = True) -> Any:
    """The loss of trained weights, statistics and a batch, and the statistics behind the step.

    Statistics are the moving means and variances of normalizations, which are as long a list as
    the trained weights, empty at the other layers.
    """
    import jax
    import jax.numpy as jnp

    def loss_of(trained: Weights, statistics: Weights, x: Any, y: Any) -> Any:
        moved: Weights = []
        x = _outputs(w.logits, x, zip(trained, statistics, strict=True), moved, training)
        if w.loss == "mse":
            return jnp.square(x - y).mean(), moved
        if w.loss == "binary_crossentropy":
            return (jax.nn.softplus(x) - x * y).mean(), moved
        return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], axis=1).mean(), moved

    return loss_of


def _outputs(
    network: Network, x: Any, weights: Iterator[Any], moved: Weights, training: bool
) -> Any:
    """What the network makes of ``x``; the statistics behind the step are appended to ``moved``."""
    for layer in network:
        if isinstance(layer, Residual):
            branch = _outputs(layer.branch, x, weights, moved, training)
            x = branch + _outputs(layer.shortcut, x, weights, moved, training)
        elif isinstance(layer, (Dense, Convolution, Depthwise)):
            trained, statistics = next(weights)
            moved.append(statistics)
            x = _product(layer, x, *trained)
        elif isinstance(layer, Normalization):
            trained, statistics = next(weights)
            if training:
                x, statistics = _normalized_by_batch(x, *trained, *statistics)
            else:
                x = _normalized(x, *trained, *statistics)
            moved.append(statistics)
        else:
            x = _plain(layer, x)
    return x


def _activated(name: str, x: Any) -> Any:
    import jax
    import jax.numpy as jnp

    return {
        "linear": lambda x: x,
        "relu": jax.nn.relu,
        "tanh": jnp.tanh,
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "elu": jax.nn.elu,
    }[name](x)


def _product(layer: Dense | Convolution | Depthwise, x: Any, kernel: Any, bias: Any = None) -> Any:
    import jax

    if isinstance(layer, Dense):
        y = x @ kernel
    else:
        groups = 1
        if isinstance(layer, Depthwise):
            kernel, groups = kernel.transpose(0, 1, 3, 2), x.shape[-1]
        y = jax.lax.conv_general_dilated(
            x, kernel, (layer.strides,) * 2, layer.padding.upper(),
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
        )  # fmt: skip
    y = y if bias is None else y + bias
    return y if isinstance(layer, Depthwise) else _activated(layer.activation, y)


def _normalized(x: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> Any:
    import jax

    return (x - mean) * (gamma * jax.lax.rsqrt(variance + NORMALIZATION_EPSILON)) + beta


def _normalized_by_batch(x: Any, gamma: Any, beta: Any, *moving: Any) -> tuple[Any, Any]:
    found = x.mean((0, 1, 2)), x.var((0, 1, 2))
    keep = NORMALIZATION_MOMENTUM
    moved = tuple(keep * m + (1 - keep) * f for m, f in zip(moving, found, strict=True))
    return _normalized(x, gamma, beta, *found), moved


def _plain(layer: Layer, x: Any) -> Any:
    import jax
    import jax.numpy as jnp

    if isinstance(layer, Activation):
        return _activated(layer.name, x)
    if isinstance(layer, MaxPooling):
        window = (1, layer.size, layer.size, 1)
        strides = (1, layer.strides, layer.strides, 1)
        return jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, window, strides, layer.padding.upper()
        )  # fmt: skip
    return x.mean((1, 2)) if isinstance(layer, GlobalAverage) else x.reshape(len(x), -1)


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
    rng = np.random.default_rng(SHUFFLE_SEED)
    weights = jax.tree.map(jnp.asarray, w.weights())
    trained = [arrays[:2] for arrays in weights]  # behind them, those of a normalization move
    slots, update = make_optimizer(w, trained)
    gradient_of = jax.grad(make_loss(w), has_aux=True)
    state = (trained, slots, [arrays[2:] for arrays in weights])

    def step(state: Any, x: Any, y: Any) -> Any:
        trained, slots, statistics = state
        gradient, statistics = gradient_of(trained, statistics, x, y)
        return (*update(trained, slots, gradient), statistics)

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
    loss_of = jax.jit(make_loss(w, training=False))

    def check() -> float:
        trained, _, statistics = state
        return float(loss_of(trained, statistics, x_device, y_device)[0])

    return Job(ways, check, w.steps_per_epoch)


def train_scanned(w: Workload) -> Job:
    """An epoch as one program."""
    return train(w, scanned=True)
