"""What rules write ONNX with: nodes, initializers, sizes, and in which order axes are stored.

ONNX has channels behind the batch, handmill has them last. So a value may be stored with its axes
in another order (:class:`Stored`): what convolutions make stays channels-first, elementwise
operators take it as it is, and it is turned back only where something needs the order that it has
here. A model of images has one Transpose that way, at its input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from handmill.exchange import messages
from handmill.exchange.inference_graph import bias_behind
from handmill.ir.dims import BATCH, FloorDiv, Symbol, SymbolicDim, is_symbolic_dim
from handmill.ir.graph import Graph, Node, Value
from handmill.ir.op import Array

Order: TypeAlias = "tuple[int, ...]"


class Stored(NamedTuple):
    """Where a value is.

    Attributes:
        name: of the tensor in the file.
        order: its axis i is the value's axis ``order[i]``; None: as in the value.
        features: its entry i along the last axis is the value's entry ``features[i]``; or None.
    """

    name: str
    order: Order | None = None
    features: Any = None


class Refused(ValueError):
    """What a rule raises about a node that has no form in the opset asked for."""


Rule: TypeAlias = "Callable[[Emitter, Node], None]"
RULES: dict[str, Rule] = {}
"""How each operator is written, by the name of its record."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule for operators."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


def channels_first(rank: int) -> Order:
    """The order of axes that ONNX has images in."""
    return (0, rank - 1, *range(1, rank - 1))


class Emitter:
    """Writes the nodes of one graph; bodies of loops have one of their own.

    Args:
        graph: what is written.
        opset: the version of ONNX's operators.
        labels: names for constants.
        outer: the emitter of the graph that this one is a body of.

    Attributes:
        nodes: those written so far.
        opset: see above.
        order: of the axes in which a rule was asked to make its result (elementwise rules).
    """

    def __init__(
        self,
        graph: Graph,
        opset: int,
        labels: Mapping[Value, str],
        outer: Emitter | None = None,
    ) -> None:
        self.graph = graph
        self.opset = opset
        self.labels = labels
        self.outer = outer
        self.nodes: list[messages.Node] = []
        self.initializers: dict[str, messages.Tensor] = {}
        self.scope = ""
        self.done: set[Node] = set()
        self.uses = graph.uses()
        self._stored: dict[Value, list[Stored]] = {}
        self._constants: dict[Any, str] = {}
        self._sizes: dict[Any, str] = {}
        self._taken: dict[str, int] = {} if outer is None else outer._taken

    # Names.

    def name(self, wish: str) -> str:
        """Returns a name that nothing in the file has yet."""
        number = self._taken.get(wish, -1) + 1
        self._taken[wish] = number
        return wish if number == 0 else self.name(f"{wish}_{number}")

    # Nodes and constants.

    def op(self, kind: str, *inputs: str, **attrs: Any) -> str:
        """Writes a node with one output; returns its name."""
        return self.several(kind, inputs, 1, **attrs)[0]

    def several(self, kind: str, inputs: Sequence[str], count: int, **attrs: Any) -> list[str]:
        """Writes a node with several outputs; attributes that are None are left out."""
        label = self.name(f"{self.scope}/{kind}" if self.scope else kind)
        outputs = [label if i == 0 else self.name(f"{label}:{i}") for i in range(count)]
        given = {key: value for key, value in attrs.items() if value is not None}
        attributes = [messages.attribute_of(key, value) for key, value in given.items()]
        self.nodes.append(messages.Node(list(inputs), outputs, label, kind, attributes))
        return outputs

    def constant(
        self, array: Any, label: str = "constant", dtype: str | None = None, *, shared: bool = True
    ) -> str:
        """Returns the name of an initializer that holds an array; equal ones are one if shared."""
        data = np.ascontiguousarray(np.asarray(array, dtype)).reshape(np.shape(array))
        key = (data.dtype.str, data.shape, data.tobytes())
        if shared and key in self._constants:
            return self._constants[key]
        name = self.name(label)
        self.initializers[name] = messages.tensor_of(data, name)
        if shared:
            self._constants[key] = name
        return name

    def ints(self, values: Sequence[int]) -> str:
        """Returns the name of a row of int64."""
        return self.constant(np.asarray(values, np.int64).reshape(-1), "sizes")

    def like(self, number: float, value: Value) -> str:
        """Returns the name of a number of the dtype of a value."""
        return self.constant(np.asarray(number, value.dtype), "number")

    # Values.

    def put(
        self, value: Value, name: str, order: Order | None = None, features: Any = None
    ) -> None:
        """Says where a value is."""
        if order == tuple(range(len(value.shape))):
            order = None
        self._stored.setdefault(value, []).append(Stored(name, order, features))

    def stored(self, value: Value) -> Stored:
        """Where a value is, in the order in which it came about."""
        found = self._stored.get(value)
        if found:
            return found[0]
        if value.constant is None:
            assert self.outer is not None  # noqa: S101
            return Stored(self.outer.plain(value))
        name = self.constant(value.constant, self.labels.get(value, "constant"))
        self._stored[value] = [Stored(name)]
        return self._stored[value][0]

    def plain(self, value: Value) -> str:
        """The name of a value with its axes in order."""
        return self.ordered(value, None)

    def first(self, value: Value) -> str:
        """The name of a value with its channels behind the batch."""
        return self.ordered(value, channels_first(len(value.shape)))

    def ordered(self, value: Value, order: Order | None) -> str:
        """The name of a value with its axes in a certain order, in which it is put once."""
        rank = len(value.shape)
        wanted = order or tuple(range(rank))
        if wanted == tuple(range(rank)):
            order = None
        kept = self.stored(value)
        for each in self._stored.get(value, (kept,)):
            if each.order == order and each.features is None:
                return each.name
        if value.constant is not None:
            name = self.constant(np.transpose(value.constant, wanted), f"{kept.name}_turned")
        else:
            name = kept.name
            if kept.features is not None:
                back = self.ints([int(i) for i in np.argsort(kept.features)])
                name = self.op("Gather", name, back, axis=rank - 1)
            at = kept.order or tuple(range(rank))
            if at != wanted:
                name = self.op("Transpose", name, perm=[at.index(axis) for axis in wanted])
        self._stored.setdefault(value, []).append(Stored(name, order))
        return name

    def is_plain(self, value: Value) -> bool:
        """Whether a value came about with its axes in order."""
        kept = self.stored(value)
        return kept.order is None and kept.features is None

    # Sizes that a call decides.

    def dim(self, dim: Any) -> str:
        """Returns the name of a size as a row of one int64."""
        if self.outer is not None:
            return self.outer.dim(dim)
        if not is_symbolic_dim(dim):
            return self.ints([int(dim)])
        if dim not in self._sizes:
            terms = [self._product(monomial, count) for monomial, count in dim.terms]
            total = terms[0]
            for term in terms[1:]:
                total = self.op("Add", total, term)
            self._sizes[dim] = total
        return self._sizes[dim]

    def _product(self, monomial: Any, count: int) -> str:
        found = None if count == 1 and monomial else self.ints([count])
        for atom in monomial:
            factor = self._atom(atom)
            found = factor if found is None else self.op("Mul", found, factor)
        assert found is not None  # noqa: S101
        return found

    def _atom(self, atom: Any) -> str:
        if isinstance(atom, FloorDiv):
            return self.op("Div", self.dim(atom.of), self.ints([atom.by]))
        if atom not in self._sizes:
            self._sizes[atom] = self._from_input(atom)
        return self._sizes[atom]

    def _from_input(self, symbol: Symbol) -> str:
        for value in self.graph.inputs:
            for axis, dim in enumerate(value.shape):
                if isinstance(dim, SymbolicDim) and dim.terms == (((symbol,), 1),):
                    kept = self.stored(value)
                    at = axis if kept.order is None else kept.order.index(axis)
                    return self.op("Gather", self.op("Shape", kept.name), self.ints([at]), axis=0)
        raise Refused(f"the size {symbol} is that of no input")

    def shape(self, shape: Sequence[Any], known: Sequence[Any] = ()) -> str:
        """Returns the name of a shape, as a row of int64.

        Args:
            shape: the sizes.
            known: those of the tensor that is reshaped: equal ones at equal places are written
                as 0, one other that a call decides as -1.
        """
        unknown = [
            i
            for i, dim in enumerate(shape)
            if is_symbolic_dim(dim) and not (i < len(known) and known[i] == dim)
        ]
        if not any(map(is_symbolic_dim, shape)):
            return self.ints([int(dim) for dim in shape])
        if known and len(unknown) <= 1 and 0 not in shape:
            return self.ints(
                [
                    -1 if i in unknown else 0 if is_symbolic_dim(dim) else int(dim)
                    for i, dim in enumerate(shape)
                ]
            )
        return self.op("Concat", *[self.dim(dim) for dim in shape], axis=0)

    # What follows a node and is written with it.

    def bias_behind(self, node: Node) -> tuple[Array, Value] | None:
        """What is added to each channel of a node's result, and the sum, which is then written.

        None where something else reads the result, or another value is added.
        """
        found = bias_behind(self.graph, self.uses, node)
        if found is None:
            return None
        self.done.add(found[1])
        return found[0], found[1].outputs[0]

    # The whole graph.

    def write(self) -> None:
        """Writes all nodes by their rules.

        Raises:
            Refused: if a rule cannot; named after the node.
        """
        for node in self.graph.nodes:
            if node in self.done:
                continue
            self.scope = node.scope
            try:
                RULES[node.op.name](self, node)
            except Refused as error:
                raise Refused(f"{node.op.name} in {node.scope or 'the model'}: {error}") from None

    def as_graph(
        self, name: str, inputs: Sequence[Value], in_names: Sequence[str], out_names: Sequence[str]
    ) -> messages.Graph:
        """Returns what was written as a graph, once it is finished."""
        return messages.Graph(
            node=self.nodes,
            name=name,
            initializer=list(self.initializers.values()),
            input=[self._info(n, v) for n, v in zip(in_names, inputs, strict=True)],
            output=[self._info(n, v) for n, v in zip(out_names, self.graph.outputs, strict=True)],
        )

    def _info(self, name: str, value: Value) -> messages.ValueInfo:
        kept = self._stored[value][0] if value in self.graph.inputs else Stored(name)
        order = kept.order or range(len(value.shape))
        dims = [value.shape[axis] for axis in order]
        return messages.value_info(
            name, value.dtype, [_size_name(d) if is_symbolic_dim(d) else int(d) for d in dims]
        )

    def finish(self, names: Sequence[str], taken: Sequence[str] = ()) -> None:
        """Gives the outputs their names, and drops what nothing reads.

        Args:
            names: of the graph's outputs.
            taken: names of the graph's inputs, which no output may share.
        """
        renamed: dict[str, str] = {}
        for value, name in zip(self.graph.outputs, names, strict=True):
            now = self.plain(value)
            made_here = any(now in node.output for node in self.nodes)
            if now in taken or now in renamed or not made_here:
                now = self.op("Identity", now)
            renamed[now] = name
        used = set(names)
        kept = []
        for node in reversed(self.nodes):
            node.input = [renamed.get(name, name) for name in node.input]
            node.output = [renamed.get(name, name) for name in node.output]
            if used.isdisjoint(node.output):
                continue
            kept.append(node)
            used.update(node.input)
            for attribute in node.attribute:
                if attribute.g is not None:
                    _rename(attribute.g, renamed)
                    used.update(_read_by(attribute.g))
        self.nodes = kept[::-1]
        self.initializers = {k: v for k, v in self.initializers.items() if k in used}


def _size_name(dim: Any) -> str:
    """What a size that a call decides is called in a file."""
    return "batch" if dim == BATCH else str(dim).replace("[", "_").replace("]", "")


def _rename(graph: messages.Graph, renamed: Mapping[str, str]) -> None:
    """A body may read what the graph around it calls differently now."""
    for node in graph.node:
        node.input = [renamed.get(name, name) for name in node.input]
        for attribute in node.attribute:
            if attribute.g is not None:
                _rename(attribute.g, renamed)


def _read_by(graph: messages.Graph) -> set[str]:
    found = {name for node in graph.node for name in node.input}
    found |= {info.name for info in graph.output}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.g is not None:
                found |= _read_by(attribute.g)
    return found
