"""Fashion-MNIST: 70,000 pictures of clothes in ten kinds."""

from __future__ import annotations

import gzip
import math

import numpy as np

from handmill.data.datasets.location import STORE, RemoteFile, located
from handmill.data.datasets.tables import Split
from handmill.files import read_regular
from handmill.ir.op import Array


def _file(name: str) -> RemoteFile:
    return RemoteFile(name, STORE + name, None, "fashion-mnist")


FILES = {
    f"{part} {kind}": _file(f"{prefix}-{kind}-idx{rank}-ubyte.gz")
    for part, prefix in (("train", "train"), ("test", "t10k"))
    for kind, rank in (("images", 3), ("labels", 1))
}


def load_data() -> Split:
    """Loads Fashion-MNIST.

    Its four files (``train-images-idx3-ubyte.gz``, ...) are looked for where
    :func:`handmill.datasets.mnist.load_data` looks, and in ``~/.keras/datasets/fashion-mnist``.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: images uint8 of shape (60000, 28, 28) and
        (10000, 28, 28), labels 0 to 9 (T-shirt, trouser, pullover, dress, coat, sandal, shirt,
        sneaker, bag, ankle boot), uint8.

    Raises:
        OSError: if there is no file.
        ValueError: for a file that holds something else.
    """
    train, test = (
        (_idx(FILES[f"{part} images"], 3), _idx(FILES[f"{part} labels"], 1))
        for part in ("train", "test")
    )
    for images, labels in (train, test):
        if len(images) != len(labels):
            raise ValueError(f"Fashion-MNIST: {len(images)} images, but {len(labels)} labels")
    return train, test


def _idx(file: RemoteFile, rank: int) -> Array:
    """Returns the array of bytes in a file of the format idx."""
    path = located(file)
    try:
        data = gzip.decompress(read_regular(path))
    except (OSError, EOFError) as error:
        raise ValueError(f"cannot read {str(path)!r}: {error}") from None
    head = 4 + 4 * rank
    shape = tuple(int(n) for n in np.frombuffer(data[4:head], ">u4"))
    if data[:4] != bytes([0, 0, 8, rank]) or math.prod(shape) != len(data) - head:
        raise ValueError(f"cannot read {str(path)!r}: it is no array of bytes of rank {rank}")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)
