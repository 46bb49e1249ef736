"""Graphs inside nodes: what loops repeat and conditionals choose between.

A :class:`Body` is an attribute of a node. It has inputs and outputs alone: what its function reads
of the graph around it (values, variables) becomes an operand of the node, and what the function
assigns to variables becomes a result. Passes, the verifier and both executors go into bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from handmill.ir.dims import Atom, Dimensioned, attrs_with, holds_dims
from handmill.ir.graph import Graph, Node, State, Value
from handmill.ir.shapes import Spec

_LARGEST_CONSTANT = 4096
"""Elements of a constant that is compared by content; larger ones are compared by identity."""


class Body(Dimensioned):
    """A graph as an attribute: equal, and hashed, by what it computes.

    Attributes:
        graph: inputs, constants, nodes and outputs; no variables.
    """

    __slots__ = ("_bound", "_key", "graph")

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._key: Any = None
        self._bound: tuple[Any, Body] | None = None

    @property
    def key(self) -> Any:
        """What the body computes, as nested tuples."""
        if self._key is None:
            self._key = key_of(self.graph)
        return self._key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Body) and (self is other or self.key == other.key)

    def __hash__(self) -> int:
        return hash(self.key)

    def holds_dims(self) -> bool:
        """Whether something in it depends on the sizes of a call."""
        return any(
            holds_dims(value.shape) for value in [*self.graph.inputs, *self.graph.outputs]
        ) or any(
            holds_dims(tuple(node.attrs.values())) or any(holds_dims(v.shape) for v in node.outputs)
            for node in self.graph.nodes
        )

    def with_dims(self, values: Mapping[Atom, Any]) -> Body:
        """Returns the same body with symbols replaced."""
        asked = tuple(values.items())
        if self._bound is None or self._bound[0] != asked:
            self._bound = asked, Body(_with_dims(self.graph, values))
        return self._bound[1]

    def __repr__(self) -> str:
        return "{" + str(self.graph).replace("\n", "; ") + "}"


def key_of(graph: Graph) -> Any:
    """What a graph computes, as nested tuples; variables count by identity."""
    number: dict[Value, Any] = {v: i for i, v in enumerate(graph.inputs)}
    number |= {v: ("variable", id(state)) for state, v in graph.variables.items()}
    for value in graph.constants:
        array = value.origin
        small = array.size <= _LARGEST_CONSTANT
        number[value] = (
            (array.dtype.str, array.shape, array.tobytes()) if small else ("array", id(array))
        )
    nodes = []
    for at, node in enumerate(graph.nodes):
        operands = tuple([number[v] for v in node.inputs])
        nodes.append((node.op.name, operands, frozenset(node.attrs.items())))
        number.update({v: (at, i) for i, v in enumerate(node.outputs)})
    inputs = tuple([v.spec for v in graph.inputs])
    return inputs, tuple(nodes), tuple([number[v] for v in graph.outputs])


def _with_dims(graph: Graph, values: Mapping[Atom, Any]) -> Graph:
    new = Graph(graph.name, graph.assumptions)
    new.constants = list(graph.constants)
    moved: dict[Value, Value] = {}
    for value in graph.inputs:
        moved[value] = new.input(value.spec.with_dims(values), value.origin)
    for node in graph.nodes:
        specs = [v.spec.with_dims(values) for v in node.outputs]
        inputs = [moved.get(v, v) for v in node.inputs]
        outputs = new.append(node.op, inputs, attrs_with(node.attrs, values), node.scope, specs)
        moved.update(zip(node.outputs, outputs, strict=True))
    new.outputs = [moved.get(v, v) for v in graph.outputs]
    return new


def bodies_of(node: Node) -> tuple[Body, ...]:
    """The bodies among the attributes of a node."""
    if node.bodies is not None:
        return node.bodies
    found: list[Body] = []
    for attr in node.attrs.values():
        if isinstance(attr, Body):
            found.append(attr)
        elif isinstance(attr, tuple):
            found += [item for item in attr if isinstance(item, Body)]
    node.bodies = tuple(found)
    return node.bodies


def map_bodies(node: Node, function: Callable[[Graph], Graph]) -> dict[str, Any]:
    """Returns the attributes of a node with ``function`` applied to the graph of each body."""

    def mapped(attr: Any) -> Any:
        if isinstance(attr, Body):
            return Body(function(attr.graph))
        return tuple(map(mapped, attr)) if isinstance(attr, tuple) else attr

    return {name: mapped(attr) for name, attr in node.attrs.items()}


def within(graph: Graph) -> Iterator[Graph]:
    """The graph and those of all bodies in it."""
    yield graph
    for node in graph.nodes:
        for body in bodies_of(node):
            yield from within(body.graph)


def any_op(node: Node, test: Callable[[Any], bool]) -> bool:
    """Whether the operator of a node, or one inside of it, passes a test."""
    if test(node.op):
        return True
    bodies = bodies_of(node)
    return bool(bodies) and any(any_op(inner, test) for b in bodies for inner in b.graph.nodes)


class BodyGraph(Graph):
    """A body while its function is traced.

    Attributes:
        captured: the input that stands for each value of the graph around it.
        states: the input that stands for each variable that was read.
    """

    left = (
        "a value that the function of a loop or branch computed was used outside of it; return it "
        "from that function, as a part of its result"
    )

    def __init__(self, parent: Graph, name: str) -> None:
        super().__init__(name, parent.assumptions)
        self._parent: Graph | None = parent
        self.scopes = parent.scopes[-1:]
        self.captured: dict[Value, Value] = {}
        self.states: dict[State, Value] = {}

    @property
    def parent(self) -> Graph:
        """The graph around it, while it is traced."""
        if self._parent is None:
            raise ValueError(self.left)
        return self._parent

    def capture(self, value: Value) -> Value:
        """Returns what stands for a value of this graph, or of one around it."""
        if value.graph is self or value in self.standing_in:
            return super().capture(value)
        outer = self.parent.capture(value)
        if outer not in self.captured:
            inner = Value(self, outer.spec, origin=f"captured{len(self.captured)}")
            self.captured[outer] = inner
            if outer.mask is not None:
                inner.mask = self.capture(outer.mask)
        return self.captured[outer]

    def substitute(self, values: dict[Atom, Any]) -> None:
        """Replaces symbols in every shape and attribute so far."""
        super().substitute(values)
        for value in [*self.captured.values(), *self.states.values()]:
            value.spec = value.spec.with_dims(values)

    def read(self, state: State) -> Value:
        """Returns the value that ``state`` has at this point of the body."""
        if state in self.updates:
            return self.updates[state]
        if state not in self.states:
            self.states[state] = Value(self, self.parent.read(state).spec, origin=state.name)
        return self.states[state]

    def assign(self, state: State, value: Value) -> None:
        """Makes ``value`` the content of ``state`` from here on."""
        super().assign(state, self.capture(value))

    def close(
        self,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        captures: Sequence[Value],
        name: str | None = None,
    ) -> Body:
        """Ends the trace.

        Args:
            inputs: values of this graph, the first inputs of the body.
            outputs: values of this graph.
            captures: values of the graph around it, for which the last inputs stand.
            name: of the body.
        """
        graph = Graph(name or self.name, self.assumptions)
        graph.inputs = list(inputs)
        reads = {self.parent.read(state): inner for state, inner in self.states.items()}
        given = set(inputs)
        moved: dict[Value, Value] = {}
        for outer in captures:
            pair = (self.captured.get(outer), reads.get(outer))
            stands = [v for v in pair if v is not None and v not in given]
            if not stands:
                stands = [Value(self, outer.spec, origin=f"unused{len(graph.inputs)}")]
            moved.update(dict.fromkeys(stands[1:], stands[0]))
            graph.inputs.append(stands[0])
        graph.constants = list(self.constants)
        for node in self.nodes:
            kept = graph.keep_node(node, [moved.get(v, v) for v in node.inputs])
            if kept is not node.outputs:
                moved.update(zip(node.outputs, kept, strict=True))
        graph.outputs = [moved.get(v, v) for v in outputs]
        self._parent = None
        return Body(graph)


def captures_of(bodies: Sequence[BodyGraph], written: Sequence[State] = ()) -> list[Value]:
    """The values around the bodies for which they have inputs, without the states ``written``."""
    found: dict[Value, None] = {}
    carried = set(written)
    for body in bodies:
        found.update(dict.fromkeys(body.captured))
        for state in body.states:
            if state not in carried:
                found[body.parent.read(state)] = None
    return list(found)


def trace_body(
    parent: Graph, function: Callable[..., Any], specs: Sequence[Spec], name: str
) -> tuple[BodyGraph, list[Value], Any]:
    """Traces a function in a body of ``parent``.

    Returns:
        The body, which is still open to :meth:`BodyGraph.close`; the values that stand for the
        arguments; what the function returned.
    """
    body = BodyGraph(parent, name)
    with body:
        arguments = [Value(body, spec, origin=f"x{i}") for i, spec in enumerate(specs)]
        body.inputs = list(arguments)
        result = function(*arguments)
    return body, arguments, result
