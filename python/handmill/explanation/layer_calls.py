"""Layers of a traced model, found by their paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill.explanation.program import Call


def find_call(calls: Sequence[Call], layer: Any, spatial: bool = False) -> Call:
    """The call of a layer in a trace.

    Args:
        calls: those of the trace, in order.
        layer: a name, or a path such as ``"encoder/conv"``; ``":2"`` behind it means the second
            call of a shared layer, as :func:`handmill.inspect` numbers them; None for the last
            whose output has places and channels.
        spatial: whether the output must have places.

    Raises:
        ValueError: if there is no such call, or several.
    """
    shown = [c for c in calls if c.output is not None and c.output.spec.is_float]
    if layer is None:
        maps = [c for c in shown if c.output is not None and c.output.ndim == 4]
        maps = maps or [c for c in shown if c.output is not None and c.output.ndim == 3]
        if not maps:
            raise ValueError(
                "the model has no layer whose output has places (height, width, channels): a map "
                "of a layer needs a convolution; use integrated_gradients"
            )
        return next(c for c in shown if c.output is maps[-1].output)  # not of the model around it
    found = _named(shown, layer)
    if spatial and found.output is not None and found.output.ndim < 3:
        raise ValueError(
            f"layer {found.path!r} has outputs of shape {found.output.shape}, without places: name "
            "a layer with outputs (rows, height, width, channels)"
        )
    return found


def name_of(model: Any, layer: Any) -> Any:
    """The name of a layer that was given as an object; programs are told apart by it.

    Raises:
        ValueError: if it is no layer of the model.
    """
    from handmill.layers.layer import all_layers

    if layer is None or isinstance(layer, str):
        return layer
    if not any(known is layer for known in all_layers(model)):
        name = getattr(layer, "name", layer)
        raise ValueError(f"layer {name!r} is not called by the model")
    return layer.name


def _named(calls: Sequence[Call], layer: str) -> Call:
    name, colon, digits = layer.rpartition(":")
    number = 0
    if colon and digits.isdigit():
        layer, number = name, int(digits)
    found = [c for c in calls if c.path == layer]
    found = found or [c for c in calls if c.path.rpartition("/")[2] == layer]
    if not found:
        paths = list(dict.fromkeys(c.path for c in calls))
        import difflib

        near = difflib.get_close_matches(layer, paths, n=4, cutoff=0.4) or paths[-8:]
        raise ValueError(f"the model has no layer {layer!r}; there are {near}")
    distinct = list(dict.fromkeys(c.path for c in found))
    if len(distinct) > 1:
        raise ValueError(f"several layers are called {layer!r}: {distinct}; give the path")
    if len(found) > 1 and not number:
        raise ValueError(
            f"layer {layer!r} is called {len(found)} times: say which call, {layer + ':1'!r} to "
            f"{f'{layer}:{len(found)}'!r}"
        )
    if number > len(found):
        raise ValueError(f"layer {layer!r} is called {len(found)} times, there is no {number}.")
    return found[max(number, 1) - 1]
