"""CIFAR-100: 60,000 small photographs of a hundred kinds of things."""

from __future__ import annotations

from handmill.data.datasets.cifar import images_and_labels, load_batches
from handmill.data.datasets.location import RemoteFile
from handmill.data.datasets.tables import Split

FOLDER = "cifar-100-python"
FILE = RemoteFile(
    "cifar-100-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    "cifar-100-python-target",
)


def load_data(label_mode: str = "fine") -> Split:
    """Loads CIFAR-100.

    The archive ``cifar-100-python.tar.gz``, or the folder ``cifar-100-python`` out of it, is looked
    for where :func:`handmill.datasets.mnist.load_data` looks; a cache of Keras's serves.

    Args:
        label_mode: ``"fine"`` for 100 classes, ``"coarse"`` for the 20 that they belong to.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: images uint8 of shape (50000, 32, 32, 3) and
        (10000, 32, 32, 3), labels uint8 of shape (50000, 1) and (10000, 1).

    Raises:
        OSError: if there is no file.
        ValueError: for an unknown mode, or a file that holds something else.
    """
    if label_mode not in ("fine", "coarse"):
        raise ValueError(
            f'`label_mode` must be one of `"fine"`, `"coarse"`. Received: label_mode={label_mode}.'
        )
    key = f"{label_mode}_labels"
    return (
        images_and_labels(load_batches(FILE, FOLDER, ("train",), key)),
        images_and_labels(load_batches(FILE, FOLDER, ("test",), key)),
    )
