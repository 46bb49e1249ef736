"""torch, eager and compiled."""

from __future__ import annotations

import functools
from typing import Any

from handmill.inspection.benchmarks.job import Job, Run, largest
from handmill.inspection.benchmarks.workloads import MOMENTUM, WEIGHT_DECAY, Workload

EPSILON = 1e-7


def make_model(w: Workload) -> Any:
    """The workload's model, which ends with logits."""
    import torch

    activation = {
        "relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "gelu": torch.nn.GELU, "elu": torch.nn.ELU
    }[w.activation]  # fmt: skip
    layers: list[Any] = []
    for kernel, bias in w.weights():
        layer = torch.nn.Linear(*kernel.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(kernel.T))
            layer.bias.copy_(torch.from_numpy(bias))
        layers += [layer, activation()]
    return torch.nn.Sequential(*layers[:-1])


def make_optimizers(w: Workload, parameters: list[Any]) -> dict[str, Any]:
    """The optimizer, in each of the implementations that torch has for the CPU."""
    from torch import optim

    make, options, implementations = {
        "adam": (optim.Adam, {"eps": EPSILON}, ("fused",)),
        "adamw": (optim.AdamW, {"eps": EPSILON, "weight_decay": WEIGHT_DECAY}, ("fused",)),
        "momentum": (optim.SGD, {"momentum": MOMENTUM}, ("fused",)),
        "rmsprop": (optim.RMSprop, {"alpha": 0.9, "eps": EPSILON}, ("foreach", "plain")),
        "adagrad": (
            optim.Adagrad, {"initial_accumulator_value": 0.1, "eps": EPSILON}, ("fused",)
        ),
    }[w.optimizer]  # fmt: skip
    return {
        name: make(
            parameters, lr=w.learning_rate, **options, **({name: True} if name != "plain" else {})
        )
        for name in implementations
    }


def make_loss(w: Workload) -> Any:
    """The loss of logits and targets."""
    import torch

    return {
        "sparse_categorical_crossentropy": torch.nn.CrossEntropyLoss,
        "binary_crossentropy": torch.nn.BCEWithLogitsLoss,
        "mse": torch.nn.MSELoss,
    }[w.loss]()


def train(w: Workload, compiled: bool = False) -> Job:
    """A bare loop on tensors in memory."""
    import torch

    x, y = (torch.from_numpy(a) for a in w.data())
    model, criterion = make_model(w), make_loss(w)
    optimizers = make_optimizers(w, list(model.parameters()))

    def loss_of(x: Any, y: Any) -> Any:
        return criterion(model(x), y)

    step_loss = torch.compile(loss_of) if compiled else loss_of
    cores = torch.get_num_threads()

    def run(steps: int, threads: int, optimizer: Any) -> None:
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
            return float(loss_of(x, y))

    ways: dict[str, Run] = {}
    for threads in sorted({1, cores})[::-1]:
        for name, optimizer in optimizers.items():
            ways[f"{threads} threads, {name}"] = functools.partial(
                run, threads=threads, optimizer=optimizer
            )
    return Job(ways, check)


def train_compiled(w: Workload) -> Job:
    """The same with ``torch.compile``."""
    return train(w, compiled=True)


def call(w: Workload, batch: int) -> Job:
    """Eager, compiled and frozen TorchScript, with all threads and with one."""
    import torch

    x = torch.from_numpy(w.inputs(batch))
    last = {"softmax": torch.nn.Softmax(-1), "sigmoid": torch.nn.Sigmoid()}
    model = torch.nn.Sequential(
        make_model(w), last.get(w.output_activation, torch.nn.Identity())
    ).eval()
    compiled = torch.compile(model)
    cores = torch.get_num_threads()

    def run(steps: int, threads: int, forward: Any) -> None:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            for _ in range(steps):
                forward(x)

    with torch.inference_mode():
        frozen = torch.jit.freeze(torch.jit.trace(model, x))
    ways: dict[str, Run] = {}
    for n in sorted({1, cores})[::-1]:
        for name, forward in (("eager", model), ("compile", compiled), ("torchscript", frozen)):
            ways[f"{name}, {n} threads"] = functools.partial(run, threads=n, forward=forward)
    return Job(ways, largest(lambda: model(x).detach()))
