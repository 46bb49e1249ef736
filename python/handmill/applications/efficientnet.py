"""EfficientNet: one network scaled in width, depth and size of images (Tan and Le, 2019)."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from handmill import initializers, layers
from handmill.applications import imagenet_utils
from handmill.applications.imagenet_utils import decode_predictions
from handmill.applications.mobilenet_v2 import rounded
from handmill.applications.network import Arguments, Network, Published, application
from handmill.applications.torch_layout import Naming

__all__ = [
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "decode_predictions",
    "preprocess_input",
]

_URL = "https://storage.googleapis.com/keras-applications/"
_DROPPED_BLOCKS = 0.2


class _Scaling(NamedTuple):
    width: float
    depth: float
    size: int
    dropout: float


_SCALINGS = (
    _Scaling(1.0, 1.0, 224, 0.2),
    _Scaling(1.0, 1.1, 240, 0.2),
    _Scaling(1.1, 1.2, 260, 0.3),
    _Scaling(1.2, 1.4, 300, 0.3),
    _Scaling(1.4, 1.8, 380, 0.4),
    _Scaling(1.6, 2.2, 456, 0.4),
    _Scaling(1.8, 2.6, 528, 0.5),
    _Scaling(2.0, 3.1, 600, 0.5),
)

# Kernel, blocks, filters, factor of the widening, strides of the first block.
_STAGES = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)


def _conv_initializer() -> Any:
    return initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def _efficientnet(number: int, arguments: Arguments, name: str) -> Any:
    scaling = _SCALINGS[number]
    low = f"efficientnetb{number}"
    published = Published(_URL, f"{low}.h5", f"{low}_notop.h5")
    net = Network(f"EfficientNetB{number}", arguments, published, "bytes", "bytes", scaling.size)
    # torchvision has other numbers up to B4.
    own = {"epsilon": 1e-5, "momentum": 0.9} if net.torch and number < 5 else {}

    def activated(x: Any, name: str, kind: str = "") -> Any:
        x = net.norm(x, f"{name}{kind}bn", **own)
        return layers.Activation("silu", name=f"{name}{kind}activation")(x)

    def conv(x: Any, filters: int, size: int, name: str, **kwargs: Any) -> Any:
        kwargs = {"use_bias": False, "padding": "same", **kwargs}
        return net.conv(x, filters, size, name, kernel_initializer=_conv_initializer(), **kwargs)

    def excited(x: Any, squeezed: int, name: str) -> Any:
        filters = x.shape[net.axis]
        shape = (filters, 1, 1) if net.axis == 1 else (1, 1, filters)
        se = layers.GlobalAveragePooling2D(name=f"{name}se_squeeze")(x)
        se = layers.Reshape(shape, name=f"{name}se_reshape")(se)
        se = conv(se, squeezed, 1, f"{name}se_reduce", use_bias=True, activation="silu")
        se = conv(se, filters, 1, f"{name}se_expand", use_bias=True, activation="sigmoid")
        return layers.multiply([x, se], name=f"{name}se_excite")

    def block(
        x: Any, filters: int, size: int, widening: int, strides: int, dropped: float, name: str
    ) -> Any:
        before, channels = x, x.shape[net.axis]
        if widening != 1:
            x = conv(x, channels * widening, 1, f"{name}expand_conv")
            x = activated(x, name, "expand_")
        if strides == 2:
            x = net.pad_for_strides(x, size, f"{name}dwconv_pad")
        x = layers.DepthwiseConv2D(
            size,
            strides=strides,
            padding="valid" if strides == 2 else "same",
            use_bias=False,
            depthwise_initializer=_conv_initializer(),
            name=f"{name}dwconv",
        )(x)
        x = excited(activated(x, name), max(1, int(channels * 0.25)), name)
        x = net.norm(conv(x, filters, 1, f"{name}project_conv"), f"{name}project_bn", **own)
        if strides != 1 or channels != filters:
            return x
        if dropped > 0:
            x = layers.Dropout(dropped, noise_shape=(None, 1, 1, 1), name=f"{name}drop")(x)
        return layers.add([x, before], name=f"{name}add")

    x = net.pad_for_strides(_scaled(net), 3, "stem_conv_pad")
    x = conv(x, rounded(32 * scaling.width), 3, "stem_conv", strides=2, padding="valid")
    x = activated(x, "stem_")
    counts = [math.ceil(scaling.depth * stage[1]) for stage in _STAGES]
    done = 0
    for stage, (size, _, filters, widening, strides) in enumerate(_STAGES):
        for i in range(counts[stage]):
            x = block(
                x,
                rounded(filters * scaling.width),
                size,
                widening,
                1 if i else strides,
                _DROPPED_BLOCKS * done / sum(counts),
                f"block{stage + 1}{chr(ord('a') + i)}_",
            )
            done += 1
    x = activated(conv(x, rounded(1280 * scaling.width), 1, "top_conv"), "top_")
    if arguments.include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(scaling.dropout, name="top_dropout")(x)
        initializer = initializers.VarianceScaling(1.0 / 3.0, "fan_out", "uniform")
        x = net.classified(x, kernel_initializer=initializer)
    else:
        x = net.pooled(x, {"avg": "avg_pool", "max": "max_pool"})
    return net.model(x, name, _naming(counts))


def _scaled(net: Network) -> Any:
    """The images on the scale of the first convolution; the network takes 0 to 255."""
    x = layers.Rescaling(1.0 / 255.0)(net.image)
    if net.torch:
        mean, deviation = imagenet_utils.MEAN["torch"], np.asarray(imagenet_utils.DEVIATION)
        return layers.Normalization(net.axis, mean=mean, variance=deviation**2)(x)
    x = layers.Normalization(axis=net.axis)(x)
    if net.imagenet:  # Google's network divided by the variance, and Keras's file has it as such
        x = layers.Rescaling([1.0 / math.sqrt(d) for d in imagenet_utils.DEVIATION])(x)
    return x


def _naming(counts: list[int]) -> Naming:
    def torchvision(layer: str) -> str | None:
        start = {
            "stem_conv": "features.0.0",
            "stem_bn": "features.0.1",
            "top_conv": "features.8.0",
            "top_bn": "features.8.1",
            "predictions": "classifier.1",
        }
        if layer in start:
            return start[layer]
        stage, block, kind = _place(layer)
        parts = ["dwconv bn", "se", "project_conv project_bn"]
        if stage > 1:
            parts.insert(0, "expand_conv expand_bn")
        for number, part in enumerate(parts):
            if part == "se" and kind.startswith("se_"):
                kind = "fc1" if kind == "se_reduce" else "fc2"
                return f"features.{stage}.{block}.block.{number}.{kind}"
            if kind in part.split():
                return f"features.{stage}.{block}.block.{number}.{part.split().index(kind)}"
        return None

    def timm(layer: str) -> str | None:
        start = {
            "stem_conv": "conv_stem",
            "stem_bn": "bn1",
            "top_conv": "conv_head",
            "top_bn": "bn2",
            "predictions": "classifier",
        }
        if layer in start:
            return start[layer]
        stage, block, kind = _place(layer)
        parts = {"dwconv": "conv_dw", "bn": "bn1", "project_conv": "conv_pw", "project_bn": "bn2"}
        if stage > 1:
            parts |= {"expand_conv": "conv_pw", "expand_bn": "bn1", "bn": "bn2"}
            parts |= {"project_conv": "conv_pwl", "project_bn": "bn3"}
        parts |= {"se_reduce": "se.conv_reduce", "se_expand": "se.conv_expand"}
        return f"blocks.{stage - 1}.{block}.{parts[kind]}"

    return Naming((torchvision, timm), head=("classifier.",))


def _place(layer: str) -> tuple[int, int, str]:
    """Stage from 1, block from 0, and what a layer such as ``block2b_dwconv`` is in it."""
    block, kind = layer.split("_", 1)
    return int(block[5]), ord(block[6]) - ord("a"), kind


def _made(number: int) -> Any:
    low = f"efficientnetb{number}"
    text = (
        f"Makes EfficientNet-B{number}, as Keras has it; it takes images of 0 to 255.\n\n"
        f'Keras\'s files ``{low}.h5`` and ``{low}_notop.h5`` make the network that ``"imagenet"`` '
        "means in Keras,\nwhich scales images once more. Weights of torch make torch's network, "
        "which pads on both sides;\nthose that timm calls ``tf_efficientnet`` do not fit it."
    )
    build, size = functools.partial(_efficientnet, number), _SCALINGS[number].size
    return application(f"EfficientNetB{number}", build, text, __name__, size=size)


EfficientNetB0 = _made(0)
EfficientNetB1 = _made(1)
EfficientNetB2 = _made(2)
EfficientNetB3 = _made(3)
EfficientNetB4 = _made(4)
EfficientNetB5 = _made(5)
EfficientNetB6 = _made(6)
EfficientNetB7 = _made(7)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns the images as they are: these networks take 0 to 255 and scale them themselves."""
    return x
