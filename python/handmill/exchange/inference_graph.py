"""A model as one graph of operators, in inference mode and with its numbers as constants.

What leaves handmill, as ONNX or as C, is made of this graph: what gradients needed is gone, what
depends on weights alone is computed, a normalization behind a product is built into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from handmill import tree
from handmill.ir.body import map_bodies
from handmill.ir.dims import SymbolicDim
from handmill.ir.graph import Graph, Node, Value, rewrite
from handmill.ir.op import Array
from handmill.ir.passes import cse, dce, drop_broadcasts, drop_transparent, fold
from handmill.ir.shapes import Spec, standardize_dtype
from handmill.ir.trace import as_value
from handmill.layers.context import collected_losses
from handmill.layers.symbolic import STRING, spec_of

Uses: TypeAlias = "dict[Value, list[Node]]"
MOST_FOLDED = 1 << 24
"""Elements of what is computed of weights alone: 64 MiB."""


class _Numbers(Graph):
    """A graph that reads variables as what they hold now."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.labels: dict[Value, str] = {}
        self._read: dict[Any, Value] = {}

    def read(self, state: Any) -> Value:
        found = self._read.get(state)
        if found is None:
            found = self._read[state] = self.constant(state.read())
            self.labels[found] = getattr(state, "path", state.name)
        return found


@dataclass
class Inference:
    """A model's graph.

    Attributes:
        graph: inputs, constants, nodes, outputs.
        inputs: the names of its inputs.
        outputs: the names of its outputs.
        labels: the paths of the variables that constants were.
    """

    graph: Graph
    inputs: list[str]
    outputs: list[str]
    labels: dict[Value, str]


def inference_graph(model: Any, input_signature: Any = None) -> Inference:
    """Traces a model as ``model(x, training=False)`` runs it.

    Args:
        model: a built model.
        input_signature: what its inputs are, nested as they are: for each anything with ``shape``
            (None for sizes that a call decides) and ``dtype``. Default: what the model was made of.

    Raises:
        ValueError: if the inputs are not known, or are strings.
    """
    structure, specs, names = signature_of(model, input_signature)
    graph = _Numbers("inference")
    with graph:
        values = [graph.input(spec, name) for spec, name in zip(specs, names, strict=True)]
        with collected_losses():
            found = model(tree.pack_sequence_as(structure, values), training=False)
        outputs = [v for v in tree.flatten(found) if v is not None]
        graph.updates.clear()
        graph.outputs = [as_value(graph, v) for v in outputs]
    named = enumerate(model.names_of_outputs(found))
    out_names = [f"output_{i}" if name is None else str(name) for i, name in named]
    return Inference(simplified(graph), names, _different(out_names), graph.labels)


def signature_of(model: Any, given: Any) -> tuple[Any, list[Spec], list[str]]:
    """Returns how a model's inputs are nested, what they are, and their names.

    Args:
        model: the model.
        given: see :func:`inference_graph`.

    Raises:
        ValueError: if they are not known, or are strings.
    """
    if given is None:
        if getattr(model, "_graph", None) is None:
            raise ValueError(
                f"{model.name} does not say what its inputs are; pass `input_signature`, such as "
                "[keras.InputSpec(shape=(None, 28, 28), dtype='float32')]"
            )
        given = model._graph.inputs_struct
    flat = tree.flatten(given)
    specs, names = [], []
    for number, each in enumerate(flat):
        name = getattr(each, "name", None) or f"input_{number}"
        dtype = standardize_dtype(getattr(each, "dtype", None) or "float32")
        if str(dtype) == STRING:
            raise ValueError(
                f"the input {name!r} takes strings, which layers turn into numbers in Python: "
                "export the model behind these layers, which takes numbers"
            )
        spec = getattr(each, "spec", None)
        if not isinstance(spec, Spec):
            if getattr(each, "shape", None) is None:
                raise ValueError(f"the entry {number} of `input_signature` has no shape")
            spec = spec_of(each.shape, dtype, name)
        specs.append(spec)
        names.append(name)
    if isinstance(given, list | tuple) and len(flat) == 1:
        given = flat[0]
    return given, specs, _different(names)


def _different(names: Sequence[str]) -> list[str]:
    """The names, with numbers behind those that came before."""
    found: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in found:
            number += 1
            unique = f"{name}_{number}"
        found.append(unique)
    return found


def simplified(graph: Graph) -> Graph:
    """Returns the graph without what inference does not need."""
    graph = drop_transparent(graph)
    graph = rewrite(graph, _without_guard)
    graph = drop_broadcasts(graph)
    graph = fold(graph, MOST_FOLDED)
    graph = _built_in(graph)
    graph = dce(cse(fold(graph, MOST_FOLDED)))
    return rewrite(graph, _with_simple_bodies)


def _without_guard(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
    """Guards hand on what they check."""
    same = len(node.outputs) == 1 and operands and operands[0].spec == node.outputs[0].spec
    return operands[:1] if node.op.guard and same else None


def _with_simple_bodies(
    new: Graph, node: Node, operands: tuple[Value, ...]
) -> Iterable[Value] | None:
    attrs = map_bodies(node, lambda body: dce(cse(drop_broadcasts(drop_transparent(body)))))
    if attrs == node.attrs:
        return None
    return new.append(node.op, operands, attrs, node.scope, [v.spec for v in node.outputs])


def expanded(found: Inference, known: Callable[[Node], bool]) -> Inference:
    """Returns the graph with what is unknown replaced by what it is made of, where that is told."""
    old = found.graph
    if all(node.op.composite is None or known(node) for node in old.nodes):
        return found
    new = Graph(old.name, old.assumptions)
    moved: dict[Value, Value] = {}
    with new:
        for value in old.inputs:
            moved[value] = new.input(value.spec, value.origin)
        for value in old.constants:
            moved[value] = new.constant(value.origin)
        for node in old.nodes:
            operands = [moved[value] for value in node.inputs]
            new.scopes = [node.scope]
            if node.op.composite is None or known(node):
                results = new.copy_node(node, operands)
            else:
                given = node.op.composite(*operands, **node.attrs)
                results = given if isinstance(given, tuple) else (given,)
            moved.update(zip(node.outputs, results, strict=True))
        new.scopes = []
    new.outputs = [moved[value] for value in old.outputs]
    labels = {moved[v]: label for v, label in found.labels.items() if v in moved}
    return Inference(simplified(new), found.inputs, found.outputs, labels)


# --- products that take in what follows ----------------------------------------------------------


def channels_of(constant: Value, like: Value) -> Array | None:
    """A constant as one number for each entry of the last axis of ``like``; None if it is more."""
    array = constant.constant
    if array is None or not like.shape or isinstance(like.shape[-1], SymbolicDim):
        return None
    count = int(like.shape[-1])
    if array.ndim > len(like.shape) or array.size not in (1, count):
        return None
    if array.ndim and array.shape[-1] != array.size:
        return None
    return np.broadcast_to(array.reshape(-1), (count,))


def bias_behind(graph: Graph, uses: Uses, node: Node) -> tuple[Array, Node] | None:
    """What is added to each channel of a node's result, and the node that adds it.

    None where something else reads the result, or another value is added.
    """
    value = node.outputs[0]
    users = uses.get(value, [])
    if len(users) != 1 or users[0].op.name != "add" or value in graph.outputs:
        return None
    adding = users[0]
    other = adding.inputs[1] if adding.inputs[0] is value else adding.inputs[0]
    bias = channels_of(other, value)
    if bias is None or other is value or adding.outputs[0].spec != value.spec:
        return None
    return np.ascontiguousarray(bias), adding


def _built_in(graph: Graph) -> Graph:
    """Multiplies the weights of products by constants that their results are multiplied by."""
    uses = {value: len(nodes) for value, nodes in graph.uses().items()}
    for value in graph.outputs:
        uses[value] = uses.get(value, 0) + 1

    def once(value: Value, name: str) -> Node | None:
        node = value.node
        return node if node is not None and node.op.name == name and uses.get(value) == 1 else None

    def product(value: Value) -> Node | None:
        node = once(value, "conv") or once(value, "matmul")
        if node is None or node.inputs[1].constant is None or node.attrs.get("transpose_b"):
            return None
        return node

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        made: Value | None = None
        if node.op.name in ("multiply", "add") and node.outputs[0].spec.is_float:
            for value, other in (operands, operands[::-1]):
                channels = channels_of(other, value)
                if made is None and channels is not None and value.spec == node.outputs[0].spec:
                    change = scaled if node.op.name == "multiply" else shifted
                    made = change(new, value, channels)
        outputs = new.keep_node(node, operands) if made is None else (made,)
        for before, after in zip(node.outputs, outputs, strict=True):
            uses[after] = uses.get(before, 0)
        return outputs

    def scaled(new: Graph, value: Value, factor: Array) -> Value | None:
        found = product(value)
        if found is not None:
            weights = found.inputs[1].constant
            assert weights is not None  # noqa: S101
            inputs = (found.inputs[0], new.constant(weights * factor))
            made = new.copy_node(found, inputs)[0]
            uses[made] = 1
            return made
        sum_ = once(value, "add")
        if sum_ is None:
            return None
        for inner, other in (sum_.inputs, sum_.inputs[::-1]):
            bias = channels_of(other, inner)
            if bias is not None and product(inner) is not None:
                product_ = scaled(new, inner, factor)
                assert product_ is not None  # noqa: S101
                return new.copy_node(sum_, (product_, new.constant(bias * factor)))[0]
        return None

    def shifted(new: Graph, value: Value, bias: Array) -> Value | None:
        sum_ = once(value, "add")
        if sum_ is None:
            return None
        for inner, other in (sum_.inputs, sum_.inputs[::-1]):
            before = channels_of(other, inner)
            if before is not None and inner.spec == value.spec:
                return new.copy_node(sum_, (inner, new.constant(before + bias)))[0]
        return None

    return dce(rewrite(graph, visit))
