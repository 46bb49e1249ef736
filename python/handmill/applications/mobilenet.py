"""MobileNet: depthwise and pointwise convolutions in turns (Howard et al., 2017)."""

from __future__ import annotations

from typing import Any

from handmill import layers
from handmill.applications import imagenet_utils
from handmill.applications.imagenet_utils import decode_predictions
from handmill.applications.network import Arguments, Network, Published, drawn_unless_stored
from handmill.arguments import finite_number, whole_number
from handmill.errors import warn_caller

__all__ = ["MobileNet", "decode_predictions", "preprocess_input"]

_URL = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"
_ALPHAS = {0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"}  # as files are called
_SIZES = (128, 160, 192, 224)

# Filters and strides of the blocks.
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5)
_BLOCKS += ((1024, 2), (1024, 1))


def MobileNet(
    input_shape: Any = None,
    alpha: float = 1.0,
    depth_multiplier: int = 1,
    dropout: float = 1e-3,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
) -> Any:
    """Makes the first MobileNet, as Keras has it.

    Args:
        alpha: factor of the numbers of filters.
        depth_multiplier: filters of a depthwise convolution for each channel.
        dropout: the share of the features that the classifier does not see in training.
        include_top: whether the model ends with the classifier of ImageNet.
        weights: None for random numbers; the path of a file, ``.weights.h5`` or ``.h5`` of Keras;
            or ``"imagenet"``: the file of Keras in ``~/.keras/models``, if it is there. Nothing is
            downloaded.
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
        >>> from handmill.applications import MobileNet
        >>> base = MobileNet((96, 96, 3), 0.25, weights=None, include_top=False, pooling="avg")
        >>> base.output.shape
        (None, 256)
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation
    )
    if not finite_number("MobileNet: `alpha`", alpha) >= 1 / 32:  # 32 filters at first
        raise ValueError(
            f"MobileNet: `alpha` must be 1/32 or more, so that a filter is left. Received: {alpha}"
        )
    depth_multiplier = whole_number("MobileNet: `depth_multiplier`", depth_multiplier, 1)
    with drawn_unless_stored(weights):
        return _mobilenet(alpha, depth_multiplier, dropout, arguments, name)


def _mobilenet(
    alpha: float, depth_multiplier: int, dropout: float, arguments: Arguments, name: str | None
) -> Any:
    sizes = _sizes_of(arguments.input_shape)
    size = sizes[0] if sizes[0] == sizes[1] and sizes[0] in _SIZES else 224
    if arguments.weights == "imagenet":
        _check_published(alpha, depth_multiplier, arguments.input_shape, size)
    file = f"mobilenet_{_ALPHAS.get(alpha, alpha)}_{size}_tf"
    published = Published(_URL, f"{file}.h5", f"{file}_no_top.h5")
    net = Network("MobileNet", arguments, published, "tf", default_size=size)

    def activated(x: Any, name: str) -> Any:
        return layers.ReLU(6.0, name=f"{name}_relu")(net.norm(x, f"{name}_bn"))

    filters = int(32 * alpha)
    x = net.conv(net.image, filters, 3, "conv1", strides=2, padding="same", use_bias=False)
    x = activated(x, "conv1")
    for number, (filters, strides) in enumerate(_BLOCKS, 1):
        if strides == 2:
            x = net.pad(x, ((0, 1), (0, 1)), f"conv_pad_{number}")
        x = layers.DepthwiseConv2D(
            3,
            strides=strides,
            padding="same" if strides == 1 else "valid",
            depth_multiplier=depth_multiplier,
            use_bias=False,
            name=f"conv_dw_{number}",
        )(x)
        x = activated(x, f"conv_dw_{number}")
        x = net.conv(x, int(filters * alpha), 1, f"conv_pw_{number}", use_bias=False)
        x = activated(x, f"conv_pw_{number}")
    if arguments.include_top:
        x = layers.GlobalAveragePooling2D(keepdims=True)(x)
        x = layers.Dropout(dropout, name="dropout")(x)
        x = net.conv(x, arguments.classes, 1, "conv_preds", padding="same")
        x = layers.Reshape((arguments.classes,), name="reshape_2")(x)
        x = layers.Activation(arguments.classifier_activation, name="predictions")(x)
    else:
        x = net.pooled(x, {"avg": None, "max": None})
    published_size = arguments.weights == "imagenet"
    rows = size if published_size else net.image.shape[1 if net.axis == 3 else 2]
    return net.model(x, name or f"mobilenet_{alpha:0.2f}_{rows}")


def _sizes_of(shape: Any) -> tuple[Any, Any]:
    """Height and width; None where they are not said."""
    if shape is None or len(shape) != 3:
        return None, None
    first = imagenet_utils.channels_axis(3) == 0
    return (shape[1], shape[2]) if first else (shape[0], shape[1])


def _check_published(alpha: float, depth_multiplier: int, shape: Any, size: int) -> None:
    """Raises ValueError for a network that Keras has no weights for; warns of another size."""
    if depth_multiplier != 1 or alpha not in _ALPHAS:
        raise ValueError(
            f"Keras has weights='imagenet' of MobileNet for depth_multiplier=1 and alpha in "
            f"{tuple(_ALPHAS)} only. Received: depth_multiplier={depth_multiplier}, alpha={alpha}"
        )
    if shape is not None and _sizes_of(shape) != (size, size):
        warn_caller(
            f"MobileNet: weights='imagenet' are those of images of 224x224, because "
            f"input_shape={shape} is not square or none of {_SIZES}",
            UserWarning,
        )


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images of 0 to 255 on the scale of Keras's weights, as ``imagenet_utils`` does.

    That is from -1 to 1.
    """
    return imagenet_utils.preprocess_input(x, data_format, "tf")
