"""The format ``.keras`` of Keras 3: what its members say about a model.

The members are ``metadata.json``, ``config.json``, ``model.weights.h5``, and files of layers under
``assets/``. What Keras has no place for, counters of random numbers and the order of rows, lies in
the metadata, where Keras does not look.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np

from handmill.errors import FileFormatError, warn_caller
from handmill.runtime.variable import limited_bytes, stored_values
from handmill.saving.assets import load_assets, saved_assets
from handmill.saving.changed_layers import KEY, change_again
from handmill.saving.hdf5 import Reader
from handmill.saving.hmill import (
    SMALL_VARIABLES,
    apart,
    damage,
    description_of,
    is_shuffle,
    state_of,
)
from handmill.saving.json_data import from_json, to_json
from handmill.saving.keras_calls import defaults_filled_in
from handmill.saving.keras_tree import saveables
from handmill.saving.keras_weights import load_weights, weights_content
from handmill.saving.objects import CustomObjectScope, deserialize_keras_object, shared_objects
from handmill.saving.pieces import Content

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
ASSETS = "assets/"

WRITTEN_AS = "3.15.1"
"""The version of Keras whose format is written."""


def belongs(member: str) -> bool:
    """Whether a file of this format may have a member of this name."""
    return member in (CONFIG, METADATA, WEIGHTS) or member.startswith(ASSETS)


def members_of(model: Any) -> dict[str, Any]:
    """Returns the members of the file of a model.

    Raises:
        ImportError: without h5py.
        ValueError: if the model could not be read again.
        TypeError: if something in the model is code and not data.
    """
    if not model.built:
        warn_caller(
            "You are saving a model that has not yet been built. It may have no weights yet; call "
            "it on data first to save them.",
            UserWarning,
        )
    elif any(weight.sparse_rows for weight in model.weights):
        warn_caller(
            "an Embedding of this model has sparse_rows=True, which Keras does not know: it will "
            "refuse this file, which handmill opens. For Keras, make the layer without it and "
            "take over the weights.",
            UserWarning,
        )
    from handmill.optimizers.masks import prunes

    if prunes(model.optimizer):
        warn_caller(
            "the optimizer of this model keeps pruned weights at zero, which Keras does not know: "
            "it will refuse this file, which handmill opens. For Keras, call "
            "compress.strip_pruning(model) before.",
            UserWarning,
        )
    metadata = {
        "keras_version": WRITTEN_AS,
        "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
        "handmill": {**state_of(model), "seeds": _seeds(model)},
    }
    members = {
        METADATA: to_json(metadata, METADATA),
        CONFIG: to_json(description_of(model), f"the description of model {model.name!r}"),
        WEIGHTS: weights_content(model),
    }
    members.update({f"{ASSETS}{name}": data for name, data in saved_assets(model).items()})
    return members


def _seed_states(model: Any) -> list[Any]:
    weights = {id(v) for v in model.weights}
    return [v for v in model.variables if id(v) not in weights]


def _seeds(model: Any) -> list[list[int]]:
    return [[int(n) for n in v.numpy()] for v in _seed_states(model) if v.shape == (2,)]


def model_of(
    members: Mapping[str, Content],
    name: str,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
) -> Any:
    """Returns the model that the members of a file describe.

    Raises:
        FileFormatError: if they are damaged.
        ValueError: for a class that is not known.
    """
    for needed in (CONFIG, WEIGHTS):
        if needed not in members:
            raise FileFormatError(f"{name} lacks its member {needed}")
    config = from_json(members[CONFIG], f"{name}: {CONFIG}")
    content = members[WEIGHTS]
    # The two tables of LoRA, which no file of Keras holds, are at most twice as large as theirs.
    limit = 3 * len(content) + SMALL_VARIABLES
    with CustomObjectScope(custom_objects or {}), limited_bytes(limit):
        compiled = apart(config)
        changes = config.pop(KEY, None) if isinstance(config, dict) else None
        by_keras = _own_metadata(members.get(METADATA), name) is None
        with (
            damage(name, "architecture"),
            stored_values() as undrawn,
            shared_objects(),
            defaults_filled_in(by_keras),
        ):
            model = deserialize_keras_object(config, kind="model")
        if not hasattr(model, "variables") or not hasattr(model, "objective"):
            raise FileFormatError(f"{name} does not describe a model")
        with damage(name, "architecture"):
            change_again(model, changes, name)
        if compile and compiled:
            with damage(name, "compile_config"):
                model.compile_from_config(compiled)
        with Reader(content, f"{name}: {WEIGHTS}") as reader:
            load_weights(model, reader, f"{name}: {WEIGHTS}", builds=True)
        parts = saveables(model).values() if undrawn else ()
        stored = {id(v) for part in parts for v in part.variables_to_store()}
        for variable, draw in undrawn:
            if id(variable) not in stored:
                variable.assign(draw())
    assets = {k[len(ASSETS) :]: v for k, v in members.items() if k.startswith(ASSETS)}
    load_assets(model, assets, name)
    _restore_counters(model, members.get(METADATA), name)
    return model


def _own_metadata(metadata: Content | None, name: str) -> dict[str, Any] | None:
    """What only handmill writes into the metadata of a file; None in a file of Keras."""
    state = from_json(metadata, f"{name}: {METADATA}") if metadata is not None else {}
    state = state.get("handmill") if isinstance(state, dict) else None
    return state if isinstance(state, dict) else None


def _restore_counters(model: Any, metadata: Content | None, name: str) -> None:
    state = _own_metadata(metadata, name)
    if state is None:
        return
    if is_shuffle(state.get("shuffle")):
        model._shuffle = state["shuffle"]
    states, seeds = _seed_states(model), state.get("seeds")
    if isinstance(seeds, list) and len(seeds) == len(states) and all(map(is_shuffle, seeds)):
        for variable, seed in zip(states, seeds, strict=True):
            if variable.shape == (2,) and max(seed) < 1 << 63:
                variable.assign(np.array(seed, np.int64))
