"""Functional models as config dictionaries, in Keras's form, and back."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from handmill.layers.layer import Layer
from handmill.layers.op_function import OpFunction, is_operation
from handmill.layers.symbolic import KerasTensor, LayerGraph, Node
from handmill.saving.keras_calls import as_written
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


def graph_config(model: Any) -> dict[str, Any]:
    """Returns the config of a functional model."""
    graph: LayerGraph = model._graph
    used = _numbered(graph)
    layers = []
    for operation in graph.operations:
        config = layer_config(operation)
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
    made = [_places(item, place) for item in structure]
    return tuple(made) if isinstance(structure, tuple) else made


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
    # By the names that calls use: a layer whose own config does not hold its name gets another.
    layers: dict[str, Layer] = {}
    calls: list[tuple[str, Any]] = []
    for entry in config["layers"]:
        layer: Any
        if is_operation(entry):
            layer = OpFunction.of_description(entry)
        else:
            layer = deserialize_keras_object(
                {k: v for k, v in entry.items() if k != "inbound_nodes"}, kind="layer"
            )
        layers[entry["name"]] = layer
        calls.extend((entry["name"], node) for node in entry["inbound_nodes"])
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

    for name, node in in_order(calls, done):
        _call(layers[name], node, tensor_at)
        done[name] += 1

    def tensors(places: Any) -> Any:
        if isinstance(places, dict):
            return {key: tensors(item) for key, item in places.items()}
        if len(places) == 3 and isinstance(places[0], str):
            found = tensor_at(places)
            if found is None:
                raise ValueError(f"Invalid Functional model configuration: no tensor {places}")
            return found
        made = [tensors(item) for item in places]
        return tuple(made) if isinstance(places, tuple) else made

    return cls(
        inputs=tensors(config["input_layers"]),
        outputs=tensors(config["output_layers"]),
        name=config["name"],
        trainable=config.get("trainable", True),
    )


def in_order(
    calls: Sequence[tuple[str, Any]], done: Mapping[str, int]
) -> Iterator[tuple[str, Any]]:
    """Yields calls so that each comes after those whose results it takes.

    Otherwise they come as they are listed, as if the list were gone through again and again; but
    the time is proportional to its length.

    Args:
        calls: name of the layer and description of the call; those of one layer in their order.
        done: how many calls of each layer there were before.

    Raises:
        ValueError: when only calls are left whose inputs nothing computes.
    """
    makers: dict[tuple[str, int], int] = {}  # what a call gives -> its place in the list
    last = dict(done)
    needs: list[set[tuple[str, int]]] = []
    for place, (layer, node) in enumerate(calls):
        number = last[layer]
        last[layer] = number + 1
        makers[layer, number] = place
        places = list(_places_in(node))
        if unknown := sorted({name for name, _, _ in places} - set(done)):
            raise ValueError(
                f"Missing node: {unknown[0]}: the config of a model lacks layer {unknown[0]!r}, "
                f"whose output layer {layer!r} takes"
            )
        needs.append({(name, n) for name, n, _ in places if n >= done[name]})
        if number > done[layer]:
            needs[-1].add((layer, number - 1))
    missing = [len(need) for need in needs]
    takers: dict[tuple[str, int], list[int]] = {}
    for place, need in enumerate(needs):
        for source in need:
            takers.setdefault(source, []).append(place)
    rounds = [0] * len(calls)
    ready = [(0, place) for place, count in enumerate(missing) if count == 0]
    results = {place: source for source, place in makers.items()}
    left = set(range(len(calls)))
    while ready:
        turn, place = heapq.heappop(ready)
        left.discard(place)
        yield calls[place]
        for taker in takers.get(results[place], ()):
            rounds[taker] = max(rounds[taker], turn + (taker < place))
            missing[taker] -= 1
            if missing[taker] == 0:
                heapq.heappush(ready, (rounds[taker], taker))
    if left:
        names = sorted({calls[place][0] for place in left})
        raise ValueError(
            "Invalid Functional model configuration: the inputs of these layers are never "
            f"computed, as in a loop: {names}"
        )


def _places_in(x: Any) -> Iterator[tuple[str, int, int]]:
    """The places (layer, call, output) of the tensors that a call takes."""
    if isinstance(x, dict):
        if x.get("class_name") == "__keras_tensor__":
            name, number, position = x["config"]["keras_history"]
            yield name, number, position
        elif "class_name" not in x:
            for item in x.values():
                yield from _places_in(item)
    elif isinstance(x, list | tuple):
        for item in x:
            yield from _places_in(item)


def _call(layer: Layer, node: Mapping[str, Any], tensor_at: Any) -> None:
    def revive(x: Any) -> Any:
        if isinstance(x, dict):
            if x.get("class_name") == "__keras_tensor__":
                return tensor_at(x["config"]["keras_history"])
            if "class_name" in x:
                return deserialize_keras_object(x)
            return {key: revive(item) for key, item in x.items()}
        if isinstance(x, list | tuple):
            return [revive(item) for item in x]
        return x

    arguments = as_written(node.get("kwargs") or {}, layer._training_default)
    layer(*revive(node["args"]), **revive(arguments))


def layer_config(layer: Layer) -> dict[str, Any]:
    """Returns a layer inside a model as a config dictionary."""
    config: dict[str, Any] = serialize_keras_object(layer)
    return layer.description(config) if isinstance(layer, OpFunction) else config
