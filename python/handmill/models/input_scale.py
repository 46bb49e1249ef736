"""Scales of pixels that networks were trained on, and inputs that are obviously on another one."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.layers.symbolic import KerasTensor, LayerGraph

_ROWS = 32


@dataclass(frozen=True)
class Scale:
    """A scale of pixels.

    Attributes:
        text: what it is, for messages.
        low: the least number on it.
        high: the greatest.
        remedy: how images of 0 to 255 come to it.
    """

    text: str
    low: float
    high: float
    remedy: str


_OF = "applications.imagenet_utils.preprocess_input(x, mode={!r})"
SCALES = {
    "tf": Scale("-1 to 1", -1.0, 1.0, _OF.format("tf")),
    "torch": Scale(
        "about -2 to 2.6, normalized by ImageNet's mean and deviation",
        -2.2,
        2.7,
        _OF.format("torch"),
    ),
    "caffe": Scale(
        "about -124 to 151, blue, green, red less their means",
        -124.0,
        152.0,
        _OF.format("caffe"),
    ),
    "bytes": Scale("0 to 255", 0.0, 255.0, "nothing: the network itself scales them"),
}
"""By the names of the modes of ``preprocess_input``; ``"bytes"`` are images as they are."""


@dataclass(frozen=True)
class _Expected:
    scale: Scale
    network: str
    pretrained: bool


_EXPECTED: weakref.WeakKeyDictionary[Any, _Expected] = weakref.WeakKeyDictionary()
"""First layer of a network -> what it expects. Models around it may share its layers alone."""


def expect(model: Any, image: KerasTensor, scale: str, network: str, pretrained: bool) -> None:
    """Notes on which scale a network takes its images.

    Args:
        model: the network.
        image: its symbolic images.
        scale: a name of :data:`SCALES`.
        network: what warnings call it.
        pretrained: whether it has weights that were trained on this scale.
    """
    for node in model._graph.nodes:
        if any(t is image for t in node.input_tensors):
            _EXPECTED[node.operation] = _Expected(SCALES[scale], network, pretrained)


def scale_problem(model: Any, arrays: Sequence[Array]) -> str | None:
    """Says what is wrong with the scale of images that a network in a model is given.

    Args:
        model: any model.
        arrays: a batch of its inputs, flat.

    Returns:
        None if nothing is, or there is no such network.
    """
    graph = getattr(model, "_graph", None)
    if graph is None or not _EXPECTED:
        return None
    found = _entry(graph)
    if found is None:
        return None
    tensor, expected = found
    values = _values_of(model, graph, tensor, arrays)
    if values is None or not values.size or not np.isfinite(values).all():
        return None
    low, high = float(values.min()), float(values.max())
    if not _is_wrong(expected, low, high):
        return None
    return (
        f"the images that {expected.network} is given range from {low:.4g} to {high:.4g}; "
        f"{'its weights were trained' if expected.pretrained else 'it is made for'} "
        f"{'on ' if expected.pretrained else ''}{expected.scale.text}. Of images from 0 to 255, "
        f"this is {expected.scale.remedy}."
    )


def _is_wrong(expected: _Expected, low: float, high: float) -> bool:
    scale = expected.scale
    span = scale.high - scale.low
    if not expected.pretrained:  # any sensible scale may be learned
        return span < 10 and max(abs(low), abs(high)) > 10 * span
    if low < scale.low - 0.5 * span or high > scale.high + 0.5 * span:
        return True
    if scale.low < 0:  # centred: a whole batch without a dark pixel is none
        return low >= 0 or high - low < 0.05 * span
    return low < 0 or high <= 1.0


def _entry(graph: LayerGraph) -> tuple[KerasTensor, _Expected] | None:
    """The tensor of a graph that is the image of a network in it."""
    for node in graph.nodes:
        expected = _EXPECTED.get(node.operation)
        if expected is not None:
            return node.input_tensors[0], expected
        inner = getattr(node.operation, "_graph", None)
        found = _entry(inner) if inner is not None else None
        if inner is None or found is None:
            continue
        place = [t is found[0] for t in inner.inputs]
        if any(place) and len(place) == len(node.input_tensors):
            return node.input_tensors[place.index(True)], found[1]
    return None


def _values_of(
    model: Any, graph: LayerGraph, tensor: KerasTensor, arrays: Sequence[Array]
) -> Array | None:
    """The numbers of a tensor of a model for a batch."""
    for given, array in zip(graph.inputs, arrays, strict=False):
        if given is tensor:
            return np.asarray(array[:_ROWS])
    if len(arrays) < len(graph.inputs):
        return None
    from handmill.models.model import Model

    before = Model(list(graph.inputs), tensor)
    return np.asarray(before.predict([a[:_ROWS] for a in arrays[: len(graph.inputs)]], verbose=0))
