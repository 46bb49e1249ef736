"""The table of a model's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill.ir.shapes import numpy_dtype
from handmill.layers.arguments import as_tuples, is_shape
from handmill.layers.symbolic import Node
from handmill.naming import object_name

_LINES = str.maketrans("┏━┳┓┃┡╇┩├─┼┤│└┴┘", "+=++|+++|-+||+++")


def in_ascii(text: str) -> str:
    """Returns a table for an output that has no other characters."""
    return text.translate(_LINES).encode("ascii", "backslashreplace").decode("ascii")


def summary_text(
    model: Any,
    line_length: int | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> str:
    """Returns the table as text; see ``Model.summary``."""
    layers = _in_range(model.operations, layer_range)
    connected = model._graph is not None and not _is_chain(model)
    header = ["Layer (type)", "Output Shape", "Param #"]
    header += ["Trainable"] if show_trainable else []
    header += ["Connected to"] if connected else []
    rows = _rows(model, layers, "", expand_nested, show_trainable, connected)
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    wanted = (line_length or 65) - 3 * len(widths) - 1
    if sum(widths) < wanted:
        widths[0] += (wanted - sum(widths)) // 2
        widths[1] += wanted - sum(widths)
    lines = [f'Model: "{model.name}"', _rule(widths, "┏━┳┓"), _line(header, widths, "┃")]
    lines.append(_rule(widths, "┡━╇┩"))
    for i, row in enumerate(rows):
        if i:
            lines.append(_rule(widths, "├─┼┤"))
        lines.append(_line(row, widths, "│"))
    lines.append(_rule(widths, "└─┴┘"))
    lines += _totals(model)
    return "\n".join(lines)


def _rule(widths: Sequence[int], marks: str) -> str:
    left, dash, middle, right = list(marks)
    return left + middle.join(dash * (w + 2) for w in widths) + right


def _line(cells: Sequence[str], widths: Sequence[int], mark: str) -> str:
    parts = []
    for i, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        parts.append(f" {cell:>{width}} " if i == 2 else f" {cell:<{width}} ")
    return mark + mark.join(parts) + mark


def _rows(
    model: Any, layers: Sequence[Any], indent: str, expand: bool, trainable: bool, connected: bool
) -> list[list[str]]:
    rows = []
    for layer in layers:
        row = [
            f"{indent}{layer.name} ({layer.shown_class})",
            _output_shape(layer),
            f"{sum(v.size for v in layer.weights):,}" if layer.built else "0 (unbuilt)",
        ]
        row += ["Y" if layer.trainable and layer.weights else "-"] if trainable else []
        row += [_connections(model, layer)] if connected else []
        rows.append(row)
        if expand and hasattr(layer, "operations"):
            inner = _rows(layer, layer.operations, indent + "  ", expand, trainable, connected)
            rows.extend(inner)
    return rows


def _output_shape(layer: Any) -> str:
    nodes: list[Node] = layer._inbound_nodes
    if not nodes:
        if getattr(layer, "_graph", None) is not None:
            return str(layer.output_shape)
        return _shape_of_built(layer)
    return _text([t.shape for t in nodes[-1].output_tensors])


def _shape_of_built(layer: Any) -> str:
    """The shape for the inputs that the layer was built for: of one called by other layers."""
    try:
        config = layer.get_build_config() if layer.built else None
        if not config or "input_shape" not in config:
            return "?"
        return _text(layer.compute_output_shape(as_tuples(config["input_shape"])))
    except Exception:  # a layer of somebody's, which says or takes something else
        return "?"


def _text(shapes: Any) -> str:
    flat = [shapes] if is_shape(shapes) else shapes
    return str(flat[0]) if isinstance(flat, list | tuple) and len(flat) == 1 else str(flat)


def _connections(model: Any, layer: Any) -> str:
    if model._graph is None:
        return "-"
    members = set(model._graph.nodes)
    names = []
    for node in layer._inbound_nodes:
        if node in members:
            for tensor in node.input_tensors:
                operation, index, position = tensor.history
                names.append(f"{operation.name}[{index}][{position}]")
    return ", ".join(names) or "-"


def _is_chain(model: Any) -> bool:
    graph = model._graph
    return (
        len(graph.inputs) == 1
        and len(graph.outputs) == 1
        and len(graph.nodes) == len(graph.operations)
        and all(len(node.input_tensors) <= 1 for node in graph.nodes)
    )


def _in_range(layers: Sequence[Any], names: Sequence[str] | None) -> Sequence[Any]:
    if names is None:
        return layers
    if len(names) != 2:
        raise ValueError(
            "layer_range must be a list or tuple of length 2. Received: "
            f"layer_range = {names} of length {len(names)}"
        )
    found = []
    for name in names:
        places = [i for i, layer in enumerate(layers) if layer.name == name]
        if not places:
            raise ValueError(
                f"layer_range: the model has no layer {name!r}; it has "
                f"{[layer.name for layer in layers]}"
            )
        found.append(places[0])
    return layers[found[0] : found[1] + 1]


def _totals(model: Any) -> list[str]:
    lines = []
    trainable = model.trainable_weights
    fixed = model.non_trainable_weights
    slots: list[Any] = []
    if model.optimizer is not None and model.optimizer.built:
        slots = model.optimizer.variables
    total = [*trainable, *fixed, *slots]
    lines.append(f" Total params: {_amount(total)}")
    lines.append(f" Trainable params: {_amount(trainable)}")
    lines.append(f" Non-trainable params: {_amount(fixed)}")
    if slots:
        lines.append(f" Optimizer params: {_amount(slots)}")
    if (policies := _policies(model)) != ["float32"]:
        lines.append(f" Dtype policy: {', '.join(policies)}")
    if model.objective is not None and model.loss is not None:
        loss = model.loss
        lines.append(f" Loss: {loss if isinstance(loss, str | list | dict) else object_name(loss)}")
    return lines


def _policies(model: Any) -> list[str]:
    """The names of the layers' dtype policies, in order, each once."""
    from handmill.layers.core.input_layer import InputLayer

    found = (x.dtype_policy.name for x in model.layers if not isinstance(x, InputLayer))
    return list(dict.fromkeys(found)) or ["float32"]


def _amount(variables: Sequence[Any]) -> str:
    count = sum(v.size for v in variables)
    size = float(sum(v.size * numpy_dtype(v.dtype).itemsize for v in variables))
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            break
        size /= 1024
    return f"{count:,} ({size:.2f} {unit})"
