"""MobileNetV2: inverted residual blocks around depthwise convolutions (Sandler et al., 2018)."""

from __future__ import annotations

from typing import Any

from handmill import layers
from handmill.applications import imagenet_utils
from handmill.applications.imagenet_utils import decode_predictions
from handmill.applications.network import (
    Arguments,
    Network,
    Published,
    drawn_unless_stored,
)
from handmill.applications.torch_layout import Naming
from handmill.arguments import finite_number
from handmill.errors import warn_caller

__all__ = ["MobileNetV2", "decode_predictions", "preprocess_input"]

_URL = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
_ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
_SIZES = (96, 128, 160, 192, 224)

# Filters, blocks, strides of the first block; all but the first stage widen six times.
_STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))


def MobileNetV2(
    input_shape: Any = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
) -> Any:
    """Makes MobileNetV2, as Keras has it.

    Weights of torch make torch's network: it pads on both sides, and takes images scaled by
    ``imagenet_utils.preprocess_input(x, mode="torch")``.

    Args:
        alpha: factor of the numbers of filters.
        include_top: whether the model ends with the classifier of ImageNet.
        weights: None for random numbers; the path of a file: ``.weights.h5`` or ``.h5`` of Keras,
            ``.safetensors`` of torchvision or timm; or ``"imagenet"``: the file of Keras in
            ``~/.keras/models``, if it is there. Nothing is downloaded.
        input_tensor: a symbolic tensor that is the image; default: a new ``Input``.
        input_shape: the shape of an image; default ``(224, 224, 3)``, without the classifier
            ``(None, None, 3)``.
        pooling: without the classifier: None for the images of the last layer, ``"avg"`` or
            ``"max"`` for one number a channel.
        classes: how many classes the classifier has.
        classifier_activation: its activation; None for logits.
        name: of the model.

    Raises:
        ValueError: for arguments or weights that do not fit; the message says where weights are.

    Example:
        >>> from handmill.applications import MobileNetV2
        >>> base = MobileNetV2((96, 96, 3), 0.35, weights=None, include_top=False, pooling="avg")
        >>> base.output.shape
        (None, 1280)
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation
    )
    if not finite_number("MobileNetV2: `alpha`", alpha) > 0:
        raise ValueError(f"MobileNetV2: `alpha` must be positive. Received: alpha={alpha!r}")
    with drawn_unless_stored(weights):
        return _mobilenet(alpha, arguments, name)


def _mobilenet(alpha: float, arguments: Arguments, name: str | None) -> Any:
    size = _default_size(arguments.input_shape, arguments.input_tensor)
    rows = _rows_of_weights(size, arguments, alpha)
    file = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(alpha)}_{rows}"
    published = Published(_URL, f"{file}.h5", f"{file}_no_top.h5")
    net = Network("MobileNetV2", arguments, published, "tf", default_size=size)
    epsilon, momentum = (1e-5, 0.9) if net.torch else (1e-3, 0.999)

    def norm(x: Any, name: str) -> Any:
        return net.norm(x, name, epsilon=epsilon, momentum=momentum)

    def block(x: Any, filters: int, strides: int, number: int) -> Any:
        channels, before = x.shape[net.axis], x
        prefix = f"block_{number}_" if number else "expanded_conv_"
        if number:
            x = net.conv(x, 6 * channels, 1, f"{prefix}expand", padding="same", use_bias=False)
            x = layers.ReLU(6.0, name=f"{prefix}expand_relu")(norm(x, f"{prefix}expand_BN"))
        if strides == 2:
            x = net.pad_for_strides(x, 3, f"{prefix}pad")
        x = layers.DepthwiseConv2D(
            3,
            strides=strides,
            use_bias=False,
            padding="same" if strides == 1 else "valid",
            name=f"{prefix}depthwise",
        )(x)
        x = layers.ReLU(6.0, name=f"{prefix}depthwise_relu")(norm(x, f"{prefix}depthwise_BN"))
        x = net.conv(x, filters, 1, f"{prefix}project", padding="same", use_bias=False)
        x = norm(x, f"{prefix}project_BN")
        if channels == filters and strides == 1:
            return layers.Add(name=f"{prefix}add")([before, x])
        return x

    padding = "torch" if net.torch else "same"
    filters = rounded(32 * alpha)
    x = net.conv(net.image, filters, 3, "Conv1", strides=2, padding=padding, use_bias=False)
    x = layers.ReLU(6.0, name="Conv1_relu")(norm(x, "bn_Conv1"))
    number = 0
    for filters, count, strides in _STAGES:
        for i in range(count):
            x = block(x, rounded(int(filters * alpha)), strides if not i else 1, number)
            number += 1
    last = rounded(1280 * alpha) if alpha > 1.0 else 1280
    x = net.conv(x, last, 1, "Conv_1", use_bias=False)
    x = layers.ReLU(6.0, name="out_relu")(norm(x, "Conv_1_bn"))
    if arguments.include_top:
        x = net.classified(layers.GlobalAveragePooling2D()(x))
    else:
        x = net.pooled(x, {"avg": None, "max": None})
    return net.model(x, name or f"mobilenetv2_{alpha:0.2f}_{rows}", _NAMING)


def _default_size(shape: Any, tensor: Any) -> int:
    """The size of images that the network was trained on, where it is one of Keras's."""
    if shape is not None and len(shape) == 3:
        first = imagenet_utils.channels_axis(3) == 0
        rows, columns = shape[1:] if first else shape[:2]
    elif shape is None and hasattr(tensor, "shape") and len(tensor.shape) == 4:
        first = imagenet_utils.channels_axis(4) == 1
        rows, columns = tensor.shape[2:] if first else tensor.shape[1:3]
    else:
        return 224
    return rows if rows == columns and rows in _SIZES else 224


def _rows_of_weights(size: int, arguments: Arguments, alpha: float) -> Any:
    """The size of images in the name of the model, and of the file that Keras has for it.

    Raises:
        ValueError: for a factor that Keras has no weights for.
    """
    shape = arguments.input_shape
    if shape is not None and len(shape) == 3:
        rows = shape[1] if imagenet_utils.channels_axis(3) == 0 else shape[0]
    else:
        rows = size if arguments.include_top else None
    if arguments.weights != "imagenet":
        return rows
    if alpha not in _ALPHAS:
        raise ValueError(
            f"Keras has weights='imagenet' of MobileNetV2 for alpha in {_ALPHAS} only. Received: "
            f"alpha={alpha}"
        )
    if shape is not None and size != rows:
        warn_caller(
            f"MobileNetV2: weights='imagenet' are those of images of 224x224, because "
            f"input_shape={shape} is not square or none of {_SIZES}",
            UserWarning,
        )
    return rows if rows == size else 224


def rounded(filters: float, least: int = 8) -> int:
    """A number of filters as a multiple of 8, not more than 10 % below what was asked for."""
    found = max(least, int(filters + least / 2) // least * least)
    return found + least if found < 0.9 * filters else found


def _torchvision(layer: str) -> str | None:
    start = {
        "Conv1": "features.0.0",
        "bn_Conv1": "features.0.1",
        "Conv_1": "features.18.0",
        "Conv_1_bn": "features.18.1",
        "predictions": "classifier.1",
    }
    if layer in start:
        return start[layer]
    number, kind = _place(layer)
    parts = {"depthwise": "0.0", "depthwise_BN": "0.1", "project": "1", "project_BN": "2"}
    if number:
        parts = {"expand": "0.0", "expand_BN": "0.1", "depthwise": "1.0", "depthwise_BN": "1.1"}
        parts |= {"project": "2", "project_BN": "3"}
    return f"features.{number + 1}.conv.{parts[kind]}"


def _timm(layer: str) -> str | None:
    start = {
        "Conv1": "conv_stem",
        "bn_Conv1": "bn1",
        "Conv_1": "conv_head",
        "Conv_1_bn": "bn2",
        "predictions": "classifier",
    }
    if layer in start:
        return start[layer]
    number, kind = _place(layer)
    parts = {"depthwise": "conv_dw", "depthwise_BN": "bn1", "project": "conv_pw"}
    parts |= {"project_BN": "bn2"}
    if number:
        parts = {"expand": "conv_pw", "expand_BN": "bn1", "depthwise": "conv_dw"}
        parts |= {"depthwise_BN": "bn2", "project": "conv_pwl", "project_BN": "bn3"}
    stage = 0
    while number >= _STAGES[stage][1]:
        number -= _STAGES[stage][1]
        stage += 1
    return f"blocks.{stage}.{number}.{parts[kind]}"


def _place(layer: str) -> tuple[int, str]:
    """The number of a block, and what the layer is in it."""
    if layer.startswith("expanded_conv_"):
        return 0, layer.removeprefix("expanded_conv_")
    _, number, kind = layer.split("_", 2)
    return int(number), kind


_NAMING = Naming((_torchvision, _timm), head=("classifier.",))


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images of 0 to 255 on the scale of Keras's weights, as ``imagenet_utils`` does.

    That is from -1 to 1.
    """
    return imagenet_utils.preprocess_input(x, data_format, "tf")
