"""The weights of a model as Keras's HDF5 holds them, and back: ``.weights.h5``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from handmill.errors import warn_caller
from handmill.ir.op import Array
from handmill.runtime.variable import Variable
from handmill.saving.file_range import assign_stored
from handmill.saving.hdf5 import Writer
from handmill.saving.keras_tree import Aliases, other_paths, saveables
from handmill.saving.objects import is_own
from handmill.saving.pieces import Pieces
from handmill.saving.stored_variables import describe, has_own_format, pairs_of
from handmill.saving.weights import learns_elsewhere

Changes = list[tuple[Variable, Array]]


class Stored(Protocol):
    """Files with groups of arrays, opened for reading."""

    def has(self, path: str) -> bool:
        """Whether there is anything at ``path``."""

    def arrays(self, path: str) -> dict[str, Array]:
        """The arrays in the group at ``path``; none if there is no such group."""


def weights_content(model: Any, skipped: Iterable[Any] = ()) -> Pieces:
    """Returns the variables of a model and its optimizer as a file.

    Args:
        model: the model.
        skipped: objects in it that are left out, with what is reached through them alone.

    Raises:
        ValueError: if a weight is out of reach of the paths that Keras follows.
    """
    writer = Writer()
    for group, arrays, notes in groups_of(model, skipped):
        writer.group(group, arrays, notes)
    return writer.content()


def groups_of(
    model: Any, skipped: Iterable[Any] = ()
) -> Iterator[tuple[str, dict[str, Array], dict[str, str]]]:
    """Yields each group of a file with its arrays and notes.

    Args:
        model: the model.
        skipped: objects in it that are left out, with what is reached through them alone.

    Raises:
        ValueError: if a weight is out of reach of the paths that Keras follows.
    """
    skipped, copied = list(skipped), learns_elsewhere(model)
    parts = saveables(model, skipped)
    if not skipped:
        _check_all_reached(model, parts)
    for path, part in parts.items():
        store: dict[str, Any] = {}
        part.save_own_variables(store)
        take = np.array if copied else np.asarray
        arrays = {str(key): take(value) for key, value in store.items()}
        notes = {"name": part.name} if isinstance(getattr(part, "name", None), str) else {}
        if arrays or notes:
            yield f"{path}/vars" if path else "vars", arrays, notes


def _check_all_reached(model: Any, parts: Mapping[str, Any]) -> None:
    reached = {id(v) for part in parts.values() for v in part.variables_to_store()}
    reached |= {id(v) for part in parts.values() for v, _ in part.merged_variables()}
    left = [v.path for v in model.weights if id(v) not in reached]
    if left and all(is_own(type(part).save_own_variables) for part in parts.values()):
        raise ValueError(
            f"model {model.name!r} has weights that Keras's files cannot hold: {left[:5]}. Keep "
            "the layers that own them as attributes, or in lists and dicts that are attributes; "
            "or save to `.hmill`."
        )


def load_weights(
    model: Any,
    reader: Stored,
    name: str,
    skip_mismatch: bool = False,
    builds: bool = False,
    skipped: Iterable[Any] = (),
) -> None:
    """Assigns the variables that a file holds for a model and its optimizer.

    Args:
        model: a model with weights.
        reader: the opened file.
        name: what errors call it.
        skip_mismatch: whether objects that do not fit are left out, with a warning.
        builds: whether an optimizer that has made no step yet gets the slots that are stored.
        skipped: objects in the model that keep what they have.

    Raises:
        FileFormatError: if the file is damaged; no variable is changed then.
        ValueError: if it does not fit; no variable is changed then.
    """
    aliases: Aliases = {}
    parts = saveables(model, skipped, aliases)
    older = reader.has("_layer_checkpoint_dependencies")  # Keras 2.13 and 2.14
    changes: Changes = []
    own: list[tuple[Any, dict[str, Array]]] = []
    failures: list[tuple[Any, ValueError]] = []
    for path, part in parts.items():
        store = reader.arrays(_place(path, older))
        if not store and part.variables_to_store():  # it may have been saved under another name
            others = (reader.arrays(_place(p, older)) for p in other_paths(path, parts, aliases))
            store = next(filter(None, others), store)
        try:
            if has_own_format(part):
                own.append((part, {key: np.asarray(array) for key, array in store.items()}))
            elif part is model.optimizer:
                changes += _optimizer_pairs(model, store, builds)
            else:
                changes += pairs_of(part, store)
        except ValueError as error:
            failures.append((part, error))
    if failures:
        _report(failures, name, skip_mismatch)
    _apply(changes, own)


def _place(path: str, older: bool) -> str:
    if older:
        path = path.replace("layers", "_layer_checkpoint_dependencies")
    return f"{path}/vars" if path else "vars"


def _optimizer_pairs(model: Any, store: Mapping[str, Array], builds: bool) -> Changes:
    optimizer = model.optimizer
    if builds and not optimizer.built and len(store) > len(optimizer.variables_to_store()):
        optimizer.build(model.trainable_variables)
    variables = optimizer.variables_to_store()
    if len(store) == len(variables):
        return pairs_of(optimizer, store)
    if store:
        hint = " It has not made a step yet, so it has no slots." if not optimizer.built else ""
        warn_caller(
            f"Skipping variable loading for optimizer '{optimizer.name}', because it has "
            f"{len(variables)} variables whereas the saved optimizer has {len(store)} "
            f"variables.{hint}",
            UserWarning,
        )
    return []


def _report(failures: list[tuple[Any, ValueError]], name: str, skip_mismatch: bool) -> None:
    first, error = failures[0]
    names = [describe(part) for part, _ in failures]
    message = (
        f"{name}: {len(failures)} objects could not be loaded: {', '.join(names[:8])}. The first, "
        f"{describe(first)}: {error}"
    )
    if not skip_mismatch:
        raise ValueError(message) from error
    warn_caller(message, UserWarning)


def _apply(changes: Changes, own: Iterable[tuple[Any, dict[str, Array]]]) -> None:
    """Assigns all or nothing; what a user's method does outside of variables stays."""
    own = list(own)
    before = [(v, v.numpy()) for part, _ in own for v in part.variables]
    try:
        for part, store in own:
            part.load_own_variables(store)
    except BaseException:
        for variable, array in before:
            variable.assign(array)
        raise
    assign_stored(changes)
