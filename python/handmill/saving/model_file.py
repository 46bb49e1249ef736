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
from handmill.saving.pieces import Content, Pieces, read_content
from handmill.saving.tensors import from_tensors, to_tensors
from handmill.saving.weights import assign, named, refuse_own_formats

_OF_WEIGHTS = (".weights.hmill", ".safetensors", ".weights.h5")
_LEGACY = (".h5", ".hdf5")


def checked_suffix(filepath: Any, weights_only: bool = False, loading: bool = False) -> str:
    """Returns the path if its suffix is that of a format.

    Args:
        filepath: the path.
        weights_only: whether the file holds weights alone.
        loading: whether the file is to be read.

    Raises:
        ValueError: naming the right suffix.
    """
    path = os.fsdecode(filepath)
    if "\0" in path:
        raise ValueError("a path cannot contain the character NUL")
    if weights_only:
        if not path.endswith(_OF_WEIGHTS):
            raise ValueError(
                "The filename for weights must end in `.weights.hmill`, `.weights.h5` or "
                f"`.safetensors`. Received: filepath={path}"
            )
        return path
    of_weights = path.endswith(_OF_WEIGHTS)
    if not of_weights and path.endswith((".hmill", ".keras", *_LEGACY)):
        return path
    hint = ""
    if loading and of_weights:
        hint = " A file of weights is read into a model by `model.load_weights(filepath)`."
    raise ValueError(
        f"Invalid filepath extension for {'loading' if loading else 'saving'}: the file of a "
        f"model must end in `.hmill` or `.keras`. Received: filepath={path}.{hint}"
    )


def save_model(model: Any, filepath: Any, overwrite: bool = True, zipped: Any = None) -> None:
    """Writes a model: architecture, weights, optimizer, counters.

    Args:
        model: the model.
        filepath: a path that ends in ``.hmill``; for Keras 3 in ``.keras``, or in ``.h5`` for its
            older format (these need h5py).
        overwrite: whether an existing file may be replaced.
        zipped: accepted for Keras; must be None or True.

    Raises:
        ValueError: for another suffix, or a model that has no weights yet.
        TypeError: if something in the model is code and not data.
        ImportError: for files of Keras without h5py.
    """
    path = Path(checked_suffix(filepath))
    if zipped is not None and not zipped:
        raise ValueError("`zipped=False` is not supported: the file of a model is one file")
    if path.suffix == ".keras":
        from handmill.saving import keras_format

        write_file(path, keras_format.members_of(model), overwrite)
    elif path.suffix in _LEGACY:
        from handmill.saving import legacy_h5

        _write(path, legacy_h5.content_of(model), overwrite)
    else:
        write_file(path, members_of(model), overwrite)


def load_model(
    filepath: Any,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Any:
    """Reads a model that :meth:`Model.save` or Keras wrote. Nothing in the file is executed.

    Args:
        filepath: a path that ends in ``.hmill``, ``.keras`` or ``.h5`` (of Keras 2 too).
        custom_objects: name -> class or function of yours that the file may use.
        compile: whether the model is compiled as it was.
        safe_mode: must be True; there is no unsafe way to load.

    Raises:
        ValueError: for another suffix, a damaged file, or a class that is not known.
        ImportError: for files of Keras without h5py.
    """
    path = Path(checked_suffix(filepath, loading=True))
    if not safe_mode:
        raise ValueError("`safe_mode=False` is not supported: files hold data only")
    if path.suffix == ".keras":
        from handmill.saving import hdf5, keras_format

        hdf5.h5py()
        members = read_file(path, known=keras_format.belongs)
        return keras_format.model_of(members, str(path), custom_objects, compile)
    if path.suffix in _LEGACY:
        from handmill.saving import legacy_h5

        return legacy_h5.model_of(_content(path), str(path), custom_objects, compile)
    return model_of(read_file(path), path, custom_objects, compile)


def save_weights(
    model: Any, filepath: Any, overwrite: bool = True, max_shard_size: None = None
) -> None:
    """Writes the weights of a model.

    Args:
        model: the model.
        filepath: a path that ends in ``.weights.hmill`` or ``.safetensors``, or in ``.weights.h5``
            for Keras 3, with the state of the optimizer (needs h5py).
        overwrite: whether an existing file may be replaced.
        max_shard_size: not supported; must be None.
    """
    path = Path(checked_suffix(filepath, weights_only=True))
    if max_shard_size is not None:
        raise ValueError("`max_shard_size` is not supported yet")
    if not model.built:
        raise ValueError(f"model {model.name!r} has no weights yet; call it on data first")
    if path.suffix == ".hmill":
        refuse_own_formats(model)
        tensors = to_tensors(named(model.variables))
        state = to_json(state_of(model), "state.json")
        write_file(path, {"model.safetensors": tensors, "state.json": state}, overwrite)
        return
    if path.suffix == ".h5":
        from handmill.saving.keras_weights import weights_content

        content = weights_content(model)
    else:
        refuse_own_formats(model)
        content = to_tensors(named(model.variables))
    _write(path, content, overwrite)


def _write(path: Path, content: Pieces, overwrite: bool) -> None:
    if not overwrite and path.exists():
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
    write_bytes(Path(os.path.realpath(path)), content)


def load_weights(
    model: Any, filepath: Any, skip_mismatch: bool = False, by_name: bool = False
) -> None:
    """Reads weights into a model, with equal shapes.

    Args:
        model: the model.
        filepath: a file that ``save_weights`` or ``save`` wrote, here or in Keras.
        skip_mismatch: whether weights of another shape are left out instead of refused.
        by_name: whether layers are found by their names; files of Keras 2 alone.

    Raises:
        ValueError: if the file is damaged or does not fit; no weight is changed then.
        ImportError: for files of Keras without h5py.
    """
    name = os.fsdecode(filepath)
    if not name.endswith((".hmill", ".safetensors", ".keras", *_LEGACY)):
        raise ValueError(
            f"File format not supported: filepath={name}. Weights are read from files that end in "
            "`.weights.hmill`, `.hmill`, `.safetensors`, `.weights.h5`, `.keras` or `.h5`."
        )
    path = Path(name)
    if by_name and path.suffix not in _LEGACY:
        raise ValueError(f"Invalid keyword arguments: by_name is only supported for {_LEGACY}")
    if not model.built:
        raise ValueError(
            f"model {model.name!r} has no weights yet to load into; call it on data, or build it"
        )
    if path.suffix in (".keras", *_LEGACY):
        _load_keras_weights(model, path, skip_mismatch, by_name)
        return
    refuse_own_formats(model)
    if path.suffix == ".safetensors":
        content = _content(path)
    else:
        members = read_file(path, ("model.safetensors", "state.json").__contains__)
        if "model.safetensors" not in members:
            raise FileFormatError(f"{path} lacks its member model.safetensors")
        content = members["model.safetensors"]
    arrays = from_tensors(content, str(path))
    assign(model.variables, list(arrays.items()), str(path), skip_mismatch)


def _load_keras_weights(model: Any, path: Path, skip_mismatch: bool, by_name: bool) -> None:
    from handmill.saving import hdf5, keras_format, keras_weights, legacy_h5

    hdf5.h5py()
    if path.suffix == ".keras":
        members = read_file(path, keras_format.WEIGHTS.__eq__, keras_format.belongs)
        if keras_format.WEIGHTS not in members:
            raise FileFormatError(f"{path} lacks its member {keras_format.WEIGHTS}")
        content = members[keras_format.WEIGHTS]
    else:
        content = _content(path)
        if legacy_h5.holds_weights(content, str(path)):
            legacy_h5.load_weights(model, content, str(path), skip_mismatch, by_name)
            return
        if by_name:
            raise ValueError(f"{path} has no names of layers, so by_name=True finds nothing")
    keras_weights.load_weights(model, content, str(path), skip_mismatch)


def _content(path: Path) -> Content:
    with open_regular(path) as file:
        return read_content(file, os.fstat(file.fileno()).st_size)[0]
