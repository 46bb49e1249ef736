"""The executable grammar of a legal graph, run after every pass in tests and under debug."""

from __future__ import annotations

from handmill.errors import GraphError
from handmill.ir.body import bodies_of
from handmill.ir.graph import Graph, Node, Value


def verify(graph: Graph, after: str = "tracing") -> Graph:
    """Checks ``graph`` and returns it.

    Checked: every value is defined once and before it is read; every node's outputs have
    the specs that its shape rule gives; updates match their variables; no node writes over
    a variable (updates are ties, not writes); guards read nothing that a step computes
    from written state.

    Args:
        graph: the graph to check.
        after: the pass that made it, for the message.

    Raises:
        GraphError: naming the node and the rule.
    """

    def fail(node: Node | None, rule: str) -> None:
        at = f" at {node.op.name} (layer {node.scope!r})" if node else ""
        raise GraphError(f"after {after}{at}: {rule}\n{graph}")

    defined: set[Value] = set()
    for value in [*graph.inputs, *graph.variables.values(), *graph.constants]:
        if value.node is not None:
            fail(None, f"source {value} claims to be computed")
        if value in defined:
            fail(None, f"source {value} is listed twice")
        defined.add(value)
    for state, value in graph.variables.items():
        if value.spec != state.spec:
            fail(None, f"variable {state.name} is {state.spec}, its value {value.spec}")
    for node in graph.nodes:
        for value in node.inputs:
            if value not in defined:
                fail(node, "an operand is read before it is computed, or is of another graph")
        specs = node.op.infer(*(v.spec for v in node.inputs), **node.attrs)
        expected = specs if isinstance(specs, tuple) else (specs,)
        if tuple(v.spec for v in node.outputs) != expected:
            fail(node, f"outputs are {[v.spec for v in node.outputs]}, expected {expected}")
        for index, value in enumerate(node.outputs):
            if value in defined or value.node is not node or value.index != index:
                fail(node, f"output {index} is defined elsewhere")
            defined.add(value)
        for body in bodies_of(node):
            verify(body.graph, f"{after}, in a body")
        for output, source in node.op.alias:
            if output >= len(node.outputs) or source >= len(node.inputs):
                continue  # an optional operand that is absent
            if node.outputs[output].dtype != node.inputs[source].dtype:
                fail(node, f"output {output} cannot take the memory of input {source}")
    for value in graph.roots():
        if value not in defined:
            fail(None, f"root {value} is never computed")
    for state, value in graph.updates.items():
        if state not in graph.variables:
            fail(None, f"variable {state.name} is written but not declared")
        if value.spec != state.spec:
            fail(None, f"variable {state.name} is {state.spec}, its update {value.spec}")
    return graph


def verify_schedule(graph: Graph) -> Graph:
    """Checks that each update may be written in place, in the order of the nodes.

    The node that computes a variable's new value must come after every other reader of the old.

    Raises:
        GraphError: naming the variable and the late reader.
    """
    position = {node: i for i, node in enumerate(graph.nodes)}
    uses = graph.uses()
    for state, new in graph.updates.items():
        if new.node is None:
            continue
        for reader in uses.get(graph.variables[state], []):
            if position[reader] > position[new.node]:
                raise GraphError(
                    f"{reader.op.name} reads {state.name} after {new.node.op.name} wrote it\n"
                    f"{graph}"
                )
    return graph
