"""What files of Keras hold of one object: its own variables, by number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.runtime.variable import Variable


class StoredVariables:
    """What files of Keras keep of a layer or optimizer; a subclass may say it itself."""

    def variables_to_store(self) -> list[Variable]:
        """The variables that a file holds under the numbers 0, 1, ..., in this order."""
        raise NotImplementedError

    def content_to_store(self, variable: Variable) -> Array:
        """What a file holds for one of them."""
        return variable.read()

    def merged_variables(self) -> list[tuple[Variable, Array]]:
        """Variables that a file holds as parts of others, with their content after loading it."""
        return []

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Puts the state of this object, without that of the objects inside, into ``store``.

        An override is asked when a ``.keras`` or ``.weights.h5`` file is written; ``.hmill`` files
        hold every variable, and refuse objects with an override.

        Args:
            store: gets arrays by name.
        """
        for number, variable in enumerate(self.variables_to_store()):
            store[str(number)] = self.content_to_store(variable)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Takes back what :meth:`save_own_variables` stored.

        Args:
            store: arrays by name.

        Raises:
            ValueError: if number or shapes differ; no variable is changed then.
        """
        for variable, array in pairs_of(self, store):
            variable.assign(array)


def pairs_of(owner: Any, store: Mapping[str, Any]) -> list[tuple[Variable, Array]]:
    """Returns each variable of an object with the array that is stored for it.

    Raises:
        ValueError: if number or shapes differ.
    """
    variables = owner.variables_to_store()
    if set(store) != {str(number) for number in range(len(variables))}:
        raise ValueError(
            f"{describe(owner)} expected {len(variables)} variables, but received {len(store)} "
            f"variables from the file: {sorted(store)[:8]}."
            + _quantized_otherwise(variables, store.values())
        )
    pairs = []
    for number, variable in enumerate(variables):
        array = store[str(number)]
        if tuple(array.shape) != variable.shape:
            raise ValueError(
                f"{describe(owner)}: its variable {variable.path!r} has shape {variable.shape}, "
                f"but the stored one has shape {tuple(array.shape)}; they must match."
                + _quantized_otherwise(variables, store.values())
            )
        check_stored(variable, array)
        pairs.append((variable, array))
    return [*pairs, *owner.merged_variables()]


def pairs_of_weights(layer: Any, weights: Sequence[Any]) -> list[tuple[Variable, Array]]:
    """Returns each weight of a layer with the array given for it.

    Raises:
        ValueError: if number or shapes differ.
    """
    own = layer.weights
    if len(own) != len(weights):
        raise ValueError(
            f"You called `set_weights(weights)` on layer '{layer.name}' with a weight list of "
            f"length {len(weights)}, but the layer was expecting {len(own)} weights."
            + _quantized_otherwise(own, weights)
        )
    pairs = [(variable, np.asarray(w)) for variable, w in zip(own, weights, strict=True)]
    for variable, array in pairs:
        if variable.shape != array.shape:
            raise ValueError(
                f"Layer {layer.name} weight shape {variable.shape} is not compatible with "
                f"provided weight shape {array.shape} ({variable.path})."
                + _quantized_otherwise(own, weights)
            )
    return pairs


def _quantized_otherwise(own: Iterable[Any], given: Iterable[Any]) -> str:
    """What errors say where integers of quantized layers are on one side, or on both; or nothing.

    Args:
        own: the variables.
        given: arrays that do not fit them.
    """
    here, there = (
        any(str(getattr(x, "dtype", "")) == "int8" for x in side) for side in (own, given)
    )
    if not here and not there:
        return ""
    kinds = {True: "integers", False: "floats"}
    return (
        f" They are quantized otherwise ({kinds[here]} here, {kinds[there]} there): quantize the "
        "model as that one was, or load floats before you quantize it."
    )


def check_stored(variable: Variable, array: Any) -> None:
    """Refuses what a variable cannot hold, before anything is assigned."""
    if variable.stored_check is not None:
        variable.stored_check(np.asarray(array))


def describe(owner: Any) -> str:
    """An object in messages: ``Dense 'logits'``."""
    return f"{type(owner).__name__} {getattr(owner, 'name', '')!r}"


def has_own_format(owner: Any) -> bool:
    """Whether an object says itself what files hold of it."""
    return any(
        getattr(type(owner), hook) is not getattr(StoredVariables, hook)
        for hook in ("save_own_variables", "load_own_variables")
    )


ASSET_HOOKS = ("save_assets", "load_assets")
"""Methods of objects that keep files of their own beside their variables."""
