"""Where the files of data sets are: with the user, in the cache, or on the web."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from handmill.data.downloads import get_file, has_hash

STORE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
CACHE = "~/.keras/datasets"


@dataclass(frozen=True)
class RemoteFile:
    """A file that Keras offers.

    Attributes:
        name: its name in the cache.
        origin: its URL.
        file_hash: what it must have, None where Keras knows none.
        folder: the folder in the cache.
    """

    name: str
    origin: str
    file_hash: str | None
    folder: str = ""


def located(file: RemoteFile, path: str | os.PathLike[str] | None = None) -> Path:
    """Returns the path of a file, which is downloaded if the user has it nowhere.

    Args:
        file: the file.
        path: its name or path for the user; default: its name.

    Raises:
        FileNotFoundError: if it is nowhere and ``HANDMILL_DATA`` says not to download, naming the
            places looked at.
        OSError: if it is nowhere and cannot be downloaded; naming the places too.
    """
    wanted = Path(file.name if path is None else path)
    offline = os.environ.get("HANDMILL_DATA")
    tried = list(dict.fromkeys([wanted, *([Path(offline) / wanted] if offline else [])]))
    for found in tried:
        if found.is_file():
            return found
    cache = Path(CACHE).expanduser() / file.folder
    cached = cache / wanted.name
    if cached.is_file() and (file.file_hash is None or has_hash(cached, file.file_hash)):
        return cached
    places = ", ".join(str(p) for p in [*tried, cached])
    if offline or wanted.is_absolute():
        why = "a path was given" if wanted.is_absolute() else "HANDMILL_DATA names a folder"
        raise FileNotFoundError(
            f"no file {wanted.name}; looked at {places}. Nothing is downloaded, because {why}: put "
            f"the file of {file.origin} there"
        )
    try:
        return Path(
            get_file(
                wanted.name,
                origin=file.origin,
                file_hash=file.file_hash,
                cache_subdir=str(cache),
            )
        )
    except OSError as error:
        raise OSError(
            f"no file {wanted.name}; looked at {places}, and {error}. Put the file of "
            f"{file.origin} there, or name its folder in HANDMILL_DATA"
        ) from error
