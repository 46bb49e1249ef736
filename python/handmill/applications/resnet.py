"""ResNet: residual blocks of three convolutions (He et al., 2015)."""

from __future__ import annotations

import functools
from typing import Any

from handmill import layers
from handmill.applications import imagenet_utils
from handmill.applications.imagenet_utils import decode_predictions
from handmill.applications.network import Arguments, Network, Published, application
from handmill.applications.torch_layout import Naming

__all__ = ["ResNet50", "ResNet101", "ResNet152", "decode_predictions", "preprocess_input"]

_URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
_FILTERS = (64, 128, 256, 512)


def published(name: str) -> Published:
    """Where Keras publishes a ResNet of either version."""
    file = f"{name}_weights_tf_dim_ordering_tf_kernels"
    return Published(_URL, f"{file}.h5", f"{file}_notop.h5")


def _module(layer: str) -> str | None:
    """The name of a layer's module in torchvision and timm."""
    start = {"conv1_conv": "conv1", "conv1_bn": "bn1", "predictions": "fc"}
    if layer in start:
        return start[layer]
    stage, block, number, kind = layer.split("_")  # conv3_block1_0_conv
    place = f"layer{int(stage[4:]) - 1}.{int(block[5:]) - 1}"
    if number == "0":
        return f"{place}.downsample.{0 if kind == 'conv' else 1}"
    return f"{place}.{kind}{number}"


NAMING = Naming((_module,), head=("fc.",))


def _resnet(title: str, blocks: tuple[int, ...], arguments: Arguments, name: str) -> Any:
    net = Network(title, arguments, published(title.lower()), "caffe")
    # Keras's convolutions have biases, and strides in the first one of a block.
    conv = {"use_bias": not net.torch}
    norm = {"epsilon": 1e-5, "momentum": 0.9} if net.torch else {"epsilon": 1.001e-5}

    def convolved(x: Any, filters: int, size: int, strides: int, name: str, **kw: Any) -> Any:
        x = net.conv(x, filters, size, f"{name}_conv", strides=strides, **kw, **conv)
        return net.norm(x, f"{name}_bn", **norm)

    def block(x: Any, filters: int, strides: int, widens: bool, name: str) -> Any:
        first, second = (1, strides) if net.torch else (strides, 1)
        shortcut = convolved(x, 4 * filters, 1, strides, f"{name}_0") if widens else x
        x = layers.Activation("relu", name=f"{name}_1_relu")(
            convolved(x, filters, 1, first, f"{name}_1")
        )
        x = convolved(x, filters, 3, second, f"{name}_2", padding="torch")
        x = layers.Activation("relu", name=f"{name}_2_relu")(x)
        x = convolved(x, 4 * filters, 1, 1, f"{name}_3")
        x = layers.Add(name=f"{name}_add")([shortcut, x])
        return layers.Activation("relu", name=f"{name}_out")(x)

    x = net.pad(net.image, 3, "conv1_pad")
    x = layers.Activation("relu", name="conv1_relu")(convolved(x, 64, 7, 2, "conv1"))
    x = net.pad(x, 1, "pool1_pad")
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, (filters, count) in enumerate(zip(_FILTERS, blocks, strict=True)):
        for i in range(count):
            strides = 2 if stage and not i else 1
            x = block(x, filters, strides, not i, f"conv{stage + 2}_block{i + 1}")
    return ended(net, x, name, NAMING)


def ended(net: Network, x: Any, name: str, naming: Naming | None) -> Any:
    """The model: a network with its pooling and classifier."""
    if net.arguments.include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = net.classified(x)
    else:
        x = net.pooled(x, {"avg": "avg_pool", "max": "max_pool"})
    return net.model(x, name, naming)


def _made(title: str, *blocks: int) -> Any:
    text = (
        f"Makes {title}, as Keras has it.\n\nWeights of torch make torch's network: strides in the "
        "3x3 convolutions, no biases in convolutions,\nimages scaled by "
        '``imagenet_utils.preprocess_input(x, mode="torch")``.'
    )
    return application(title, functools.partial(_resnet, title, blocks), text, __name__)


ResNet50 = _made("ResNet50", 3, 4, 6, 3)
ResNet101 = _made("ResNet101", 3, 4, 23, 3)
ResNet152 = _made("ResNet152", 3, 8, 36, 3)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images of 0 to 255 on the scale of Keras's weights, as ``imagenet_utils`` does.

    That is: blue, green, red, each less its mean over ImageNet.
    """
    return imagenet_utils.preprocess_input(x, data_format, "caffe")
