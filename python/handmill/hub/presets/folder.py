"""What lies in a folder: settings, and tensors in one file or in shards."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from handmill.errors import FileFormatError
from handmill.ir.op import Array
from handmill.saving.archive import open_regular
from handmill.saving.json_data import MAX_JSON, from_json
from handmill.saving.model_file import read_tensors

CONFIG = "config.json"
TENSORS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# A shard lies beside its index: a name of one part, that no separator or drive can be in.
_SHARD = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.safetensors")


def folder_of(preset: Any) -> Path:
    """The path of a folder.

    Raises:
        FileNotFoundError: if there is none; names of models are not downloaded.
        TypeError: for what is no path.
    """
    if not isinstance(preset, str | os.PathLike):
        raise TypeError(f"`preset` must be the path of a folder. Received: {preset!r}")
    path = Path(preset)
    if not path.is_dir():
        raise FileNotFoundError(
            f"{os.fspath(preset)} is no folder on this machine. handmill downloads nothing: get "
            "the files of the model (config.json, model.safetensors, those of its vocabulary) and "
            "pass the path of the folder that holds them"
        )
    return path


def read_settings(path: Path) -> dict[str, Any]:
    """The dictionary in a file of JSON.

    Raises:
        FileNotFoundError: if there is no such file.
        FileFormatError: if it is too large or damaged.
    """
    with open_regular(path) as file:
        content = file.read(MAX_JSON + 1)
    if len(content) > MAX_JSON:
        raise FileFormatError(f"{path} is larger than {MAX_JSON >> 20} MB")
    found = from_json(content, str(path))
    if not isinstance(found, dict):
        raise FileFormatError(f"{path} holds no dictionary")
    return found


def read_weights(folder: Path) -> dict[str, Array]:
    """The tensors of a folder, by name.

    Raises:
        FileNotFoundError: if it has none.
        FileFormatError: if a file is damaged, or the index does not say what its shards hold.
    """
    if (folder / TENSORS).exists():
        return read_tensors(folder / TENSORS)
    if (folder / INDEX).exists():
        return _from_shards(folder / INDEX)
    others = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".h5", ".pt", ".gguf"))
    raise FileNotFoundError(
        f"{folder} has neither {TENSORS} nor {INDEX}"
        + (f", but {', '.join(others[:4])}: save that model as safetensors" if others else "")
    )


def _from_shards(index: Path) -> dict[str, Array]:
    places = read_settings(index).get("weight_map")
    if not isinstance(places, dict):
        raise FileFormatError(f"{index} has no 'weight_map'")
    for name in places.values():
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            raise FileFormatError(
                f"{index} names the file {str(name)[:80]!r}; shards lie beside their index and end "
                "in `.safetensors`"
            )
    found: dict[str, Array] = {}
    problems = []
    for shard in sorted(set(places.values())):
        tensors = read_tensors(index.parent / shard)
        expected = {key for key, place in places.items() if place == shard}
        problems += [f"{key} is not in {shard}" for key in sorted(expected - tensors.keys())]
        problems += [
            f"{key} is in {shard}, which the index does not say"
            for key in sorted(tensors.keys() - expected)
        ]
        found |= tensors
    if problems:
        raise FileFormatError(f"{index} does not fit its shards: " + "; ".join(problems[:12]))
    return found
