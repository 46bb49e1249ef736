"""The two CIFAR data sets: pickles in a tar archive, or in the folder that it was unpacked into."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from handmill import config
from handmill.data.datasets.location import CACHE, RemoteFile, located
from handmill.data.pickles import load_pickle
from handmill.files import read_regular
from handmill.ir.op import Array

_PIXELS = 3 * 32 * 32


def load_batches(file: RemoteFile, folder: str, names: tuple[str, ...], key: str) -> Array:
    """Returns images and labels of some members, joined: rows of 3,072 pixels and a label.

    Args:
        file: the archive.
        folder: the folder in it.
        names: the members.
        key: what the labels are called.

    Raises:
        OSError: if there is neither archive nor folder.
        ValueError: if a member holds something else.
    """
    read = _reader(file, folder)
    return np.concatenate([_batch(read(name), name, key) for name in names])


def _reader(file: RemoteFile, folder: str) -> Callable[[str], bytes]:
    offline = os.environ.get("HANDMILL_DATA")
    cache = Path(CACHE).expanduser()
    places = [Path(), *([Path(offline)] if offline else []), cache, cache / file.folder]
    for place in places:
        if (place / folder).is_dir():
            return lambda name: read_regular(place / folder / name)
    archive = located(RemoteFile(file.name, file.origin, file.file_hash))

    def read(name: str) -> bytes:
        with tarfile.open(archive) as tar:
            member = tar.extractfile(f"{folder}/{name}")
            if member is None:
                raise ValueError(f"{archive}: {folder}/{name} is no file")
            with member:
                return member.read()

    return read


def _batch(data: bytes, name: str, key: str) -> Array:
    found = load_pickle(data, f"CIFAR's {name}", encoding="bytes")
    pixels = found.get(b"data") if isinstance(found, dict) else None
    labels = found.get(key.encode()) if isinstance(found, dict) else None
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.ndim != 2
        or pixels.shape[1] != _PIXELS
        or not isinstance(labels, list)
        or len(labels) != len(pixels)
    ):
        raise ValueError(f"CIFAR's {name}: expected rows of {_PIXELS} pixels (uint8) and {key}")
    return np.concatenate([pixels, np.asarray(labels, np.uint8)[:, None]], axis=1)


def images_and_labels(rows: Array) -> tuple[Array, Array]:
    """Returns images in the data format in use, and labels of shape (n, 1)."""
    images = rows[:, :_PIXELS].reshape(-1, 3, 32, 32)
    if config.image_data_format() == "channels_last":
        images = images.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), rows[:, _PIXELS:].copy()
