"""Paths of layers: the names of the layers around them."""

from __future__ import annotations

from handmill.layers.layer import Layer, all_layers


def put_below(outer: Layer, layer: Layer) -> None:
    """Puts the path of ``outer`` before those of ``layer`` and its weights, once.

    A layer that was built before its place was known, as those from files are, is then called
    like one that was built there.
    """
    if layer._parent_path or outer.path is None:
        return
    for inner in all_layers(layer):
        if inner._parent_path is not None:
            inside = inner._parent_path
            inner._parent_path = f"{outer.path}/{inside}" if inside else outer.path
        if inner._path is not None:
            inner._path = f"{outer.path}/{inner._path}"
    for variable in layer.weights:
        variable.path = f"{outer.path}/{variable.path}"
