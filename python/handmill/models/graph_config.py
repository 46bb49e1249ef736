"""Functional models as config dictionaries, in Keras's form, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handmill.layers.core.input_layer import InputLayer
from handmill.layers.layer import Layer
from handmill.layers.symbolic import KerasTensor, LayerGraph, Node
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


def graph_config(model: Any) -> dict[str, Any]:
    """Returns the config of a functional model."""
    graph: LayerGraph = model._graph
    used = _numbered(graph)
    layers = []
    for operation in graph.operations:
        config = layer_config(operation, serialize_keras_object)
        config["name"] = operation.name
        config["inbound_nodes"] = [
            _node_config(node, used)
            for node in operation._inbound_nodes
            if node in used and not node.is_input
        ]
        layers.append(config)

    def place(tensor: KerasTensor) -> list[Any]:
        return _place(tensor, used)

    inputs = _places(graph.inputs_struct, place)
    outputs = _places(graph.outputs_struct, place)
    return {
        "name": model.name,
        "trainable": model.trainable,
        "layers": layers,
        "input_layers": inputs,
        "output_layers": outputs,
    }


def _numbered(graph: LayerGraph) -> dict[Node, int]:
    """Numbers the calls of each layer that belong to the graph."""
    members = set(graph.nodes)
    numbers: dict[Node, int] = {}
    for operation in graph.operations:
        own = [node for node in operation._inbound_nodes if node in members]
        numbers.update({node: i for i, node in enumerate(own)})
    return numbers


def _place(tensor: KerasTensor, used: Mapping[Node, int]) -> list[Any]:
    operation, index, position = tensor.history
    return [operation.name, used[operation._inbound_nodes[index]], position]


def _places(structure: Any, place: Any) -> Any:
    if isinstance(structure, KerasTensor):
        return place(structure)
    if isinstance(structure, dict):
        return {key: _places(item, place) for key, item in structure.items()}
    return [_places(item, place) for item in structure]


def _node_config(node: Node, used: Mapping[Node, int]) -> dict[str, Any]:
    def config(x: Any) -> Any:
        if isinstance(x, KerasTensor):
            return {
                "class_name": "__keras_tensor__",
                "config": {
                    "shape": list(x.shape),
                    "dtype": x.dtype,
                    "keras_history": _place(x, used),
                },
            }
        if isinstance(x, dict):
            return {key: config(item) for key, item in x.items()}
        if isinstance(x, list | tuple):
            return [config(item) for item in x]
        return serialize_keras_object(x)

    return {"args": [config(a) for a in node.args], "kwargs": config(node.kwargs)}


def model_from_graph_config(cls: Any, config: Mapping[str, Any]) -> Any:
    """Makes a functional model from its config, with new weights.

    Raises:
        ValueError: if calls refer to tensors that nothing computes.
    """
    layers: dict[str, Layer] = {}
    waiting: list[tuple[Layer, Any]] = []
    for entry in config["layers"]:
        layer = deserialize_keras_object(
            {k: v for k, v in entry.items() if k != "inbound_nodes"}, kind="layer"
        )
        layers[entry["name"]] = layer
        waiting.extend((layer, node) for node in entry["inbound_nodes"])
    done: dict[str, int] = dict.fromkeys(layers, 0)
    skipped = {name: len(layer._inbound_nodes) for name, layer in layers.items()}
    for name, layer in layers.items():
        if type(layer).__name__ == "InputLayer":
            skipped[name], done[name] = 0, 1

    def tensor_at(place: Any) -> KerasTensor | None:
        name, number, position = place
        if name not in layers:
            raise ValueError(f"the config of model {config.get('name')!r} lacks layer {name!r}")
        if number >= done[name]:
            return None
        node = layers[name]._inbound_nodes[skipped[name] + number]
        found: KerasTensor = node.output_tensors[position]
        return found

    while waiting:
        left = []
        blocked: set[str] = set()
        for layer, node in waiting:
            if layer.name in blocked or not _call(layer, node, tensor_at):
                blocked.add(layer.name)
                left.append((layer, node))
            else:
                done[layer.name] += 1
        if len(left) == len(waiting):
            names = sorted({layer.name for layer, _ in left})
            raise ValueError(
                "Invalid Functional model configuration: the inputs of these layers are never "
                f"computed: {names}"
            )
        waiting = left

    def tensors(places: Any) -> Any:
        if isinstance(places, dict):
            return {key: tensors(item) for key, item in places.items()}
        if len(places) == 3 and isinstance(places[0], str):
            found = tensor_at(places)
            if found is None:
                raise ValueError(f"Invalid Functional model configuration: no tensor {places}")
            return found
        return [tensors(item) for item in places]

    return cls(
        inputs=tensors(config["input_layers"]),
        outputs=tensors(config["output_layers"]),
        name=config["name"],
        trainable=config.get("trainable", True),
    )


class _NotYet(Exception):
    """A call needs a tensor that is not computed yet."""


def _call(layer: Layer, node: Mapping[str, Any], tensor_at: Any) -> bool:
    def revive(x: Any) -> Any:
        if isinstance(x, dict):
            if x.get("class_name") == "__keras_tensor__":
                found = tensor_at(x["config"]["keras_history"])
                if found is None:
                    raise _NotYet
                return found
            if "class_name" in x:
                return deserialize_keras_object(x)
            return {key: revive(item) for key, item in x.items()}
        if isinstance(x, list | tuple):
            return [revive(item) for item in x]
        return x

    try:
        args, kwargs = revive(node["args"]), revive(node.get("kwargs") or {})
    except _NotYet:
        return False
    layer(*args, **kwargs)
    return True


def layer_config(layer: Layer, serialize: Any) -> dict[str, Any]:
    """Returns a layer inside a model as a config dictionary, with the shape it was built for."""
    config: dict[str, Any] = serialize(layer)
    if not isinstance(layer, InputLayer) and layer.built:
        build = layer.get_build_config()
        if build is not None:
            config["build_config"] = build
    return config
