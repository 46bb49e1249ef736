"""torchvision's networks by hand, for tests: its names of modules, without torchvision."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, filters: int, strides: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, strides, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv3 = nn.Conv2d(filters, 4 * filters, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * filters)
        self.downsample = None
        if strides > 1 or inputs != 4 * filters:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * filters, 1, strides, bias=False), nn.BatchNorm2d(4 * filters)
            )

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class _Basic(nn.Module):
    def __init__(self, inputs: int, filters: int, strides: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, 3, strides, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.downsample = None
        if strides > 1 or inputs != filters:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, filters, 1, strides, bias=False), nn.BatchNorm2d(filters)
            )

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, counts: tuple[int, ...], classes: int, bottleneck: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        block, wider = (_Bottleneck, 4) if bottleneck else (_Basic, 1)
        inputs = 64
        for stage, count in enumerate(counts):
            filters = 64 << stage
            blocks = []
            for i in range(count):
                blocks.append(block(inputs, filters, 2 if stage and not i else 1))
                inputs = wider * filters
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def _convolved(inputs, filters, size, strides=1, groups=1, activation=nn.ReLU6):
    layers = [
        nn.Conv2d(inputs, filters, size, strides, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(filters),
    ]
    return nn.Sequential(*layers, *([activation()] if activation else []))


class _Inverted(nn.Module):
    def __init__(self, inputs: int, filters: int, strides: int, wider: int) -> None:
        super().__init__()
        inner = inputs * wider
        layers = [_convolved(inputs, inner, 1)] if wider > 1 else []
        layers.append(_convolved(inner, inner, 3, strides, inner))
        layers += [nn.Conv2d(inner, filters, 1, bias=False), nn.BatchNorm2d(filters)]
        self.conv = nn.Sequential(*layers)
        self.adds = strides == 1 and inputs == filters

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, filters: tuple[int, ...], classes: int) -> None:
        """``filters`` of the first convolution and of the seven stages."""
        super().__init__()
        inputs = filters[0]
        layers = [_convolved(3, inputs, 3, 2)]
        plan = zip(filters[1:], (1, 2, 3, 4, 3, 3, 1), (1, 2, 2, 2, 1, 2, 1), strict=True)
        for stage, (outputs, count, strides) in enumerate(plan):
            for i in range(count):
                wider = 6 if stage else 1
                layers.append(_Inverted(inputs, outputs, 1 if i else strides, wider))
                inputs = outputs
        self.features = nn.Sequential(*layers, _convolved(inputs, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class _Excitation(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x):
        s = nn.functional.silu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.fc2(s))


class _MBConv(nn.Module):
    def __init__(self, inputs, filters, size, strides, wider) -> None:
        super().__init__()
        inner = inputs * wider
        layers = [_convolved(inputs, inner, 1, activation=nn.SiLU)] if wider > 1 else []
        layers += [
            _convolved(inner, inner, size, strides, inner, nn.SiLU),
            _Excitation(inner, max(1, inputs // 4)),
            _convolved(inner, filters, 1, activation=None),
        ]
        self.block = nn.Sequential(*layers)
        self.adds = strides == 1 and inputs == filters

    def forward(self, x):
        return x + self.block(x) if self.adds else self.block(x)


class EfficientNetB0(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolved(3, 32, 3, 2, activation=nn.SiLU)]
        plan = (
            (3, 1, 16, 1, 1),
            (3, 2, 24, 6, 2),
            (5, 2, 40, 6, 2),
            (3, 3, 80, 6, 2),
            (5, 3, 112, 6, 1),
            (5, 4, 192, 6, 2),
            (3, 1, 320, 6, 1),
        )
        inputs = 32
        for size, count, filters, wider, strides in plan:
            blocks = []
            for i in range(count):
                blocks.append(_MBConv(inputs, filters, size, 1 if i else strides, wider))
                inputs = filters
            layers.append(nn.Sequential(*blocks))
        layers.append(_convolved(inputs, 1280, 1, activation=nn.SiLU))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class VGG(nn.Module):
    def __init__(self, counts: tuple[int, ...], classes: int, size: int) -> None:
        """Of images of ``size`` pixels; torchvision's own takes 224."""
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for filters, count in zip((64, 128, 256, 512, 512), counts, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU()]
                inputs = filters
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        flat = inputs * (size // 32) ** 2
        self.classifier = nn.Sequential(
            nn.Linear(flat, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, classes),
        )

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """Gives a model weights that let every layer count, and statistics that are none of 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low, high in (
                    (module.weight, 0.6, 1.4),
                    (module.bias, -0.3, 0.3),
                    (module.running_mean, -0.3, 0.3),
                    (module.running_var, 0.6, 1.4),
                ):
                    tensor.uniform_(low, high, generator=generator)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                fan = module.weight[0].numel()
                module.weight.normal_(0, (2 / fan) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.uniform_(-0.1, 0.1, generator=generator)
    return model.eval()


def tensors_of(model: nn.Module) -> OrderedDict:
    """The state of a model as arrays, by torch's names."""
    return OrderedDict((name, t.detach().numpy()) for name, t in model.state_dict().items())
