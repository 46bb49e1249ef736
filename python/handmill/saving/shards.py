"""Weights in several files of Keras's: ``name.weights.json`` says which file holds which part."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from handmill.errors import FileFormatError, warn_caller
from handmill.ir.op import Array
from handmill.saving.archive import open_regular
from handmill.saving.hdf5 import Reader, Writer
from handmill.saving.json_data import MAX_JSON, from_json, to_json
from handmill.saving.keras_weights import groups_of
from handmill.saving.pieces import Pieces, read_content

SUFFIX = ".weights.json"
_GIGABYTE = 1 << 30
_SAVE = "handmill_save"
"""What the index and its shards share, so that shards of two saves are not taken for one."""


def index_path(path: Path) -> Path:
    """The path of the index; a path that names a single file is changed, with a warning."""
    if path.name.endswith(SUFFIX):
        return path
    renamed = path.with_suffix(".json")
    warn_caller(
        f"Sharded weights have an index that ends in `{SUFFIX}`. The path {path} is renamed to "
        f"{renamed}.",
        UserWarning,
    )
    return renamed


def contents(
    model: Any, path: Path, max_shard_size: float, skipped: Iterable[Any] = ()
) -> dict[Path, Pieces]:
    """Returns the files that hold the weights of a model, the index last.

    Args:
        model: the model.
        path: that of the index.
        max_shard_size: how many gigabytes (of 2**30 bytes) of weights one file may hold.
        skipped: objects in the model that are left out.

    Raises:
        ValueError: for a size that is none, or a weight that is larger.
    """
    if isinstance(max_shard_size, bool) or not isinstance(max_shard_size, int | float):
        raise ValueError(
            f"`max_shard_size` must be a number of gigabytes. Received: {max_shard_size!r}"
        )
    limit = float(max_shard_size) * _GIGABYTE
    if not limit > 0:
        raise ValueError(f"`max_shard_size` must be positive. Received: {max_shard_size}")
    save = os.urandom(8).hex()
    base = path.name.removesuffix(SUFFIX)
    shards: list[list[tuple[str, dict[str, Array], dict[str, str]]]] = [[]]
    places: dict[str, list[str]] = {}
    filled = total = 0
    for group, arrays, notes in groups_of(model, skipped):
        shards[-1].append((group, {}, notes))
        for key, array in arrays.items():
            if array.nbytes > limit:
                raise ValueError(
                    f"The size of {group}/{key} is {array.nbytes} bytes, which exceeds the "
                    f"maximum shard size of {limit:.0f} bytes. Pass a larger `max_shard_size`."
                )
            if filled + array.nbytes > limit:
                shards.append([(group, {}, notes)])
                filled = 0
            filled += array.nbytes
            total += array.nbytes
            shards[-1][-1][1][key] = array
            files = places.setdefault(f"/{group}", [])
            file = f"{base}_{len(shards) - 1:05}.weights.h5"
            if file not in files:
                files.append(file)
    found: dict[Path, Pieces] = {}
    for number, shard in enumerate(shards):
        writer = Writer()
        writer.group("", {}, {_SAVE: save})
        for group, arrays, notes in shard:
            writer.group(group, arrays, notes)
        found[path.with_name(f"{base}_{number:05}.weights.h5")] = writer.content()
    index = {
        "metadata": {"total_size": total, _SAVE: save},
        "weight_map": {key: f[0] if len(f) == 1 else f for key, f in places.items()},
    }
    found[path] = [to_json(index, path.name)]
    return found


class ShardReader:
    """Looks into shards as :class:`Reader` does into one file.

    Args:
        path: that of the index.

    Raises:
        FileFormatError: if the index is damaged, names files that are not beside it, or a shard
            is of another save.
    """

    def __init__(self, path: Path) -> None:
        self._name = str(path)
        with open_regular(path) as file:
            content = file.read(MAX_JSON + 1)
        if len(content) > MAX_JSON:
            raise FileFormatError(f"{path} is larger than 16 MB")
        index = from_json(content, self._name)
        self._places = self._checked(index)
        save = index["metadata"].get(_SAVE) if isinstance(index.get("metadata"), dict) else None
        self._readers: dict[str, Reader] = {}
        with ExitStack() as opened:
            for name in sorted({name for names in self._places.values() for name in names}):
                shard = path.with_name(name)
                with open_regular(shard) as part:
                    whole, _ = read_content(part, os.fstat(part.fileno()).st_size)
                    reader = opened.enter_context(Reader(whole, str(shard)))
                if save is not None and reader.text("", _SAVE) != save:
                    raise FileFormatError(
                        f"{shard} was not written together with {path}: the saving that should "
                        "have replaced both was interrupted"
                    )
                self._readers[name] = reader
            self._opened = opened.pop_all()

    def _checked(self, index: Any) -> dict[str, list[str]]:
        places = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(places, dict):
            raise FileFormatError(f"{self._name} has no 'weight_map'")
        found: dict[str, list[str]] = {}
        for key, files in places.items():
            files = files if isinstance(files, list) else [files]
            for file in files:
                if not isinstance(file, str) or not _is_shard(file):
                    raise FileFormatError(
                        f"{self._name} names the file {str(file)[:80]!r}; shards lie beside their "
                        "index and end in `.weights.h5`"
                    )
            found[key.strip("/")] = files
        return found

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._opened.close()

    def has(self, path: str) -> bool:
        """Whether there is a group at ``path``."""
        return any(group == path or group.startswith(f"{path}/") for group in self._places)

    def arrays(self, path: str) -> dict[str, Array]:
        """The arrays in the group at ``path``; none if there is no such group."""
        found: dict[str, Array] = {}
        for key, array in self._of_group(path):
            if key in found:
                raise FileFormatError(f"{self._name}: two shards hold {f'{path}/{key}'[:80]!r}")
            found[key] = array
        return found

    def _of_group(self, path: str) -> Iterator[tuple[str, Array]]:
        for file in self._places.get(path, ()):
            yield from self._readers[file].arrays(path).items()


def _is_shard(name: str) -> bool:
    return bool(re.fullmatch(r"[^/\\:\0]+\.weights\.h5", name)) and not name.startswith("..")
