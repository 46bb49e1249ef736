"""Models and weights in files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.runtime.variable import Variable, limited_bytes, stored_values
from handmill.saving.atomic_file import write_bytes
from handmill.saving.container import (
    FORMAT_VERSION,
    FileFormatError,
    from_json,
    from_tensors,
    open_regular,
    read_file,
    tensor_names,
    to_json,
    to_tensors,
    write_file,
)
from handmill.saving.objects import (
    ARRAY_CLASS,
    CustomObjectScope,
    deserialize_keras_object,
    serialize_keras_object,
)


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


def members_of(model: Any) -> dict[str, bytes]:
    """Returns the members of the file of a model.

    Raises:
        ValueError: if the model has no weights yet, or could not be read again.
        TypeError: if something in the model is code and not data.
    """
    if not model.built:
        raise ValueError(
            f"model {model.name!r} has no weights yet; call it on data, or build it, before saving"
        )
    config = serialize_keras_object(model)
    if (build := model.get_build_config()) is not None:
        config["build_config"] = build
    if (compiled := model.get_compile_config()) is not None:
        config["compile_config"] = compiled
    constants: list[Array] = []
    with contextlib.suppress(RecursionError):  # which to_json words
        config = _without_tables(config, constants)
    members = {
        "config.json": to_json(config, f"the description of model {model.name!r}"),
        "model.safetensors": to_tensors(_named(model.variables)),
    }
    if constants:
        names = tensor_names("table" for _ in constants)
        members["constants.safetensors"] = to_tensors(dict(zip(names, constants, strict=True)))
    if model.optimizer is not None:
        members["optimizer.safetensors"] = to_tensors(_named(model.optimizer.variables))
    members["state.json"] = to_json(_state(model), "state.json")
    return members


_LONGEST_IN_JSON = 256


def _without_tables(config: Any, tables: list[Array]) -> Any:
    """A description in which large arrays, and those that JSON has no numbers for, are named.

    Args:
        config: the description.
        tables: gets the arrays, in the order of the names.
    """
    if isinstance(config, list | tuple):
        return [_without_tables(item, tables) for item in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == ARRAY_CLASS:
        array = deserialize_keras_object(config)
        if array.size <= _LONGEST_IN_JSON and np.isfinite(array.astype(np.float64)).all():
            return config
        tables.append(array)
        return {"class_name": ARRAY_CLASS, "config": {"table": len(tables) - 1}}
    return {key: _without_tables(value, tables) for key, value in config.items()}


def _with_tables(config: Any, tables: Sequence[Array]) -> Any:
    """What :func:`_without_tables` was given.

    Raises:
        LookupError: for a table that is not there.
        TypeError: for one that is not named by a number.
    """
    if isinstance(config, list):
        return [_with_tables(item, tables) for item in config]
    if not isinstance(config, dict):
        return config
    inner = config.get("config")
    if config.get("class_name") == ARRAY_CLASS and isinstance(inner, dict) and "table" in inner:
        array = tables[inner["table"]]
        return {
            "class_name": ARRAY_CLASS,
            "config": {"value": array, "dtype": array.dtype.name},
        }
    return {key: _with_tables(value, tables) for key, value in config.items()}


def _state(model: Any) -> dict[str, Any]:
    import handmill

    return {
        "format": "hmill",
        "version": FORMAT_VERSION,
        "handmill": handmill.__version__,
        "shuffle": model._shuffle,
        "one_hot_labels": bool(
            model.objective is not None
            and model.objective.one_hot is not None
            and model.objective.one_hot.pinned
        ),
    }


def _named(variables: Sequence[Variable]) -> dict[str, Array]:
    """Arrays under names that sort in order: number, then path."""
    names = tensor_names(v.path for v in variables)
    return {name: v.numpy() for name, v in zip(names, variables, strict=True)}


def load_model(
    filepath: Any,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Any:
    """Reads a model that :meth:`Model.save` wrote. Nothing in the file is executed.

    Weights that are drawn at random read 0 in a layer's ``build``: what is stored comes after it.

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
    members = read_file(path)
    for needed in ("config.json", "model.safetensors", "state.json"):
        if needed not in members:
            raise FileFormatError(f"{path} lacks its member {needed}")
    state = from_json(members["state.json"], f"{path}: state.json")
    check_version(path, state)
    config = from_json(members["config.json"], f"{path}: config.json")

    def tensors(member: str) -> dict[str, Array]:
        # Taken out: what was read is freed before the model is made.
        return from_tensors(members.pop(member, to_tensors({})), f"{path}: {member}")

    arrays = tensors("model.safetensors")
    slots = tensors("optimizer.safetensors")
    tables = list(tensors("constants.safetensors").values())
    stored = sum(a.nbytes for a in (*arrays.values(), *slots.values()))
    with CustomObjectScope(custom_objects or {}), limited_bytes(stored + _SMALL_VARIABLES):
        with _damage(path, "architecture"), stored_values() as undrawn:
            config = _with_tables(config, tables)
            model = deserialize_keras_object(config, kind="model")
        if not hasattr(model, "variables") or not hasattr(model, "objective"):
            raise FileFormatError(f"{path} does not describe a model")
        _assign(model.variables, list(arrays.items()), str(path), skip=False)
        stored_ones = {id(v) for v in model.variables}
        for variable, draw in undrawn:
            if id(variable) not in stored_ones:
                variable.assign(draw())
        compiled = config.get("compile_config")
        if compile and compiled is not None:
            with _damage(path, "compile_config"):
                model.compile_from_config(compiled)
                if slots:
                    _restore_optimizer(model, slots, path)
    shuffle = state.get("shuffle")
    if shuffle is not None:
        if not _is_shuffle(shuffle):
            raise FileFormatError(f"{path}: state.json has a damaged entry 'shuffle'")
        model._shuffle = shuffle
    return model


_SMALL_VARIABLES = 1 << 20
"""Bytes for what is not stored: sums of metrics, counters."""


@contextmanager
def _damage(path: Path, part: str) -> Iterator[None]:
    """Names the file in the errors that a damaged description leads to."""
    try:
        yield
    except (LookupError, AttributeError, TypeError, ArithmeticError, RecursionError) as error:
        raise FileFormatError(f"{path}: its {part} is damaged: {error!r}") from error


def _is_shuffle(data: Any) -> bool:
    return (
        isinstance(data, list)
        and len(data) == 2
        and all(isinstance(n, int) and 0 <= n < 1 << 64 for n in data)
    )


def check_version(path: Any, state: Any) -> None:
    """Refuses the content of ``state.json`` if this handmill cannot read the rest."""
    if not isinstance(state, dict) or state.get("format") != "hmill":
        raise FileFormatError(f"{path} is not a .hmill file")
    version = state.get("version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise FileFormatError(
            f"{path} has format version {version}; this handmill reads up to {FORMAT_VERSION}"
        )


def _restore_optimizer(model: Any, arrays: Mapping[str, Array], path: Path) -> None:
    optimizer = model.optimizer
    if len(arrays) > len(optimizer.variables):
        optimizer.build(model.trainable_variables)
    _assign(optimizer.variables, list(arrays.items()), f"{path} (optimizer)", skip=False)


def _assign(
    variables: Sequence[Variable], arrays: Sequence[tuple[str, Array]], path: str, skip: bool
) -> None:
    """Assigns arrays in order, after every shape was checked."""
    if len(variables) != len(arrays):
        raise ValueError(
            f"{path} holds {len(arrays)} tensors, but the model has {len(variables)} variables: "
            f"{[v.path for v in variables][:8]}"
        )
    pairs = []
    for variable, (name, array) in zip(variables, arrays, strict=True):
        if variable.shape == array.shape:
            pairs.append((variable, array))
        elif not skip:
            raise ValueError(
                f"{path}: tensor {name!r} has shape {array.shape}, but variable {variable.path!r} "
                f"has shape {variable.shape}"
            )
        else:
            import warnings

            warnings.warn(
                f"{path}: tensor {name!r} of shape {array.shape} was skipped; variable "
                f"{variable.path!r} has shape {variable.shape}",
                stacklevel=4,
            )
    for variable, array in pairs:
        variable.assign(array)


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
    tensors = to_tensors(_named(model.variables))
    if path.suffix == ".safetensors":
        if not overwrite and path.exists():
            raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
        write_bytes(Path(os.path.realpath(path)), tensors)
        return
    members = {"model.safetensors": tensors, "state.json": to_json(_state(model), "state.json")}
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
    _assign(model.variables, list(arrays.items()), str(path), skip_mismatch)
