"""Models and weights in files: the suffix decides the format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handmill.errors import FileFormatError
from handmill.saving.archive import open_regular, read_file, write_file
from handmill.saving.atomic_file import write_bytes
from handmill.saving.hmill import members_of, model_of, state_of
from handmill.saving.json_data import to_json
from handmill.saving.tensors import from_tensors, to_tensors
from handmill.saving.weights import assign, named, refuse_own_formats


def checked_suffix(filepath: Any, weights_only: bool = False, loading: bool = False) -> str:
    """Returns the path if its suffix is that of the format.

    Args:
        filepath: the path.
        weights_only: whether the file holds weights alone.
        loading: whether the file is to be read, for the error.

    Raises:
        ValueError: naming the right suffix.
    """
    path = os.fsdecode(filepath)
    if "\0" in path:
        raise ValueError("a path cannot contain the character NUL")
    if weights_only:
        if not path.endswith((".weights.hmill", ".safetensors")):
            raise ValueError(
                "The filename for weights must end in `.weights.hmill` (or `.safetensors`). "
                f"Received: filepath={path}"
            )
        return path
    if not path.endswith(".hmill") or path.endswith(".weights.hmill"):
        hint = ""
        if path.endswith((".keras", ".h5", ".hdf5")):
            hint = " Keras's own formats are neither written nor read yet."
        if loading and path.endswith((".weights.hmill", ".safetensors")):
            hint = " A file of weights is read into a model by `model.load_weights(filepath)`."
        raise ValueError(
            f"Invalid filepath extension for {'loading' if loading else 'saving'}: the file of a "
            f"model must end in `.hmill`. Received: filepath={path}.{hint}"
        )
    return path


def save_model(model: Any, filepath: Any, overwrite: bool = True, zipped: Any = None) -> None:
    """Writes a model: architecture, weights, optimizer, counters.

    Args:
        model: the model.
        filepath: a path that ends in ``.hmill``.
        overwrite: whether an existing file may be replaced.
        zipped: accepted for Keras; must be None or True.

    Raises:
        ValueError: for another suffix, or a model that has no weights yet.
        TypeError: if something in the model is code and not data.
    """
    path = Path(checked_suffix(filepath))
    if zipped is not None and not zipped:
        raise ValueError("`zipped=False` is not supported: a .hmill file is one file")
    write_file(path, members_of(model), overwrite)


def load_model(
    filepath: Any,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Any:
    """Reads a model that :meth:`Model.save` wrote. Nothing in the file is executed.

    Args:
        filepath: a path that ends in ``.hmill``.
        custom_objects: name -> class or function of yours that the file may use.
        compile: whether the model is compiled as it was.
        safe_mode: must be True; there is no unsafe way to load.

    Raises:
        ValueError: for another suffix, a damaged file, or a class that is not known.
    """
    path = Path(checked_suffix(filepath, loading=True))
    if not safe_mode:
        raise ValueError("`safe_mode=False` is not supported: files hold data only")
    return model_of(read_file(path), path, custom_objects, compile)


def save_weights(
    model: Any, filepath: Any, overwrite: bool = True, max_shard_size: None = None
) -> None:
    """Writes the weights of a model.

    Args:
        model: the model.
        filepath: a path that ends in ``.weights.hmill`` or ``.safetensors``.
        overwrite: whether an existing file may be replaced.
        max_shard_size: not supported; must be None.
    """
    path = Path(checked_suffix(filepath, weights_only=True))
    if max_shard_size is not None:
        raise ValueError("`max_shard_size` is not supported yet")
    if not model.built:
        raise ValueError(f"model {model.name!r} has no weights yet; call it on data first")
    refuse_own_formats(model)
    tensors = to_tensors(named(model.variables))
    if path.suffix == ".safetensors":
        if not overwrite and path.exists():
            raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
        write_bytes(Path(os.path.realpath(path)), tensors)
        return
    members = {"model.safetensors": tensors, "state.json": to_json(state_of(model), "state.json")}
    write_file(path, members, overwrite)


def load_weights(model: Any, filepath: Any, skip_mismatch: bool = False) -> None:
    """Reads weights into a model; in order, with equal shapes.

    Args:
        model: the model.
        filepath: a file that ``save_weights`` or ``save`` wrote.
        skip_mismatch: whether weights of another shape are left out instead of refused.

    Raises:
        ValueError: if the file is damaged or does not fit; no weight is changed then.
    """
    name = os.fsdecode(filepath)
    if not name.endswith((".hmill", ".safetensors")):
        raise ValueError(
            f"File format not supported: filepath={name}. Weights are read from files that end in "
            "`.weights.hmill`, `.hmill` or `.safetensors`."
        )
    if not model.built:
        raise ValueError(
            f"model {model.name!r} has no weights yet to load into; call it on data, or build it"
        )
    refuse_own_formats(model)
    path = Path(name)
    if path.suffix == ".safetensors":
        with open_regular(path) as file:
            content = file.read()
    else:
        members = read_file(path, ("model.safetensors", "state.json"))
        if "model.safetensors" not in members:
            raise FileFormatError(f"{path} lacks its member model.safetensors")
        content = members["model.safetensors"]
    arrays = from_tensors(content, str(path))
    assign(model.variables, list(arrays.items()), str(path), skip_mismatch)
