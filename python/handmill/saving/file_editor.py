"""Looks into files of Keras's weights, and changes what they hold."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from handmill import console
from handmill.errors import FileFormatError
from handmill.ir.arrays import array_of
from handmill.saving import keras_format
from handmill.saving.archive import open_regular, read_file
from handmill.saving.atomic_file import write_bytes
from handmill.saving.hdf5 import Reader, Writer
from handmill.saving.json_data import from_json
from handmill.saving.keras_tree import saveables
from handmill.saving.pieces import Content

Tree = dict[str, Any]
"""Names of objects -> trees, names of weights -> arrays."""

_DEEPEST = 200


class KerasFileEditor:
    """Looks into a file of weights, and writes a changed one: after a change of architecture, say.

    An object, a layer for instance, goes by its path in the file, or by the last name of it where
    no other object has that name. The opened file is never changed.

    Args:
        filepath: a file that ends in ``.keras`` or ``.weights.h5``, of handmill or of Keras.

    Raises:
        ValueError: for another suffix, or a damaged file.
        ImportError: without h5py.

    Example:
        >>> import handmill, tempfile
        >>> from handmill import layers
        >>> model = handmill.Sequential([handmill.Input((2,)), layers.Dense(3, name="old")])
        >>> folder = tempfile.mkdtemp()
        >>> model.save_weights(f"{folder}/m.weights.h5")
        >>> editor = handmill.saving.KerasFileEditor(f"{folder}/m.weights.h5")  # doctest: +ELLIPSIS
        Keras model file '...m.weights.h5'
        >>> editor.summary()
        Weights structure
          layers
            dense ('old')
              0: shape=(2, 3), dtype=float32
              1: shape=(3,), dtype=float32
        >>> editor.add_object("layers/dense_1", {"0": np.zeros((3, 1))})
        >>> editor.save(f"{folder}/edited.weights.h5")
    """

    def __init__(self, filepath: Any) -> None:
        self.filepath = os.fsdecode(filepath)
        self.metadata: dict[str, Any] | None = None
        self.config: dict[str, Any] | None = None
        path = Path(self.filepath)
        if self.filepath.endswith(".keras"):
            members = read_file(path, known=keras_format.belongs)
            for needed in (keras_format.CONFIG, keras_format.METADATA, keras_format.WEIGHTS):
                if needed not in members:
                    raise FileFormatError(f"{path} lacks its member {needed}")
            content = members[keras_format.WEIGHTS]
            self.config = _as_dict(members, keras_format.CONFIG, path)
            self.metadata = _as_dict(members, keras_format.METADATA, path)
        elif self.filepath.endswith(".weights.h5"):
            with open_regular(path) as file:
                content = file.read()
        else:
            raise ValueError(
                "Invalid filename: expected a `.keras` or `.weights.h5` extension. "
                f"Received: filepath={self.filepath}"
            )
        self.object_metadata: dict[str, dict[str, str]] = {}
        with Reader(content, self.filepath) as reader:
            self.weights_dict = self._read(reader, "", set())
        console.say(f"Keras model file {self.filepath!r}")
        if self.metadata is not None:
            version, date = (self.metadata.get(k) for k in ("keras_version", "date_saved"))
            console.say(f"Saved with Keras {version} - date: {date}")

    def _read(self, reader: Reader, path: str, seen: set[int]) -> Tree:
        """The tree below a group: its own weights, which lie in ``vars``, and its parts."""
        found: Tree = {}
        for key in reader.names(path):
            inside = f"{path}/{key}" if path else key
            group = reader.group_at(inside)
            if group is None:
                found[key] = reader.array(inside)
                continue
            if group in seen or inside.count("/") > _DEEPEST:
                raise FileFormatError(
                    f"{self.filepath}: {inside[:80]!r} is a group that lies in itself, in two "
                    "places, or too deep"
                )
            seen.add(group)
            if key == "vars":
                if (name := reader.text(inside, "name")) is not None:
                    self.object_metadata[path] = {"name": name}
                found.update(reader.arrays(inside))
            elif parts := self._read(reader, inside, seen):
                found[key] = parts
        return found

    def summary(self) -> None:
        """Prints the objects in the file and their weights."""
        console.say("Weights structure")
        for line in self._lines(self.weights_dict, "", "  "):
            console.say(line)

    def _lines(self, tree: Tree, path: str, indent: str) -> Iterator[str]:
        for key, value in tree.items():
            inside = f"{path}/{key}" if path else key
            if isinstance(value, dict):
                name = self.object_metadata.get(inside, {}).get("name")
                yield f"{indent}{key}" + (f" ({name!r})" if name is not None else "")
                yield from self._lines(value, inside, f"{indent}  ")
            else:
                yield f"{indent}{key}: shape={value.shape}, dtype={value.dtype}"

    def compare(self, reference_model: Any) -> dict[str, Any]:
        """Prints what differs between the file and what a model would save.

        Args:
            reference_model: the model.

        Returns:
            ``"status"``: ``"success"`` or ``"error"``; ``"error_count"``: how many objects and
            weights one of both lacks, or have another shape; ``"match_count"``: how many weights
            fit.
        """
        if not hasattr(reference_model, "variables"):
            raise ValueError(f"compare: expected a model. Received: {reference_model!r}")
        console.say("Running comparison")
        wanted = _weights_of(reference_model)
        errors: list[str] = []
        matches = _compare(self.weights_dict, wanted, "", errors)
        for line in errors:
            console.say(line)
        if errors:
            console.say(f"Found {len(errors)} differences: the file does not fit the model")
        else:
            console.say(f"The file fits the model: {matches} weights match")
        status = "error" if errors else "success"
        return {"status": status, "error_count": len(errors), "match_count": matches}

    def rename_object(self, object_name: str, new_name: str) -> None:
        """Renames an object, which is then the last of the objects beside it.

        Args:
            object_name: its name or path.
            new_name: its new name, not a path.
        """
        _check_name(new_name)
        parent, key = self._find(object_name)
        if new_name != key and new_name in parent:
            raise ValueError(f"there is an object {new_name!r} beside {object_name!r} already")
        parent[new_name] = parent.pop(key)

    def delete_object(self, object_name: str) -> None:
        """Removes an object.

        Args:
            object_name: its name or path.
        """
        parent, key = self._find(object_name)
        del parent[key]

    def add_object(self, object_path: str, weights: Mapping[str, Any]) -> None:
        """Adds an object.

        Args:
            object_path: its path; what it lies in must be there.
            weights: name (``"0"``, ``"1"``, ...) -> array.
        """
        made = _checked_weights(weights)
        if not isinstance(object_path, str):
            raise ValueError(f"the path of an object is a text. Received: {object_path!r}")
        *parents, name = object_path.split("/")
        tree = self.weights_dict
        for parent in parents:
            if not isinstance(tree.get(parent), dict):
                raise ValueError(f"Path {'/'.join(parents)!r} not found in model.")
            tree = tree[parent]
        _check_name(name)
        tree[name] = made

    def delete_weight(self, object_name: str, weight_name: str) -> None:
        """Removes a weight of an object.

        Args:
            object_name: name or path of the object.
            weight_name: the weight, such as ``"0"``.
        """
        parent, key = self._find(object_name)
        if weight_name not in parent[key]:
            raise ValueError(
                f"Weight {weight_name} not found in object {object_name}. Weights found: "
                f"{list(parent[key])}"
            )
        del parent[key][weight_name]

    def add_weights(self, object_name: str, weights: Mapping[str, Any]) -> None:
        """Adds weights to an object, or replaces some.

        Args:
            object_name: name or path of the object.
            weights: name (``"0"``, ``"1"``, ...) -> array.
        """
        made = _checked_weights(weights)
        parent, key = self._find(object_name)
        parent[key].update(made)

    def _find(self, name: str) -> tuple[Tree, str]:
        """The tree that an object lies in, and its key there."""
        if not isinstance(name, str):
            raise ValueError(f"the name of an object is a text. Received: {name!r}")
        if "/" in name:
            *parents, key = name.split("/")
            tree = self.weights_dict
            for parent in parents:
                tree = tree.get(parent) if isinstance(tree, dict) else None  # type: ignore[assignment]
            if not isinstance(tree, dict) or not isinstance(tree.get(key), dict):
                raise ValueError(f"Path {name!r} not found in model.")
            return tree, key
        found = [tree for tree in _trees(self.weights_dict) if isinstance(tree.get(name), dict)]
        if len(found) > 1:
            raise ValueError(
                f"Name {name!r} occurs more than once in the model; pass a complete path"
            )
        if not found:
            raise ValueError(
                f"Source name {name!r} does not appear in the model. `editor.summary()` lists "
                "all objects."
            )
        return found[0], name

    def save(self, filepath: Any) -> None:
        """Writes the weights, whole or not at all.

        Args:
            filepath: a path that ends in ``.weights.h5``.
        """
        path = os.fsdecode(filepath)
        if not path.endswith(".weights.h5"):
            raise ValueError(
                "Invalid `filepath` argument: expected a `.weights.h5` extension. "
                f"Received: filepath={path}"
            )
        writer = Writer()
        self._write(writer, self.weights_dict, "")
        write_bytes(Path(os.path.realpath(path)), writer.content())

    def resave_weights(self, filepath: Any) -> None:
        """Writes the weights; another name of :meth:`save`."""
        self.save(filepath)

    def _write(self, writer: Writer, tree: Tree, path: str) -> None:
        arrays = {key: value for key, value in tree.items() if not isinstance(value, dict)}
        notes = self.object_metadata.get(path, {})
        if arrays or notes:
            writer.group(f"{path}/vars" if path else "vars", arrays, notes)
        for key, value in tree.items():
            if isinstance(value, dict):
                self._write(writer, value, f"{path}/{key}" if path else key)


def _as_dict(members: Mapping[str, Content], member: str, path: Path) -> dict[str, Any]:
    data = from_json(members[member], f"{path}: {member}")
    if not isinstance(data, dict):
        raise FileFormatError(f"{path}: {member} is damaged")
    return data


def _check_name(name: Any) -> None:
    if (
        not isinstance(name, str)
        or not name
        or "/" in name
        or name in (".", "..", "vars")
        or "\0" in name
    ):
        raise ValueError(
            f"the name of an object is one part of a path, and not 'vars'. Received: {name!r}"
        )


def _checked_weights(weights: Any) -> Tree:
    if not isinstance(weights, Mapping):
        raise ValueError(
            "Argument `weights` should be a dict from the names of weights, such as '0', to "
            f"arrays. Received: {type(weights).__name__}"
        )
    made: Tree = {}
    for name, value in weights.items():
        _check_name(str(name))
        made[str(name)] = array_of(value)
        if made[str(name)].dtype.kind not in "biufV":
            raise ValueError(f"weight {name!r} is not an array of numbers")
    return made


def _trees(tree: Tree) -> Iterator[Tree]:
    yield tree
    for value in tree.values():
        if isinstance(value, dict):
            yield from _trees(value)


def _weights_of(model: Any) -> Tree:
    """The tree that a file of a model would hold."""
    found: Tree = {}
    for path, part in saveables(model).items():
        store: Tree = {}
        part.save_own_variables(store)
        tree = found
        if store:
            for name in path.split("/") if path else ():
                tree = tree.setdefault(name, {})
            tree.update({str(key): np.asarray(store[key]) for key in sorted(store)})
    return found


def _compare(stored: Tree, wanted: Tree, path: str, errors: list[str]) -> int:
    """Adds what differs to ``errors``; returns the number of weights that fit."""
    matches = 0
    for key in [*wanted, *(key for key in stored if key not in wanted)]:
        place = f"{path}/{key}"
        if key not in stored or key not in wanted:
            there: Any = stored.get(key, wanted.get(key))
            lacking, having = ("file", "model") if key in wanted else ("model", "file")
            is_object = isinstance(there, dict)
            what = f"an object with {list(there)}" if is_object else f"a weight of {there.shape}"
            errors.append(f"...{place}: the {lacking} lacks it, the {having} has {what}")
        elif isinstance(stored[key], dict) and isinstance(wanted[key], dict):
            matches += _compare(stored[key], wanted[key], place, errors)
        elif isinstance(stored[key], dict) or isinstance(wanted[key], dict):
            errors.append(f"...{place}: an object in one, a weight in the other")
        elif stored[key].shape != wanted[key].shape:
            errors.append(
                f"...{place}: shape {stored[key].shape} in the file, {wanted[key].shape} in the "
                "model"
            )
        else:
            matches += 1
    return matches
