"""ResNet-18 and ResNet-34: residual blocks of two convolutions, by torchvision's names.

Keras has neither; layers are called as torchvision's modules are.
"""

from __future__ import annotations

import functools
from typing import Any

from handmill import layers
from handmill.applications import imagenet_utils
from handmill.applications.imagenet_utils import decode_predictions
from handmill.applications.network import TORCH_FILES, Arguments, Network, application
from handmill.applications.torch_layout import Naming

__all__ = ["ResNet18", "ResNet34", "decode_predictions", "preprocess_input"]

_FILTERS = (64, 128, 256, 512)
_NORM = {"epsilon": 1e-5, "momentum": 0.9}


def _itself(layer: str) -> str:
    return layer


def _resnet(title: str, blocks: tuple[int, ...], arguments: Arguments, name: str) -> Any:
    net = Network(title, arguments, None, "torch")

    def convolved(x: Any, filters: int, size: int, strides: int, conv: str, norm: str) -> Any:
        x = net.conv(x, filters, size, conv, strides=strides, padding="torch", use_bias=False)
        return net.norm(x, norm, **_NORM)

    def block(x: Any, filters: int, strides: int, widens: bool, name: str) -> Any:
        shortcut = x
        if widens:
            names = f"{name}.downsample.0", f"{name}.downsample.1"
            shortcut = convolved(x, filters, 1, strides, *names)
        x = convolved(x, filters, 3, strides, f"{name}.conv1", f"{name}.bn1")
        x = layers.ReLU(name=f"{name}.relu1")(x)
        x = convolved(x, filters, 3, 1, f"{name}.conv2", f"{name}.bn2")
        x = layers.Add(name=f"{name}.add")([shortcut, x])
        return layers.ReLU(name=f"{name}.relu")(x)

    x = layers.ReLU(name="relu")(convolved(net.image, 64, 7, 2, "conv1", "bn1"))
    x = layers.MaxPooling2D(3, strides=2, name="maxpool")(net.pad(x, 1, "maxpool_pad"))
    for stage, (filters, count) in enumerate(zip(_FILTERS, blocks, strict=True)):
        for i in range(count):
            narrows = bool(stage) and not i
            x = block(x, filters, 2 if narrows else 1, narrows, f"layer{stage + 1}.{i}")
    if arguments.include_top:
        x = net.classified(layers.GlobalAveragePooling2D(name="avgpool")(x), "fc")
    else:
        x = net.pooled(x, {"avg": "avgpool", "max": "maxpool_end"})
    return net.model(x, name, Naming((_itself,), head=("fc.",)))


def _made(title: str, *blocks: int) -> Any:
    build = functools.partial(_resnet, title, blocks)
    text = f"Makes {title}, as torchvision has it; Keras has none."
    return application(title, build, text, __name__, (TORCH_FILES,))


ResNet18 = _made("ResNet18", 2, 2, 2, 2)
ResNet34 = _made("ResNet34", 3, 4, 6, 3)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images of 0 to 255 on the scale of torch's weights, as ``imagenet_utils`` does.

    That is: divided by 255, less the mean of each channel, divided by its deviation.
    """
    return imagenet_utils.preprocess_input(x, data_format, "torch")
