"""The format ``.hmill``: what its members say about a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from handmill.errors import FileFormatError
from handmill.ir.op import Array
from handmill.runtime.variable import limited_bytes, stored_values
from handmill.saving.changed_layers import KEY, change_again, changes_of
from handmill.saving.json_data import from_json, to_json
from handmill.saving.objects import (
    ARRAY_CLASS,
    CustomObjectScope,
    deserialize_keras_object,
    serialize_keras_object,
    shared_objects,
)
from handmill.saving.pieces import Content, Pieces
from handmill.saving.tensors import from_tensors, tensor_names, to_tensors
from handmill.saving.weights import (
    assign,
    learns_elsewhere,
    named,
    refuse_lost_vocabularies,
    refuse_own_formats,
)

FORMAT_VERSION = 1


def needs_weights(model: Any) -> None:
    """Raises a ValueError for a model that has no weights yet."""
    if not model.built:
        raise ValueError(
            f"model {model.name!r} has no weights yet; call it on data, or build it, before saving"
        )


def description_of(model: Any) -> dict[str, Any]:
    """Returns a model as data: its config, for what shape it was built, how it was compiled.

    Raises:
        NotImplementedError: if it would lose a vocabulary.
        TypeError: if something in the model is code and not data.
    """
    serialize_keras_object(model.get_compile_config())  # refused, not left out
    with shared_objects():
        config: dict[str, Any] = serialize_keras_object(model)
    refuse_lost_vocabularies(model, config)
    if changes := changes_of(model):
        config[KEY] = changes
    return config


def apart(config: Any) -> Any:
    """Takes how a model was compiled out of its description."""
    return config.pop("compile_config", None) if isinstance(config, dict) else None


def members_of(model: Any) -> dict[str, bytes | Pieces]:
    """Returns the members of the file of a model.

    Raises:
        ValueError: if the model has no weights yet, or could not be read again.
        TypeError: if something in the model is code and not data.
    """
    needs_weights(model)
    refuse_own_formats(model)
    copied = learns_elsewhere(model)
    config = description_of(model)
    constants: list[Array] = []
    with contextlib.suppress(RecursionError):  # which to_json words
        config = _without_tables(config, constants)
    members: dict[str, bytes | Pieces] = {
        "config.json": to_json(config, f"the description of model {model.name!r}"),
        "model.safetensors": to_tensors(named(model.variables, copied)),
    }
    if constants:
        names = tensor_names("table" for _ in constants)
        members["constants.safetensors"] = to_tensors(dict(zip(names, constants, strict=True)))
    if model.optimizer is not None:
        members["optimizer.safetensors"] = to_tensors(named(model.optimizer.variables, copied))
    members["state.json"] = to_json(state_of(model), "state.json")
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


def state_of(model: Any) -> dict[str, Any]:
    """Returns what ``state.json`` holds: the version, and counters that are no variables."""
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


def model_of(
    members: dict[str, Content],
    path: Path,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
) -> Any:
    """Returns the model that the members of a file describe. Takes them out of ``members``.

    Weights that are drawn at random read 0 in a layer's ``build``: what is stored comes after it.

    Raises:
        FileFormatError: if they are damaged.
        ValueError: for a class that is not known.
    """
    for needed in ("config.json", "model.safetensors", "state.json"):
        if needed not in members:
            raise FileFormatError(f"{path} lacks its member {needed}")
    state = from_json(members["state.json"], f"{path}: state.json")
    check_version(path, state)
    config = from_json(members["config.json"], f"{path}: config.json")

    def tensors(member: str) -> dict[str, Array]:
        # Taken out: what was read is freed before the model is made.
        content = members.pop(member, None)
        return {} if content is None else from_tensors(content, f"{path}: {member}")

    arrays = tensors("model.safetensors")
    slots = tensors("optimizer.safetensors")
    tables = [np.asarray(a) for a in tensors("constants.safetensors").values()]
    stored = sum(a.nbytes for a in (*arrays.values(), *slots.values()))
    with CustomObjectScope(custom_objects or {}), limited_bytes(stored + SMALL_VARIABLES):
        with damage(path, "architecture"), stored_values() as undrawn, shared_objects():
            config = _with_tables(config, tables)
            compiled = apart(config)
            changes = config.pop(KEY, None) if isinstance(config, dict) else None
            model = deserialize_keras_object(config, kind="model")
        if not hasattr(model, "variables") or not hasattr(model, "objective"):
            raise FileFormatError(f"{path} does not describe a model")
        with damage(path, "architecture"):
            change_again(model, changes, path)
        assign(model.variables, list(arrays.items()), str(path), skip=False)
        stored_ones = {id(v) for v in model.variables}
        for variable, draw in undrawn:
            if id(variable) not in stored_ones:
                variable.assign(draw())
        if compile and compiled is not None:
            with damage(path, "compile_config"):
                model.compile_from_config(compiled)
                # A model whose own compile() was not called has no optimizer, and needs no slots.
                if slots and (model.optimizer is not None or compiled.get("optimizer") is None):
                    _restore_optimizer(model, slots, path)
    shuffle = state.get("shuffle")
    if shuffle is not None:
        if not is_shuffle(shuffle):
            raise FileFormatError(f"{path}: state.json has a damaged entry 'shuffle'")
        model._shuffle = shuffle
    return model


SMALL_VARIABLES = 1 << 20
"""Bytes for what is not stored: sums of metrics, counters."""


class _UnfitConfigError(FileFormatError, TypeError):
    """A description with other types than a class takes: of a damaged file, or of a get_config."""


@contextmanager
def damage(path: Any, part: str) -> Iterator[None]:
    """Names the file in the errors that a damaged description leads to."""
    try:
        yield
    except TypeError as error:
        raise _UnfitConfigError(
            f"{path}: its {part} is damaged: {error!r}. If a class of yours is part of it, "
            "see that objects from its get_config() are explicitly deserialized in from_config()"
        ) from error
    except (LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise FileFormatError(f"{path}: its {part} is damaged: {error!r}") from error


def is_shuffle(data: Any) -> bool:
    """Whether ``data`` is a seed and a number of draws."""
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
    assign(optimizer.variables, list(arrays.items()), f"{path} (optimizer)", skip=False)
