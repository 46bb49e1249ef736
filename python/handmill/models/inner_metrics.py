"""Metrics that layers and models hold as attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill.layers.layer import Layer
from handmill.metrics.metric import Metric
from handmill.runtime.structure import part_of
from handmill.runtime.watch import is_ours


def metrics_among_attributes(layer: Layer, apart: type) -> list[Any]:
    """The metrics that are attributes of ``layer`` and of the layers inside, however deep.

    Args:
        layer: the layer.
        apart: a class of layers; the attributes of those inside are left out.
    """
    if is_ours(type(layer)) and not part_of(layer, layer._describe).holds_any(Metric):
        return []
    found: list[Any] = []

    def visit(layer: Layer, counts: bool) -> None:
        parts = layer._parts()
        if counts:
            found.extend([v for v in parts if isinstance(v, Metric)])
        is_leaf = not any([isinstance(v, Layer) for v in parts])
        if is_leaf and type(layer)._flatten_layers is _FLATTEN:  # as most layers: quicker
            return
        for inner in layer._flatten_layers():
            visit(inner, not isinstance(inner, apart))

    visit(layer, True)
    return found


_FLATTEN = Layer._flatten_layers


def in_order(metrics: Sequence[Any], logs: dict[str, Any]) -> Any:
    """Numbers as a list: by the order of the metrics, the others by their names; one as it is.

    Args:
        metrics: all that a model has.
        logs: name -> number.
    """
    names = [metric.name for metric in metrics]
    if logs.keys() == set(names):
        values = [logs[name] for name in names]
        return values[0] if len(values) == 1 else values
    known = [name for name in dict.fromkeys(names) if name in logs]
    values = [logs[name] for name in (*known, *sorted(set(logs) - set(known)))]
    return values[0] if len(values) == 1 else values
