"""Targets, predictions and sample weights, matched to the outputs of a model."""

from __future__ import annotations

from typing import Any

from handmill import tree
from handmill.ir.trace import mask_of, with_mask
from handmill.models.layout import leaves
from handmill.primitives.operands import widened


def outputs_of(
    model: Any, y: Any, y_pred: Any, sample_weight: Any, loss: Any = None
) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Returns targets, predictions, sample weights and names, one entry for each output.

    Args:
        model: the model.
        y: targets, nested like the outputs, by their names, or one for each output that has a loss.
        y_pred: what the model returned.
        sample_weight: factors of samples, one for all outputs or as targets.
        loss: what ``compile`` was given.
    """
    # Losses and metrics see float32.
    predictions = [with_mask(widened(p), mask_of(p)) for p in tree.flatten(y_pred)]
    names = model.names_of_outputs(y_pred)
    targets = align(_spread(y, loss, len(names)), y_pred, names, "y")
    weights: list[Any] = [None] * len(predictions)
    if sample_weight is not None:
        given = leaves(sample_weight)
        if len(given) == 1 and not isinstance(sample_weight, dict):
            weights = given * len(predictions)
        else:
            weights = align(sample_weight, y_pred, names, "sample_weight")
    return targets, predictions, weights, names


def _spread(y: Any, loss: Any, count: int) -> Any:
    """Targets of those outputs alone that have a loss, with None for the others."""
    if y is None or isinstance(y, dict) or not isinstance(loss, list | tuple):
        return y
    given, wanted = tree.flatten(y), tree.flatten(loss)
    places = [i for i, item in enumerate(wanted) if item is not None]
    if len(wanted) != count or len(given) == count or len(given) != len(places):
        return y
    found: list[Any] = [None] * count
    for place, target in zip(places, given, strict=True):
        found[place] = target
    return found


def align(data: Any, y_pred: Any, names: list[Any], argument: str) -> list[Any]:
    """Returns ``data`` (nested) as one entry for each output, None where it has none.

    Raises:
        ValueError: if it does not fit the outputs.
    """
    count = len(names)
    if data is None:
        return [None] * count
    if isinstance(data, dict) and not isinstance(y_pred, dict):
        if unknown := sorted(set(data) - set(names)):
            raise ValueError(
                f"`{argument}` has keys {unknown} that are not outputs of the model: {names}"
            )
        return [data.get(name) for name in names]
    if isinstance(data, dict) and isinstance(y_pred, dict):
        found: list[Any] = []
        for key in tree.ordered_keys(y_pred):
            inside = [None] * len(tree.flatten(y_pred[key]))
            found += tree.flatten(data[key]) if data.get(key) is not None else inside
        data = found
    flat = tree.flatten(data)
    if len(flat) != count:
        raise ValueError(
            f"`{argument}` has {len(flat)} arrays, but the model has {count} outputs: {names}"
        )
    return flat
