"""MNIST: 70,000 handwritten digits."""

from __future__ import annotations

import os

from handmill.data.datasets.location import STORE, RemoteFile, located
from handmill.data.datasets.tables import Split
from handmill.data.pickles import load_npz

FILE = RemoteFile(
    "mnist.npz",
    f"{STORE}mnist.npz",
    "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
)


def load_data(path: str | os.PathLike[str] = "mnist.npz") -> Split:
    """Loads MNIST from an ``.npz`` file as Keras stores it.

    Args:
        path: the file. A relative path is looked for in the working directory, in the folder that
            ``HANDMILL_DATA`` names, and in ``~/.keras/datasets``, where it must have Keras's hash.
            A file that is nowhere is downloaded there, unless ``HANDMILL_DATA`` names a folder, or
            the path is absolute.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: images uint8 of shape (60000, 28, 28) and
        (10000, 28, 28), labels uint8.

    Raises:
        OSError: if there is no file; naming the places looked at.
        ValueError: for a file that holds something else.
    """
    found = load_npz(located(FILE, path))
    names = ("x_train", "y_train", "x_test", "y_test")
    if not set(names) <= set(found):
        raise ValueError(f"{path}: expected arrays {', '.join(names)}, found {sorted(found)}")
    a, b, c, d = (found[name] for name in names)
    return (a, b), (c, d)
