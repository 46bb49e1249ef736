"""The layers of a functional model that take strings: they run before the model's program.

Programs hold numbers. A model whose inputs are strings is therefore cut in two: what leads from
the strings to numbers (StringLookup, TextVectorization, Hashing, ...) runs in Python on the data,
and the rest is planned as that of any other model. What comes out of the cut takes the place of the
inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from handmill import tree
from handmill.data.batches import pack_x_y_sample_weight, unpack_x_y_sample_weight
from handmill.layers.symbolic import STRING, KerasTensor, LayerGraph, Node
from handmill.models.mapped_batches import mapped_batches
from handmill.runtime.structure import Walk


def host_part(graph: LayerGraph) -> HostPart | None:
    """The part of a graph that takes strings; None if there is none.

    Raises:
        ValueError: if strings come out of the model, or numbers that its program computes go into
            a layer that takes strings.
    """
    return HostPart(graph) if any(t.dtype == STRING for t in graph.inputs) else None


class HostPart:
    """What leads from strings to numbers, and what is left.

    Args:
        graph: all calls of the layers of the model.

    Attributes:
        rest: the calls that are planned, from numbers on.
    """

    def __init__(self, graph: LayerGraph) -> None:
        self._inputs = list(graph.inputs)
        self._names = [t.history.operation.name for t in graph.inputs]
        self._structure = graph.inputs_struct
        self._nodes: list[Node] = []
        on_host = {id(t) for t in graph.inputs}
        for node in graph.nodes:
            if not any(t.dtype == STRING for t in node.input_tensors):
                continue
            for tensor in node.input_tensors:
                if id(tensor) not in on_host:
                    raise ValueError(
                        f"{node.operation.describe()} takes strings, and {tensor!r}, which the "
                        "model computes; only inputs of the model and what layers make of strings "
                        "can come beside strings"
                    )
            self._nodes.append(node)
            on_host |= {id(t) for t in node.output_tensors}
        for tensor in graph.outputs:
            if tensor.dtype == STRING:
                raise ValueError(
                    f"the output {tensor.name!r} of the model would be strings, which programs "
                    "cannot hold; put StringLookup, TextVectorization or Hashing before it"
                )
        self._results = self._cut(graph, on_host)
        self.rest = GraphFromTensors(self._results, graph.outputs_struct)

    def made(self, values: Sequence[Any]) -> bool:
        """Whether values are results of this part: a program is given nothing else."""
        return True

    def describe_structure(self, walk: Walk) -> None:
        """Adds nothing to a description: the graph says which inputs are strings."""

    def _cut(self, graph: LayerGraph, on_host: set[int]) -> list[KerasTensor]:
        """The numbers on the host that the rest, or the outputs, need."""
        needed: dict[int, KerasTensor] = {}
        own = set(self._nodes)
        for node in graph.nodes:
            if node in own:
                continue
            for tensor in node.input_tensors:
                if id(tensor) in on_host:
                    needed[id(tensor)] = tensor
        for tensor in graph.outputs:
            if id(tensor) in on_host:
                needed[id(tensor)] = tensor
        return list(needed.values())

    def __call__(self, x: Any) -> Any:
        """Returns the numbers for the program: an array, or one for each tensor of the cut.

        Args:
            x: data for the inputs, nested like them or a dict by their names.

        Raises:
            ValueError: if there are not as many as inputs, or they do not fit.
        """
        values: dict[int, Any] = {}
        for tensor, value in zip(self._inputs, self._flat(x), strict=True):
            values[id(tensor)] = _fitted(value, tensor)

        def fill(x: Any) -> Any:
            return values[id(x)] if isinstance(x, KerasTensor) else x

        for node in self._nodes:
            found = node.operation(*tree.map_structure(fill, node.args))
            values[id(node.output_tensors[0])] = found
        results = tuple(values[id(t)] for t in self._results)  # a Dataset stacks what is in a list
        return results if len(results) > 1 else results[0]

    def words(self, numbers: Any) -> list[list[str]] | None:
        """The words behind the numbers that the program is given, row by row.

        None where they are not what one layer with a vocabulary made of one input.
        """
        layer = self._results[0].history.operation
        known = getattr(layer, "get_vocabulary", None)
        is_one = len(self._results) == 1 and known is not None
        if not is_one or numbers.ndim != 2 or numbers.dtype.kind not in "iu":
            return None
        vocabulary = [str(word) for word in layer.get_vocabulary()]
        return [[vocabulary[i] for i in row] for row in numbers.tolist()]

    def _flat(self, x: Any) -> Sequence[Any]:
        names, wanted = self._names, self._structure
        if hasattr(x, "to_numpy") and hasattr(x, "columns"):  # a frame: a column for each input
            columns = list(x.columns)
            if len(names) == 1 and names[0] not in columns:
                if len(columns) != 1:
                    raise ValueError(
                        f"the model has one input, {names[0]!r}, and the frame has the columns "
                        f"{columns}: pass the one that is meant, frame[{columns[:1]}]"
                    )
                return [x[columns[0]].to_numpy()]
            x = {name: x[name].to_numpy() for name in columns}
        if isinstance(x, dict):
            keys = sorted(wanted) if isinstance(wanted, dict) else names
            if missing := [key for key in keys if key not in x]:
                raise ValueError(
                    f"Missing data for input {missing[0]!r}. You passed a data dictionary with "
                    f"keys {sorted(x)}. Expected the following keys: {keys}"
                )
            return [x[key] for key in keys]
        if len(names) == 1:
            alone = isinstance(x, list | tuple) and len(x) == 1 and hasattr(x[0], "ndim")
            return [x[0] if alone else x]
        if not isinstance(x, list | tuple) or len(x) != len(names):
            raise ValueError(
                f"the model has {len(names)} inputs ({', '.join(names)}); pass a dict by these "
                f"names or a list. Received: {type(x).__name__}"
                + (f" of length {len(x)}" if hasattr(x, "__len__") else "")
            )
        return x

    def of_data(self, x: Any) -> Any:
        """Returns data for ``fit`` as numbers: arrays at once, batches as they are asked for."""
        if x is None:
            return None
        makes_batches = not isinstance(x, np.ndarray | list | tuple | dict) and not hasattr(
            x, "to_numpy"
        )
        if not makes_batches:
            return self(x)
        return mapped_batches(x, self)

    def of_validation(self, data: Any) -> Any:
        """Returns validation data with numbers for x: a tuple, or what makes batches."""
        if not isinstance(data, list | tuple):
            return self.of_data(data)
        x, y, weight = unpack_x_y_sample_weight(data)
        return pack_x_y_sample_weight(self.of_data(x), y, weight)


class GraphFromTensors(LayerGraph):
    """The calls of layers from tensors inside of a model on."""

    def _walk(self) -> None:
        cut = {id(t) for t in self.inputs}
        order: list[Node] = []
        seen: set[Node] = set()
        waiting: list[tuple[Node | None, Iterator[KerasTensor]]] = [(None, iter(self.outputs))]
        while waiting:
            visited, tensors = waiting[-1]
            tensor = next(tensors, None)
            if tensor is None:
                waiting.pop()
                if visited is not None:
                    order.append(visited)
                continue
            if id(tensor) in cut:
                continue
            operation, index, _ = tensor.history
            node = operation._inbound_nodes[index]
            if node not in seen:
                seen.add(node)
                waiting.append((node, iter(node.input_tensors)))
        self.nodes = order
        self.operations = list(dict.fromkeys(node.operation for node in order))


def _fitted(value: Any, tensor: KerasTensor) -> Any:
    """Data for an input, with or without a last axis of size 1 as the input has it."""
    if tensor.dtype == STRING:
        array = np.asarray(value, object) if isinstance(value, list | tuple) else np.asarray(value)
    else:
        array = np.asarray(value)
    rank = tensor.ndim
    if array.dtype == object and any(isinstance(v, list) for v in array.reshape(-1)[:1000]):
        raise ValueError(
            f"the input {tensor.name!r} expects shape={tensor.shape}, and the rows of the list "
            "differ in length; pad them to one length"
        )
    if array.ndim == rank - 1 and tensor.shape[-1] == 1:
        array = array[..., None]
    elif array.ndim == rank + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    fits = array.ndim == rank and all(
        w is None or w == size for w, size in zip(tensor.shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"the input {tensor.name!r} expects shape={tensor.shape}, found shape={array.shape}"
            + ("\n  hint: a single one is passed in a list of one" if not array.ndim else "")
        )
    return array
