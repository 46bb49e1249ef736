"""MNIST, from a file that the user has."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from handmill.ir.op import Array


def load_data(path: str = "mnist.npz") -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Loads MNIST from an ``.npz`` file as Keras stores it; nothing is downloaded.

    Args:
        path: the file. A relative path is looked for in the working directory, in the folder
            that ``HANDMILL_DATA`` names, and in ``~/.keras/datasets``.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: images uint8 of shape (60000, 28, 28) and
        (10000, 28, 28), labels uint8.

    Raises:
        FileNotFoundError: naming the places looked at.
    """
    folders = [
        Path(),
        Path(os.environ.get("HANDMILL_DATA") or "."),
        Path.home() / ".keras/datasets",
    ]
    tried = list(dict.fromkeys(folder / path for folder in folders))
    for file in tried:
        if file.is_file():
            with np.load(file, allow_pickle=False) as data:
                return (data["x_train"], data["y_train"]), (data["x_test"], data["y_test"])
    raise FileNotFoundError(
        f"no MNIST file; looked at {', '.join(map(str, tried))}. handmill downloads nothing: "
        "put Keras's mnist.npz there or pass path=."
    )
