"""ResNet of version 2: normalization before each convolution (He et al., 2016)."""

from __future__ import annotations

import functools
from typing import Any

from handmill import layers
from handmill.applications import imagenet_utils
from handmill.applications.imagenet_utils import decode_predictions
from handmill.applications.network import KERAS_FILES, Arguments, Network, application
from handmill.applications.resnet import ended, published

__all__ = ["ResNet50V2", "ResNet101V2", "ResNet152V2", "decode_predictions", "preprocess_input"]

_FILTERS = (64, 128, 256, 512)
_NORM = {"epsilon": 1.001e-5}


def _resnet(title: str, blocks: tuple[int, ...], arguments: Arguments, name: str) -> Any:
    net = Network(title, arguments, published(title.lower()), "tf")

    def activated(x: Any, name: str) -> Any:
        x = net.norm(x, f"{name}_bn", **_NORM)
        return layers.Activation("relu", name=f"{name}_relu")(x)

    def block(x: Any, filters: int, strides: int, widens: bool, name: str) -> Any:
        before = activated(x, f"{name}_preact")
        shortcut = x
        if widens:
            shortcut = net.conv(before, 4 * filters, 1, f"{name}_0_conv", strides=strides)
        elif strides > 1:
            shortcut = layers.MaxPooling2D(1, strides=strides)(x)
        x = net.conv(before, filters, 1, f"{name}_1_conv", use_bias=False)
        x = net.pad(activated(x, f"{name}_1"), 1, f"{name}_2_pad")
        x = net.conv(x, filters, 3, f"{name}_2_conv", strides=strides, use_bias=False)
        x = net.conv(activated(x, f"{name}_2"), 4 * filters, 1, f"{name}_3_conv")
        return layers.Add(name=f"{name}_out")([shortcut, x])

    x = net.pad(net.image, 3, "conv1_pad")
    x = net.conv(x, 64, 7, "conv1_conv", strides=2)
    x = net.pad(x, 1, "pool1_pad")
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, (filters, count) in enumerate(zip(_FILTERS, blocks, strict=True)):
        for i in range(count):  # the last block of all stages but the last one has the strides
            strides = 2 if stage < 3 and i == count - 1 else 1
            x = block(x, filters, strides, not i, f"conv{stage + 2}_block{i + 1}")
    return ended(net, activated(x, "post"), name, None)


def _made(title: str, *blocks: int) -> Any:
    build = functools.partial(_resnet, title, blocks)
    text = f"Makes {title}, as Keras has it."
    return application(title, build, text, __name__, (KERAS_FILES,))


ResNet50V2 = _made("ResNet50V2", 3, 4, 6, 3)
ResNet101V2 = _made("ResNet101V2", 3, 4, 23, 3)
ResNet152V2 = _made("ResNet152V2", 3, 8, 36, 3)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images of 0 to 255 on the scale of Keras's weights, as ``imagenet_utils`` does.

    That is from -1 to 1.
    """
    return imagenet_utils.preprocess_input(x, data_format, "tf")
