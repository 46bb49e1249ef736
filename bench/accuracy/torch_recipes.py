"""The recipes of examples/ as torch users write them; run by ``--peer torch`` of the scripts.

Networks, numbers of passes, batches, rates and crops are those of the scripts; convolutions run in
channels_last, the faster layout on CPUs.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn, optim

from handmill.data import CropAndFlip, mirrored, shifted

CIFAR_MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1) * 255
CIFAR_STD = torch.tensor([0.2470, 0.2435, 0.2616]).view(1, 3, 1, 1) * 255


def images_of(arrays: np.ndarray) -> torch.Tensor:
    """CIFAR-10's bytes as normalized channels_last floats."""
    x = torch.from_numpy(np.ascontiguousarray(arrays)).permute(0, 3, 1, 2).float()
    return ((x - CIFAR_MEAN) / CIFAR_STD).contiguous(memory_format=torch.channels_last)


def scores_of(model: nn.Module, arrays: np.ndarray) -> np.ndarray:
    model.eval()
    with torch.inference_mode():
        parts = [model(images_of(arrays[i : i + 500])) for i in range(0, len(arrays), 500)]
    return torch.cat(parts).numpy()


def accuracy_of_views(model: nn.Module, images: np.ndarray, labels: np.ndarray, moved: bool):
    scores = scores_of(model, images) + scores_of(model, mirrored(images))
    if moved:
        for by in (1, -1):
            other = shifted(images, by, by)
            scores += (scores_of(model, other) + scores_of(model, mirrored(other))) / 2
    return float(np.mean(scores.argmax(1) == labels))


# --- MNIST ---------------------------------------------------------------------------------------


def digits_of(arrays: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(arrays[:, None]).float().div_(255)


def learn_mnist_fast(data, seed, options):
    (images, labels), _ = data
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 24, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(24, 32, 3),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(800, 256),
        nn.ReLU(),
        nn.Linear(256, 10),
    ).to(memory_format=torch.channels_last)
    x = digits_of(images).contiguous(memory_format=torch.channels_last)
    y = torch.from_numpy(labels.astype(np.int64))
    steps = round(options.epochs * len(x) / 256)
    optimizer = optim.Adam(model.parameters(), lr=0.01, betas=(0.7, 0.9), fused=True)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 0.01, steps, cycle_momentum=False)
    order = torch.cat([torch.randperm(len(x)) for _ in range(math.ceil(options.epochs) + 1)])
    for rows in order.split(256)[:steps]:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        schedule.step()
    return model


def test_mnist_fast(model, data, options):
    _, (images, labels) = data
    with torch.inference_mode():
        found = torch.cat(
            [model(digits_of(images[i : i + 500])) for i in range(0, len(images), 500)]
        )
    return {"test accuracy": float(np.mean(found.argmax(1).numpy() == labels))}


# --- LeCun 1989 ----------------------------------------------------------------------------------


class LeCun1989(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def uniform(inputs: int, *shape: int) -> nn.Parameter:
            return nn.Parameter((torch.rand(*shape) * 2 - 1) * 2.4 / inputs**0.5)

        self.first = uniform(25, 12, 1, 5, 5)
        self.first_bias = nn.Parameter(torch.zeros(12, 8, 8))
        self.second = uniform(200, 12, 8, 5, 5)
        self.second_bias = nn.Parameter(torch.zeros(12, 4, 4))
        self.third = uniform(192, 192, 30)
        self.third_bias = nn.Parameter(torch.zeros(30))
        self.last = uniform(30, 30, 10)
        self.last_bias = nn.Parameter(-torch.ones(10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, (2, 2, 2, 2), value=-1.0)
        x = torch.tanh(F.conv2d(x, self.first, stride=2) + self.first_bias)
        x = F.pad(x, (2, 2, 2, 2), value=-1.0)
        a, b, c = x.split(4, 1)
        pairs = zip(((a, b), (b, c), (a, c)), self.second.split(4), strict=True)
        x = torch.cat([F.conv2d(torch.cat(pair, 1), w, stride=2) for pair, w in pairs], 1)
        x = torch.tanh(x + self.second_bias).flatten(1)
        x = torch.tanh(x @ self.third + self.third_bias)
        return torch.tanh(x @ self.last + self.last_bias)


def learn_lecun_1989(data, seed, options):
    (digits, labels), _ = data
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # which is the fastest for one digit a step
    model = LeCun1989()
    x = torch.from_numpy(np.ascontiguousarray(digits.transpose(0, 3, 1, 2)))
    y = torch.from_numpy(np.where(np.arange(10) == labels[:, None], 1, -1).astype("float32"))
    optimizer = optim.SGD(model.parameters(), lr=0.03)
    for _ in range(options.passes):
        for i in range(len(x)):
            optimizer.zero_grad(set_to_none=True)
            F.mse_loss(model(x[i : i + 1]), y[i : i + 1]).backward()
            optimizer.step()
    return model


def test_lecun_1989(model, data, options):
    found = {}
    for (digits, labels), part in zip(data, ("training", "test"), strict=True):
        x = torch.from_numpy(np.ascontiguousarray(digits.transpose(0, 3, 1, 2)))
        with torch.inference_mode():
            right = model(x).argmax(1).numpy() == labels
        found[f"{part} accuracy"] = float(right.mean())
    return found


# --- CIFAR-10: ResNet-8 --------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, inputs: int, width: int, strides: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.Conv2d(inputs, width, 3, strides, 1),
            nn.BatchNorm2d(width, 1e-3, 0.01),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.BatchNorm2d(width, 1e-3, 0.01),
        )
        self.short = nn.Conv2d(inputs, width, 1, strides) if strides > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.short(x) + self.way(x))


def learn_cifar10_resnet8(data, seed, options):
    (images, labels), _ = data
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1),
        nn.BatchNorm2d(16, 1e-3, 0.01),
        nn.ReLU(),
        Block(16, 16, 1),
        Block(16, 32, 2),
        Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    ).to(memory_format=torch.channels_last)
    kernels = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.Conv2d):
            kernels.append(layer.weight)
    others = [p for p in model.parameters() if not any(p is kernel for kernel in kernels)]
    groups = [{"params": kernels, "weight_decay": 2e-4}, {"params": others}]
    optimizer = optim.SGD(groups, lr=options.rate, momentum=0.9, nesterov=True)
    epochs = 5 if options.quick else options.epochs
    steps = epochs * -(-len(images) // 128)
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, steps, final_div_factor=1000, cycle_momentum=False
    )
    crop, y = CropAndFlip(4, "alternating", seed=seed), torch.from_numpy(labels.astype(np.int64))
    for epoch in range(epochs):
        for rows in torch.randperm(len(images)).split(128):
            seen = crop(epoch, rows.numpy(), images[rows.numpy()])
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(images_of(seen)), y[rows]).backward()
            optimizer.step()
            schedule.step()
    return model


def test_cifar10_resnet8(model, data, options):
    _, (images, labels) = data
    found = scores_of(model, images).argmax(1)
    return {
        "test accuracy": float(np.mean(found == labels)),
        "test accuracy with mirror images": accuracy_of_views(model, images, labels, False),
    }


# --- CIFAR-10: airbench --------------------------------------------------------------------------


def airbench(widths: list[int], patches: np.ndarray) -> nn.Sequential:
    from recipes.airbench import whitening_kernel  # the folder of the script is on the path

    whitening = nn.Conv2d(3, 24, 2)
    kernel = whitening_kernel(patches).transpose(3, 2, 0, 1)
    whitening.weight.data = torch.from_numpy(np.ascontiguousarray(kernel, "float32"))
    whitening.weight.requires_grad = False
    nn.init.zeros_(whitening.bias)
    layers: list[nn.Module] = [whitening, nn.GELU()]

    def convolution(inputs: int, width: int) -> nn.Conv2d:
        made = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        nn.init.dirac_(made.weight.data[:inputs])
        return made

    def normalization(width: int) -> list[nn.Module]:
        made = nn.BatchNorm2d(width, 1e-12, 0.4)
        made.weight.requires_grad = False
        return [made, nn.GELU()]

    inputs = 24
    for width in widths:
        layers += [convolution(inputs, width), nn.MaxPool2d(2), *normalization(width)]
        layers += [convolution(width, width), *normalization(width)]
        inputs = width
    layers += [nn.MaxPool2d(3), nn.Flatten(), nn.Linear(inputs, 10, bias=False)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


class Ninth(nn.Module):
    """The network with its outputs divided by nine."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(x) / 9


def learn_cifar10_fast(data, seed, options):
    (images, labels), _ = data
    torch.manual_seed(seed)
    epochs, batch = (5, 64) if options.quick else (options.epochs, options.batch)
    network = airbench(options.widths, images[:: max(len(images) // 5000, 1)])
    model = Ninth(network)
    steps = len(images) // batch
    total = round(steps * epochs)

    def factor(step: int) -> float:
        return float(np.interp(step, [0, 0.23 * total, total], [0.2, 1.0, 0.07]))

    betas = [m.bias for m in network if isinstance(m, nn.BatchNorm2d)]
    others = [p for p in model.parameters() if p.requires_grad and all(p is not b for b in betas)]
    groups = [
        {"params": betas, "lr": 64 * options.rate, "weight_decay": 2 * 1.04e-5},
        {"params": others, "lr": options.rate, "weight_decay": 2 * 6.65e-4},
    ]
    optimizer = optim.SGD(groups, lr=options.rate, momentum=0.85, nesterov=True)
    schedule = optim.lr_scheduler.LambdaLR(optimizer, factor)
    slow = copy.deepcopy(model.state_dict())
    crop, y = CropAndFlip(2, "alternating", seed=seed), torch.from_numpy(labels.astype(np.int64))

    def meet(keep: float) -> None:
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                slow[name].lerp_(value, 1 - keep)
                value.copy_(slow[name])

    step = 0
    for epoch in range(math.ceil(epochs)):
        network[0].bias.requires_grad = epoch < 3
        for rows in torch.randperm(len(images)).split(batch)[:steps]:
            if step == total:
                break
            model.train()
            seen = crop(epoch, rows.numpy(), images[rows.numpy()])
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(images_of(seen)), y[rows], label_smoothing=0.2).backward()
            optimizer.step()
            schedule.step()
            step += 1
            if step % 5 == 0:
                meet(0.95**5 * (step / total) ** 3)
    meet(1.0)
    return model


def test_cifar10_fast(model, data, options):
    _, (images, labels) = data
    return {
        "test accuracy": float(np.mean(scores_of(model, images).argmax(1) == labels)),
        "test accuracy of six views": accuracy_of_views(model, images, labels, True),
    }


learn_cifar10_airbench94, test_cifar10_airbench94 = learn_cifar10_fast, test_cifar10_fast
