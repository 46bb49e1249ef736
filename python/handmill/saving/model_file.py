"""Models and weights in files: the suffix decides the format."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from handmill.errors import FileFormatError
from handmill.ir.op import Array
from handmill.saving.archive import open_regular, opened_file, read_file, write_file
from handmill.saving.atomic_file import kept_folder, write_bytes, write_several
from handmill.saving.file_range import FileRange
from handmill.saving.hmill import members_of, model_of, state_of
from handmill.saving.json_data import to_json
from handmill.saving.pieces import Content, Pieces, read_content
from handmill.saving.tensors import from_tensors, to_tensors
from handmill.saving.weights import assign, learns_elsewhere, named, refuse_own_formats

_OF_WEIGHTS = (".weights.hmill", ".safetensors", ".weights.h5")
_LEGACY = (".h5", ".hdf5")
_SHARDED = (".weights.json", ".weights.h5")


class _MissingFileError(FileNotFoundError, ValueError):
    """A file that is not there: what the operating system says, and what Keras raises."""


def _checked(filepath: Any) -> str:
    path = os.fsdecode(filepath)
    if "\0" in path:
        raise ValueError("a path cannot contain the character NUL")
    return path


def checked_suffix(filepath: Any, weights_only: bool = False, loading: bool = False) -> str:
    """Returns the path if its suffix is that of a format.

    Args:
        filepath: the path.
        weights_only: whether the file holds weights alone.
        loading: whether the file is to be read.

    Raises:
        ValueError: naming the right suffix.
    """
    path = _checked(filepath)
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
    if loading and (of_weights or path.endswith(_SHARDED)):
        hint = " A file of weights is read into a model by `model.load_weights(filepath)`."
    elif not loading:
        hint = " A folder is written with `zipped=False`."
    kind = "File format not supported" if loading else "Invalid filepath extension for saving"
    raise ValueError(
        f"{kind}: the file of a model must end in `.hmill` or `.keras`. "
        f"Received: filepath={path}.{hint}"
    )


def save_model(
    model: Any, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any
) -> None:
    """Writes a model: architecture, weights, optimizer, counters.

    Args:
        model: the model.
        filepath: a path that ends in ``.hmill``; for Keras 3 in ``.keras``, or in ``.h5`` for its
            older format (these need h5py).
        overwrite: whether an existing file may be replaced.
        zipped: False writes the members of a ``.keras`` file as a folder; its path must not end
            in the suffix of a file.
        **kwargs: ``include_optimizer=False`` leaves the optimizer and what ``compile`` was given
            out of a ``.h5`` file.

    Raises:
        ValueError: for another suffix, or a model that has no weights yet.
        TypeError: if something in the model is code and not data.
        ImportError: for files of Keras without h5py.
    """
    include_optimizer = kwargs.pop("include_optimizer", True)
    if "save_format" in kwargs:
        raise ValueError(
            "The `save_format` argument is deprecated in Keras 3: the path says the format. "
            f"Received: save_format={kwargs['save_format']!r}"
        )
    if kwargs:
        raise ValueError(f"The following argument(s) are not supported: {list(kwargs)}")
    name = _checked(filepath)
    if not include_optimizer and not name.endswith(_LEGACY):
        raise ValueError(
            "include_optimizer=False is an argument of `.h5` files. Leave the optimizer out by "
            f"`load_model(path, compile=False)`. Received: filepath={name}"
        )
    if zipped is not None and not zipped:
        _save_folder(model, Path(name), overwrite)
        return
    path = Path(checked_suffix(filepath))
    if path.suffix == ".keras":
        from handmill.saving import keras_format

        write_file(path, keras_format.members_of(model), overwrite)
    elif path.suffix in _LEGACY:
        from handmill.saving import legacy_h5

        content = legacy_h5.content_of(model, include_optimizer)
        path.parent.mkdir(parents=True, exist_ok=True)  # as Keras does, for this format alone
        _write(path, content, overwrite)
    else:
        write_file(path, members_of(model), overwrite)


def _save_folder(model: Any, path: Path, overwrite: bool) -> None:
    from handmill.saving import keras_folder, keras_format

    if path.name.endswith((".hmill", ".keras", *_LEGACY)):
        raise ValueError(
            "With `zipped=False` a folder is written, whose path should not end in the suffix of a "
            f"file. Received: filepath={path}"
        )
    keras_folder.write(path, keras_format.members_of(model), overwrite)


def load_model(
    filepath: Any,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Any:
    """Reads a model that :meth:`Model.save` or Keras wrote. Nothing in the file is executed.

    Args:
        filepath: a path that ends in ``.hmill``, ``.keras`` or ``.h5`` (of Keras 2 too), or a
            folder that ``save(zipped=False)`` wrote.
        custom_objects: name -> class or function of yours that the file may use.
        compile: whether the model is compiled as it was.
        safe_mode: must be True; there is no unsafe way to load.

    Raises:
        ValueError: for another suffix, a damaged file, or a class that is not known.
        FileNotFoundError: if there is no such file; this one is a ValueError too.
        ImportError: for files of Keras without h5py.
    """
    path = Path(_checked(filepath))
    folder = path.is_dir() and (path / "config.json").exists()
    if not path.exists() and (kept := kept_folder(path)):
        raise _MissingFileError(
            f"{path} is missing: the saving that should have replaced it was interrupted. What it "
            f"held before is whole: rename {kept} to {path.name}"
        )
    if not folder:
        checked_suffix(filepath, loading=True)
    if not safe_mode:
        raise ValueError("`safe_mode=False` is not supported: files hold data only")
    if not path.exists():
        raise _MissingFileError(
            f"File not found: filepath={path}. Please ensure the file is an accessible "
            f"`{path.suffix}` file."
        )
    if folder or path.suffix == ".keras":
        from handmill.saving import hdf5, keras_folder, keras_format

        hdf5.h5py()
        if folder:
            return keras_format.model_of(
                keras_folder.read(path), str(path), custom_objects, compile
            )
        with opened_file(path, keras_format.belongs) as members:
            return keras_format.model_of(members, str(path), custom_objects, compile)
    if path.suffix in _LEGACY:
        from handmill.saving import legacy_h5

        with open_regular(path) as file:
            descriptor = file.fileno()
            content = FileRange(descriptor, 0, os.fstat(descriptor).st_size, str(path))
            return legacy_h5.model_of(content, str(path), custom_objects, compile)
    with opened_file(path) as members:
        return model_of(members, path, custom_objects, compile)


def save_weights(
    model: Any,
    filepath: Any,
    overwrite: bool = True,
    max_shard_size: float | None = None,
    **kwargs: Any,
) -> None:
    """Writes the weights of a model.

    Args:
        model: the model.
        filepath: a path that ends in ``.weights.hmill`` or ``.safetensors``, or in ``.weights.h5``
            for Keras 3, with the state of the optimizer (needs h5py); with ``max_shard_size`` one
            that ends in ``.weights.json``.
        overwrite: whether an existing file may be replaced.
        max_shard_size: writes several files, each with at most so many gigabytes of weights, and
            an index that says which file holds what. A process that is killed while the files
            are put in place may leave a set that does not belong together; loading refuses it.
        **kwargs: ``objects_to_skip``: layers that a ``.weights.h5`` file leaves out.

    Raises:
        ValueError: for another suffix, a model that has no weights yet, or a weight larger than
            ``max_shard_size``.
        ImportError: for files of Keras without h5py.
    """
    skipped = _to_skip(kwargs)
    if max_shard_size is not None:
        _save_shards(model, Path(_checked(filepath)), overwrite, max_shard_size, skipped)
        return
    path = Path(checked_suffix(filepath, weights_only=True))
    _needs_weights(model)
    if path.suffix == ".h5":
        from handmill.saving.keras_weights import weights_content

        _write(path, weights_content(model, skipped or ()), overwrite)
        return
    _refuse_skipping(skipped, path)
    refuse_own_formats(model)
    tensors = to_tensors(named(model.variables, learns_elsewhere(model)))
    if path.suffix == ".hmill":
        state = to_json(state_of(model), "state.json")
        write_file(path, {"model.safetensors": tensors, "state.json": state}, overwrite)
    else:
        _write(path, tensors, overwrite)


def _save_shards(
    model: Any, path: Path, overwrite: bool, max_shard_size: float, skipped: Any
) -> None:
    from handmill.saving import shards

    if not path.name.endswith(_SHARDED):
        raise ValueError(
            "The filename must end in `.weights.json` when `max_shard_size` is specified. "
            f"Received: filepath={path}"
        )
    _needs_weights(model)
    path = Path(os.path.realpath(shards.index_path(path)))
    contents = shards.contents(model, path, max_shard_size, skipped or ())
    if not overwrite and (there := [file for file in contents if file.exists()]):
        raise FileExistsError(f"{there[0]} exists; pass overwrite=True to replace it")
    write_several(contents)


def _needs_weights(model: Any) -> None:
    if not model.built:
        raise ValueError(
            "You are saving a model that has not yet been built. Model "
            f"{model.name!r} has no weights yet; call it on data first"
        )


def _to_skip(kwargs: dict[str, Any]) -> list[Any] | None:
    skipped = kwargs.pop("objects_to_skip", None)
    if kwargs:
        raise ValueError(f"Invalid keyword arguments: {kwargs}")
    return None if skipped is None else list(skipped)


def _refuse_skipping(skipped: list[Any] | None, path: Path) -> None:
    if skipped is not None:
        raise ValueError(
            f"`objects_to_skip` only supports loading '.weights.h5' files. Received: {path}"
        )


def _write(path: Path, content: Pieces, overwrite: bool) -> None:
    if not overwrite and path.exists():
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
    write_bytes(Path(os.path.realpath(path)), content)


def load_weights(model: Any, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
    """Reads weights into a model, with equal shapes.

    Args:
        model: the model.
        filepath: a file that ``save_weights`` or ``save`` wrote, here or in Keras; of several
            files the index, which ends in ``.weights.json``.
        skip_mismatch: whether weights of another shape are left out instead of refused.
        **kwargs: ``by_name=True`` finds layers by their names, in files of Keras 2 alone;
            ``objects_to_skip``: layers that keep what they have (``.weights.h5`` alone).

    Raises:
        ValueError: if the file is damaged or does not fit; no weight is changed then.
        ImportError: for files of Keras without h5py.
    """
    by_name = kwargs.pop("by_name", None)
    skipped = _to_skip(kwargs)
    name = _checked(filepath)
    if not name.endswith((".hmill", ".safetensors", ".keras", ".weights.json", *_LEGACY)):
        raise ValueError(
            f"File format not supported: filepath={name}. Weights are read from files that end in "
            "`.weights.hmill`, `.hmill`, `.safetensors`, `.weights.h5`, `.weights.json`, `.keras` "
            "or `.h5`."
        )
    path = Path(name)
    if by_name and path.suffix not in _LEGACY:
        raise ValueError(
            "Invalid keyword arguments: by_name is only supported for files of Keras 2; it only "
            f"supports loading legacy '.h5' or '.hdf5' files. Received: {path}"
        )
    if not name.endswith(_SHARDED):
        _refuse_skipping(skipped, path)
    if not model.built:
        raise ValueError(
            "You are loading weights into a model that has not yet been built. Model "
            f"{model.name!r} has no weights yet to load into; call it on data, or build it"
        )
    if path.suffix in (".keras", ".json", *_LEGACY):
        _load_keras_weights(model, path, skip_mismatch, bool(by_name), skipped or ())
        return
    refuse_own_formats(model)
    if path.suffix == ".safetensors":
        arrays = read_tensors(path)
    else:
        members = read_file(path, ("model.safetensors", "state.json").__contains__)
        if "model.safetensors" not in members:
            raise FileFormatError(f"{path} lacks its member model.safetensors")
        arrays = from_tensors(members["model.safetensors"], str(path))
    assign(model.variables, list(arrays.items()), str(path), skip_mismatch)


def read_tensors(path: Path) -> dict[str, Array]:
    """Returns the arrays in a file of safetensors, in the order of their names.

    Raises:
        FileNotFoundError: if there is no such file.
        FileFormatError: if it is no regular file, or damaged.
    """
    return from_tensors(_content(path), str(path))


def _load_keras_weights(
    model: Any, path: Path, skip_mismatch: bool, by_name: bool, skipped: Iterable[Any]
) -> None:
    from handmill.saving import hdf5, keras_format, keras_weights, legacy_h5, shards

    hdf5.h5py()
    reader: shards.ShardReader | hdf5.Reader
    if path.suffix == ".json":
        reader = shards.ShardReader(path)
    else:
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
                raise ValueError(
                    "`by_name` only supports loading legacy '.h5' or '.hdf5' files. "
                    f"{path} has no names of layers"
                )
        reader = hdf5.Reader(content, str(path))
    with reader:
        keras_weights.load_weights(model, reader, str(path), skip_mismatch, skipped=skipped)


def _content(path: Path) -> Content:
    with open_regular(path) as file:
        return read_content(file, os.fstat(file.fileno()).st_size)[0]
