"""CIFAR-10: 60,000 small photographs of ten kinds of things."""

from __future__ import annotations

from handmill.data.datasets.cifar import images_and_labels, load_batches
from handmill.data.datasets.location import RemoteFile
from handmill.data.datasets.tables import Split

FOLDER = "cifar-10-batches-py"
FILE = RemoteFile(
    "cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    "cifar-10-batches-py-target",
)


def load_data() -> Split:
    """Loads CIFAR-10.

    The archive ``cifar-10-python.tar.gz``, or the folder ``cifar-10-batches-py`` out of it, is
    looked for where :func:`handmill.datasets.mnist.load_data` looks; a cache of Keras's serves.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: images uint8 of shape (50000, 32, 32, 3) and
        (10000, 32, 32, 3), labels 0 to 9 (airplane, automobile, bird, cat, deer, dog, frog, horse,
        ship, truck), uint8 of shape (50000, 1) and (10000, 1).

    Raises:
        OSError: if there is no file.
        ValueError: for a file that holds something else.
    """
    names = tuple(f"data_batch_{i}" for i in range(1, 6))
    return (
        images_and_labels(load_batches(FILE, FOLDER, names, "labels")),
        images_and_labels(load_batches(FILE, FOLDER, ("test_batch",), "labels")),
    )
