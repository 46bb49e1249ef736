"""Calls of layers as functions of their variables, and variables as one nested dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from handmill.runtime.stateless import check_counts, contents, lent_values
from handmill.runtime.variable import Variable

if TYPE_CHECKING:
    from handmill.layers.layer import Layer


def stateless_call(
    layer: Layer,
    trainable_variables: Sequence[Any],
    non_trainable_variables: Sequence[Any],
    args: tuple[Any, ...],
    return_losses: bool,
    kwargs: dict[str, Any],
) -> tuple[Any, ...]:
    """Calls a layer as if its variables held these values; they stay as they are.

    Returns:
        What the call returns and what it made of the non-trainable variables; with
        ``return_losses`` also the penalties.

    Raises:
        ValueError: if the layer is not built, or the lists do not fit.
    """
    if not layer.built:
        raise ValueError(
            f"To call `stateless_call`, {type(layer).__name__} must be built (i.e. its variables "
            "must have been already created). You can build it by calling it on some data."
        )
    trained, others = layer.trainable_variables, layer.non_trainable_variables
    check_counts(
        f"layer {layer.name!r}",
        trainable_variables=(trainable_variables, trained),
        non_trainable_variables=(non_trainable_variables, others),
    )
    with lent_values([*trained, *others], [*trainable_variables, *non_trainable_variables]):
        outputs = layer(*args, **kwargs)
        found = (outputs, contents(others))
        return (*found, list(layer.losses)) if return_losses else found


def as_tree(variables: Sequence[Variable], value_format: str) -> dict[str, Any]:
    """The contents of variables, nested by the parts of their paths.

    Args:
        variables: the variables.
        value_format: ``"backend_tensor"`` for read-only views, ``"numpy_array"`` for copies.

    Raises:
        ValueError: for another format, or if two variables have one path.
    """
    if value_format not in ("backend_tensor", "numpy_array"):
        raise ValueError(
            "Invalid `value_format` argument. Expected one of {'numpy_array', 'backend_tensor'}. "
            f"Received: value_format={value_format}"
        )
    found: dict[str, Any] = {}
    for variable in variables:
        *parents, last = variable.path.split("/")
        place: Any = found
        for name in parents:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                break
        if not isinstance(place, dict) or last in place:
            raise ValueError(
                "The following variable path is found twice in the model: "
                f"'{variable.path}'. `get_state_tree()` can only be called when all variable "
                "paths are unique. Make sure to give unique names to your layers (and other "
                "objects)."
            )
        place[last] = variable.numpy() if value_format == "numpy_array" else variable.value
    return found


def pairs_of_tree(
    variables: Sequence[Variable], values: Mapping[str, Any], part: str
) -> list[tuple[Variable, Any]]:
    """The variables that a nested dict has values for, with them.

    Raises:
        ValueError: for a path that is none of theirs, or a value of another shape.
    """
    known = {variable.path: variable for variable in variables}
    pairs = []

    def walk(inside: Any, path: str) -> None:
        if isinstance(inside, Mapping):
            for name, item in inside.items():
                walk(item, f"{path}/{name}" if path else str(name))
            return
        if path not in known:
            raise ValueError(
                f"set_state_tree(): {part} has a value for {path!r}, which is no variable there. "
                f"Known: {sorted(known)[:12]}"
            )
        if np.shape(inside) != known[path].shape:
            raise ValueError(
                f"set_state_tree(): the value for {path!r} has shape {np.shape(inside)}, the "
                f"variable {known[path].shape}"
            )
        pairs.append((known[path], inside))

    walk(values, "")
    return pairs
