"""torch learns a task: python run_torch.py TASK SEED [THREADS]."""

import json
import sys
import time

import numpy as np
import torch
from tasks import ACTIVATIONS, OPTIMIZERS, TABLE_BATCH, TABLE_EPOCHS, TABLE_UNITS, TASKS
from tasks import load_digits as load
from torch import nn, optim


def tensors(x: np.ndarray, y: np.ndarray, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    flat = torch.from_numpy(x.reshape(len(x), -1)).float().div_(scale)
    return flat, torch.from_numpy(y.astype(np.int64))


def network(inputs: int, hidden: int, activation: nn.Module) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(inputs, hidden), activation, nn.Linear(hidden, 10))
    for layer in (model[0], model[2]):  # as Keras starts them
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


def accuracy_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    with torch.inference_mode():
        return (model(x).argmax(1) == y).float().mean().item()


def learn(name: str, seed: int, threads: int) -> dict:
    task = TASKS[name]
    torch.manual_seed(seed)
    if threads:
        torch.set_num_threads(threads)
    train, test = task.load()
    x, y = tensors(*train, task.scale)
    model = network(x.shape[1], task.hidden, nn.ReLU())
    optimizer = optim.Adam(model.parameters(), eps=1e-7, fused=True)
    criterion = nn.CrossEntropyLoss()
    start, step = time.perf_counter(), 0
    for _ in range(task.epochs):
        for rows in torch.randperm(len(x)).split(task.batch):
            optimizer.param_groups[0]["lr"] = task.rate_at(step, len(x))
            optimizer.zero_grad(set_to_none=True)
            criterion(model(x.index_select(0, rows)), y.index_select(0, rows)).backward()
            optimizer.step()
            step += 1
    seconds = time.perf_counter() - start
    return {
        "accuracy": accuracy_of(model, *tensors(*test, task.scale)),
        "training_seconds": seconds,
    }


def table(seed: int, threads: int) -> dict:
    """The table of ``handmill demo`` as a torch user would write it."""
    torch.set_num_threads(threads or 1)
    train, test = load()
    x, y = tensors(*train, 16)
    x_test, y_test = tensors(*test, 16)
    activations = dict(
        zip(
            ACTIVATIONS,
            (nn.ReLU, lambda: nn.LeakyReLU(0.2), nn.Tanh, nn.Sigmoid, nn.Identity),
            strict=True,
        )
    )
    optimizers = {
        "sgd": lambda p: optim.SGD(p, 0.1, fused=True),
        "momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9, fused=True),
        "adagrad": lambda p: optim.Adagrad(p, 0.1, initial_accumulator_value=0.1, fused=True),
        "rmsprop": lambda p: optim.RMSprop(p, 0.005, alpha=0.9, eps=1e-7, foreach=True),
        "adam": lambda p: optim.Adam(p, 0.01, eps=1e-7, fused=True),
    }
    found = {}
    start = time.perf_counter()
    for activation in ACTIVATIONS:
        for name in OPTIMIZERS:
            torch.manual_seed(seed)
            model = network(64, TABLE_UNITS, activations[activation]())
            optimizer = optimizers[name](list(model.parameters()))
            criterion = nn.CrossEntropyLoss()
            for _ in range(TABLE_EPOCHS):
                for rows in torch.randperm(len(x)).split(TABLE_BATCH):
                    optimizer.zero_grad(set_to_none=True)
                    criterion(model(x.index_select(0, rows)), y.index_select(0, rows)).backward()
                    optimizer.step()
            found[f"{activation} {name}"] = accuracy_of(model, x_test, y_test)
    seconds = time.perf_counter() - start
    return {"training_seconds": seconds, "models": len(found), "table": found}


if __name__ == "__main__":
    task_name, task_seed = sys.argv[1], int(sys.argv[2])
    given = int(sys.argv[3]) if len(sys.argv) > 3 else -1
    if task_name == "table":
        print(json.dumps(table(task_seed, max(given, 0))))
    else:
        count = TASKS[task_name].torch_threads if given < 0 else given
        print(json.dumps(learn(task_name, task_seed, count)))
