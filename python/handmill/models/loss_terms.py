"""The losses that ``compile`` was given, as terms: each of one output, or of several, nested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from handmill import tree


class LossTerm(NamedTuple):
    """A loss, and what it compares.

    Attributes:
        outputs: the number of an output, or nested numbers.
        loss: the loss, as it was given.
        weight: its factor, None for 1.
        name: what the term is called in logs; None for the name of the loss.
    """

    outputs: Any
    loss: Any
    weight: Any
    name: str | None


@dataclass(frozen=True)
class _Weighted:
    loss: Any
    weight: Any


def loss_terms(
    loss: Any,
    weights: Any,
    outputs: Any,
    names: list[Any],
    weights_of_outputs: Callable[[Any], list[Any]],
) -> list[LossTerm]:
    """Returns the terms of a total loss, in the order of the outputs or of a dict of losses.

    Args:
        loss: None, one loss for every output, or losses nested like the outputs. Where a list
            stands beside something else, each of its losses is one of all that is there.
        weights: None, or factors of the losses, in the same form or by output.
        outputs: the numbers of the outputs in flat order, nested like them.
        names: the names of the outputs, in flat order; None where there is none.
        weights_of_outputs: gives factors by output for ``weights`` in another form.

    Raises:
        ValueError: for lists of another length than the outputs.
        KeyError: for what the outputs do not have.
    """
    if loss is None:
        return []
    if weights is None and outputs == 0 and not tree.is_nested(loss):
        return [LossTerm(outputs, loss, None, _name(outputs, (), names))]
    loss, weights, outputs = _plain(loss), _plain(weights), _plain(outputs)
    ranks = _ranks(loss, outputs)
    by_output: list[Any] = [None] * len(names)
    if weights is not None and not _are_alike(loss, weights):
        given = tree.flatten(weights)
        if isinstance(weights, list | tuple) and len(given) != len(names):
            raise ValueError(
                f"`loss_weights` must match the number of losses, got {len(tree.flatten(loss))} "
                f"losses and {len(given)} weights."
            )
        by_output, weights = weights_of_outputs(weights), None
    if weights is None:
        loss = tree.map_structure(_without_weight, loss)
    else:
        factors = tree.pack_sequence_as(loss, tree.flatten(weights))
        if _have_same_keys(loss, weights):
            factors = weights
        loss = tree.map_structure(_weighted, loss, factors)
    if not tree.is_nested(loss):
        loss = tree.map_structure(lambda _: loss, outputs)
    elif isinstance(loss, dict) and not isinstance(outputs, dict):
        if unknown := sorted(set(loss) - set(names)):
            raise ValueError(
                f"Invalid `loss`: it names outputs that the model does not have: {unknown}. "
                + (
                    f"Its {len(names)} outputs have no names; give a list."
                    if None in names
                    else f"Expected keys {names} in loss dict"
                )
            )
        loss = [loss.get(name) for name in names]
        outputs = list(range(len(names)))
    elif isinstance(loss, list | tuple) and not any(map(tree.is_nested, loss)):
        if len(loss) != len(names):
            raise ValueError(
                f"`loss` has {len(loss)} entries, but the model has {len(names)} outputs: {names}"
            )
    elif _are_nested_alike(loss, outputs):
        loss = _placed(loss, outputs)
    found: list[LossTerm] = []
    _add(loss, outputs, (), names, found)
    found.sort(key=lambda term: (ranks.get(_first(term.outputs), 0), _first(term.outputs)))
    return [
        term if term.weight is not None else term._replace(weight=by_output[_first(term.outputs)])
        for term in found
    ]


def _ranks(loss: Any, outputs: Any) -> dict[int, int]:
    """The place of each output in a dict of losses, where outputs are a dict too."""
    if not isinstance(loss, dict) or not isinstance(outputs, dict):
        return {}
    return {
        number: place
        for place, key in enumerate(loss)
        if key in outputs
        for number in tree.flatten(outputs[key])
    }


def _add(
    loss: Any, outputs: Any, path: tuple[Any, ...], names: list[Any], found: list[LossTerm]
) -> None:
    if loss is None:
        return
    if not tree.is_nested(loss):
        found.append(LossTerm(outputs, loss.loss, loss.weight, _name(outputs, path, names)))
        return
    is_list = isinstance(loss, list | tuple)
    is_flat = is_list and not any(map(tree.is_nested, loss))
    if is_flat and len(loss) == len(tree.flatten(outputs)):
        loss = tree.pack_sequence_as(outputs, list(loss))
    elif is_list and not isinstance(outputs, _kind(loss)):
        for item in loss:
            _add(item, outputs, path, names, found)
        return
    if not tree.is_nested(loss):
        _add(loss, outputs, path, names, found)
        return
    if not isinstance(loss, _kind(outputs)):
        raise KeyError(
            f"The path: {path} in the `loss` argument, can't be found in the model's output "
            "(`y_pred`)."
        )
    for key, item in loss.items() if isinstance(loss, dict) else enumerate(loss):
        if item is None:
            continue
        if key not in outputs if isinstance(outputs, dict) else key >= len(outputs):
            keys = list(outputs) if isinstance(outputs, dict) else list(range(len(outputs)))
            raise KeyError(
                f"The path: {(*path, key)} in the `loss` argument, can't be found in either the "
                f"model's output (`y_pred`) or in the labels (`y_true`). There: {keys}"
            )
        _add(item, outputs[key], (*path, key), names, found)


def _kind(structure: Any) -> Any:
    return tuple if isinstance(structure, tuple) else type(structure)  # named or not


def _name(outputs: Any, path: tuple[Any, ...], names: list[Any]) -> str | None:
    if not tree.is_nested(outputs) and (not path or isinstance(path[-1], int)):
        path = (*path[:-1], names[outputs])
        if path == (None,):
            return None
    if path:
        return "/".join(map(str, path))
    if isinstance(outputs, dict):
        return "_".join(map(str, outputs))
    known = [names[number] for number in tree.flatten(outputs)]
    return None if None in known else "_".join(known)


def _plain(structure: Any) -> Any:
    """Lists, tuples and dicts as such, not of the kinds that layers keep as attributes."""
    if isinstance(structure, dict):
        return {key: _plain(item) for key, item in structure.items()}
    if isinstance(structure, tuple):
        items = tuple(_plain(item) for item in structure)
        return type(structure)(*items) if hasattr(structure, "_fields") else items
    return [_plain(item) for item in structure] if tree.is_nested(structure) else structure


def _placed(loss: Any, outputs: Any) -> Any:
    """Losses in the order, and the kinds of lists, of the outputs that are nested alike."""
    if not tree.is_nested(outputs):
        return loss
    if isinstance(outputs, dict):
        return {key: _placed(loss[key], item) for key, item in outputs.items()}
    items = [_placed(a, b) for a, b in zip(loss, outputs, strict=True)]
    return type(outputs)(*items) if hasattr(outputs, "_fields") else type(outputs)(items)


def _first(outputs: Any) -> int:
    return int(tree.flatten(outputs)[0])


def _without_weight(loss: Any) -> Any:
    return None if loss is None else _Weighted(loss, None)


def _weighted(loss: Any, weight: Any) -> Any:
    return None if loss is None else _Weighted(loss, weight)


def _are_alike(loss: Any, weights: Any) -> bool:
    """Whether there is a weight for each loss."""
    if _have_same_keys(loss, weights):
        return True
    if isinstance(loss, dict) or isinstance(weights, dict):
        return False
    return len(tree.flatten(loss)) == len(tree.flatten(weights))


def _have_same_keys(loss: Any, weights: Any) -> bool:
    try:
        tree.assert_same_structure(loss, weights)
    except ValueError:
        return False
    return True


def _are_nested_alike(loss: Any, outputs: Any) -> bool:
    """Whether there is one loss at each place of the outputs; tuples are lists here."""
    try:
        tree.assert_same_paths(loss, outputs)
    except ValueError:
        return False
    return True
