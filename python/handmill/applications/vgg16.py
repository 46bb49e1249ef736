"""VGG-16: 16 layers of convolutions and matrices."""

from __future__ import annotations

import functools
from typing import Any

from handmill.applications import imagenet_utils
from handmill.applications.imagenet_utils import decode_predictions
from handmill.applications.network import application
from handmill.applications.vgg import VGG_TEXT, vgg

__all__ = ["VGG16", "decode_predictions", "preprocess_input"]

VGG16 = application(
    "VGG16",
    functools.partial(vgg, "VGG16", (2, 2, 3, 3, 3)),
    VGG_TEXT.format("VGG16"),
    __name__,
)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images of 0 to 255 on the scale of Keras's weights, as ``imagenet_utils`` does.

    That is: blue, green, red, each less its mean over ImageNet.
    """
    return imagenet_utils.preprocess_input(x, data_format, "caffe")
