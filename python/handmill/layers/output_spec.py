"""What calls of layers on symbolic tensors return, from traces or from equal calls before."""

from __future__ import annotations

from typing import Any

from handmill import errors, tree
from handmill.errors import ShapeError
from handmill.ir.graph import Graph
from handmill.ir.trace import as_value, with_mask
from handmill.layers.arguments import located
from handmill.layers.context import collected_losses
from handmill.layers.symbolic import KerasTensor
from handmill.runtime.structure import Structure
from handmill.runtime.watch import is_ours

_KNOWN: dict[Any, Any] = {}
"""Specs of outputs by the specs of inputs and the structures of layers."""

_MOST = 1024


def output_spec(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns what a call on KerasTensors returns; builds the layer."""
    key = _key(layer, args, kwargs)
    known = None if key is None else _KNOWN.get(key)
    if known is not None:
        return KerasTensor.of_spec(known)
    warned = errors.warnings_given
    found = traced(layer, args, kwargs)
    if errors.warnings_given != warned:
        return found
    if key is not None and type(found) is KerasTensor and found.mask is None:
        if len(_KNOWN) >= _MOST:
            _KNOWN.clear()
        if _key(layer, args, kwargs) == key:  # the call has made nothing in the layer
            _KNOWN[key] = found.spec
    return found


def _key(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the spec of the output follows from; None where a trace must tell it.

    Builds the layer where that is enough to know.
    """
    if kwargs or len(args) != 1 or type(args[0]) is not KerasTensor or not is_ours(type(layer)):
        return None
    if args[0].mask is not None:
        return None
    try:
        with collected_losses(), Graph(layer.name):
            layer._maybe_build(args, {})
    except ShapeError as error:
        raise located(error, layer, args) from None
    structure = Structure((layer,), trainable=False)
    return (args[0].spec, structure.key) if structure.is_shared else None


def traced(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns what a call on KerasTensors returns, from a trace of its own."""
    graph = Graph(layer.name)
    graph.assumptions.fixes_batch = layer._fixes_batch
    with collected_losses(), graph:

        def enter(x: Any) -> Any:
            if not isinstance(x, KerasTensor):
                return x
            value = graph.input(x.spec, x.name)
            if x.mask is not None:
                value.mask = graph.input(x.mask.spec, f"{x.name}_mask")
            return value

        outputs = layer._call_traced(
            graph, tree.map_structure(enter, args), tree.map_structure(enter, kwargs)
        )
        if outputs is None:
            raise TypeError(
                f"{layer.describe()}: call() returned None; it must return the output (is a "
                "`return` missing?)"
            )
        return tree.map_structure(lambda x: _as_tensor(graph, x), outputs)


def _as_tensor(graph: Graph, x: Any) -> KerasTensor:
    value = as_value(graph, x)
    mask = None if value.mask is None else KerasTensor.of_spec(value.mask.spec)
    tensor: KerasTensor = with_mask(KerasTensor.of_spec(value.spec), mask)
    return tensor
