"""The builder of VGG networks (Simonyan and Zisserman, 2014)."""

from __future__ import annotations

from typing import Any

from handmill import layers
from handmill.applications.network import Arguments, Network, Published
from handmill.applications.torch_layout import Naming

_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"
VGG_TEXT = """Makes {}, as Keras has it.

Weights of torch want images scaled by ``imagenet_utils.preprocess_input(x, mode="torch")``."""
_FILTERS = (64, 128, 256, 512, 512)


def vgg(title: str, counts: tuple[int, ...], arguments: Arguments, name: str) -> Any:
    """Makes a VGG network.

    Args:
        title: its name.
        counts: the convolutions of each block.
        arguments: what the user gave.
        name: of the model.
    """
    low = title.lower()
    file = f"{low}_weights_tf_dim_ordering_tf_kernels"
    published = Published(f"{_URL}{low}/", f"{file}.h5", f"{file}_notop.h5")
    net = Network(title, arguments, published, "caffe")
    x = net.image
    for number, (filters, count) in enumerate(zip(_FILTERS, counts, strict=True), 1):
        for i in range(1, count + 1):
            name_ = f"block{number}_conv{i}"
            x = net.conv(x, filters, 3, name_, padding="same", activation="relu")
        x = layers.MaxPooling2D(2, strides=2, name=f"block{number}_pool")(x)
    if arguments.include_top:
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(4096, activation="relu", name="fc1")(x)
        x = layers.Dense(4096, activation="relu", name="fc2")(x)
        x = net.classified(x)
    else:
        x = net.pooled(x, {"avg": None, "max": None})
    return net.model(x, name, _naming(counts))


def _naming(counts: tuple[int, ...]) -> Naming:
    torchvision: dict[str, str] = {}
    place = 0  # torchvision counts activations and pooling among the modules
    for number, count in enumerate(counts, 1):
        for i in range(1, count + 1):
            torchvision[f"block{number}_conv{i}"] = f"features.{place}"
            place += 2
        place += 1
    timm = torchvision | {
        "fc1": "pre_logits.fc1",
        "fc2": "pre_logits.fc2",
        "predictions": "head.fc",
    }
    torchvision |= {"fc1": "classifier.0", "fc2": "classifier.3", "predictions": "classifier.6"}
    return Naming(
        (torchvision.get, timm.get),
        head=("classifier.", "pre_logits.", "head."),
        flattened={"fc1": _FILTERS[-1]},
    )
