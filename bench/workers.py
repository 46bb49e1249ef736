"""One library in one process: prepares a workload, then times it whenever it is asked.

Run by peers.py as ``python workers.py LIBRARY WORKLOAD train|BATCH SECONDS``, where SECONDS is how
long a way is tried. ``@ ready`` comes first, with the way that was chosen and a figure which shows
that the library does the same work as the others: the loss after some epochs, or the largest
output. Then a number of steps on standard input is answered by ``@ seconds`` a step.

Every library starts from the same weights and gathers shuffled batches from the same arrays in
memory. Where a library has several ways of doing it, each is tried and the fastest is timed.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import make_model
from workloads import WORKLOADS, Workload

Run = Callable[[int], Any]  # runs that many steps
CHECK_EPOCHS = 3


@dataclass
class Job:
    """What a library offers for a workload.

    Attributes:
        ways: how it can be run; the fastest is timed.
        check: a figure to compare with other libraries: the loss, or the largest output.
        epochs_only: whether only whole epochs can be run.
    """

    ways: dict[str, Run]
    check: Callable[[], float]
    epochs_only: bool = False


def batches(rows: int, batch: int, rng: np.random.Generator, steps: int) -> Any:
    """Row numbers of that many shuffled batches."""
    done = 0
    while done < steps:
        order = rng.permutation(rows)
        for start in range(0, rows - batch + 1, batch):
            if done == steps:
                return
            yield order[start : start + batch]
            done += 1


# Training.


def handmill_train(w: Workload) -> Job:
    x, y = w.data()
    model = make_model(w)
    model.set_weights([a for layer in w.weights() for a in layer])

    def run(steps: int) -> None:
        model.fit(x, y, batch_size=w.batch, epochs=steps // w.steps_per_epoch, verbose=0)

    return Job({"fit": run}, lambda: model.evaluate(x, y, verbose=0), epochs_only=True)


def torch_model(w: Workload) -> Any:
    import torch

    layers: list[torch.nn.Module] = []
    for kernel, bias in w.weights():
        layer = torch.nn.Linear(*kernel.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(kernel.T))
            layer.bias.copy_(torch.from_numpy(bias))
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def torch_train(w: Workload, compiled: bool = False) -> Job:
    import torch

    x, y = (torch.from_numpy(a) for a in w.data())
    model = torch_model(w)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
    cross_entropy = torch.nn.CrossEntropyLoss()

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return cross_entropy(model(x), y)

    step_loss = torch.compile(loss_of) if compiled else loss_of
    cores = torch.get_num_threads()

    def run(steps: int, threads: int) -> None:
        torch.set_num_threads(threads)
        done = 0
        while done < steps:
            for rows in torch.randperm(w.rows).split(w.batch):
                if done == steps or len(rows) < w.batch:
                    break
                optimizer.zero_grad(set_to_none=True)
                step_loss(x.index_select(0, rows), y.index_select(0, rows)).backward()
                optimizer.step()
                done += 1

    def check() -> float:
        with torch.no_grad():
            return loss_of(x, y).item()

    counts = sorted({1, cores})
    return Job({f"{n} threads": lambda steps, n=n: run(steps, n) for n in counts[::-1]}, check)


def torch_compile_train(w: Workload) -> Job:
    return torch_train(w, compiled=True)


def jax_train(w: Workload, scanned: bool = False) -> Job:
    """Steps dispatched one by one without waiting, or ``scanned``: an epoch as one program."""
    import jax
    import jax.numpy as jnp

    x, y = w.data()
    x_device, y_device = jnp.asarray(x), jnp.asarray(y.astype(np.int32))
    rng = np.random.default_rng(0)
    weights = jax.tree.map(jnp.asarray, w.weights())
    zeros = jax.tree.map(jnp.zeros_like, weights)
    state = (weights, zeros, jax.tree.map(jnp.zeros_like, weights), jnp.zeros((), jnp.int32))

    def loss_of(weights: list[Any], x: jax.Array, y: jax.Array) -> jax.Array:
        for i, (kernel, bias) in enumerate(weights):
            x = x @ kernel + bias
            x = jax.nn.relu(x) if i + 1 < len(weights) else jax.nn.log_softmax(x)
        return -jnp.take_along_axis(x, y[:, None], axis=1).mean()

    def step(state: Any, x: jax.Array, y: jax.Array) -> Any:
        weights, m, v, t = state
        gradient = jax.grad(loss_of)(weights, x, y)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
        alpha = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        weights = jax.tree.map(lambda p, m, v: p - alpha * m / (jnp.sqrt(v) + 1e-7), weights, m, v)
        return weights, m, v, t

    def gathering_step(state: Any, x: jax.Array, y: jax.Array, rows: jax.Array) -> Any:
        return step(state, x[rows], y[rows])

    def epoch(state: Any, x: jax.Array, y: jax.Array, order: jax.Array) -> Any:
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
    return Job(ways, lambda: float(loss(state[0], x_device, y_device)), epochs_only=True)


def jax_scan_train(w: Workload) -> Job:
    return jax_train(w, scanned=True)


def keras_model(w: Workload) -> Any:
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    model = keras.Sequential([keras.Input((w.units[0],))])
    for n in w.units[1:-1]:
        model.add(keras.layers.Dense(n, activation="relu"))
    model.add(keras.layers.Dense(w.units[-1], activation="softmax"))
    model.set_weights([a for layer in w.weights() for a in layer])
    return model


def keras_train(w: Workload) -> Job:
    x, y = w.data()
    model = keras_model(w)
    model.compile(w.optimizer, "sparse_categorical_crossentropy")

    def run(steps: int) -> None:
        model.fit(x, y, batch_size=w.batch, epochs=steps // w.steps_per_epoch, verbose=0)

    return Job({"fit": run}, lambda: model.evaluate(x, y, verbose=0), epochs_only=True)


def sklearn_train(w: Workload) -> Job:
    from sklearn.neural_network import MLPClassifier

    x, y = w.data()
    model = MLPClassifier(
        w.units[1:-1], batch_size=w.batch, alpha=0.0, tol=0.0, n_iter_no_change=10**9,
        max_iter=1, epsilon=1e-7,
    )  # fmt: skip
    classes = np.arange(w.units[-1])
    rng = np.random.default_rng(0)
    model.partial_fit(x[: w.batch], y[: w.batch], classes=classes)
    for (kernel, bias), k, b in zip(w.weights(), model.coefs_, model.intercepts_, strict=True):
        k[...], b[...] = kernel, bias

    def fit(steps: int) -> None:
        model.set_params(warm_start=True, max_iter=max(1, steps // w.steps_per_epoch)).fit(x, y)

    def partial_fit(steps: int) -> None:
        model.set_params(warm_start=False)
        for rows in batches(w.rows, w.batch, rng, steps):
            model.partial_fit(x[rows], y[rows])

    def check() -> float:
        likelihood = model.predict_proba(x)[np.arange(w.rows), y]
        return float(-np.log(np.maximum(likelihood, 1e-7)).mean())

    return Job({"partial_fit": partial_fit, "fit": fit}, check, epochs_only=True)


# Inference: a step is one call with a batch in memory, softmax included.


def inputs(w: Workload, batch: int) -> np.ndarray:
    return np.ascontiguousarray(np.resize(w.data()[0], (batch, w.units[0])))


def calls(call: Callable[[], Any]) -> Run:
    def run(steps: int) -> None:
        for _ in range(steps):
            call()

    return run


def largest(call: Callable[[], Any]) -> Callable[[], float]:
    return lambda: float(np.max(np.asarray(call())))


def handmill_call(w: Workload, batch: int) -> Job:
    model, x = make_model(w), inputs(w, batch)
    model.set_weights([a for layer in w.weights() for a in layer])
    return Job({"model(x)": calls(lambda: model(x))}, largest(lambda: model(x)))


def handmill_predict(w: Workload, batch: int) -> Job:
    model, x = make_model(w), inputs(w, batch)
    model.set_weights([a for layer in w.weights() for a in layer])

    def predict() -> Any:
        return model.predict(x, batch_size=batch, verbose=0)

    return Job({"predict": calls(predict)}, largest(predict))


def torch_call(w: Workload, batch: int) -> Job:
    import torch

    x = torch.from_numpy(inputs(w, batch))
    model = torch.nn.Sequential(torch_model(w), torch.nn.Softmax(-1)).eval()
    compiled = torch.compile(model)
    cores = torch.get_num_threads()

    def run(steps: int, threads: int, forward: Any) -> None:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            for _ in range(steps):
                forward(x)

    with torch.inference_mode():
        frozen = torch.jit.freeze(torch.jit.trace(model, x))
    ways = {}
    for n in sorted({1, cores})[::-1]:
        for name, forward in (("eager", model), ("compile", compiled), ("torchscript", frozen)):
            ways[f"{name}, {n} threads"] = lambda steps, n=n, f=forward: run(steps, n, f)
    return Job(ways, largest(lambda: model(x).detach()))


def onnx_model(w: Workload) -> Any:
    """The workload as an ONNX model, softmax included."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, initializers, x_name = [], [], "x"
    for i, (kernel, bias) in enumerate(w.weights()):
        initializers += [
            numpy_helper.from_array(kernel, f"w{i}"), numpy_helper.from_array(bias, f"b{i}")
        ]  # fmt: skip
        nodes.append(helper.make_node("Gemm", [x_name, f"w{i}", f"b{i}"], [f"z{i}"]))
        last = i + 1 == len(w.layers)
        nodes.append(helper.make_node("Softmax" if last else "Relu", [f"z{i}"], [f"y{i}"]))
        x_name = f"y{i}"
    graph = helper.make_graph(
        nodes, w.name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", w.units[0]])],
        [helper.make_tensor_value_info(x_name, TensorProto.FLOAT, ["batch", w.units[-1]])],
        initializers,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def onnxruntime_call(w: Workload, batch: int) -> Job:
    import onnxruntime

    model, output = onnx_model(w), f"y{len(w.layers) - 1}"
    feed = {"x": inputs(w, batch)}
    ways, sessions = {}, []
    for threads in sorted({1, os.cpu_count() or 1})[::-1]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        sessions.append(session)
        ways[f"{threads} threads"] = calls(lambda s=session: s.run(None, feed))
        binding = session.io_binding()  # input and output stay where they are between calls
        binding.bind_cpu_input("x", feed["x"])
        binding.bind_output(output, "cpu")
        ways[f"{threads} threads, bound"] = calls(
            lambda s=session, b=binding: s.run_with_iobinding(b)
        )
    return Job(ways, largest(lambda: sessions[0].run(None, feed)[0]))


def keras_predict(w: Workload, batch: int) -> Job:
    model, x = keras_model(w), inputs(w, batch)

    def predict() -> Any:
        return model.predict(x, batch_size=batch, verbose=0)

    def predict_on_batch() -> Any:
        return model.predict_on_batch(x)

    ways = {"predict": calls(predict), "predict_on_batch": calls(predict_on_batch)}
    return Job(ways, largest(predict))


TRAIN: dict[str, Callable[[Workload], Job]] = {
    "handmill": handmill_train,
    "torch": torch_train,
    "torch.compile": torch_compile_train,
    "jax": jax_train,
    "jax scan": jax_scan_train,
    "keras (jax)": keras_train,
    "scikit-learn": sklearn_train,
}
INFERENCE: dict[str, Callable[[Workload, int], Job]] = {
    "handmill": handmill_call,
    "handmill predict": handmill_predict,
    "torch": torch_call,
    "onnxruntime": onnxruntime_call,
    "keras (jax)": keras_predict,
}


def answer(*parts: Any) -> None:
    print("@", *parts, flush=True)


def seconds_of(run: Run, steps: int) -> float:
    start = time.perf_counter()
    run(steps)
    return (time.perf_counter() - start) / steps


def fastest(job: Job, unit: int, seconds: float) -> str:
    """The way with the least time of a step in some trials."""
    if len(job.ways) == 1:
        return next(iter(job.ways))
    best: dict[str, float] = {}
    for name, run in job.ways.items():
        run(2 * unit)  # compiles
        once = seconds_of(run, unit)
        steps = max(1, int(seconds / once / unit)) * unit
        best[name] = min(seconds_of(run, steps) for _ in range(3))
    return min(best, key=lambda name: best[name])


def main() -> None:
    warnings.simplefilter("ignore")
    library, workload, kind, seconds = sys.argv[1:5]
    w = WORKLOADS[workload]
    if kind == "train":
        job = TRAIN[library](w)
        next(iter(job.ways.values()))(CHECK_EPOCHS * w.steps_per_epoch)
    else:
        job = INFERENCE[library](w, int(kind))
    checked = job.check()
    unit = w.steps_per_epoch if job.epochs_only else 1
    way = fastest(job, unit, float(seconds))
    run = job.ways[way]
    run(2 * unit)
    answer("ready", json.dumps({"way": way, "check": checked}))
    for line in sys.stdin:
        steps = max(1, round(int(line) / unit)) * unit
        answer(seconds_of(run, steps))


if __name__ == "__main__":
    main()
