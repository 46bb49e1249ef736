"""Networks for images, with the weights that others trained on ImageNet read from the disk.

Each is a function that makes a functional model, with Keras's names of layers and order of
weights: ``applications.ResNet50(weights="resnet50.weights.h5", include_top=False)``. Nothing is
downloaded. docs/guides/transfer_learning.md shows how a small head is trained on a frozen base.
"""

from __future__ import annotations

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        **{f"EfficientNetB{n}": ".efficientnet" for n in range(8)},
        "MobileNet": ".mobilenet",
        "MobileNetV2": ".mobilenet_v2",
        **{f"ResNet{n}": ".resnet" for n in (50, 101, 152)},
        **{f"ResNet{n}V2": ".resnet_v2" for n in (50, 101, 152)},
        "ResNet18": ".resnet18",
        "ResNet34": ".resnet18",
        "VGG16": ".vgg16",
        "VGG19": ".vgg19",
        "efficientnet": ".efficientnet",
        "imagenet_utils": ".imagenet_utils",
        "mobilenet": ".mobilenet",
        "mobilenet_v2": ".mobilenet_v2",
        "resnet": ".resnet",
        "resnet18": ".resnet18",
        "resnet50": ".resnet50",
        "resnet_v2": ".resnet_v2",
        "vgg16": ".vgg16",
        "vgg19": ".vgg19",
    },
)
