"""torch, eager and compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from handmill.inspection.benchmarks.job import SHUFFLE_SEED, Job, Run, largest
from handmill.inspection.benchmarks.networks import (
    NORMALIZATION_EPSILON,
    NORMALIZATION_MOMENTUM,
    Activation,
    Convolution,
    Dense,
    Depthwise,
    Flatten,
    GlobalAverage,
    Layer,
    MaxPooling,
    Network,
    Normalization,
    Residual,
    Shape,
    Windows,
)
from handmill.inspection.benchmarks.workloads import MOMENTUM, WEIGHT_DECAY, Workload
from handmill.ir.op import Array

EPSILON = 1e-7


def make_model(w: Workload, network: Network) -> Any:
    """A network of the workload, for rows as the others have them: images channels last."""
    import torch

    model = _sequential(network, w.input_shape, iter(w.weights()))
    if len(w.input_shape) == 3:
        model.insert(0, _module(lambda x: x.permute(0, 3, 1, 2)))
        model = model.to(memory_format=torch.channels_last)
    return model


def _sequential(network: Network, shape: Shape, weights: Iterator[tuple[Array, ...]]) -> Any:
    import torch

    modules: list[Any] = []
    for layer in network:
        if isinstance(layer, Residual):
            modules.append(_residual(layer, shape, weights))
        else:
            modules += _modules(layer, shape, weights)
        shape = layer.output(shape)
    return torch.nn.Sequential(*modules)


def _module(forward: Callable[[Any], Any], **parts: Any) -> Any:
    """A module of a function, and of the modules that it uses."""
    import torch

    class Module(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return forward(x)

    module = Module()
    for name, part in parts.items():
        module.add_module(name, part)
    return module


def _residual(layer: Residual, shape: Shape, weights: Iterator[tuple[Array, ...]]) -> Any:
    branch = _sequential(layer.branch, shape, weights)
    shortcut = _sequential(layer.shortcut, shape, weights)
    return _module(lambda x: branch(x) + shortcut(x), branch=branch, shortcut=shortcut)


def _modules(layer: Layer, shape: Shape, weights: Iterator[tuple[Array, ...]]) -> list[Any]:
    import torch

    nn = torch.nn
    activation = layer.name if isinstance(layer, Activation) else "linear"
    modules: list[Any] = []
    if isinstance(layer, Dense):
        activation = layer.activation
        kernel, *bias = next(weights)
        modules = [_filled(nn.Linear(*kernel.shape), kernel.T, *bias)]
    elif isinstance(layer, Convolution):
        activation = layer.activation
        kernel, *bias = next(weights)
        modules = [
            _filled(
                nn.Conv2d(shape[2], layer.filters, bias=layer.bias, **_windows(layer)),
                kernel.transpose(3, 2, 0, 1), *bias,
            )
        ]  # fmt: skip
    elif isinstance(layer, Depthwise):
        (kernel,) = next(weights)
        convolution = nn.Conv2d(
            shape[2], shape[2], groups=shape[2], bias=False, **_windows(layer)
        )  # fmt: skip
        modules = [_filled(convolution, kernel.transpose(2, 3, 0, 1))]
    elif isinstance(layer, MaxPooling):
        modules = [nn.MaxPool2d(**_windows(layer))]
    elif isinstance(layer, Normalization):
        gamma, beta, mean, variance = (torch.from_numpy(a) for a in next(weights))
        normalization = nn.BatchNorm2d(
            shape[2], eps=NORMALIZATION_EPSILON, momentum=1 - NORMALIZATION_MOMENTUM
        )
        normalization.load_state_dict(
            {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance},
            strict=False,
        )
        modules = [normalization]
    elif isinstance(layer, Flatten):
        modules = [_module(lambda x: x.permute(0, 2, 3, 1).flatten(1))]
    elif isinstance(layer, GlobalAverage):
        modules = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if activation != "linear":
        modules.append(
            {
                "relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "elu": nn.ELU,
                "sigmoid": nn.Sigmoid, "softmax": functools.partial(nn.Softmax, -1),
            }[activation]()
        )  # fmt: skip
    return modules


def _filled(module: Any, weight: Array, bias: Array | None = None) -> Any:
    import torch

    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(weight))
        if bias is not None:
            module.bias.copy_(torch.from_numpy(bias))
    return module


def _windows(layer: Windows) -> dict[str, Any]:
    """Arguments of torch, which pads evenly: not as Keras where a side has one pixel more.

    That costs the same; pixels added by hand would cost torch a copy of the image.
    """
    padding = layer.size // 2 if layer.padding == "same" else 0
    return {"kernel_size": layer.size, "stride": layer.strides, "padding": padding}


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

    torch.manual_seed(SHUFFLE_SEED)
    x, y = (torch.from_numpy(a) for a in w.data())
    model, criterion = make_model(w, w.logits), make_loss(w)
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
        model.eval()
        with torch.no_grad():
            loss = float(loss_of(x, y))
        model.train()
        return loss

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
    model = make_model(w, w.network).eval()
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
