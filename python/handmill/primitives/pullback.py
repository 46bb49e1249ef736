"""The pullback of a body as a graph of its own, and what it needs of the forward run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from handmill.ir.body import Body, BodyGraph
from handmill.ir.gradient import pullback
from handmill.ir.graph import Graph, Node, Value, current_graph
from handmill.ir.op import REGISTRY
from handmill.ir.shapes import Spec, numpy_dtype


@dataclass(frozen=True)
class Backward:
    """One step of a reverse loop.

    Attributes:
        body: takes gradients of the carry, sums so far, gradients of the stacked results, rows of
            ``xs``, residuals, captures; returns gradients of the carry, sums, gradients of rows.
        xs: which inputs of the forward body it needs as rows.
        captures: which inputs of the forward body it needs as they are.
    """

    body: Body
    xs: tuple[int, ...]
    captures: tuple[int, ...]


class Pullback:
    """A body, differentiated.

    Args:
        body: the forward body.
        seeded: positions of the outputs whose gradients come in.
        fixed: positions of the inputs that are the same in every step.

    Attributes:
        found: for each input of the body its gradient, None where there is none.
    """

    def __init__(self, body: Body, seeded: Sequence[int], fixed: Iterable[int]) -> None:
        self._body = body
        self._graph = BodyGraph(_current(), body.graph.name)
        self._inputs = [Value(self._graph, v.spec, origin=v.origin) for v in body.graph.inputs]
        self._moved = dict(zip(body.graph.inputs, self._inputs, strict=True))
        graph = self._graph
        graph.inputs = list(self._inputs)
        # Of this graph: vjps compute with them.
        graph.constants = [Value(graph, v.spec, origin=v.origin) for v in body.graph.constants]
        self._moved.update(zip(body.graph.constants, graph.constants, strict=True))
        with graph:
            for node in body.graph.nodes:
                graph.scopes = [node.scope]
                outputs = graph.copy_node(node, [self._moved.get(v, v) for v in node.inputs])
                self._moved.update(zip(node.outputs, outputs, strict=True))
            self._forward = list(graph.nodes)
            self._outputs = [self._moved.get(v, v) for v in body.graph.outputs]
            self._seeds = {i: Value(graph, self._outputs[i].spec, origin=f"d{i}") for i in seeded}
            self.found = pullback(
                graph,
                [self._outputs[i] for i in seeded],
                list(self._seeds.values()),
                self._inputs,
                self._forward,
            )
        self.found = [
            found if value.spec.is_float else None
            for value, found in zip(self._inputs, self.found, strict=True)
        ]
        self._behind = graph.nodes[len(self._forward) :]
        self._same = self._invariant([self._inputs[i] for i in fixed])

    def _invariant(self, fixed: Sequence[Value]) -> set[Value]:
        """What the forward body computes from inputs that never change."""
        same = {*fixed, *self._graph.constants}
        for node in self._forward:
            if not node.op.random and same.issuperset(node.inputs):
                same.update(node.outputs)
        return same

    def _needed(self) -> list[Value]:
        """What the pullback reads of the forward body, in order."""
        behind = {v for node in self._behind for v in node.outputs}
        known = {*behind, *self._seeds.values(), *self._graph.constants}
        read = [v for node in self._behind for v in node.inputs]
        read += [v for v in self.found if v is not None]
        return list(dict.fromkeys(v for v in read if v not in known))

    def residuals(self, n_carry: int, moving: Iterable[int]) -> list[Value]:
        """What each forward step has to keep: all that is needed but rows and what never changes.

        Args:
            n_carry: how many inputs are the carry.
            moving: positions of the inputs that differ from step to step.
        """
        rows = {self._inputs[i] for i in moving if i >= n_carry}
        return [v for v in self._needed() if v not in rows and v not in self._same]

    def forward(self, residuals: Sequence[Value]) -> Graph:
        """The forward body with more results."""
        back = {inner: outer for outer, inner in self._moved.items()}
        graph = Graph(self._body.graph.name, self._body.graph.assumptions)
        graph.inputs = list(self._body.graph.inputs)
        graph.constants = list(self._body.graph.constants)
        graph.nodes = list(self._body.graph.nodes)
        graph.outputs = [*self._body.graph.outputs, *[back.get(v, v) for v in residuals]]
        return graph

    def backward(
        self,
        residuals: Sequence[Value],
        carries: Sequence[int],
        sums: Sequence[int],
        rows: Sequence[int],
        xs: Iterable[int],
    ) -> Backward:
        """The body of the reverse loop.

        Args:
            residuals: what forward steps kept.
            carries: positions of the inputs whose gradients are carried back.
            sums: positions of the inputs to whose gradients every step adds.
            rows: positions of the inputs whose gradients are stacked.
            xs: positions of the inputs that are rows.
        """
        again = self._again(residuals)
        read = {v for node in (*again, *self._behind) for v in node.inputs}
        read.update(v for v in self.found if v is not None)
        place = {v: i for i, v in enumerate(self._inputs)}
        kept = set(residuals)
        given = {i for v, i in place.items() if v in read and v not in kept}
        rows_read = tuple(i for i in xs if i in given)
        captures = tuple(sorted(given - set(rows_read)))

        graph = Graph("backward", self._graph.assumptions)
        graph.constants = list(self._graph.constants)
        rest = [Value(graph, v.spec, origin=f"kept{i}") for i, v in enumerate(residuals)]
        moved = dict(zip(residuals, rest, strict=True))
        for node in (*again, *self._behind):
            outputs = graph.keep_node(node, [moved.get(v, v) for v in node.inputs])
            moved.update(zip(node.outputs, outputs, strict=True))

        def gradient(position: int) -> Value:
            found = self.gradient(graph, position)
            return moved.get(found, found)

        before = [Value(graph, self._inputs[i].spec, origin=f"sum{i}") for i in sums]
        results = [gradient(i) for i in carries]
        for value, i in zip(before, sums, strict=True):
            results.append(graph.emit(REGISTRY["add"], [value, gradient(i)], {}))
        results += [gradient(i) for i in rows]
        seeds = list(self._seeds.items())
        graph.inputs = [
            *[value for i, value in seeds if i in carries],
            *before,
            *[value for i, value in seeds if i not in carries],
            *[self._inputs[i] for i in rows_read],
            *rest,
            *[self._inputs[i] for i in captures],
        ]
        graph.outputs = results
        return Backward(Body(graph), rows_read, captures)

    def whole(self, wanted: Sequence[int]) -> Body:
        """Forward and pullback as one body, which takes the inputs, then the seeds.

        Args:
            wanted: positions of the inputs whose gradients are the results.
        """
        graph = Graph("backward", self._graph.assumptions)
        graph.constants = list(self._graph.constants)
        graph.nodes = [*self._forward, *self._behind]
        graph.outputs = [self.gradient(graph, i) for i in wanted]
        graph.inputs = [*self._inputs, *self._seeds.values()]
        return Body(graph)

    def gradient(self, graph: Graph, position: int) -> Value:
        """The gradient of an input as a value of ``graph``; zeros where there is none."""
        found = self.found[position]
        return zeros(graph, self._inputs[position].spec) if found is None else found

    def _again(self, residuals: Sequence[Value]) -> list[Node]:
        """The forward nodes that the pullback repeats: they compute what never changes."""
        kept = set(residuals)
        wanted = {v for v in self._needed() if v not in kept}
        nodes: list[Node] = []
        for node in reversed(self._forward):
            if not wanted.isdisjoint(node.outputs):
                nodes.append(node)
                wanted.update(node.inputs)
        return nodes[::-1]


def zeros(graph: Graph, spec: Spec) -> Value:
    """A value of ``graph`` that is zero everywhere."""
    zero = graph.constant(0, dtype=numpy_dtype(spec.dtype).name)
    if spec.shape == ():
        return zero
    found: Value = graph.emit(REGISTRY["broadcast_to"], [zero], {"shape": spec.shape})
    return found


def _current() -> Graph:
    graph = current_graph()
    assert graph is not None  # noqa: S101  (pullbacks are traced)
    return graph
